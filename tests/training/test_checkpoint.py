import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_fits import make_fit, make_small_network

from osteo_models.core.errors import OsteoError, WeightsError
from osteo_models.models import build
from osteo_models.training.checkpoint import load_checkpoint, load_weights, save_checkpoint, save_weights
from osteo_models.training.fit import Fit


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def train(fit: Fit, folder: Path, epochs: int) -> Fit:
    for _ in range(epochs):
        fit.run_epoch()
        save_checkpoint(folder, fit)
    return fit


def flip_bit(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_resumed_fit_equals_one_that_ran_through(tmp_path: Path, precision: str) -> None:
    straight = make_fit(precision=precision)
    for _ in range(3):
        straight.run_epoch()
    train(make_fit(precision=precision), tmp_path, 1)
    resumed = make_fit(precision=precision)
    assert load_checkpoint(tmp_path, resumed) and resumed.epoch == 1
    train(resumed, tmp_path, 2)
    ours, theirs = resumed.state()[0], straight.state()[0]
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    np.testing.assert_array_equal(resumed.scores(), straight.scores())
    assert [each.train_loss for each in resumed.history] == [each.train_loss for each in straight.history]


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    (tmp_path / "result.json").touch()
    train(make_fit(), tmp_path, 3)
    assert names(tmp_path) == ["epoch-0002.safetensors", "epoch-0003.safetensors", "result.json"]


def test_two_are_kept_also_where_not_every_epoch_is(tmp_path: Path) -> None:
    fit = make_fit()
    for epochs in (1, 2, 2):
        for _ in range(epochs):
            fit.run_epoch()
        save_checkpoint(tmp_path, fit)
    assert names(tmp_path) == ["epoch-0003.safetensors", "epoch-0005.safetensors"]
    flip_bit(tmp_path / "epoch-0005.safetensors", -1)
    resumed = make_fit()
    assert load_checkpoint(tmp_path, resumed) and resumed.epoch == 3


def test_no_folder_means_a_fresh_start(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "none", make_fit()) is False


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "the file is damaged"),
        (lambda path: path.write_bytes(b""), "the file is damaged"),
        (lambda path: flip_bit(path, -1), "the file is damaged: its checksum differs"),
        (lambda path: flip_bit(path, 3), "the file is damaged"),
    ],
    ids=["truncated", "empty", "a bit of a weight", "a bit of the header's length"],
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], Any], reason: str
) -> None:
    straight = train(make_fit(), tmp_path, 3)
    newest = tmp_path / "epoch-0003.safetensors"
    damage(newest)
    resumed = make_fit()
    with caplog.at_level(logging.INFO):
        assert load_checkpoint(tmp_path, resumed) and resumed.epoch == 2
    warning, resumption = (record.getMessage() for record in caplog.records)
    assert warning.startswith(f"checkpoint not used: {newest}: {reason}")
    assert resumption == f"resumed after epoch 2 from {tmp_path / 'epoch-0002.safetensors'}"
    train(resumed, tmp_path, 1)
    np.testing.assert_array_equal(resumed.scores(), straight.scores())


def test_every_bit_of_the_facts_is_guarded(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, make_fit())
    content = path.read_bytes()
    for word in (b"learning_rate", b"0.01", b"history", b"F32", b"conv1", b"data_offsets"):
        flip_bit(path, content.index(word) + len(word) - 1)
        assert load_checkpoint(tmp_path, make_fit()) is False
        path.write_bytes(content)
    assert load_checkpoint(tmp_path, make_fit()) is True


def test_with_all_damaged_the_fit_starts_afresh(tmp_path: Path) -> None:
    train(make_fit(), tmp_path, 2)
    for path in tmp_path.iterdir():
        flip_bit(path, -1)
    fit = make_fit()
    before = fit.scores()
    assert load_checkpoint(tmp_path, fit) is False and fit.epoch == 0
    np.testing.assert_array_equal(fit.scores(), before)


def test_checkpoints_of_another_fit_are_not_used_and_give_way(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(make_fit(seed=8), tmp_path, 3)
    fit = make_fit()
    assert load_checkpoint(tmp_path, fit) is False
    assert caplog.messages[0].endswith("epoch-0003.safetensors: the state is of another fit: seed 8, here 7")
    train(fit, tmp_path, 1)
    assert names(tmp_path) == ["epoch-0001.safetensors"]


def test_a_write_that_fails_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = train(make_fit(), tmp_path, 1)
    fit.run_epoch()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OsteoError) as caught:
            save_checkpoint(tmp_path, fit)
    assert str(caught.value) == (
        f"{tmp_path / 'epoch-0002.safetensors'}: cannot be written (No space left on device); "
        "check free space and permissions, then run the same command again"
    )
    assert names(tmp_path) == ["epoch-0001.safetensors"]
    resumed = make_fit()
    assert load_checkpoint(tmp_path, resumed) and resumed.epoch == 1


def test_what_a_kill_left_half_written_is_not_read(tmp_path: Path) -> None:
    fit = train(make_fit(), tmp_path, 1)
    half = tmp_path / ".epoch-0002.safetensors.host-7-01234567.unfinished"
    half.write_bytes((tmp_path / "epoch-0001.safetensors").read_bytes()[:100])
    resumed = make_fit()
    assert load_checkpoint(tmp_path, resumed) and resumed.epoch == 1
    train(fit, tmp_path, 1)
    assert names(tmp_path) == ["epoch-0001.safetensors", "epoch-0002.safetensors"]


def test_weights_come_back_with_their_facts(tmp_path: Path) -> None:
    network, other = build("unimodal", seed=1), build("unimodal", seed=2)
    for value in network.buffers():
        value.copy_(value + 3)  # the running statistics and the count of batches belong to the weights
    path = tmp_path / "new" / "model.safetensors"
    save_weights(path, network, {"architecture": "unimodal", "spec": {}, "parameters": 704_961})
    assert load_weights(path, other) == {"architecture": "unimodal", "spec": {}, "parameters": 704_961}
    state = network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in other.state_dict().items())


def test_the_memory_format_of_the_network_does_not_reach_the_file(tmp_path: Path) -> None:
    small_network = make_small_network()
    layout: dict[str, Any] = {"memory_format": torch.channels_last}
    save_weights(tmp_path / "plain", small_network, {})
    save_weights(tmp_path / "last", small_network.to(**layout), {})
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "last").read_bytes()


def test_weights_of_another_network_are_refused_and_change_nothing(tmp_path: Path) -> None:
    small_network = make_small_network()
    path = tmp_path / "model.safetensors"
    save_weights(path, small_network, {})
    other = make_small_network(units=9)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_weights(path, other)
    assert str(caught.value) == (
        f"{path}: 3 tensors do not fit, the first is `classifier.dense1.bias`: (8,); "
        "allowed: `classifier.dense1.bias`: (9,); "
        "build the network with the architecture and spec that the weights were saved from"
    )
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_missing_and_foreign_files_are_told_apart(tmp_path: Path) -> None:
    small_network = make_small_network()
    path = tmp_path / "model.safetensors"
    with pytest.raises(WeightsError) as caught:
        load_weights(path, small_network)
    assert str(caught.value) == f"{path}: cannot be read (No such file or directory)"
    path.write_bytes(b"PK\x03\x04 a pickle in a zip archive, say")
    with pytest.raises(WeightsError, match=r"model\.safetensors: the file is damaged: "):
        load_weights(path, small_network)
