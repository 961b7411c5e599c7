"""The Python interface for notebooks and scripts, exported lazily by `osteo_models`; `osteo` uses the same functions.

Every function takes `root`, the folder with `params.yaml`; the current folder by default. Importing MLflow and PyTorch
takes seconds: only the functions that need them do it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from osteo_models.core.errors import InputError
from osteo_models.core.settings import load_settings, silence_telemetry
from osteo_models.core.terms import Modality
from osteo_models.data.tables import read_frame
from osteo_models.evaluation.predictions import read_predictions
from osteo_models.registry.run_context import RunContext

if TYPE_CHECKING:
    from osteo_models.registry.versions import VersionInfo
    from osteo_models.report.version_comparison import Pair, Side
    from osteo_models.serving.batch import Scores

Root = Path | str | None


@dataclass(frozen=True)
class ModelVersion:
    """A registered version.

    Attributes:
        name: Registered model, such as `osteo-multimodal`.
        version: Number, from 1.
        aliases: Such as `champion`.
        metrics: Metrics of every stage that the version took part in, named `<stage>.<protocol>.<metric>`.
        tags: Origin: `git.commit`, `dvc.data`, `dvc.splits`, ...
        root: Folder of the project.
    """

    name: str
    version: int
    aliases: tuple[str, ...]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    root: Path

    def score_files(self, path: Path | str, *, modality: Modality | None = None, allow_ood: bool = False) -> Scores:
        """Score a DICOM, PNG or JPEG file, or every file of a folder. The version's files are verified first.

        Args:
            path: File or folder.
            modality: Modality of PNG and JPEG files; DICOM files state it themselves.
            allow_ood: Also score images that are out of distribution.

        Raises:
            InputError: No such path, or an empty folder.
            WeightsError: A file of the version was changed.
        """
        from osteo_models.registry.package import load_version as load
        from osteo_models.serving.batch import tabulate_scores
        from osteo_models.serving.predict import predict_path

        version = load(_open(self.root).tracking, f"{self.name}/{self.version}")
        prediction = predict_path(version, Path(path), modality, allow_ood=allow_ood, allow_none=True)
        return tabulate_scores(prediction)


@dataclass(frozen=True)
class Comparison:
    """Two versions, A and B.

    Attributes:
        metrics: Registered metrics: one row per metric, one column per version.
        differences: B minus A on the images that both scored without having been trained on them: one row per kind of
            test, protocol and metric, with `a`, `b`, `difference`, `ci_low`, `ci_high` (95 %, counting patients),
            `p_value` (DeLong's test by patient, for `roc_auc`), `images` and `patients`.
    """

    metrics: pd.DataFrame
    differences: pd.DataFrame
    _sides: tuple[Side, Side]
    _context: RunContext

    def write_page(self, out: Path | str | None = None) -> Path:
        """Write the comparison as an HTML page, by default in `artifacts/comparisons/`, and return its path."""
        from osteo_models.report.report_command import write_sides

        return write_sides(self._sides, self._context.params, self._context.settings, Path(out) if out else None)


def load_cohort(root: Root = None) -> pd.DataFrame:
    """Prepared images of the cohort: one row per image.

    Columns: `image_id`, `patient_id`, `modality`, `target` (1: mean T-score of L1-L4 below the limit of `params.yaml`),
    `age_years`, `sex`.

    Raises:
        InputError: The stage `cohort` has not run.
    """
    return _read_table(root, "cohort", "images.csv")


def load_splits(root: Root = None) -> pd.DataFrame:
    """Splits: one row per image.

    Columns: those of the cohort; `holdout` and `patient_test` (whether the image is in these test sets); `fold_image`
    (folds of images) and `fold_patient` (folds of patients), missing where the image is in the hold-out.

    Raises:
        InputError: The stage `splits` has not run.
    """
    return _read_table(root, "splits", "splits.csv").astype({"holdout": bool, "patient_test": bool})


def load_predictions(stage: str | None = None, root: Root = None) -> pd.DataFrame:
    """Scores of test images: one row per image, job and fold.

    Columns: `stage`, `architecture`, `images`, `protocol`, `validation`, `fold`, `image_id`, `patient_id`, `modality`,
    `target`, `score`.

    Args:
        stage: One key of `stages` in params.yaml; all stages by default.
        root: Folder of the project.

    Raises:
        InputError: The stage `experiments` has not run, or no job has this stage.
    """
    jobs = read_predictions(_open(root).settings.artifacts)
    known = sorted({job.stage for job in jobs})
    if stage is not None and stage not in known:
        raise InputError(f"no predictions of stage {stage!r}", allowed=", ".join(known))
    frames = [pd.DataFrame(asdict(job)).drop(columns="source") for job in jobs if stage in (None, job.stage)]
    return pd.concat(frames, ignore_index=True)


def list_versions(name: str | None = None, root: Root = None) -> list[ModelVersion]:
    """Registered versions by name, the newest first.

    Args:
        name: One registered model; all by default.
        root: Folder of the project.

    Raises:
        InputError: No registered model has this name.
    """
    from osteo_models.registry import versions

    context = _open(root)
    return [_as_version(found, context) for found in versions.list_versions(context.tracking, name)]


def load_version(reference: str, root: Root = None) -> ModelVersion:
    """One registered version.

    Args:
        reference: `NAME@alias`, `NAME/3`, or `NAME` for the newest.
        root: Folder of the project.

    Raises:
        InputError: There is no such version; the message lists those that exist.
    """
    from osteo_models.registry import versions

    context = _open(root)
    return _as_version(versions.get_version(context.tracking, reference), context)


def compare_versions(first: str, second: str, root: Root = None) -> Comparison:
    """Compare two registered versions: A (`first`) and B (`second`).

    Args:
        first: `NAME@alias`, `NAME/3`, or `NAME` for the newest.
        second: The same.
        root: Folder of the project.

    Raises:
        InputError: There is no such version; the message lists those that exist.
    """
    from osteo_models.report.report_command import read_sides
    from osteo_models.report.version_comparison import pair_versions

    context = _open(root)
    sides = read_sides(context.settings, first, second)
    metrics = pd.DataFrame({side.title: pd.Series(dict(side.metrics), dtype=float) for side in sides})
    threshold = context.params.evaluate.threshold
    pairs = pair_versions(sides[0].predictions, sides[1].predictions, threshold=threshold)
    return Comparison(metrics, _tabulate_pairs(pairs), sides, context)


def _tabulate_pairs(pairs: Sequence[Pair]) -> pd.DataFrame:
    counted = ("images", "patients")
    columns = ("test", "protocol", "metric", "a", "b", "difference", "ci_low", "ci_high", "p_value", *counted)
    rows = []
    for pair in pairs:
        p_value = pair.by_patient.p_value if pair.by_patient else None
        for metric, gap, p in (("balanced_accuracy", pair.balanced_accuracy, None), ("roc_auc", pair.roc_auc, p_value)):
            values = (gap.second, gap.first, gap.value, gap.ci_low, gap.ci_high)  # `first` is version B
            rows.append((pair.kind, pair.protocol, metric, *values, p, pair.n, pair.n_patients))
    return pd.DataFrame(rows, columns=list(columns))


def _as_version(found: VersionInfo, context: RunContext) -> ModelVersion:
    return ModelVersion(found.name, found.version, found.aliases, found.metrics, found.tags, context.settings.root)


def _read_table(root: Root, stage: str, name: str) -> pd.DataFrame:
    path = _open(root).settings.artifacts / stage / name
    if not path.is_file():
        raise InputError("file not found", where=str(path), remedy=f"run `dvc repro {stage}` in the project's folder")
    return read_frame(path)


def _open(root: Root) -> RunContext:
    silence_telemetry()
    return RunContext(load_settings(None if root is None else Path(root)))
