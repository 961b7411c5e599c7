"""The small cohort on the cluster profile: PostgreSQL, S3, three Ray nodes, one of them killed on the way."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from osteo_models.cli.main import main
from osteo_models.core.settings import load_settings
from osteo_models.ops.dvc_stages import ensure_data
from osteo_models.ops.servers import running_servers
from tests.scenarios.test_cluster_servers import told_secrets

with warnings.catch_warnings():  # MLflow uses what its own dependencies deprecate
    warnings.simplefilter("ignore")
    from osteo_models.registry.journal import open_journal
    from osteo_models.registry.run_context import RunContext
    from osteo_models.registry.tracking import open_tracking
    from osteo_models.registry.versions import get_version

pytestmark = [pytest.mark.fault, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore::ResourceWarning")]
MODEL = "osteo-multimodal"
FOLDS = 2  # of each job
LEFT_OUT = ["traditional_cnn", "efficientnet_lite0"]


def objects(site, prefix: str) -> list[str]:
    """The keys in the bucket below a prefix."""
    import boto3

    names = {"aws_access_key_id": "AWS_ACCESS_KEY_ID", "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY"}
    given = {name: site.variables[variable] for name, variable in names.items()}
    client = boto3.client("s3", endpoint_url=site.variables["AWS_ENDPOINT_URL"], region_name="us-east-1", **given)
    try:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket="osteo", Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]
    finally:
        client.close()


def results(site) -> list[str]:
    return [key for key in objects(site, "jobs/") if key.endswith("/result.json")]


def kill_a_node(site, process) -> int:
    """Kill a whole Ray node once a fold of the experiments is finished, beside those that check the search's winner."""
    deadline = time.monotonic() + 600
    while len(results(site)) < FOLDS + 1:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "no fold was finished in time"
        time.sleep(0.2)
    (node,) = (server for server in running_servers(site.folder) if server.name == "ray-worker-2")
    os.killpg(node.pid, signal.SIGKILL)
    site.killed.add(node.name)
    return len(results(site))


def test_a_run_on_the_cluster_with_a_node_killed_ends_in_a_champion(project, site, monkeypatch) -> None:
    started = time.monotonic()
    params = yaml.safe_load((project.root / "params.yaml").read_text(encoding="utf-8"))
    params["profiles"]["quick"]["leave_out"] += LEFT_OUT
    params["stages"] = {stage: params["stages"][stage] for stage in ("stage-1", "stage-4", "stage-5")}
    params["stages"]["stage-5"]["images"] = ["multimodal"]
    params["profiles"]["quick"]["image_protocol"] = []
    params["search"]["budgets"]["quick"]["candidates"] = 2
    (project.root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    ensure_data(RunContext(load_settings(project.root)), lambda _: None)
    for command in (["git", "add", "-A"], ["git", "commit", "-qm", "less, and its data"]):
        subprocess.run(command, cwd=project.root, env=project.environment, check=True)
    there = dataclasses.replace(project, environment={**project.environment, **site.variables})
    process = there.start("-m", "dvc", "repro", "register")
    finished = kill_a_node(site, process)
    output, _ = process.communicate(timeout=800)
    assert process.returncode == 0, output
    assert not (project.root / "mlflow.db").exists() and not (project.root / ".osteo" / "search.db").exists()
    assert not [server for server in running_servers(site.folder) if server.name == "ray-worker-2"]

    monkeypatch.chdir(project.root)
    for name, value in site.variables.items():
        monkeypatch.setenv(name, value)
    jobs = json.loads((project.root / "artifacts" / "jobs.json").read_text(encoding="utf-8"))
    assert "champion" in osteo("promote", MODEL)
    check_runs(site, project, jobs, finished)
    journal = open_journal(site.variables["OSTEO_JOURNAL_URI"])
    assert journal.engine.dialect.name == "postgresql"
    assert journal.state(MODEL).champion == 1 and journal.verify(MODEL) == []
    use_the_champion(project.root)
    assert told_secrets(site) == []
    sys.stdout.write(f"{len(jobs)} jobs, {finished} folds before the kill, {time.monotonic() - started:.0f} s\n")


def osteo(*arguments: str) -> str:
    """Run a command in this process, which has imported already what it needs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, (arguments, done.output, done.exception)
    return done.output


def check_runs(site, project, jobs, finished: int) -> None:
    """Every job has one finished run over HTTP, its folds' results and the models' files lie in the bucket."""
    tracking = open_tracking(site.variables["MLFLOW_TRACKING_URI"], project.root / "nowhere")
    experiments = tracking.client.search_experiments(filter_string="name LIKE 'osteo/stage-%'")
    runs = tracking.client.search_runs(
        [each.experiment_id for each in experiments], "tags.`osteo.job` LIKE '%'", max_results=1000
    )
    assert sorted(run.data.tags["osteo.job"] for run in runs) == sorted(job["key"] for job in jobs)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert finished < len(results(site))
    champion = get_version(tracking, f"{MODEL}@champion")
    assert champion.version == 1
    place = tracking.client.get_logged_model(champion.model_id).artifact_location
    assert place.startswith("mlflow-artifacts:")
    assert any(key.endswith("/model.safetensors") and champion.model_id in key for key in objects(site, "mlflow/"))


def use_the_champion(root: Path) -> None:
    """Every reading command works with the servers, and none takes what is local instead."""
    shown = json.loads(osteo("versions", "--json"))
    assert any(version["name"] == MODEL and "champion" in version["aliases"] for version in shown)
    slices = sorted((root / "data" / "dicom").glob("*/ct-*.dcm"))[:1]
    said = json.loads(osteo("predict", str(slices[0]), "--model", f"{MODEL}@champion", "--json"))
    assert 0 <= said["images"][0]["score"] <= 1
    assert "0 findings in" in osteo("verify", f"{MODEL}@champion")
    assert "promoted version 1 at" in osteo("history", MODEL)
    assert json.loads(osteo("search", "--status", "--json"))["summary"]["candidates"] == 2
    assert "items," in osteo("gc", "--dry-run")
    assert "is already champion" in osteo("promote", MODEL, "--dry-run")
