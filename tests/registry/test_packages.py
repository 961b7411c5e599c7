"""A version whose files are not as registered is refused wherever it is used, and the file is named."""

from __future__ import annotations

import base64
import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pytest
from click.testing import CliRunner

from osteo_models.cli.main import main
from osteo_models.core.errors import GateRefused, OsteoError, StaleDataError
from osteo_models.core.params import GateRule
from osteo_models.models import build
from osteo_models.registry.gate import promote
from osteo_models.registry.journal import open_journal
from osteo_models.registry.journal_events import Author
from osteo_models.registry.package import load_network, load_version
from osteo_models.registry.reproduce import reproduce_version
from osteo_models.registry.retention import read_runs
from osteo_models.registry.verify import check_version
from osteo_models.serving.network import OOD, read_network
from osteo_models.serving.ood_fit import add_features, fit_pixels
from osteo_models.serving.out_of_distribution import save_ood
from osteo_models.serving.predict import predict_path
from osteo_models.serving.score_table import encode_picture
from osteo_models.training.checkpoint import save_weights
from tests.data.bodies import draw_bodies
from tests.registry.conftest import copy_project
from tests.registry.small_project import SmallProject

PICTURE = base64.b64decode(encode_picture(np.tile(np.arange(60, dtype=np.uint8) * 4, (80, 1))))
MINIMUM = GateRule(rule="minimum", stages=("stage-5",), metric="balanced_accuracy", bound="point", value=0.5)


@pytest.fixture(scope="module")
def built(made_project: SmallProject, tmp_path_factory: pytest.TempPathFactory):
    """The small project with a version that has every kind of file, and another version."""
    with pytest.MonkeyPatch.context() as patch:
        yield _build(copy_project(made_project, tmp_path_factory.mktemp("packages") / "project", patch))


def _build(project: SmallProject):
    folder = project.settings.artifacts / "models" / "unimodal-mri"
    weights = (folder / "model.safetensors").read_bytes()
    save_weights(folder / "model.safetensors", build("unimodal", seed=9), {})
    other = _register(project, folder, seed=2, threshold=0.4)
    (folder / "model.safetensors").write_bytes(weights)
    version = _register(project, folder, seed=1, threshold=0.5)
    (project.root / "a.png").write_bytes(PICTURE)
    return project, version, other


@pytest.fixture
def site(built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Site]:
    """Its files, which are put back after each test, and a journal of its own."""
    project, version, other = built
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", project.tracking.uri)
    monkeypatch.setattr("osteo_models.ops.servers.serve_model", lambda *_: pytest.fail("it was served"))
    found = _Site(project, version, _files(project, version), _files(project, other), tmp_path)
    shutil.copytree(found.files, tmp_path / "sound")
    yield found
    shutil.rmtree(found.files)
    shutil.copytree(tmp_path / "sound", found.files)


def _register(project, folder: Path, seed: int, threshold: float):
    """Register the network in the folder, with the reference of training images."""
    parts = [draw_bodies(name, patients=20, each=3, seed=seed) for name in ("mri", "ct")]
    images, patients = np.concatenate([images for images, _ in parts]), [name for _, names in parts for name in names]
    given = (images, ["mri"] * 60 + ["ct"] * 60, patients)
    save_ood(folder / OOD, add_features(fit_pixels(*given), read_network(folder), *given))
    record = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    (folder / "model.json").write_text(json.dumps(record | {"threshold": threshold}), encoding="utf-8")
    return project.register()


class _Site:
    def __init__(self, project: SmallProject, version, files: Path, other: Path, place: Path) -> None:
        self.project, self.version, self.files, self.other = project, version, files, other
        self.tracking, self.reference = project.tracking, f"{version.name}/{version.version}"
        self.journal = open_journal(f"sqlite:///{place / 'journal.db'}")

    def list_files(self) -> list[str]:
        return sorted(path.relative_to(self.files).as_posix() for path in self.files.rglob("*") if path.is_file())

    def promote(self, rule: GateRule) -> None:
        given = {"journal": self.journal, "author": Author("A. Keeper")}
        promote(self.tracking, self.version.name, self.version.version, [rule], **given)

    def verify(self) -> None:
        findings = list(check_version(self.tracking, self.version, read_runs(self.tracking)))
        if findings:
            raise StaleDataError("; ".join(map(str, findings)))

    def serve(self) -> None:
        answer = CliRunner().invoke(main, ["serve", self.reference])
        raise StaleDataError(answer.output) if answer.exit_code == 1 else AssertionError(answer.output)

    def load_pyfunc(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mlflow.pyfunc.load_model(str(self.files), suppress_warnings=True)


def _files(project, version) -> Path:
    return Path(project.tracking.client.get_logged_model(version.model_id).artifact_location.removeprefix("file://"))


WAYS: dict[str, Callable[[_Site], object]] = {
    "load": lambda site: load_network(site.tracking, site.version),
    "predict": lambda site: predict_path(
        load_version(site.tracking, site.reference), site.project.root / "a.png", "mri"
    ),
    "serve": _Site.serve,
    "pyfunc": _Site.load_pyfunc,
    "promote": lambda site: site.promote(MINIMUM),
    "promote by the rule": lambda site: site.promote(GateRule(rule="files_intact")),
    "verify": _Site.verify,
    "reproduce": lambda site: reproduce_version(site.tracking, site.project.settings, site.version),
}
DAMAGES: dict[str, Callable[[Path, Path], object]] = {
    "flip": lambda path, _: path.write_bytes(_flip(path.read_bytes())),
    "truncate": lambda path, _: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "delete": lambda path, _: path.unlink(),
    "swap": lambda path, other: path.write_bytes(other.read_bytes()),
}


def _flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def _damage(site: _Site, kind: str, name: str) -> Iterator[str]:
    """Damage a file, wait, and put it back; nothing where that changes nothing."""
    path, other = site.files / name, site.other / name
    content = path.read_bytes()
    if not content or (kind == "swap" and (not other.is_file() or other.read_bytes() == content)):
        return
    DAMAGES[kind](path, other)
    yield name
    path.write_bytes(content)


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_file_is_refused_by_every_use_and_named(site: _Site, kind: str) -> None:
    load_network(site.tracking, site.version)
    site.load_pyfunc()
    names = site.list_files()
    own = [name for name in names if not name.startswith("code/")]
    wanted = {"model.safetensors", "model.json", "ood.safetensors", "golden.json"}
    assert {f"artifacts/{name}" for name in wanted} <= set(own) and len(names) < 70
    library = [f"code/osteo_models/{name}" for name in ("__init__.py", "core/terms.py", "registry/pyfunc_model.py")]
    used = set[str]()
    for name in [*own, *library]:
        for _ in _damage(site, kind, name):
            used.add(name)
            for way, use in WAYS.items():
                with pytest.raises(Exception) as caught:  # MLflow raises what its readers raise
                    use(site)
                error = caught.value
                if way != "pyfunc":
                    assert isinstance(error, GateRefused if way == "promote by the rule" else OsteoError), (way, error)
                assert name in str(error), (way, name, error)
    assert len(used) >= (len(wanted) + 3 if kind == "swap" else len(own))
    assert site.journal.state(site.version.name).champion is None
    assert {event.action for event in site.journal.history(site.version.name)} == {"refusal"}
    site.verify()
    site.load_pyfunc()
    site.promote(GateRule(rule="files_intact"))
    assert site.journal.state(site.version.name).champion == site.version.version


def test_every_file_of_the_library_is_among_those_that_are_checked(site: _Site) -> None:
    code = [name for name in site.list_files() if name.startswith("code/") and (site.files / name).stat().st_size]
    assert 20 < len(code) < 40
    for name in code:
        (site.files / name).write_bytes(_flip((site.files / name).read_bytes()))
    found = [finding.found for finding in check_version(site.tracking, site.version, read_runs(site.tracking))]
    assert found == [f"{name} is changed" for name in code]


@pytest.mark.parametrize("name", ["artifacts/extra.json", "code/torch.py", "sitecustomize.py", "artifacts/notes.bin"])
def test_a_file_that_was_added_is_refused_by_every_use(site: _Site, name: str) -> None:
    (site.files / name).write_text("raise SystemExit\n", encoding="utf-8")
    for way, use in WAYS.items():
        with pytest.raises(Exception, match=name) as caught:
            use(site)
        assert way == "pyfunc" or isinstance(caught.value, OsteoError)


def test_what_mlflow_adds_to_a_folder_that_it_loads_is_no_damage(site: _Site) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.set_registry_uri(site.tracking.uri)
        mlflow.pyfunc.load_model(f"models:/{site.reference}", suppress_warnings=True)
    site.verify()
    load_network(site.tracking, site.version)


def test_the_champion_is_compared_only_as_it_was_registered(site: _Site) -> None:
    site.promote(GateRule(rule="files_intact"))
    table = next((site.files / "evidence").rglob("*.parquet"))
    table.write_bytes(_flip(table.read_bytes()))
    rule = GateRule(rule="champion", stages=("stage-1",), metric="balanced_accuracy", value=0.0)
    with pytest.raises(GateRefused, match="it is not as it was registered: evidence/") as refused:
        given = {"journal": site.journal, "author": Author("A. Keeper")}
        promote(site.tracking, site.version.name, 1, [rule], **given)
    assert getattr(refused.value.verdict, "verdict", "") == "NOT_ENOUGH_EVIDENCE"
