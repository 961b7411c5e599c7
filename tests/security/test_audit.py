"""The audit of the lock files: waivers end, and silence of the service is not taken for good news."""

from __future__ import annotations

import datetime
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from osteo_models.core.errors import InputError, OsteoError, StoreError
from tests.conftest import ROOT

TODAY = datetime.date(2030, 1, 1)
GOOD = "- {id: CVE-2029-1, package: Pillow, reason: the decoder is never called here, until: 2030-01-01}\n"
FOUND = {"id": "PYSEC-2029-7", "aliases": ["CVE-2029-1"], "fix_versions": ["14.0"]}


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("infra_audit", ROOT / "infra" / "audit.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where pydantic looks for the names of its annotations
    spec.loader.exec_module(module)
    return module


def _write(folder: Path, text: str) -> Path:
    path = folder / "waivers.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_projects_waivers_hold_today(audit: ModuleType) -> None:
    waivers = audit.read_waivers(audit.WAIVERS, datetime.datetime.now(tz=datetime.UTC).date())
    locked = {line.split("==")[0].lower() for lock in audit.LOCKS for line in lock.read_text().splitlines()}
    assert {waiver.package.lower() for waiver in waivers} <= locked


def test_a_waiver_holds_on_its_last_day_and_not_after_it(audit: ModuleType, tmp_path: Path) -> None:
    path = _write(tmp_path, GOOD)
    assert [waiver.id for waiver in audit.read_waivers(path, TODAY)] == ["CVE-2029-1"]
    with pytest.raises(
        InputError, match=r"^waivers\.yaml: CVE-2029-1 was set aside until 2030-01-01; update the package"
    ):
        audit.read_waivers(path, TODAY + datetime.timedelta(days=1))
    with pytest.raises(InputError, match="is set aside until 2030-01-01; allowed: at most 183 days"):
        audit.read_waivers(path, TODAY - datetime.timedelta(days=184))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("CVE-2029-1", "anything"),
        ("reason: the decoder is never called here", "reason: no"),
        (", until: 2030-01-01", ""),
        ("2030-01-01", "someday"),
        ("package", "packages"),
    ],
)
def test_a_malformed_waiver_is_refused(audit: ModuleType, tmp_path: Path, old: str, new: str) -> None:
    with pytest.raises(InputError, match=r"^waivers\.yaml: "):
        audit.read_waivers(_write(tmp_path, GOOD.replace(old, new)), TODAY)


def test_what_is_found_is_told_unless_it_is_set_aside(audit: ModuleType, tmp_path: Path) -> None:
    answers = [
        {"name": "pillow", "version": "13.0.0", "vulns": [FOUND]},
        {"name": "numpy", "version": "2", "vulns": []},
    ]
    waivers = audit.read_waivers(_write(tmp_path, GOOD), TODAY)
    assert audit.judge(answers, waivers) == "2 packages, no vulnerability that is not set aside (1 waivers)"
    with pytest.raises(OsteoError, match=r"^1 vulnerabilities: pillow 13\.0\.0: PYSEC-2029-7, mended in 14\.0; update"):
        audit.judge(answers, [])
    other = [answers[0] | {"name": "numpy"}]
    with pytest.raises(OsteoError, match="numpy"):
        audit.judge(other, waivers)


def test_silence_is_not_good_news(audit: ModuleType) -> None:
    answers = [{"name": "numpy", "version": "2", "vulns": []}, {"name": "yarl", "skip_reason": "not found on PyPI"}]
    with pytest.raises(StoreError, match=r"could not ask about 1 of 2 packages, such as yarl: not found.*pypi\.org"):
        audit.judge(answers, [])


def test_an_auditor_that_fails_says_so(audit: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"^pip-audit: .+; run it where pypi\.org can be reached"):
        audit.ask([tmp_path / "missing.lock"])
