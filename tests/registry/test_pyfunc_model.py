"""A served version scores as the network itself does, and says what is wrong with a row."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from osteo_models.core.errors import InputError
from osteo_models.core.terms import MODALITIES
from osteo_models.registry.pyfunc_model import encode_picture, make_example, score_table
from osteo_models.registry.registration import write_package
from osteo_models.serving.network import LoadedNetwork, read_network
from osteo_models.training.inference import score_images


def _images(count: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (count, 80, 60), dtype=np.uint8)


def _table(images: np.ndarray, **columns) -> pd.DataFrame:
    return pd.DataFrame({"image": [encode_picture(image) for image in images], **columns})


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory):
    def read(folder: Path) -> LoadedNetwork:
        return read_network(folder)

    return read


@pytest.mark.parametrize("images", ["mri", "multimodal"])
def test_a_saved_version_scores_like_the_network(images: str, make_model, load, tmp_path: Path) -> None:
    architecture = "multimodal" if images == "multimodal" else "unimodal"
    folder = make_model(architecture=architecture, images=images, seed=5)
    loaded = load(folder)
    write_package(tmp_path / "model", folder, loaded, model_id="m-1", run_id="r-1")
    served = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    pixels = _images(32)
    modalities = [list(MODALITIES)[row % 2] if images == "multimodal" else "mri" for row in range(32)]
    for rows in (1, 32):
        found = served.predict(_table(pixels[:rows], modality=modalities[:rows]))
        wanted = np.empty(rows)
        for modality in set(modalities[:rows]):
            mine = [row for row in range(rows) if modalities[row] == modality]
            tower = modality if images == "multimodal" else None
            wanted[mine] = score_images(loaded.network, pixels[mine], modality=tower, precision="float32")
        assert np.abs(found["score"].to_numpy() - wanted).max() < 1e-5
        assert found["decision"].tolist() == [int(score >= 0.5) for score in wanted]
        assert found["modality"].tolist() == modalities[:rows]
    assert np.ptp(found["score"]) > 1e-3  # the images do differ
    assert served.predict(served.input_example)["patient_id"].tolist() == ["example-1", "example-2"]
    assert served.metadata.signature.inputs.required_input_names() == ["image"]
    with pytest.raises(
        MlflowException, match=r"1 of 1 rows: row 0: `image` is no base64; allowed: base64 of a DICOM"
    ) as caught:
        served.predict(pd.DataFrame({"image": ["*"]}))
    assert caught.value.get_http_status_code() == 400


def test_no_column_but_the_image_is_needed_where_the_model_says_the_rest(make_model, load) -> None:
    found = score_table(load(make_model(images="ct")), _table(_images(2)))
    assert found["modality"].tolist() == ["ct", "ct"]
    assert found["patient_id"].tolist() == [None, None]


def test_a_combined_network_takes_both_and_needs_no_modality(make_model, load) -> None:
    loaded = load(make_model(images="combined"))
    pixels = _images(3)
    found = score_table(loaded, _table(pixels, modality=["ct", None, "mri"], patient_id=["a", None, "c"]))
    assert found["modality"].tolist() == ["ct", None, "mri"]
    assert found["patient_id"].tolist() == ["a", None, "c"]
    assert np.allclose(found["score"], score_images(loaded.network, pixels, precision="float32"), atol=1e-6)


def test_rows_keep_their_index_and_missing_cells_may_be_nan(make_model, load) -> None:
    table = _table(_images(2), modality=[np.nan, "MRI"], patient_id=[np.nan, "b"]).set_index(pd.Index([7, 3]))
    found = score_table(load(make_model()), table)
    assert found.index.tolist() == [7, 3]
    assert found["patient_id"].tolist() == [None, "b"]


def test_the_threshold_is_the_model_s_own(make_model, load) -> None:
    table = _table(_images(4))
    scores = score_table(load(make_model()), table)["score"]
    assert score_table(load(make_model(threshold=float(scores.max()))), table)["decision"].sum() == 1
    assert score_table(load(make_model(threshold=0.0)), table)["decision"].tolist() == [1] * 4


def test_an_empty_table_gives_an_empty_answer(make_model, load) -> None:
    assert score_table(load(make_model()), _table(_images(0))).empty


def test_all_bad_rows_are_named_with_their_reasons(make_model, load) -> None:
    good = encode_picture(_images(1)[0])
    rows = [
        {"image": good, "modality": "mri"},
        {"image": "%%%", "modality": "mri"},
        {"image": "", "modality": "mri"},
        {"image": base64.b64encode(b"no picture").decode(), "modality": "ct"},
        {"image": good, "modality": "xray"},
        {"image": good, "modality": None},
    ]
    with pytest.raises(InputError) as caught:
        score_table(load(make_model(architecture="multimodal", images="multimodal")), pd.DataFrame(rows))
    text = str(caught.value)
    assert text.startswith(
        "5 of 6 rows: row 1: `image` is no base64; allowed: base64 of a DICOM, PNG or JPEG file; row 2"
    )
    for fault in ("row 2: `image` is empty", "row 3: ", "row 4: `modality` is 'xray'; allowed: mri, ct"):
        assert fault in text
    assert "row 5: neither the file nor `modality` says mri or ct" in text
    assert "row 0" not in text


def test_many_bad_rows_are_told_in_short(make_model, load) -> None:
    with pytest.raises(InputError, match=r"12 of 12 rows: row 0: .* row 9: .*; and 2 more$"):
        score_table(load(make_model()), pd.DataFrame({"image": ["%"] * 12}))


def test_a_modality_that_the_network_was_not_trained_on(make_model, load) -> None:
    with pytest.raises(InputError, match="row 1: `modality` is 'ct'; allowed: this model takes mri"):
        score_table(load(make_model(images="mri")), _table(_images(2), modality=["mri", "ct"]))


def test_a_table_without_images(make_model, load) -> None:
    with pytest.raises(InputError, match="no column `image`; allowed: image, modality, patient_id"):
        score_table(load(make_model()), pd.DataFrame({"picture": ["x"]}))


def test_a_network_that_scores_pairs_says_so(make_model, load) -> None:
    loaded = load(make_model(architecture="multimodal", images="multimodal", spec={"fusion": "feature"}))
    with pytest.raises(InputError, match="images cannot be scored by themselves"):
        score_table(loaded, _table(_images(2), modality=["mri", "ct"]))


def test_a_precision_that_this_machine_lacks_is_replaced(make_model, load) -> None:
    pixels = _images(2)
    half = load(make_model(recipe={"precision": "float16"}))
    assert half.record.precision == "float16"
    assert np.array_equal(half.score(pixels, ["mri"] * 2), load(make_model()).score(pixels, ["mri"] * 2))


def test_the_example_is_no_patient_and_can_be_scored(make_model, load) -> None:
    loaded = load(make_model(architecture="multimodal", images="multimodal"))
    example = make_example(loaded.record)
    assert example["modality"].tolist() == ["mri", "ct"]
    assert len(score_table(loaded, example)) == 2
    assert json.loads(example.to_json())["patient_id"] == {"0": "example-1", "1": "example-2"}
