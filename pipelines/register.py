"""DVC stage `register`: the stage-5 networks become model versions that carry the metrics of all their stages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from osteo_models.data.revisions import hash_md5, read_commit, read_data_digest
from osteo_models.errors import StaleDataError
from osteo_models.evaluation.evidence import collect_metrics
from osteo_models.params import Params
from osteo_models.registry.gate import assess
from osteo_models.registry.origin import collect_files, list_splits
from osteo_models.registry.rules.comparison import SHORTCUTS
from osteo_models.registry.rules.thresholds import GROUPS
from osteo_models.registry.tracking import Tracking, open_tracking
from osteo_models.registry.versions import register_version
from osteo_models.settings import Settings
from pipelines.entry import main, say


@task(task_run_name="register {folder.name}", cache_policy=NO_CACHE)
def register_model(folder: Path, params: Params, settings: Settings, tracking: Tracking) -> dict:
    """Register one network, and say what the gate would decide; returns its entry in register.json."""
    model = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    job = tracking.find_job(model["key"])
    if job is None:
        raise StaleDataError(
            f"no MLflow run for job {model['key']}",
            where=str(folder),
            remedy="the tracking store is another one than the experiments used; run `dvc repro -f experiments`",
        )
    metrics = collect_metrics(settings.artifacts, model["architecture"], model["images"])
    files, splits = collect_files(settings, params, tracking, model), list_splits(settings.artifacts)
    version = register_version(
        tracking,
        model_folder=folder,
        metrics=metrics,
        tags={
            **read_commit(settings.root),
            "dvc.data": read_data_digest(settings.root, params.data.path) or "",
            "dvc.splits": hash_md5(splits[0]),
            "profile": params.profile,
            "synthetic": str(params.data.synthetic is not None).lower(),
        },
        files=files,
        evidence=[*_find_evidence(settings.artifacts, folder.name), *splits],
        run_id=job.run_id,
    )
    verdict = assess(tracking, version, params.gate)
    say(f"  {version.name} version {version.version}: the gate says {verdict.verdict}")
    return {
        "name": version.name,
        "version": version.version,
        "alias": ", ".join(version.aliases),
        "verdict": verdict.verdict,
        "rules": [asdict(result) for result in verdict.results],
        "metrics": metrics,
    }


def _find_evidence(artifacts: Path, name: str) -> Iterator[Path]:
    """What the gate judges a version by, and is therefore kept with it."""
    yield from sorted(artifacts.glob(f"predictions/*/{name}-*.parquet"))
    yield from (path for path in (artifacts / SHORTCUTS, artifacts / GROUPS) if path.is_file())


@flow(name="register", validate_parameters=False)
def register(params: Params, settings: Settings) -> None:
    """Register every stage-5 network."""
    tracking = open_tracking(settings.tracking_uri, settings.state / "mlartifacts")
    folders = sorted(path.parent for path in settings.artifacts.glob("models/*/model.json"))
    entries = [register_model(folder, params, settings, tracking) for folder in folders]
    text = json.dumps(entries, indent=1) + "\n"
    (settings.artifacts / "register.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(register)
