"""SeaweedFS from its wheel: an S3 store in one process, with one identity and one bucket."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Final

from osteo_models.core.errors import StoreError
from osteo_models.core.processes import HOST, find_port
from osteo_models.ops.servers.credentials import Credentials, write_private
from osteo_models.ops.servers.launch import Service, answers_at, child_environment
from osteo_models.ops.servers.topology import HEALTH

NAME: Final = "s3"
BUCKET: Final = "osteo"
REGION: Final = "us-east-1"
BUCKET_SECONDS: Final = 60.0
PARTS: Final = ("master", "volume", "filer")  # each takes a port for HTTP and one for gRPC, as does the S3 part
FIRST_INNER_PORT: Final = 18300


def find_weed() -> str | None:
    """The program: beside this environment's Python, or on the path."""
    return shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")


def object_store(folder: Path, secrets: Path, port: int, found: Credentials) -> Service:
    """The store over a folder; what its parts tell each other needs a signature too."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    credentials = [{"accessKey": found.s3_id, "secretKey": found.s3_key}]
    identity = {"name": "osteo", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    config = write_private(secrets / "s3.json", json.dumps({"identities": [identity]}))
    options: dict[str, str | int] = {
        "dir": str(folder),
        "ip": HOST,
        "ip.bind": HOST,
        "s3.port": port,
        "s3.config": str(config),
        "s3.iam": "false",
        "s3.autoCreateBucket": "false",
        "s3.allowedOrigins": f"http://{HOST}:{port}",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "filer.disableHttp": "true",
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 1024,
        "volume.max": 0,  # as many as the disk holds
        "volume.preStopSeconds": 0,
    }
    environment = child_environment("WEED_", "AWS_", "S3_")
    keys = ("SIGNING", "FILER_SIGNING", "FILER_SIGNING_READ")
    environment |= {f"WEED_JWT_{name}_KEY": found.s3_inner for name in keys}
    command = [find_weed() or "weed", "-logtostderr=true", "server", "-s3", "-filer"]
    command += [f"-{name}={value}" for name, value in (options | _inner_ports()).items()]
    return Service(NAME, command, environment, f"http://{HOST}:{port}", answers_at(HEALTH[NAME]))


def client_environment(port: int, found: Credentials) -> dict[str, str]:
    """What an S3 client of any kind needs."""
    return {
        "AWS_ACCESS_KEY_ID": found.s3_id,
        "AWS_SECRET_ACCESS_KEY": found.s3_key,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",  # no other source of keys is tried
        "AWS_ENDPOINT_URL": f"http://{HOST}:{port}",
        "MLFLOW_S3_ENDPOINT_URL": f"http://{HOST}:{port}",
    }


def make_bucket(port: int, found: Credentials) -> None:
    """Make the bucket where it is missing.

    Raises:
        StoreError: The store takes none in time.
    """
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.client(
        "s3",
        endpoint_url=f"http://{HOST}:{port}",
        region_name=REGION,
        aws_access_key_id=found.s3_id,
        aws_secret_access_key=found.s3_key,
    )
    deadline = time.monotonic() + BUCKET_SECONDS
    while True:
        try:
            if BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
                client.create_bucket(Bucket=BUCKET)
            return
        except (BotoCoreError, ClientError) as error:  # its parts find each other in their own time
            if time.monotonic() > deadline:
                remedy = "run `osteo down` and `osteo up` again"
                raise StoreError(f"bucket {BUCKET}: {error}", where="s3 server", remedy=remedy) from None
            time.sleep(0.2)
        finally:
            client.close()


def _inner_ports() -> dict[str, str | int]:
    ports: dict[str, str | int] = {}
    taken: set[str] = set()
    for name in (f"{part}.port{kind}" for part in (*PARTS, "s3") for kind in ("", ".grpc")):
        if name != "s3.port":
            ports[name] = find_port(FIRST_INNER_PORT, taken)
            taken.add(f"http://{HOST}:{ports[name]}")
    return ports
