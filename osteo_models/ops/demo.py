"""`osteo demo`: from nothing to a champion and a report; given again, it continues or finds nothing to do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from osteo_models.core.errors import GateRefused, InputError, OsteoError, StaleDataError, StoreError
from osteo_models.core.files import hold_lock
from osteo_models.core.params import Params
from osteo_models.core.settings import ERROR_FILE, Settings
from osteo_models.data.data_folder import check_not_imported
from osteo_models.data.revisions import check_data, read_data_digest, run_dvc, start_dvc
from osteo_models.registry.run_context import RunContext

Say = Callable[[str], None]


def run_demo(context: RunContext, *, servers: bool, say: Say) -> None:
    """Make the data, run every DVC stage, promote what passes the gate, and say where to look.

    Args:
        context: The run context.
        servers: Whether to start the MLflow and Prefect servers.
        say: Takes each line.

    Raises:
        OsteoError: A step failed; the same command continues where it stopped.
    """
    started = time.monotonic()
    settings, params = context.settings, context.params
    from osteo_models.ops.parameter_checks import check_params  # imports what trains, so after params.yaml is checked

    check_params(params, settings.weights_dir)
    _check_journal(settings)
    check_not_imported(settings.root, params.data)
    with only_one(settings.state):
        addresses = _start_servers(settings, say) if servers else []
        ensure_data(context, say)
        _replace_lost_runs(context, say)
        reproduce(settings, ["register"], say)
        champions = _promote(context, say)
        reproduce(settings, [], say)
    say("")
    say(f"Report:    {settings.artifacts / 'report' / 'index.html'}")
    for address in addresses:
        say(address)
    if champions:
        say(f"Try:       osteo predict {_example(context)} --model {champions[0]}@champion")
    if params.data.synthetic:
        say("All of this comes from a synthetic cohort: a test bed, not evidence.")
    say(f"Done in {time.monotonic() - started:.0f} s.")


def _check_journal(settings: Settings) -> None:
    """Whether promotions can be written down is better known before hours of training."""
    from osteo_models.registry.journal import check_address

    check_address(settings.journal_uri)


def ensure_data(context: RunContext, say: Say) -> None:
    """Make the synthetic cohort where it is missing, and prove that the data is what `data.dvc` records.

    Raises:
        ParamsError: The data was imported, and params.yaml calls it synthetic.
        StaleDataError: The data differs from `data.dvc`.
        StoreError: There is no data and nothing to make it from.
    """
    settings, params, data = context.settings, context.params, context.data
    check_not_imported(settings.root, params.data)
    digest = read_data_digest(settings.root, params.data.path)
    if not data.exists():
        if params.data.synthetic is None:
            raise StoreError("no data", where=str(data), remedy="get it with `dvc pull`, or see README: your own data")
        from osteo_models.core.progress import Progress
        from osteo_models.phantom import synthesize_cohort

        say(f"Making the synthetic cohort (seed {params.data.synthetic.seed}, {params.data.synthetic.scale} scale)")
        scale, seed = params.data.synthetic.scale, params.data.synthetic.seed
        synthesize_cohort(data, seed=seed, scale=scale, progress=Progress("images"))
        settings.state.mkdir(parents=True, exist_ok=True)
        _note_synthetic(settings).write_text(params.data.synthetic.model_dump_json(), encoding="utf-8")
    _check_synthetic(params, settings)
    if digest is None:
        run_dvc(settings.root, ["add", "--quiet", params.data.path])
        say(f"Data recorded in {params.data.path}.dvc")
    else:
        check_data(settings.root, params.data.path)
        say(f"Data equals {params.data.path}.dvc (md5 {digest})")


@contextmanager
def only_one(state: Path) -> Iterator[None]:
    """Hold the lock of those commands that run DVC stages here.

    Raises:
        OsteoError: Another one holds it.
    """
    state.mkdir(parents=True, exist_ok=True)
    found = "another `osteo` command is at work here"
    with hold_lock(state / "demo.lock", seconds=0, where=str(state), found=found, remedy="wait for it"):
        yield


def _start_servers(settings: Settings, say: Say) -> list[str]:
    from osteo_models.ops.servers import start_servers

    if settings.tracking_uri.startswith("http"):  # servers of a team; local ones would show an empty store
        return [f"{'mlflow:':<10} {settings.tracking_uri}"]
    say("Starting the MLflow and Prefect servers")
    return [f"{server.name + ':':<10} {server.url}" for server in start_servers(settings.state)]


def _note_synthetic(settings: Settings) -> Path:
    return settings.state / "synthetic.json"


def _check_synthetic(params: Params, settings: Settings) -> None:
    """The seed in params.yaml must be the one that the data was made with, where this folder made it."""
    note = _note_synthetic(settings)
    if params.data.synthetic is None or not note.is_file():
        return
    made = json.loads(note.read_text(encoding="utf-8"))
    asked = params.data.synthetic.model_dump()
    if made != asked:
        remedy = f"delete the folder {params.data.path} and {params.data.path}.dvc to make the other cohort"
        raise StaleDataError(
            f"the data was made with {made}", where="data.synthetic", allowed=str(asked), remedy=remedy
        )


def _registered(settings: Settings) -> list[str]:
    path = settings.artifacts / "register.json"
    if not path.is_file():
        return []
    return sorted({entry["name"] for entry in json.loads(path.read_text(encoding="utf-8"))})


def _replace_lost_runs(context: RunContext, say: Say) -> None:
    """DVC does not see MLflow's store: where that is gone, its runs and versions are made again."""
    from osteo_models.registry.versions import list_versions

    settings, names = context.settings, _registered(context.settings)
    if not names:
        return
    if set(names) <= {version.name for version in list_versions(context.tracking)}:
        return
    say("The tracking store lacks the registered versions: they are made again")
    for stage in ("experiments", "evaluate", "register"):
        reproduce(settings, ["--force", "--single-item", stage], say)


def reproduce(settings: Settings, arguments: list[str], say: Say, *, output: int | None = None) -> None:
    """Run `dvc repro` on this terminal, its output to another file descriptor where one is given.

    Raises:
        OsteoError: A stage failed, with its own error; InputError where that was one.
        KeyboardInterrupt: A stage was stopped by Ctrl-C.
    """
    say(f"dvc repro {' '.join(arguments)}".rstrip())
    told = settings.state / "stage-error.json"
    told.unlink(missing_ok=True)
    code, errors = start_dvc(settings.root, ["repro", *arguments], {ERROR_FILE: str(told)}, output=output)
    if told.is_file():
        error = json.loads(told.read_text(encoding="utf-8"))
        raise (InputError if error["exit_code"] == InputError.exit_code else OsteoError)(error["text"])
    if any(error.endswith("exited with 130") for error in errors):
        raise KeyboardInterrupt  # a stage was stopped
    if code:
        found = "; ".join(errors) or f"`dvc repro` ended with exit code {code}"
        raise OsteoError(found, where="dvc.yaml", remedy="fix it and run the same command: it continues")


def _promote(context: RunContext, say: Say) -> list[str]:
    from osteo_models.registry.gate import promote

    names = sorted(_registered(context.settings), key=lambda name: (name != "osteo-multimodal", name))
    champions: list[str] = []
    for name in names:
        try:
            promotion = promote(
                context.tracking,
                name,
                None,
                context.params.gate,
                journal=context.journal,
                author=context.author,
                settings=context.settings,
                data=context.params.data.path,
            )
        except GateRefused as refusal:
            say(f"  {name}: refused ({refusal.found})")
        else:
            champions.append(name)
            say(f"  {name} version {promotion.version} is champion")
    return champions


def _example(context: RunContext) -> str:
    root, folder = context.settings.root, context.data / "dicom"
    first = next(iter(sorted(folder.glob("*/ct-*.dcm"))), folder)
    shown = first.relative_to(root) if first.is_relative_to(root) else first
    return str(shown)
