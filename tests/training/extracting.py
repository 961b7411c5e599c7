"""An extraction of features, as a process that can be killed: `python -m tests.training.extracting FOLDER ADDRESS`."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from osteo_models.core.settings import die_with_parent
from osteo_models.training.backbone_cache import BackboneCache, OnChunk
from osteo_models.training.fold import Arrays
from osteo_models.training.frozen_features import CHUNK
from osteo_models.training.pretrained_plan import PretrainedWeights
from osteo_models.training.ray_cluster import Cluster, open_cluster

START = PretrainedWeights("test_efficientnet.r160_in1k", "random", "frozen", seed=3, features="f" * 32)
CHUNKS = 6


def make_images() -> Arrays:
    """Noise."""
    images = np.random.default_rng(5).integers(0, 256, (CHUNKS * CHUNK, 80, 60)).astype(np.uint8)
    return Arrays(images, np.zeros(len(images), np.int64), np.zeros(len(images), np.int64))


def extract(cluster: Cluster, arrays: Arrays, folder: Path, on_chunk: OnChunk = lambda *_: None) -> float:
    """Extract what is missing; gives the seconds of the whole."""
    job: Any = SimpleNamespace(pretrained=START)
    inputs = BackboneCache(cluster, arrays, folder, None, on_chunk).prepare(job)
    return inputs.seconds if inputs else 0.0


if __name__ == "__main__":
    die_with_parent()
    found = make_images()
    with open_cluster(sys.argv[2], found, cpus=1, gpus=0, precision="float32") as opened:
        extract(opened, found, Path(sys.argv[1]))
