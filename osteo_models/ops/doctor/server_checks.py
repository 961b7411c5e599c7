"""The servers that `osteo up` started, and those that the environment names: do they answer?"""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import ssl
import stat
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from osteo_models.core.settings import Settings
from osteo_models.ops.doctor.problem import Check, Problem, Project
from osteo_models.ops.servers import forget_servers, running_servers
from osteo_models.ops.servers.topology import HEALTH

WORKER: Final = "ray-worker-"  # begins the names of nodes
ANSWER_SECONDS: Final = 2.0
SILENT, HEALTHY = 0, 200
REFUSED: Final = (401, 403)
PORTS: Final = {"http": 80, "https": 443}
NAMED: Final = ("RAY_AUTH_TOKEN_PATH", "PGPASSFILE")  # each holds the path of a file
RAY_TOKEN: Final = "~/.ray/auth_token"  # Ray makes it, as open as new files are


def check_started(project: Project) -> Iterator[Problem]:
    """Servers of servers.json that have ended, or do not answer."""
    state = project.settings.state
    for folder in (path.parent for path in [state / "servers.json", *state.glob("*/servers.json")] if path.is_file()):
        running = {server.name: server for server in running_servers(folder)}
        for name in _read_names(folder):
            if name not in running:
                found = "`osteo up` started it, and it has ended"
                forget = None if running else lambda folder=folder: _forget(folder)
                yield Problem(f"{name} server", found, "`osteo up` starts it again, `osteo down` forgets it", forget)
                continue
            server = running[name]
            if name.startswith(WORKER):  # it has no address of its own, and ends when a part of it does
                continue
            status = ask(server.url + HEALTH.get(name, ""))
            if status != HEALTHY:
                found = "it does not answer" if status == SILENT else f"it answers {status}, not 200, at {HEALTH[name]}"
                remedy = f"see {server.log}; `osteo down`, then `osteo up`"
                yield Problem(f"{name} server at {server.url}", found, remedy)


def check_named(_: Project) -> Iterator[Problem]:
    """Ray and Prefect where the environment names them; MLflow's server was asked when the store was opened."""
    ray = read_variable("RAY_ADDRESS")
    if ray not in ("", "auto", "local") and ask(ray) == SILENT:
        yield _silent("RAY_ADDRESS", ray)
    url = read_variable("PREFECT_API_URL")
    if url and (fault := judge_prefect(url)):
        yield fault


def check_stores(project: Project) -> Iterator[Problem]:
    """The S3 store that the environment names, by the way that trials take."""
    if project.settings.jobs_store is not None:
        from osteo_models.training.result_store import open_result_store

        open_result_store(project.settings.jobs_store)  # what it raises is the finding
        return
    endpoint = read_variable("AWS_ENDPOINT_URL")
    if endpoint:
        parts = urlsplit(endpoint)
        # By a connection alone: without a signature the store refuses, and its certificate is for its clients to judge.
        if ask(f"{parts.hostname or ''}:{parts.port or PORTS.get(parts.scheme, 0)}") == SILENT:
            yield _silent("AWS_ENDPOINT_URL", endpoint)


def judge_prefect(url: str) -> Problem | None:
    """What is wrong with the Prefect server at an address; None where it takes our calls."""
    name, url = "PREFECT_API_URL", url.rstrip("/")
    status = ask(f"{url}/health")
    if status == SILENT:
        return _silent(name, url)
    where = f"{name}={_hide_account(url)}"
    if status not in (HEALTHY, *REFUSED):
        return Problem(where, f"it answers {status}, not 200, at /health", f"see that server's log, or unset {name}")
    account, key = read_variable("PREFECT_API_AUTH_STRING"), read_variable("PREFECT_API_KEY")
    authorization = _basic(account) if account else f"Bearer {key}" if key else ""
    if ask(f"{url}/admin/version", authorization) in REFUSED:
        found = "it refuses these credentials" if authorization else "it asks for credentials, and none are set"
        return Problem(where, found, "set PREFECT_API_AUTH_STRING to that server's USER:PASSWORD")
    return None


def ask(url: str, authorization: str = "") -> int:
    """What an address answers: HTTP's status, or 200 for a connection where it is none of HTTP; SILENT if nothing."""
    try:
        parts = urlsplit(url if "//" in url else f"//{url}")
        if parts.scheme not in PORTS:
            with socket.create_connection((parts.hostname or "", parts.port or 0), ANSWER_SECONDS):
                return HEALTHY
        if not authorization and parts.username:
            authorization = _basic(unquote(f"{parts.username}:{parts.password or ''}"))
        request = urllib.request.Request(urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])))
        if authorization:  # for this server, and none that it may point to
            request.add_unredirected_header("Authorization", authorization)
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except (OSError, ValueError, http.client.HTTPException) as error:
        # Something answers. Which certificates clients trust is their own setting, such as PREFECT_API_SSL_CERT_FILE.
        distrusted = isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError)
        return HEALTHY if distrusted else SILENT


def read_variable(name: str) -> str:
    """A variable of the environment that names a server or a secret of one; empty where it is unset."""
    return os.environ.get(name, "")


def _silent(name: str, address: str) -> Problem:
    return Problem(f"{name}={_hide_account(address)}", "nothing answers there", f"start that server, or unset {name}")


def _hide_account(address: str) -> str:
    scheme, mark, rest = address.rpartition("//")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


def _basic(account: str) -> str:
    return f"Basic {base64.b64encode(account.encode()).decode()}"


def _read_names(folder: Path) -> list[str]:
    return [row["name"] for row in json.loads((folder / "servers.json").read_text(encoding="utf-8"))]


def _forget(folder: Path) -> str:
    forget_servers(folder)  # and not one that was started since the check
    return "forgotten; `osteo up` starts it again"


def check_key(project: Project) -> Iterator[Problem]:
    """The key of pseudonyms: there where data was imported under it, and closed to others."""
    path, data = project.settings.key_file.expanduser(), project.data
    if not path.exists():
        if (data / "intake.csv").is_file():
            found = f"the key that {data.name} was imported under is missing"
            yield Problem(str(path), found, "get it back, or name it by OSTEO_KEY_FILE; a new key gives new pseudonyms")
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        yield Problem(str(path), f"others can read the key (mode {mode:o})", f"chmod 600 {path}", lambda: _close(path))


def check_secrets(project: Project) -> Iterator[Problem]:
    """Passwords and tokens that others can read."""
    for path in _list_secrets(project.settings):
        try:
            mode = path.stat().st_mode
            is_open = stat.S_ISREG(mode) and _is_open(path, mode)
        except OSError:  # not there, or out of reach: whoever needs it says so
            continue
        if is_open:
            found = f"others can read this secret (mode {stat.S_IMODE(mode):o})"
            yield Problem(str(path), found, f"chmod 600 {path}", lambda path=path: _close(path))


def _list_secrets(settings: Settings) -> list[Path]:
    named = [Path(path).expanduser() for path in (*map(read_variable, NAMED), RAY_TOKEN) if path]
    made = [*sorted(settings.state.glob("*/secrets/*")), *sorted(settings.state.glob("*/env"))]
    return list(dict.fromkeys((*made, settings.root / "infra" / ".env", *named)))


def _is_open(path: Path, mode: int) -> bool:
    """Whether the group or all others may read a file, and pass the folders above it."""
    folders = [folder.stat().st_mode for folder in path.resolve().parents]
    group = mode & stat.S_IRGRP and all(each & (stat.S_IXGRP | stat.S_IXOTH) for each in folders)
    return bool(group or (mode & stat.S_IROTH and all(each & stat.S_IXOTH for each in folders)))


def _close(path: Path) -> str:
    path.chmod(0o600)
    return "closed to others (mode 600)"


CHECKS: Final[tuple[Check, ...]] = (check_started, check_named, check_stores, check_key, check_secrets)
