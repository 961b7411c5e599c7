"""Runs DVC stages: one command at a time, and only on the data that `data.dvc` records."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from osteo_models.core.errors import InputError, OsteoError, StaleDataError, StoreError
from osteo_models.core.files import hold_lock
from osteo_models.core.params import Params
from osteo_models.core.settings import ERROR_FILE, Settings
from osteo_models.data.data_folder import check_not_imported
from osteo_models.data.revisions import check_data, read_data_digest, run_dvc, start_dvc
from osteo_models.registry.run_context import RunContext

Say = Callable[[str], None]


@dataclass(frozen=True)
class Stages:
    """The DVC stages of a project that no other command runs.

    Attributes:
        say: Takes each line.
        output: File descriptor for what DVC and the stages print; None: this process' standard output.
    """

    settings: Settings
    say: Say
    output: int | None = None

    def reproduce(self, *arguments: str) -> None:
        """Run `dvc repro` with these arguments.

        Raises:
            OsteoError: A stage failed, with its own error; InputError where that was one.
            KeyboardInterrupt: A stage was stopped by Ctrl-C.
        """
        self.say(" ".join(["dvc repro", *arguments]))
        error_file = self.settings.state / "stage-error.json"
        error_file.unlink(missing_ok=True)
        variables = {ERROR_FILE: str(error_file)}
        code, errors = start_dvc(self.settings.root, ["repro", *arguments], variables, output=self.output)
        if error_file.is_file():
            error = json.loads(error_file.read_text(encoding="utf-8"))
            raise (InputError if error["exit_code"] == InputError.exit_code else OsteoError)(error["text"])
        if any(error.endswith("exited with 130") for error in errors):
            raise KeyboardInterrupt  # a stage was stopped
        if code:
            found = "; ".join(errors) or f"`dvc repro` ended with exit code {code}"
            raise OsteoError(found, where="dvc.yaml", remedy="fix it and run the same command: it continues")


@contextlib.contextmanager
def open_stages(context: RunContext, say: Say, *, output: int | None = None) -> Iterator[Stages]:
    """Lock the project, make the synthetic cohort where it is missing, and check the data.

    Raises:
        OsteoError: Another command runs stages here.
        StaleDataError: The data differs from `data.dvc`.
        StoreError: There is no data and nothing to make it from.
    """
    with lock_stages(context.settings.state):
        ensure_data(context, say)
        yield Stages(context.settings, say, output)


@contextlib.contextmanager
def lock_stages(state: Path) -> Iterator[None]:
    """Hold the lock of the commands that run stages here.

    Raises:
        OsteoError: Another one holds it.
    """
    state.mkdir(parents=True, exist_ok=True)
    found = "another `osteo` command is at work here"
    with hold_lock(state / "demo.lock", seconds=0, where=str(state), found=found, remedy="wait for it"):
        yield


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


def _note_synthetic(settings: Settings) -> Path:
    return settings.state / "synthetic.json"


def _check_synthetic(params: Params, settings: Settings) -> None:
    """Check that the data which was made here was made with the seed in params.yaml."""
    note = _note_synthetic(settings)
    if params.data.synthetic is None or not note.is_file():
        return
    made = json.loads(note.read_text(encoding="utf-8"))
    wanted = params.data.synthetic.model_dump()
    if made != wanted:
        remedy = f"delete the folder {params.data.path} and {params.data.path}.dvc to make the other cohort"
        raise StaleDataError(
            f"the data was made with {made}", where="data.synthetic", allowed=str(wanted), remedy=remedy
        )
