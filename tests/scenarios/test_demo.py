"""The whole job on the small cohort: killed on the way, continued, finished, and found finished."""

from __future__ import annotations

import base64
import json
import sqlite3
import sys
import time

import pytest

pytestmark = pytest.mark.timeout(1200)


def results(project):
    """Finished folds and when each was finished."""
    return {path: path.stat().st_mtime_ns for path in (project.root / ".osteo" / "jobs").glob("*/fold-*/result.json")}


def kill_after_folds(project, folds: int):
    """Start the demo, and kill it with everything it started once some folds are finished."""
    process = project.start("demo")
    deadline = time.monotonic() + 400
    while len(results(project)) < folds:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "no fold was finished in time"
        time.sleep(0.05)
    process.kill()  # only what was started by hand; everything below it must follow
    process.communicate()
    return results(project)


def rows(project, query: str):
    with sqlite3.connect(project.root / "mlflow.db") as database:
        return database.execute(query).fetchall()


def test_the_whole_job(project):
    before = kill_after_folds(project, 5)
    for command in (["add", "data.dvc"], ["commit", "-qm", "data"]):  # the gate wants it in a commit
        project.git(*command)
    output = project.osteo("demo")

    # Nothing finished was trained again, and no job has a second run.
    after = results(project)
    assert {path: after[path] for path in before} == before
    jobs = json.loads((project.root / "artifacts" / "jobs.json").read_text())
    assert len(jobs) == 20
    keys = {job["key"] for job in jobs}  # the search's winner, estimated again, is a job of its own
    after, before = ({path: when for path, when in part.items() if path.parts[-3] in keys} for part in (after, before))
    assert len(after) == sum(2 if job["stage"] in ("stage-1", "stage-2", "stage-3", "stage-4") else 1 for job in jobs)
    of_jobs = "run_uuid in (select run_uuid from tags where key = 'osteo.stage')"
    keys = rows(project, f"select value, count(*) from tags where key = 'osteo.job' and {of_jobs} group by value")
    assert sorted(keys) == sorted((job["key"], 1) for job in jobs)
    assert rows(project, "select count(*) from runs where status != 'FINISHED'") == [(0,)]
    assert f"{len(after) - len(before)} folds trained, {len(before)} reused" in output
    doubled = "select count(*) from (select 1 from metrics group by run_uuid, key, step having count(*) > 1)"
    assert rows(project, doubled) == [(0,)]

    # Everything that was promised is there.
    explained = (project.root / "artifacts" / "explain" / "cases.csv").read_text().splitlines()
    assert len(explained) > 7 and all(
        f"osteo-{name}," in "\n".join(explained) for name in ("multimodal", "unimodal-mri")
    )
    assert "is champion" in output and "synthetic cohort" in output, output
    page = (project.root / "artifacts" / "report" / "index.html").read_text()
    assert "synthetic" in page.lower()
    assert project.dvc("status").strip().endswith("up to date.")
    shown = json.loads(project.dvc("metrics", "show", "--json"))[""]["data"]
    assert set(shown) == {f"artifacts/metrics/{name}.json" for name in ("splits", "search", "evaluation")}
    assert 30 < sum(count_leaves(file["data"]) for file in shown.values()) <= 60

    use_and_misuse(project, results(project))


def count_leaves(value):
    return sum(map(count_leaves, value.values())) if isinstance(value, dict) else 1


def test_the_tools_find_everything_in_the_folder_of_the_project(project):
    """After the demo, MLflow and Prefect are used without a variable; nothing new appears in git."""
    before = project.git("status", "--porcelain")
    search = "import mlflow; print(len(mlflow.search_runs(search_all_experiments=True)))"
    assert int(project.run(sys.executable, "-c", search).split()[-1]) > 10
    serve = ["-m", "mlflow", "models", "predict", "--env-manager", "local", "--content-type", "json"]
    serve += ["--model-uri", "models:/osteo-unimodal-mri/1", "--input-path", "request.json"]
    image = next((project.root / "data" / "dicom").rglob("mri-*.dcm"))
    row = [base64.b64encode(image.read_bytes()).decode(), "mri"]
    request = {"dataframe_split": {"columns": ["image", "modality"], "data": [row]}}
    (project.root / "request.json").write_text(json.dumps(request))
    assert "score" in project.run(sys.executable, *serve)
    assert "report" in project.run(sys.executable, "-m", "prefect", "flow-run", "ls")
    (project.root / "request.json").unlink()
    assert project.git("status", "--porcelain") == before


def use_and_misuse(project, finished):
    """A second run finds nothing to do; the champion scores files; the gate refuses with its own exit code."""
    output = project.osteo("demo")
    assert "Running stage" not in output
    assert results(project) == finished

    assert "Winner: candidate" in project.osteo("search")
    shown = json.loads(project.osteo("search", "--status", "--json"))
    assert shown["summary"]["candidates"] == len(shown["candidates"]) == 3

    slices = sorted((project.root / "data" / "dicom").glob("*/ct-*.dcm"))[:2]
    said = json.loads(project.osteo("predict", str(slices[0].parent), "--model", "osteo-multimodal@champion", "--json"))
    assert all(0 <= image["score"] <= 1 for image in said["images"])
    assert said["patients"][0]["patient_id"] == slices[0].parent.name
    assert said["synthetic"] and "not a medical device" in said["notice"]
    said = json.loads(project.osteo("explain", str(slices[0]), "--model", "osteo-multimodal@champion", "--json"))
    assert all((project.root / each["picture"]).stat().st_size > 1000 for each in said["explanations"])
    (project.root / "notes.txt").write_text("no image")
    refused = project.osteo("predict", "notes.txt", "--model", "osteo-multimodal@champion", code=2)
    assert "not an image file" in refused

    params = (project.root / "params.yaml").read_text()
    (project.root / "params.yaml").write_text(params.replace("value: 0.0", "value: 1.0"))
    refused = project.osteo("promote", "osteo-multimodal", "--dry-run", code=3)
    assert "minimum balanced_accuracy" in refused and "needed" in refused
    assert "promoted version 1 at" in project.osteo("history", "osteo-multimodal")
    assert "nothing is wrong" in project.osteo("doctor")
    (project.root / "params.yaml").write_text(params.replace("profile: quick", "profle: quick"))
    wrong = project.osteo("demo", code=2)
    assert "profle: unknown key" in wrong and "profile: missing" in wrong
    (project.root / "params.yaml").write_text(params)
    bad_table(project)


def bad_table(project):
    """A fault that only a DVC stage can see is one error, and leaves no half-made output."""
    table = project.root / "data" / "clinical.csv"
    table.chmod(0o644)
    table.write_text(table.read_text().replace("age_years", "age", 1))
    (project.root / "data.dvc").unlink()
    said = project.osteo("demo", code=2)
    assert said.count("error") == 1 and "ERROR" not in said, said
    assert "age_years" in said and "clinical.csv" in said
    assert not list((project.root / "artifacts" / "cohort").glob("*"))
