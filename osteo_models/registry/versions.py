"""Registered model versions, found by name, number or alias."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from osteo_models.core.errors import InputError
from osteo_models.core.terms import PROTOCOLS, find_stages, metric_prefix
from osteo_models.registry.runs import JOB_TAG, list_all
from osteo_models.registry.store import is_missing
from osteo_models.registry.tracking import Tracking

CHALLENGER: Final = "challenger"
CHAMPION: Final = "champion"
WEIGHTS_TAG: Final = "osteo.weights"
RECORD_TAG: Final = "osteo.record"
MODEL_TAG: Final = "osteo.model_id"
IDENTITY_TAG: Final = "osteo.identity"  # SHA-256 over weights, evidence, metrics, parameters and code


@dataclass(frozen=True)
class VersionInfo:
    """A registered version.

    Attributes:
        metrics: Metrics of all stages it took part in.
        sha256: SHA-256 of its weights.
        run_id: Run of the registration, a child of its job's run.
        model_id: MLflow's logged model, which holds the files.
        created: Milliseconds since 1970.
        description: The card, perhaps with waivers at its end.
    """

    name: str
    version: int
    aliases: tuple[str, ...]
    metrics: dict[str, float]
    tags: dict[str, str]
    sha256: str
    job: str
    run_id: str
    model_id: str
    created: int
    description: str = field(repr=False)

    @property
    def uri(self) -> str:
        """Address for `mlflow.pyfunc.load_model` and `mlflow models serve`."""
        return f"models:/{self.name}/{self.version}"

    @property
    def title(self) -> str:
        """Name and number in messages."""
        return f"{self.name} version {self.version}"


def list_versions(tracking: Tracking, name: str | None = None) -> list[VersionInfo]:
    """Versions by name, the newest first.

    Raises:
        InputError: There is no model of this name.
    """
    with tracking.reading():
        models = {model.name: model for model in list_all(tracking.client.search_registered_models)}
        if name is not None and name not in models:
            known = ", ".join(sorted(models))
            remedy = "" if known else "register models with `dvc repro register`"
            raise InputError(f"no registered model {name!r}", allowed=known or "none is registered yet", remedy=remedy)
        found: list[VersionInfo] = []
        for key in [name] if name else sorted(models):
            versions = list_all(tracking.client.search_model_versions, f"name='{key}'")
            for version in sorted(versions, key=lambda version: -int(version.version)):
                found.append(_describe(tracking.client, version, models[key].aliases))
        return found


def get_version(tracking: Tracking, reference: str) -> VersionInfo:
    """One version.

    Args:
        reference: `NAME@alias`, `NAME/3`, or `NAME` for the newest.

    Raises:
        InputError: There is no such version; the message lists those that exist.
    """
    name, _, alias = reference.partition("@")
    name, _, number = name.partition("/")
    with tracking.reading():
        if found := _fetch(tracking.client, name, alias, number):
            return found
    versions = list_versions(tracking, name)
    for version in versions:
        if alias in version.aliases if alias else number in ("", str(version.version)):
            return version
    shown = (f"{known.version}{''.join(f' @{name}' for name in known.aliases)}" for known in versions)
    wanted = f"@{alias}" if alias else number or "at all"
    raise InputError(f"no version {wanted}", where=name, allowed=", ".join(shown) or "none is registered yet")


def _fetch(client: MlflowClient, name: str, alias: str, number: str) -> VersionInfo | None:
    """A version by its alias or number, without listing all the others; None where there is none."""
    try:
        aliases = client.get_registered_model(name).aliases
        wanted = aliases.get(alias) if alias else number
        return _describe(client, client.get_model_version(name, str(wanted)), aliases) if wanted else None
    except MlflowException as error:
        if not is_missing(error):
            raise
        return None


def list_aliases(tracking: Tracking, alias: str) -> dict[str, int]:
    """The version that carries an alias, for each registered model where one does."""
    with tracking.reading():
        models = list_all(tracking.client.search_registered_models)
        return {model.name: int(model.aliases[alias]) for model in models if alias in model.aliases}


def find_alias(tracking: Tracking, name: str, alias: str) -> int | None:
    """The version of a model that carries an alias."""
    with tracking.reading():
        aliases = tracking.client.get_registered_model(name).aliases
    return int(aliases[alias]) if alias in aliases else None


def set_alias(tracking: Tracking, name: str, alias: str, version: int) -> None:
    """Point an alias at a version; it leaves the version that it pointed at."""
    with tracking.writing():
        tracking.client.set_registered_model_alias(name, alias, str(version))


def list_headlines(metrics: Mapping[str, float]) -> list[str]:
    """The metrics that are shown where there is little room: balanced accuracy by stage and protocol."""
    heads = [metric_prefix(stage, protocol) for stage in find_stages(metrics) for protocol in PROTOCOLS]
    return [f"{head}.balanced_accuracy" for head in heads if f"{head}.balanced_accuracy" in metrics]


def _describe(client: MlflowClient, version: ModelVersion, aliases: Mapping[str, str]) -> VersionInfo:
    tags = {key: str(value) for key, value in version.tags.items()}
    model_id, number = tags.get(MODEL_TAG, ""), int(version.version)
    return VersionInfo(
        name=version.name,
        version=number,
        aliases=tuple(sorted(alias for alias, target in aliases.items() if int(target) == number)),
        metrics=_read_metrics(client, model_id),
        tags=tags,
        sha256=tags.get(WEIGHTS_TAG, ""),
        job=tags.get(JOB_TAG, ""),
        run_id=version.run_id or "",
        model_id=model_id,
        created=int(version.creation_timestamp),
        description=version.description or "",
    )


def _read_metrics(client: MlflowClient, model_id: str) -> dict[str, float]:
    """The newest value of each metric; a version that something else registered has none of ours."""
    if not model_id:
        return {}
    try:
        points = client.get_logged_model(model_id).metrics or []
    except MlflowException as error:
        if not is_missing(error):
            raise
        return {}  # the model was deleted by hand: the gate reports that the version lost its evidence
    ordered = sorted(points, key=lambda point: (point.step, point.timestamp))
    return {point.key: float(point.value) for point in ordered}
