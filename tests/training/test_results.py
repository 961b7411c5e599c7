import errno
import os

import numpy as np
import pytest

from osteo_models.core.errors import OsteoError
from osteo_models.training.results import (
    SCORES,
    WEIGHTS,
    FoldResult,
    read_result,
    remove_halves,
    write_atomically,
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


def test_a_full_disk_is_told_and_leaves_nothing_half(tmp_path, monkeypatch):
    path = tmp_path / "new" / "facts.json"
    write_atomically(path, b"before")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OsteoError) as told:
            write_atomically(path, b"after")
    assert str(told.value) == (
        f"{path}: cannot be written (No space left on device); "
        "check free space and permissions, then run the same command again"
    )
    assert [each.name for each in path.parent.iterdir()] == ["facts.json"] and path.read_bytes() == b"before"


def test_two_writers_with_one_process_number_do_not_meet(tmp_path, monkeypatch):
    """Machines, or containers with one host name, share a folder: each writes a file of its own, and one moves last."""
    path, original = tmp_path / "facts.json", os.fsync

    def meet(handle):
        monkeypatch.setattr(os, "fsync", original)
        write_atomically(path, b"the other's")
        original(handle)

    monkeypatch.setattr(os, "fsync", meet)
    write_atomically(path, b"ours, which is longer")
    assert path.read_bytes() == b"ours, which is longer"
    assert [each.name for each in tmp_path.iterdir()] == ["facts.json"]


def test_what_killed_writers_left_is_removed(tmp_path, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("pathlib.Path.replace", die)
        write_atomically(tmp_path / "facts.json", b"half")
    (half,) = tmp_path.iterdir()
    assert half.name.startswith(".facts.json.")  # as `features.join_chunks` finds it
    write_atomically(tmp_path / "facts.json", b"whole")
    remove_halves(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["facts.json"]
