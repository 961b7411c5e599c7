"""A version behind MLflow's own scoring server: good requests, bad ones, and the time that one takes."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
import warnings
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow.pyfunc import scoring_server

from osteo_models.cli.main import main
from osteo_models.core.processes import HOST, find_port
from osteo_models.models import build
from osteo_models.registry.manifest import hash_files
from osteo_models.registry.registration import write_package
from osteo_models.serving.network import read_network
from osteo_models.serving.score_table import MOST_ROWS, encode_picture
from osteo_models.training.checkpoint import save_weights
from osteo_models.training.inference import score_images
from tests.conftest import ROOT
from tests.data.bodies import draw_bodies
from tests.data.test_image_file import dicom_bytes
from tests.registry.conftest import PREPARE
from tests.serving.ood_cases import write_ood

with warnings.catch_warnings():  # its own notice of a coming change
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

pytestmark = pytest.mark.usefixtures("one_thread")
NEW = {name: draw_bodies(name, patients=16, each=1, seed=9)[0] for name in ("mri", "ct")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multimodal network with a reference of its training images, packed."""
    place = tmp_path_factory.mktemp("served")
    save_weights(place / "model.safetensors", build("multimodal", seed=3), {})
    record = {"architecture": "multimodal", "spec": {}, "images": "multimodal", "key": "0" * 16, "threshold": 0.5}
    record |= {"recipe": {"precision": "float32"}, "prepare": PREPARE}
    (place / "model.json").write_text(json.dumps(record), encoding="utf-8")
    write_package(place / "package", write_ood(place), read_network(place), model_id="m-1", run_id="r-1")
    return place


@pytest.fixture(scope="module")
def served(folder: Path):
    return mlflow.pyfunc.load_model(str(folder / "package"))


@pytest.fixture(scope="module")
def client(served):
    before = os.environ.copy()
    yield TestClient(scoring_server.init(served), raise_server_exceptions=False)
    os.environ.clear()
    os.environ.update(before)  # the server notes there that it is one


def _split(columns: list[str], rows: list, **more) -> dict:
    return {"dataframe_split": {"columns": columns, "data": rows}, **more}


MRI, CT = (encode_picture(NEW[name][0]) for name in ("mri", "ct"))


@pytest.mark.parametrize(
    "body",
    [
        _split(["image", "modality"], [[MRI, "mri"], [CT, "ct"]]),
        {"dataframe_records": [{"image": MRI, "modality": "mri"}, {"image": CT, "modality": "ct"}]},
        {"inputs": {"image": [MRI, CT], "modality": ["mri", "ct"]}},
        {"instances": [{"image": MRI, "modality": "mri"}, {"image": CT, "modality": "ct"}]},
    ],
    ids=["split", "records", "inputs", "instances"],
)
def test_mri_and_ct_in_one_request(client, folder: Path, body: dict) -> None:
    answer = client.post("/invocations", json=body)
    assert answer.status_code == 200, answer.text
    rows = answer.json()["predictions"]
    network = read_network(folder).network
    for row, name in zip(rows, ("mri", "ct"), strict=True):
        wanted = score_images(network, NEW[name][:1], modality=name, precision="float32")[0]
        assert row == {
            "score": pytest.approx(wanted, abs=1e-6),
            "decision": int(wanted >= 0.5),
            "uncertainty": None,
            "agreement": None,
            "modality": name,
            "patient_id": None,
            "ood": None,
        }


def test_one_modality_alone_and_a_dicom_file(client) -> None:
    slice_ = np.random.default_rng(3).integers(0, 1000, (120, 100)).astype(np.uint16)
    image = base64.b64encode(dicom_bytes(slice_, PatientID="P7")).decode()
    answer = client.post("/invocations", json=_split(["image"], [[image]], params={"allow_ood": True}))
    (row,) = answer.json()["predictions"]
    assert (row["modality"], row["patient_id"]) == ("ct", "P7")
    assert row["ood"].split(":")[0] in ("intensity", "structure", "modality", "orientation", "features")


TEXT = base64.b64encode(b"hello").decode()
BAD = {
    "empty body": (b"", "valid JSON formatted string"),
    "no JSON": (b"{", "valid JSON formatted string"),
    "no UTF-8": (b"\xff\xfe", "valid JSON formatted string"),
    "a list": (b"[]", "Received a list"),
    "no format": ({}, "must be a JSON dictionary with exactly one of the input fields"),
    "empty table": (_split(["image"], []), "0 rows; allowed: 1 to 256 in one request"),
    "a number": (_split(["image"], [[1.5]]), "row 0: `image` is no base64"),
    "a list of numbers": (_split(["image"], [[[1, 2]]]), "row 0: `image` is no base64"),
    "an object": (_split(["image"], [[{"a": 1}]]), "row 0: `image` is no base64"),
    "null": (_split(["image"], [[None]]), "row 0: `image` is empty"),
    "NaN": (b'{"dataframe_split": {"columns": ["image"], "data": [[NaN]]}}', "row 0: `image` is empty"),
    "no image column": (_split(["picture"], [["x"]]), "Model is missing inputs ['image']"),
    "ragged": (_split(["image", "modality"], [[MRI]]), "2 columns passed, passed data had 1 columns"),
    "no table": ({"dataframe_split": {"columns": ["image"], "data": 5}}, "not a valid dataframe"),
    "no image file": (_split(["image"], [[TEXT]]), "row 0: not an image file that can be read"),
    "unknown modality": (_split(["image", "modality"], [[MRI, "xray"]]), "`modality` is 'xray'; allowed: mri, ct"),
    "no modality": (_split(["image"], [[MRI]]), "neither the file nor `modality` says mri or ct"),
    "too many rows": (_split(["image"], [["x"]] * (MOST_ROWS + 1)), "257 rows; allowed: 1 to 256"),
    "other modality": (_split(["image", "modality"], [[CT, "mri"]]), "modality: it looks like ct, not like mri"),
    "upside down": (
        _split(["image", "modality"], [[encode_picture(NEW["ct"][0][::-1]), "ct"]]),
        "row 0: out of distribution of the training images: orientation: it would fit turned upside down",
    ),
    "wrong parameter": (_split(["image"], [[MRI]], params={"allow_ood": "yes"}), "Invalid parameters found"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_the_caller_s_fault_and_told(client, name: str) -> None:
    body, reason = BAD[name]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post("/invocations", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert reason in answer.json()["message"]


def test_an_image_that_is_too_large_is_refused_unread(client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("osteo_models.serving.inputs.MOST_CHARACTERS", 1000)
    answer = client.post("/invocations", json=_split(["image", "modality"], [["A" * 1004, "mri"]]))
    assert answer.status_code == 400
    assert "row 0: `image` has 1,004 characters; allowed: up to 1,000: one slice" in answer.json()["message"]


def test_another_content_type_is_refused(client) -> None:
    answer = client.post("/invocations", content=b"x", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415


def test_batches_of_1_to_32_score_as_evaluation_does(served, folder: Path) -> None:
    network = read_network(folder).network
    pixels = np.concatenate([NEW["mri"], NEW["ct"]])
    wanted = [score_images(network, NEW[name], modality=name, precision="float32") for name in ("mri", "ct")]
    pictures, modalities = [encode_picture(image) for image in pixels], ["mri"] * 16 + ["ct"] * 16
    order = np.random.default_rng(1).permutation(32)
    table = pd.DataFrame({"image": pictures, "modality": modalities}).iloc[order].reset_index(drop=True)
    scores = np.concatenate(wanted)[order]
    worst = 0.0
    for size in range(1, 33):
        parts = [table.iloc[start : start + size] for start in range(0, 32, size)][: 1 + 32 // (4 * size)]
        found = np.concatenate([served.predict(part, params={"allow_ood": True})["score"] for part in parts])
        worst = max(worst, float(np.abs(found - scores[: len(found)]).max()))
    assert worst < 1e-5
    assert np.ptp(scores) > 1e-3


CODE = """
import mlflow.pyfunc, sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in str(finder)]  # where the project is
model = mlflow.pyfunc.load_model(sys.argv[1], suppress_warnings=True)
own = [module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "osteo_models"]
print(*own)
print(model.predict(model.input_example, params={"allow_ood": True})["score"].tolist())
"""


def test_it_loads_outside_the_project_by_the_code_that_it_was_registered_with(
    served, folder: Path, tmp_path: Path
) -> None:
    package = shutil.copytree(folder / "package", tmp_path / "package")
    environment = {**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"):
        environment.pop(name, None)
    before = hash_files(package)
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(package)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    where, scores = done.stdout.strip().splitlines()[-2:]
    code = package / "code" / "osteo_models"
    assert {Path(file) for file in where.split()} <= set(code.rglob("*.py")) and len(where.split()) > 20
    assert len(list(package.rglob("*.*"))) <= 50 and len(list(code.rglob("*.py"))) < 40
    assert hash_files(package) == before  # Python left no bytecode there
    known = served.predict(served.input_example, params={"allow_ood": True})["score"]
    assert np.allclose(json.loads(scores), known, atol=1e-5)


def _commands(uri: str, reference: str, port: int) -> dict[str, tuple[list[str], dict[str, str]]]:
    """The two ways to serve a version: MLflow's own, in an activated environment, and ours."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    activated = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"}
    mlflow_command = ["-m", "mlflow", "models", "serve", "-m", f"models:/{reference}", "--env-manager", "local"]
    ours = ["-c", "from osteo_models.cli.main import main; main()", "serve", reference, "--port", str(port)]
    return {
        "mlflow": ([*mlflow_command, "--port", str(port)], environment | activated),
        "osteo": (ours, environment | {"PYTHONPATH": str(ROOT)}),
    }


@pytest.mark.slow
@pytest.mark.parametrize("way", ["mlflow", "osteo"])
def test_a_real_server_works_out_of_the_box(tracking, register, stage, folder: Path, tmp_path: Path, way: str) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for name in ("model.safetensors", "model.json", "ood.safetensors"):
        shutil.copy(folder / name, model)
    version = register(stage(4), folder=model)
    tracking.client.set_registered_model_alias(version.name, "champion", version.version)
    port = find_port(5210, ())
    command, environment = _commands(tracking.uri, f"{version.name}@champion", port)[way]
    server = subprocess.Popen([sys.executable, *command], cwd=tmp_path, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 200
        while not _answers(f"http://{HOST}:{port}/ping"):
            assert server.poll() is None and time.monotonic() < deadline
            time.sleep(0.5)
        body = json.dumps(_split(["image", "modality"], [[MRI, "mri"], [CT, "ct"]])).encode()
        request = urllib.request.Request(
            f"http://{HOST}:{port}/invocations", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            rows = json.loads(answer.read())["predictions"]
        assert [row["modality"] for row in rows] == ["mri", "ct"]
        if way == "osteo":
            server.terminate()  # the command alone: what it started ends with it
            server.wait(30)
            deadline = time.monotonic() + 30
            while _answers(f"http://{HOST}:{port}/ping"):
                assert time.monotonic() < deadline, "the server outlived the command"
                time.sleep(0.2)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, 15)
        server.wait(30)


def test_a_spoilt_version_is_not_served(tracking, register, stage, monkeypatch: pytest.MonkeyPatch) -> None:
    version = register(stage(1), seed=51)
    files = Path(tracking.client.get_logged_model(version.model_id).artifact_location.removeprefix("file://"))
    (files / "model_code.py").write_text("raise SystemExit\n", encoding="utf-8")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri)
    monkeypatch.setattr("osteo_models.ops.servers.serve_model", lambda *_: pytest.fail("it was served"))
    answer = CliRunner().invoke(main, ["serve", f"{version.name}/{version.version}"])
    assert answer.exit_code == 1
    assert "model_code.py is changed; restore" in answer.output


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return reply.status == 200
    except OSError:
        return False
