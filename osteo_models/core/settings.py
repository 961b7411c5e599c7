"""The environment, read here and nowhere else; unset, everything is embedded in the project's folder."""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import signal
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

ERROR_FILE = "OSTEO_ERROR_FILE"  # set, a stage leaves its error there instead of printing it
EXPERIMENT_TAGS = {"dvc.exp.name": "DVC_EXP_NAME", "dvc.exp.baseline": "DVC_EXP_BASELINE_REV"}  # set by DVC
IMPORTS_PER_COLLECTION = 100_000
TELEMETRY_OFF = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_MODEL_CATALOG_URI": "",  # a page of its server would fetch lists of language models
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DVC_NO_ANALYTICS": "1",
}


_BEGUN = (os.getpid(), os.getppid())  # this process and its parent; imports, which take seconds, come after


@dataclass(frozen=True)
class Settings:
    """Where things are.

    Attributes:
        root: The project's folder.
        state: Local state of the embedded servers and of unfinished jobs.
        tracking_uri: MLflow's store.
        journal_uri: Database of the promotion journal: that of the store, unless said otherwise.
        user: Who acts, where the environment says so.
        ray_address: Address of a running cluster; None starts a local one.
        key_file: The key of pseudonyms, outside the data and git.
        die_with_parent: Whether a stage ends when the command that started it is killed.
        weights_dir: Folder of weights that pretrained networks start from; None: there is none.
        search_storage: Database of architecture searches, where params.yaml names none; None: a local file.
        jobs_uri: Where checkpoints and results of jobs lie that all machines share; None: in a local folder.
        allowed_hosts: Names that servers behind the guard go by.
        experiment: Name and baseline commit of the DVC experiment that runs, as tags; empty outside one.
    """

    root: Path
    state: Path
    tracking_uri: str
    journal_uri: str
    user: str | None
    ray_address: str | None
    key_file: Path
    die_with_parent: bool
    weights_dir: Path | None = None
    jobs_uri: str | None = None
    search_storage: str | None = None
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost")
    experiment: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def artifacts(self) -> Path:
        """Outputs of the DVC stages."""
        return self.root / "artifacts"

    @property
    def jobs(self) -> Path:
        """Results of jobs, one folder per key; without a shared store workers must reach it, for checkpoints too."""
        parts = urlsplit(self.jobs_uri or "")
        return Path(unquote(parts.path)) if parts.scheme == "file" else self.state / "jobs"

    @property
    def jobs_store(self) -> str | None:
        """The address of a store that has the jobs, in the place of a folder."""
        return None if self.jobs_uri is None or self.jobs_uri.startswith("file:") else self.jobs_uri

    @property
    def features(self) -> Path:
        """What frozen networks make of the images, one file per network and data set."""
        return self.state / "features" if self.jobs == self.state / "jobs" else self.jobs / "features"


def load_settings(root: Path | None = None) -> Settings:
    """Read the environment.

    Args:
        root: The project's folder; the current one by default.
    """
    root = (root or Path.cwd()).resolve()
    state = Path(os.environ.get("OSTEO_STATE_DIR") or _find_project(root) / ".osteo").resolve()
    tracking_uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{embedded_store(state)}"
    weights_dir = os.environ.get("OSTEO_WEIGHTS_DIR")
    return Settings(
        root=root,
        state=state,
        tracking_uri=tracking_uri,
        journal_uri=os.environ.get("OSTEO_JOURNAL_URI") or tracking_uri,
        user=os.environ.get("OSTEO_USER") or None,
        ray_address=os.environ.get("RAY_ADDRESS") or None,
        key_file=Path(os.environ.get("OSTEO_KEY_FILE") or Path.home() / ".config" / "osteo-models" / "pseudonyms.key"),
        die_with_parent=os.environ.get("OSTEO_DIE_WITH_PARENT") == "1",
        weights_dir=Path(weights_dir).resolve() if weights_dir else None,
        jobs_uri=os.environ.get("OSTEO_JOBS_URI") or None,
        search_storage=os.environ.get("OSTEO_SEARCH_STORAGE") or None,
        allowed_hosts=tuple((os.environ.get("OSTEO_ALLOWED_HOSTS") or "127.0.0.1,localhost").split(",")),
        experiment={tag: os.environ[name] for tag, name in EXPERIMENT_TAGS.items() if os.environ.get(name)},
    )


def embedded_store(state: Path) -> Path:
    """MLflow's database where no server is named: in the project's folder, where `mlflow ui` looks for it.

    A state folder of another name than `.osteo` holds the database itself.
    """
    return (state.parent if state.name == ".osteo" else state) / "mlflow.db"


def _find_project(root: Path) -> Path:
    """The project whose state a command uses: for a DVC experiment in a temporary copy, the project it belongs to."""
    project = Path(os.environ.get("DVC_ROOT") or root).resolve()
    return project if root.is_relative_to(project / ".dvc" / "tmp" / "exps") else root


def disable_gc() -> None:
    """Disable garbage collection during imports and at exit; it takes a sixth of start-up time.

    Measured by the CPU time of `python -c "import gc; gc.set_threshold(N); import ray.tune, mlflow, torch, prefect"`:
    4.0 s with N = 100_000, 4.8 s with Python's 700.
    """
    gc.set_threshold(IMPORTS_PER_COLLECTION)
    atexit.register(gc.freeze)


def silence_telemetry(environ: MutableMapping[str, str] | None = None) -> None:
    """Switch off the usage reports of MLflow, Prefect, Ray and DVC for this process and its children."""
    (os.environ if environ is None else environ).update(TELEMETRY_OFF)


def prepare_environment(environ: MutableMapping[str, str] | None = None) -> None:
    """Silence telemetry and point Prefect at its home under `.osteo/`, where the caller has not said otherwise."""
    target = os.environ if environ is None else environ
    silence_telemetry(target)
    target.setdefault("PREFECT_HOME", str(load_settings().state / "prefect"))
    target.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")  # errors are reported once, by the flow's own entry
    target.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")  # 20 are too few on a busy machine
    target.setdefault("RAY_TUNE_NEW_OUTPUT", "0")
    target.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # a stage that is stopped ends at once


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """Ask the kernel to send this process a signal when its parent ends, and send it at once where that was before.

    A child before its exec may call it too. Linux only; elsewhere nothing happens.
    """
    if sys.platform != "linux":
        return
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG in prctl(2)
    ctypes.CDLL(None).prctl(set_parent_death_signal, number)
    own, parent = _BEGUN
    # One that was an orphan when it began has the first process as its parent, which no stage of DVC has otherwise.
    orphan = os.getppid() != parent or ("DVC_STAGE" in os.environ and parent == 1)
    if os.getpid() == own and orphan:
        os.kill(own, number)
