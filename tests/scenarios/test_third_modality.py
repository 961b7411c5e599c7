"""A third modality, lateral X-ray, is one row in the code and entries in params.yaml; every stage then takes it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pydicom
import pytest
import yaml
from pydicom.uid import DigitalXRayImageStorageForPresentation, generate_uid

from tests.scenarios.conftest import Project, project

__all__ = ["project"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

ROW = '    "xray": ModalityEntry("X-ray", ("DX", "CR"), "1.2.840.10008.5.1.4.1.1.1.1", "relative"),\n'
LAST = '    "ct": ModalityEntry("CT", ("CT",), "1.2.840.10008.5.1.4.1.1.2", "hounsfield"),\n'
STAGES = {
    "stage-1": {"validation": "folds", "images": ["xray"], "architectures": ["unimodal"]},
    "stage-4": {"validation": "folds", "images": ["multimodal"], "architectures": ["multimodal"]},
    "stage-5": {"validation": "holdout", "images": ["xray", "multimodal"], "architectures": ["unimodal", "multimodal"]},
}


def make_xrays(dicom) -> None:
    """Lateral X-rays of everybody with CT: the sum of the sagittal slices, a different one left out of each."""
    for folder in sorted({path.parent for path in dicom.glob("*/ct-*.dcm")}):
        slices = [pydicom.dcmread(path) for path in sorted(folder.glob("ct-*.dcm"))]
        values = np.stack([each.pixel_array.astype(np.float64) for each in slices])
        for number, source in enumerate(slices, start=1):
            total = values.sum(axis=0) - values[number - 1]
            low, high = total.min(), total.max()
            source.PixelData = np.round((total - low) / (high - low) * 4095).astype(np.uint16).tobytes()
            source.PixelRepresentation, source.BitsStored, source.HighBit = 0, 12, 11
            source.Modality, source.SOPClassUID = "DX", DigitalXRayImageStorageForPresentation
            source.SOPInstanceUID = source.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            source.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
            for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType", "PixelPaddingValue"):
                if keyword in source:
                    del source[keyword]
            source.save_as(folder / f"xray-{number:03d}.dcm")


@pytest.fixture(scope="module")
def xray(project: Project) -> Project:
    """The small cohort with X-rays, and the project's code with one row more."""
    project.osteo("data", "synth", "--scale", "small")
    make_xrays(project.root / "data/dicom")
    clinical = pd.read_csv(project.root / "data/clinical.csv", dtype=str, keep_default_na=False)
    clinical.assign(xray_date=clinical["ct_date"]).to_csv(project.root / "data/clinical.csv", index=False)
    terms = project.root / "osteo_models/core/terms.py"
    text = terms.read_text(encoding="utf-8")
    assert text.count(LAST) == 1
    terms.write_text(text.replace(LAST, LAST + ROW), encoding="utf-8")
    params = yaml.safe_load((project.root / "params.yaml").read_text(encoding="utf-8"))
    params["prepare"]["intensity"]["xray"] = {"percentiles": [1.0, 99.5]}
    for part in ("holdout", "patient_test"):
        params["splits"][part]["xray"] = params["splits"][part]["ct"]
    params["profiles"]["quick"]["image_protocol"] = []
    params["stages"], params["ensembles"] = STAGES, []
    (project.root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    return project


def run_stages(project: Project) -> list[dict]:
    """The stages but the search, and the jobs that were trained."""
    best = project.root / "artifacts/search/best.yaml"
    for stage in ("cohort", "splits", "experiments", "evaluate", "register"):
        if stage == "experiments":
            best.parent.mkdir(exist_ok=True)
            best.write_text(yaml.safe_dump({"candidate": 0, "spec": {}, "learning_rate": None}), encoding="utf-8")
        process = project.start("-m", f"pipelines.{stage}")
        output, _ = process.communicate(timeout=900)
        assert process.returncode == 0, output
    return json.loads((project.root / "artifacts/jobs.json").read_text(encoding="utf-8"))


def read_modalities(project: Project, stage: str, job: str) -> set[str]:
    table = pd.read_parquet(project.root / "artifacts/predictions" / stage / f"{job}.parquet")
    assert table["score"].between(0, 1).all()
    return set(table["modality"])


def test_one_tower_and_three_are_trained_registered_and_score_an_xray(xray: Project) -> None:
    jobs = run_stages(xray)
    one, three = (next(job for job in jobs if job["architecture"] == name) for name in ("unimodal", "multimodal"))
    assert three["parameters"] == 3 * one["parameters"]
    assert read_modalities(xray, "stage-1", "unimodal-xray-patient") == {"xray"}
    for stage in ("stage-4", "stage-5"):
        assert read_modalities(xray, stage, "multimodal-multimodal-patient") == {"mri", "ct", "xray"}
    image = next((xray.root / "data/dicom").glob("*/xray-001.dcm"))
    for model in ("osteo-unimodal-xray", "osteo-multimodal"):
        (scored,) = json.loads(xray.osteo("predict", str(image), "--model", f"{model}/1", "--json"))["images"]
        assert (scored["modality"], scored["ood"]) == ("xray", None)
        assert 0 <= scored["score"] <= 1
    with pytest.raises(AssertionError, match="this model takes xray"):
        xray.osteo("predict", str(image).replace("xray-001", "ct-001"), "--model", "osteo-unimodal-xray/1")


def test_the_multimodal_network_takes_the_modalities_that_it_is_given(xray: Project) -> None:
    params = yaml.safe_load((xray.root / "params.yaml").read_text(encoding="utf-8"))
    params["architectures"]["multimodal"] = {"fusion": "loss", "modalities": ["xray", "mri"]}
    (xray.root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    jobs = run_stages(xray)
    one, two = (next(job for job in jobs if job["architecture"] == name) for name in ("unimodal", "multimodal"))
    assert two["parameters"] == 2 * one["parameters"]
    for stage in ("stage-4", "stage-5"):
        assert read_modalities(xray, stage, "multimodal-multimodal-patient") == {"mri", "xray"}
