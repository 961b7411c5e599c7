"""DVC stage `report`: one self-contained HTML page."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from importlib.metadata import version

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from osteo_models.data.revisions import read_commit, read_data_digest
from osteo_models.errors import GateRefused, InputError
from osteo_models.params import Params
from osteo_models.registry.gate import Verdict, promote
from osteo_models.registry.tracking import Tracking, open_tracking
from osteo_models.registry.versions import list_versions
from osteo_models.report.build import build_report
from osteo_models.settings import Settings
from osteo_models.training.jobs import describe_left_out
from pipelines.entry import main, say

PACKAGES = ("osteo-models", "torch", "ray", "mlflow", "prefect", "dvc", "pydicom", "scikit-learn")


@task(cache_policy=NO_CACHE)
def read_versions(params: Params, settings: Settings) -> list[dict]:
    """The versions of register.json as they stand now: a promotion moves aliases later, and the gate looks at them."""
    entries = json.loads((settings.artifacts / "register.json").read_text(encoding="utf-8"))
    tracking = open_tracking(settings.tracking_uri, settings.state / "mlartifacts")
    aliases = {(found.name, found.version): ", ".join(found.aliases) for found in list_versions(tracking)}
    return [
        entry
        | {"alias": aliases.get((entry["name"], entry["version"]), "")}
        | {"rules": entry.get("rules") or judge_version(tracking, entry, params)}
        for entry in entries
    ]


def judge_version(tracking: Tracking, entry: dict, params: Params) -> list[dict]:
    """What each rule of the gate finds of a version, without moving anything; empty where the version is gone."""
    try:
        verdict = promote(tracking, entry["name"], entry["version"], params.gate, dry_run=True).verdict
    except GateRefused as refusal:
        verdict = refusal.verdict
    except InputError:
        return []
    return [asdict(result) for result in verdict.results] if isinstance(verdict, Verdict) else []


@task(cache_policy=NO_CACHE)
def build(params: Params, settings: Settings, versions: list[dict]) -> None:
    """Write artifacts/report/index.html."""
    provenance = {
        **read_commit(settings.root),
        "data (DVC md5)": read_data_digest(settings.root, params.data.path) or "not under DVC",
        "profile": params.profile,
        "Python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }
    path = build_report(
        settings.artifacts,
        settings.artifacts / "report" / "index.html",
        provenance=provenance,
        params=params.model_dump(mode="json"),
        synthetic=params.data.synthetic is not None,
        left_out=describe_left_out(params),
        versions=versions,
    )
    say(f"  {path.relative_to(settings.root)}")


@flow(name="report", validate_parameters=False)
def report(params: Params, settings: Settings) -> None:
    """Build the report."""
    build(params, settings, read_versions(params, settings))


if __name__ == "__main__":
    main(report)
