import numpy as np
import pytest
import torch

from osteo_models.core.errors import OsteoError, StaleDataError
from osteo_models.models import build
from osteo_models.training.frozen_features import (
    BATCH,
    CHUNK,
    extract_rows,
    join_chunks,
    list_missing,
    read_features,
    split_rows,
    write_chunk,
)
from osteo_models.training.inference import as_batch, as_tensor

NAME = "0123"


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2 * CHUNK + 5, 7)).astype(np.float32)


def test_chunks_cover_every_image_once() -> None:
    assert split_rows(2 * CHUNK + 5) == [(0, CHUNK), (CHUNK, 2 * CHUNK), (2 * CHUNK, 2 * CHUNK + 5)]
    assert split_rows(CHUNK) == [(0, CHUNK)]


def test_features_are_the_networks_own_in_the_order_of_the_images() -> None:
    network = build("tiny", seed=2, backbone="test_efficientnet", weights="random").train()
    images = np.random.default_rng(0).integers(0, 256, (BATCH + 3, 80, 60)).astype(np.uint8)
    found = extract_rows(network, images, arithmetic="float32", device="cpu")
    with torch.no_grad():
        expected = network.eval().features(as_batch(as_tensor(images))).numpy()
    assert found.dtype == np.float32 and found.shape == (BATCH + 3, expected.shape[1])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    coarse = extract_rows(network, images, arithmetic="bfloat16", device="cpu")
    assert coarse.dtype == np.float32 and not np.array_equal(coarse, found)


def test_chunks_become_the_whole_and_go(values: np.ndarray, tmp_path) -> None:
    chunks = split_rows(len(values))
    for seconds, chunk in enumerate(reversed(chunks)):
        assert read_features(tmp_path, NAME) is None
        write_chunk(tmp_path, NAME, chunk, values[slice(*chunk)], float(seconds))
    assert list_missing(tmp_path, NAME, chunks) == []
    joined = join_chunks(tmp_path, NAME, chunks)
    found = read_features(tmp_path, NAME)
    assert found is not None and found.seconds == joined.seconds == 3
    assert np.array_equal(found.values, values) and np.array_equal(joined.values, values)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{NAME}.json", f"{NAME}.npy"]


def test_a_chunk_that_is_missing_or_damaged_is_made_again(values: np.ndarray, tmp_path) -> None:
    chunks = split_rows(len(values))
    write_chunk(tmp_path, NAME, chunks[0], values[: CHUNK - 1], 1.0)  # too short
    write_chunk(tmp_path, NAME, chunks[1], values[CHUNK : 2 * CHUNK], 1.0)
    write_chunk(tmp_path, NAME, chunks[2], values[2 * CHUNK :], 1.0)
    path = tmp_path / NAME / f"{2 * CHUNK}-{2 * CHUNK + 5}.npz"
    path.write_bytes(path.read_bytes()[:-20])
    assert list_missing(tmp_path, NAME, chunks) == [chunks[0], chunks[2]]
    with pytest.raises(StaleDataError, match="0123: 2 of 3 chunks are gone; run the same command again"):
        join_chunks(tmp_path, NAME, chunks)
    assert read_features(tmp_path, NAME) is None


@pytest.mark.parametrize("damage", ["json", "npy", "cut", "flip"])
def test_features_that_are_not_as_they_were_written_are_none(damage: str, values: np.ndarray, tmp_path) -> None:
    chunks = [(0, len(values))]
    write_chunk(tmp_path, NAME, chunks[0], values, 1.0)
    join_chunks(tmp_path, NAME, chunks)
    path = tmp_path / f"{NAME}.npy"
    if damage in ("json", "npy"):
        path.with_suffix(f".{damage}").unlink()
    else:
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content[:-8] if damage == "cut" else content)
    assert read_features(tmp_path, NAME) is None


def test_features_that_cannot_be_read_are_an_error(tmp_path) -> None:
    (tmp_path / "net.json").symlink_to("net.json")  # a loop, which no user can read
    with pytest.raises(OsteoError, match="stored features cannot be read"):
        read_features(tmp_path, "net")
