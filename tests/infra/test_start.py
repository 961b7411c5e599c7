"""start.sh: a server gets its secrets in its environment or in files of mode 0600; an empty one stops the start."""

from __future__ import annotations

import json
import stat
from configparser import ConfigParser
from pathlib import Path

import pytest

from osteo_models.core.settings import TELEMETRY_OFF
from osteo_models.ops.servers import cluster_profile, object_store
from osteo_models.ops.servers.credentials import load_credentials
from tests.infra.conftest import NEEDS, SECRETS, Stage

# The program that each server becomes.
BECOMES = {"s3": "weed", "bucket": "python", "prefect": "python", "flow-worker": "prefect"} | {
    "mlflow": "mlflow", "ray-head": "ray", "ray-worker": "ray", "optuna-dashboard": "optuna-dashboard",
}  # fmt: skip
RAY = {"RAY_ADDRESS": "ray-head:6379"}


@pytest.mark.parametrize("server", NEEDS)
def test_no_secret_stands_in_a_command_line(stage: Stage, server: str) -> None:
    done = stage.start(server, "ray-head:6379")
    assert done.returncode == 0, done.stderr
    last = stage.calls()[-1]
    assert last.words[0] == BECOMES[server]
    assert "hidden" not in done.stdout + done.stderr + str([call.words for call in stage.calls()])
    files = [path for path in stage.keys.iterdir() if path.is_file()]
    known = str(last.environment) + "".join(path.read_text(encoding="utf-8") for path in files)
    reached = {name for name in SECRETS if f"hidden-{name}" in known}
    assert reached == set(NEEDS[server]) - {"ray_token"}  # Ray reads its file itself
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)


BAD = {"missing": None, "empty": "", "blank": "\n", "space": "a b", "address": "x@y/z"}


@pytest.mark.parametrize(
    ("server", "secret", "content"),
    [(server, name, "") for server, names in NEEDS.items() for name in names]
    + [("ray-head", "ray_token", content) for content in BAD.values()]
    + [("mlflow", "mlflow_database_password", content) for content in BAD.values()],
)
def test_a_bad_secret_stops_the_start(stage: Stage, server: str, secret: str, content: str | None) -> None:
    path = stage.secrets / secret
    path.unlink()
    if content is not None:
        path.write_text(content, encoding="utf-8")
    done = stage.start(server, "ray-head:6379", **RAY)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: secret {secret}: ")
    assert done.stderr.endswith("; set it in infra/.env (see infra/README.md)\n")
    assert stage.calls() == []


@pytest.mark.parametrize(
    ("server", "roles"),
    [("mlflow", ["mlflow"]), ("prefect", ["prefect"]), ("flow-worker", ["journal", "optuna"]),
     ("optuna-dashboard", ["optuna"])],
)  # fmt: skip
def test_a_server_knows_the_passwords_of_its_own_roles(stage: Stage, server: str, roles: list[str]) -> None:
    (stage.secrets / f"{roles[0]}_database_password").write_text("with:colon", encoding="utf-8")
    assert stage.start(server).returncode == 0
    path = Path(stage.calls()[-1].environment["PGPASSFILE"])
    first, *others = [f"*:*:*:{role}:hidden-{role}_database_password" for role in roles]
    assert path.read_text(encoding="utf-8").splitlines() == [first.rpartition(":")[0] + r":with\:colon", *others]


def test_the_store_knows_one_identity(stage: Stage) -> None:
    stage.start("s3")
    (identity,) = json.loads((stage.keys / "s3.json").read_text(encoding="utf-8"))["identities"]
    assert identity["credentials"] == [{"accessKey": "hidden-s3_access_key", "secretKey": "hidden-s3_secret_key"}]


def test_the_store_has_the_options_of_the_local_one(stage: Stage, tmp_path: Path) -> None:
    """All but places: the container's own are its data folder, its ports and the address that S3 listens on."""
    found = load_credentials(tmp_path / "found", {})
    local = object_store.object_store(tmp_path / "s3", tmp_path / "found", 8333, found)
    assert stage.start("s3").returncode == 0
    (call,) = stage.calls()
    keys = {name for name in local.environment if name.startswith("WEED_JWT_")}
    assert len(keys) == 3
    assert {call.environment.get(name) for name in keys} == {"hidden-s3_inner_key"}
    mine, theirs = ({word for word in words if word.startswith("-")} for words in (call.words, local.command))
    places = {"-dir", "-s3.config", "-s3.ip.bind"}
    inner = {f"-{part}.port{kind}" for part in (*object_store.PARTS, "s3") for kind in ("", ".grpc")} - {"-s3.port"}
    assert {word for word in mine if word.split("=")[0] not in places} == {
        word for word in theirs if word.split("=")[0] not in places | inner
    }


def test_mlflows_accounts_are_those_of_the_local_profile(stage: Stage) -> None:
    stage.start("mlflow")
    mine, theirs = ConfigParser(), ConfigParser()
    mine.read(stage.keys / "basic_auth.ini", encoding="utf-8")
    theirs.read_string(cluster_profile.MLFLOW_ACCOUNTS.format(uri="postgresql+psycopg://mlflow@postgres:5432/mlflow"))
    assert dict(mine["mlflow"]) == dict(theirs["mlflow"])
    assert mine["mlflow"]["default_permission"] == "READ"


def test_mlflow_stands_behind_the_guard(stage: Stage) -> None:
    stage.start("mlflow")
    (call,) = stage.calls()
    options = dict(zip(call.words[2::2], call.words[3::2], strict=True))
    assert (options["--app-name"], options["--workers"]) == ("osteo", "1")
    assert options["--uvicorn-opts"] == "--no-proxy-headers"
    hosts = call.environment["OSTEO_ALLOWED_HOSTS"].split(",")
    assert options["--allowed-hosts"] == ",".join(f"{host}:5000" for host in hosts)
    assert hosts == ["mlflow", "127.0.0.1", "localhost"]


def test_prefect_puts_its_pages_where_it_may_write(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its default is a folder of the package, which in the image is root's."""
    from prefect.settings.models.server.ui import ServerUISettings

    monkeypatch.delenv("PREFECT_UI_STATIC_DIRECTORY", raising=False)
    assert ServerUISettings().static_directory is None
    stage.start("prefect")
    for name, value in stage.calls()[-1].environment.items():
        if name.startswith("PREFECT_UI_"):
            monkeypatch.setenv(name, value)
    assert str(ServerUISettings().static_directory).startswith("/tmp/")


def _ray(stage: Stage) -> list[list[str]]:
    return [call.words for call in stage.calls() if call.words[0] == "ray"]


HEALTH = ["ray", "health-check", "--address", "ray-head:6379"]


def test_the_flow_worker_joins_the_cluster(stage: Stage) -> None:
    """Ray takes drivers on its own nodes alone."""
    done = stage.start("flow-worker", **RAY)
    assert (done.returncode, done.stderr) == (0, "")
    nothing = ["--num-cpus=0", "--num-gpus=0"]
    assert _ray(stage) == [HEALTH, ["ray", "start", "--address=ray-head:6379", *nothing, "--disable-usage-stats"]]
    last = stage.calls()[-1]
    assert last.words[:3] == ["prefect", "worker", "start"]
    assert last.environment["RAY_ADDRESS"] == "ray-head:6379"


def test_what_runs_on_the_flow_workers_node_has_no_keys(stage: Stage) -> None:
    stage.start("flow-worker", **RAY)
    (node,) = [call for call in stage.calls() if call.words[:2] == ["ray", "start"]]
    assert "hidden" not in str(node.environment)
    assert "PGPASSFILE" not in node.environment


def test_without_a_cluster_the_flow_worker_says_so(stage: Stage) -> None:
    done = stage.start("flow-worker", **RAY, UNHEALTHY="Traceback:\nTimed out")
    assert done.returncode == 0
    assert done.stderr == "no Ray cluster at ray-head:6379 (Timed out): jobs run in this container\n"
    assert _ray(stage) == [HEALTH]
    assert "RAY_ADDRESS" not in stage.calls()[-1].environment


def test_without_an_address_nobody_is_asked(stage: Stage) -> None:
    assert stage.start("flow-worker").returncode == 0
    assert _ray(stage) == []


def test_an_unknown_server(stage: Stage) -> None:
    assert stage.start("nginx").stderr == "error: no server nginx\n"


def test_nothing_is_told_to_anybody_outside(stage: Stage) -> None:
    assert stage.start("mlflow").returncode == 0
    told = stage.calls()[-1].environment
    assert {name: told[name] for name in TELEMETRY_OFF} == TELEMETRY_OFF
