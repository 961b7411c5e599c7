"""A real S3 server on loopback: SeaweedFS in one process, with one bucket and keys of its own."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from osteo_models.core.settings import die_with_parent

HOST, BUCKET, REGION = "127.0.0.1", "cohort", "us-east-1"
START_SECONDS = 60.0
PARTS = ("master", "volume", "filer", "s3")


@dataclass(frozen=True)
class Storage:
    """Where it answers, and the keys of its only user."""

    endpoint: str
    access_key: str
    secret_key: str

    @property
    def environment(self) -> dict[str, str]:
        """The keys, as every S3 client reads them."""
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
        return dict(zip(names, (self.access_key, self.secret_key, REGION), strict=True))


@contextmanager
def serve_storage(folder: Path) -> Iterator[Storage]:
    """Start the server over a folder, wait until the bucket takes files, and stop it in the end."""
    keys = secrets.token_hex(10), secrets.token_hex(20)
    config = folder / "s3.json"
    credentials = [{"accessKey": keys[0], "secretKey": keys[1]}]
    user = {"name": "team", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List"]}
    with os.fdopen(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"identities": [user]}, file)
    ports = _free_ports(2 * len(PARTS))
    storage = Storage(f"http://{HOST}:{ports[2 * PARTS.index('s3')]}", *keys)
    log = folder / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            _command(folder, config, ports), cwd=folder, stdout=output, stderr=output, preexec_fn=die_with_parent
        )
    try:
        _make_bucket(storage, server, log)
        yield storage
    finally:
        server.kill()  # nothing in it is kept; told politely, it waits ten seconds
        server.wait()


def _command(folder: Path, config: Path, ports: list[int]) -> list[str]:
    command = [str(Path(sysconfig.get_path("scripts")) / "weed"), "server", f"-dir={folder}", f"-ip={HOST}"]
    command += [f"-ip.bind={HOST}", "-master.telemetry=false", "-volume.max=8", "-master.volumeSizeLimitMB=512"]
    for number, part in enumerate(PARTS):
        command += [f"-{part}.port={ports[2 * number]}", f"-{part}.port.grpc={ports[2 * number + 1]}"]
    command += ["-filer", f"-filer.localSocket={folder / 'f.sock'}", "-s3", f"-s3.config={config}"]
    return [*command, f"-s3.localSocket={folder / 's.sock'}", "-s3.port.iceberg=0", "-s3.port.lance=0"]


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        taken = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for each in taken:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in taken]


def _make_bucket(storage: Storage, server: subprocess.Popen[bytes], log: Path) -> None:
    """Make the bucket and write a file into it: its parts come up one after another."""
    session = botocore.session.get_session()
    session.set_credentials(storage.access_key, storage.secret_key)
    config = Config(retries={"max_attempts": 0}, connect_timeout=2, read_timeout=10)
    deadline = time.monotonic() + START_SECONDS
    with closing(session.create_client("s3", region_name=REGION, endpoint_url=storage.endpoint, config=config)) as s3:
        while True:
            try:
                if BUCKET not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
                    s3.create_bucket(Bucket=BUCKET)
                s3.put_object(Bucket=BUCKET, Key="ready", Body=b"")
                return
            except (BotoCoreError, ClientError) as error:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the S3 server does not answer: {log.read_text()[-2000:]}") from error
                time.sleep(0.1)
