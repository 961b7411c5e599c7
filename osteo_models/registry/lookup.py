"""Registered model versions, found by name, number or alias."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from osteo_models.core.errors import InputError
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
    """A registered version as it stands.

    Attributes:
        metrics: Of all stages it took part in.
        sha256: Of its weights.
        run_id: The run that it was registered in, a child of its job's run.
        model_id: MLflow's logged model that holds the files.
        created: Milliseconds since 1970.
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

    @property
    def uri(self) -> str:
        """For `mlflow.pyfunc.load_model` and `mlflow models serve`."""
        return f"models:/{self.name}/{self.version}"


def list_versions(tracking: Tracking, name: str | None = None) -> list[VersionInfo]:
    """Versions by name, the newest first.

    Raises:
        InputError: There is no model of this name.
    """
    with tracking.reading():
        models = {model.name: model for model in list_all(tracking.client.search_registered_models)}
        if name is not None and name not in models:
            raise _unknown(f"no registered model {name!r}", models)
        found: list[VersionInfo] = []
        for model in [models[name]] if name else [models[key] for key in sorted(models)]:
            clause = f"name='{model.name}'"
            for version in sorted(
                list_all(tracking.client.search_model_versions, clause), key=lambda each: -int(each.version)
            ):
                aliases = [alias for alias, number in model.aliases.items() if int(number) == int(version.version)]
                found.append(_describe(tracking.client, version, aliases))
        return found


def get_version(tracking: Tracking, reference: str) -> VersionInfo:
    """One version.

    Args:
        tracking: The store.
        reference: `NAME@alias`, `NAME/3`, or `NAME` for the newest.

    Raises:
        InputError: There is no such version; it says which there are.
    """
    name, _, alias = reference.partition("@")
    name, _, number = name.partition("/")
    with tracking.reading():
        if found := _fetch(tracking, name, alias, number):
            return found
    versions = list_versions(tracking, name)
    for version in versions:
        if alias in version.aliases if alias else number in ("", str(version.version)):
            return version
    shown = ", ".join(f"{each.version}{''.join(f' @{item}' for item in each.aliases)}" for each in versions)
    asked = f"@{alias}" if alias else number or "at all"
    raise InputError(f"no version {asked}", where=name, allowed=shown or "none is registered yet")


def _fetch(tracking: Tracking, name: str, alias: str, number: str) -> VersionInfo | None:
    """A version by its alias or number, without a look at all the others; None where there is none."""
    try:
        model = tracking.client.get_registered_model(name)
        asked = model.aliases.get(alias) if alias else number
        if not asked:
            return None
        version = tracking.client.get_model_version(name, str(asked))
    except MlflowException as error:
        if not is_missing(error):
            raise
        return None
    aliases = [found for found, of in model.aliases.items() if int(of) == int(version.version)]
    return _describe(tracking.client, version, aliases)


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


def _describe(client: MlflowClient, version: ModelVersion, aliases: Iterable[str]) -> VersionInfo:
    tags = {key: str(value) for key, value in version.tags.items()}
    model_id = tags.get(MODEL_TAG, "")
    return VersionInfo(
        name=version.name,
        version=int(version.version),
        aliases=tuple(sorted(aliases)),
        metrics=_read_metrics(client, model_id),
        tags=tags,
        sha256=tags.get(WEIGHTS_TAG, ""),
        job=tags.get(JOB_TAG, ""),
        run_id=version.run_id or "",
        model_id=model_id,
        created=int(version.creation_timestamp),
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


def _unknown(found: str, names: Iterable[str]) -> InputError:
    shown = ", ".join(sorted(names))
    remedy = "" if shown else "register models with `dvc repro register`"
    return InputError(found, allowed=shown or "none is registered yet", remedy=remedy)
