"""gRPC calls by hand, so that a call can be made without credentials; Ray's own client always sends them."""

from __future__ import annotations

import importlib
import pkgutil
import socket
from collections.abc import Mapping
from urllib.parse import unquote

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import ray.core.generated

OK, UNIMPLEMENTED, UNAUTHENTICATED = 0, 12, 16
Methods = list[str]


def list_methods() -> Methods:
    """Every method of every service that Ray's own descriptions name, as `/package.Service/Method`."""
    found: set[str] = set()
    for module in pkgutil.iter_modules(ray.core.generated.__path__):
        if module.name.endswith("_pb2"):
            described = importlib.import_module(f"ray.core.generated.{module.name}").DESCRIPTOR
            for service in described.services_by_name.values():
                found |= {f"/{service.full_name}/{method.name}" for method in service.methods}
    return sorted(found)


def call(
    host: str, port: int, method: str, headers: Mapping[str, str], seconds: float = 10.0
) -> tuple[int | None, str]:
    """Send an empty message.

    Returns:
        gRPC's status and message; no status where the port does not speak gRPC.
    """
    link = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    try:
        with socket.create_connection((host, port), timeout=seconds) as wire:
            link.initiate_connection()
            sent = {":method": "POST", ":scheme": "http", ":authority": f"{host}:{port}", ":path": method}
            sent |= {"te": "trailers", "content-type": "application/grpc", **headers}
            link.send_headers(1, list(sent.items()))
            link.send_data(1, b"\0\0\0\0\0", end_stream=True)
            wire.sendall(link.data_to_send())
            return _read(wire, link)
    except (OSError, h2.exceptions.ProtocolError) as error:
        return None, str(error)


def _read(wire: socket.socket, link: h2.connection.H2Connection) -> tuple[int | None, str]:
    told: dict[str, str] = {}
    while data := wire.recv(65536):
        for event in link.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                told |= dict(event.headers or ())
            if isinstance(event, h2.events.DataReceived):
                link.acknowledge_received_data(event.flow_controlled_length or 0, 1)
            if isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                status = told.get("grpc-status")
                return (None if status is None else int(status)), unquote(told.get("grpc-message", ""))
        wire.sendall(link.data_to_send())
    return None, "closed"
