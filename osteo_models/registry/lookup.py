"""Registered model versions, found by name, number or alias."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from mlflow import artifacts as mlflow_artifacts
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList
from mlflow.tracking import MlflowClient

from osteo_models.errors import InputError, WeightsError
from osteo_models.registry.inspection import check_package
from osteo_models.registry.network import FEATURES, LIKENESS, RECORD, WEIGHTS, LoadedNetwork, hash_file, read_network
from osteo_models.registry.runs import JOB_TAG
from osteo_models.registry.tracking import Tracking

CHALLENGER: Final = "challenger"
CHAMPION: Final = "champion"
WEIGHTS_TAG: Final = "osteo.weights"
RECORD_TAG: Final = "osteo.record"
MODEL_TAG: Final = "osteo.model_id"
IDENTITY_TAG: Final = "osteo.identity"  # SHA-256 over weights, evidence, metrics, parameters and code
PAGE: Final = 1000  # models or versions in one answer of the store
CODE_TAG: Final = "osteo.code"  # of the logged model: the hash of the code in its folder


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
        models = {model.name: model for model in _list_models(tracking)}
        if name is not None and name not in models:
            raise _unknown(f"no registered model {name!r}", models)
        found: list[VersionInfo] = []
        for model in [models[name]] if name else [models[key] for key in sorted(models)]:
            clause = f"name='{model.name}'"
            versions = _turn_pages(partial(tracking.client.search_model_versions, clause, PAGE, None))
            for version in sorted(versions, key=lambda each: -int(each.version)):
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
    except MlflowException:
        return None
    aliases = [found for found, of in model.aliases.items() if int(of) == int(version.version)]
    return _describe(tracking.client, version, aliases)


def list_aliases(tracking: Tracking, alias: str) -> dict[str, int]:
    """The version that carries an alias, for each registered model where one does."""
    with tracking.reading():
        return {model.name: int(model.aliases[alias]) for model in _list_models(tracking) if alias in model.aliases}


def find_alias(tracking: Tracking, name: str, alias: str) -> int | None:
    """The version of a model that carries an alias."""
    with tracking.reading():
        aliases = tracking.client.get_registered_model(name).aliases
    return int(aliases[alias]) if alias in aliases else None


def set_alias(tracking: Tracking, name: str, alias: str, version: int) -> None:
    """Point an alias at a version; it leaves the version that it pointed at."""
    with tracking.writing():
        tracking.client.set_registered_model_alias(name, alias, str(version))


def load_network(tracking: Tracking, version: VersionInfo | str, *, device: str = "cpu") -> LoadedNetwork:
    """The network of a version, from its weights and record alone: no code of the version is run.

    Args:
        tracking: The store.
        version: A version, or a reference as in `get_version`.
        device: Where to compute.

    Raises:
        InputError: There is no such version.
        WeightsError: It is no model of ours, or holds what could run code, or is not what was registered.
    """
    info = get_version(tracking, version) if isinstance(version, str) else version
    if not (info.model_id and info.sha256):
        remedy = "use a version that `dvc repro register` made"
        raise WeightsError("not registered by this project, so nothing of it is loaded", where=info.uri, remedy=remedy)
    with tracking.reading(), tempfile.TemporaryDirectory() as place:
        model = tracking.client.get_logged_model(info.model_id)
        folder = Path(
            mlflow_artifacts.download_artifacts(
                artifact_uri=model.artifact_location, dst_path=place, tracking_uri=tracking.uri
            )
        )
        try:
            check_package(folder, str(model.tags.get(CODE_TAG, "")))
        except WeightsError as error:
            raise WeightsError(error.found, where=info.uri, allowed=error.allowed, remedy=error.remedy) from None
        return _read_files(info, folder / "artifacts", device)


def _read_files(info: VersionInfo, folder: Path, device: str) -> LoadedNetwork:
    known = {WEIGHTS: info.sha256, RECORD: info.tags.get(RECORD_TAG, "")}
    faults = {WEIGHTS: "the weights are not those that were registered", RECORD: "the record is not the registered one"}
    for name, fault in faults.items():
        if hash_file(folder / name) != known[name]:
            remedy = "the file was changed after it was registered: restore it from a backup, or register it anew"
            raise WeightsError(fault, where=info.uri, remedy=remedy)
    likeness, features = (path if path.is_file() else None for path in (folder / LIKENESS, folder / FEATURES))
    return read_network(folder / WEIGHTS, folder / RECORD, likeness=likeness, features=features, device=device)


Found = TypeVar("Found")


def _turn_pages(search: Callable[[str | None], PagedList[Found]]) -> Iterator[Found]:
    """All that a search finds: MLflow hands it out in pages."""
    token: str | None = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return


def _list_models(tracking: Tracking) -> Iterator[RegisteredModel]:
    return _turn_pages(partial(tracking.client.search_registered_models, None, PAGE, None))


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
    except MlflowException:  # deleted by hand: the version lost its evidence, and the gate will say so
        return {}
    ordered = sorted(points, key=lambda point: (point.step, point.timestamp))
    return {point.key: float(point.value) for point in ordered}


def _unknown(found: str, names: Iterable[str]) -> InputError:
    shown = ", ".join(sorted(names))
    remedy = "" if shown else "register models with `dvc repro register`"
    return InputError(found, allowed=shown or "none is registered yet", remedy=remedy)
