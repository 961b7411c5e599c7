import numpy as np
import pytest

from osteo_models.core.errors import OsteoError
from osteo_models.training.results import (
    SCORES,
    WEIGHTS,
    FoldResult,
    read_result,
    write_result,
)


@pytest.fixture
def result(tmp_path):
    (tmp_path / WEIGHTS).write_bytes(b"weights")
    history = [{"epoch": 1, "train_loss": 0.5, "test_loss": 0.6, "test_balanced_accuracy": 0.7, "seconds": 1.0}]
    scores = np.array([0.25, 0.5], dtype=np.float32)
    return FoldResult(3, scores, history, "float32", "cpu", 10, 9, tmp_path / WEIGHTS)


def test_a_result_comes_back_as_it_was(result, tmp_path):
    write_result(tmp_path, result)
    found = read_result(tmp_path)
    assert found is not None
    assert found.scores.tolist() == [0.25, 0.5]
    assert (found.fold, found.history, found.parameters, found.weights) == (3, result.history, 10, tmp_path / WEIGHTS)


def test_an_unfinished_folder_has_no_result(tmp_path):
    assert read_result(tmp_path) is None


@pytest.mark.parametrize("name", [SCORES, WEIGHTS])
def test_a_flipped_bit_or_a_lost_file_makes_it_unfinished(result, tmp_path, name):
    write_result(tmp_path, result)
    content = bytearray((tmp_path / name).read_bytes())
    content[-1] ^= 1
    (tmp_path / name).write_bytes(content)
    assert read_result(tmp_path) is None
    (tmp_path / name).unlink()
    assert read_result(tmp_path) is None


@pytest.mark.parametrize("name", ["result.json", SCORES, WEIGHTS])
def test_what_cannot_be_read_is_an_error_and_no_unfinished_trial(result, tmp_path, name):
    write_result(tmp_path, result)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(name)  # a loop, which no user can read
    with pytest.raises(OsteoError, match="cannot be read"):
        read_result(tmp_path)
