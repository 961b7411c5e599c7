"""Progress of the experiments: epochs and images with features, and the time left by the arithmetic in them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

from osteo_models.core.progress import Progress
from osteo_models.training.job_data import Tables, select_rows
from osteo_models.training.jobs import Job
from osteo_models.training.outputs import measure_cost
from osteo_models.training.pretrained_plan import PretrainedWeights

# In forward passes of the networks that are trained: a training step has the backward pass too, and the depthwise
# convolutions of pretrained networks take two (AVX2) to four times (bfloat16) as long per multiply-accumulate.
TRAINING_WORK: Final = 3
FEATURE_WORK: Final = 3


class TrainingProgress:
    """Counts epochs and features of all jobs, from several threads, and shows them with the time left."""

    def __init__(self, jobs: Sequence[Job], tables: Tables) -> None:
        self._line, self._lock = Progress("epochs"), threading.Lock()
        self._epochs = sum(job.folds * job.recipe.epochs for job in jobs)
        self._work: dict[tuple[str, int], float] = {}  # of one epoch of a fold
        self._features: dict[str, float] = {}  # of one image with each backbone
        self._images: dict[str, int] = {}  # left for each backbone
        self._done: dict[tuple[str, int], int] = {}
        self._started: set[str] = set()  # backbones whose features are being made
        self._left = self._here = 0.0
        self.trained: set[tuple[str, int]] = set()
        for job in jobs:
            macs = measure_cost(job.architecture, job.spec).macs
            frozen = job.pretrained if job.pretrained and job.pretrained.frozen else None
            if frozen:
                self._features[frozen.features] = FEATURE_WORK * macs
                self._images[frozen.features] = len(tables.images)
            for fold in range(job.folds):
                rows = select_rows(job, fold, tables)
                steps = TRAINING_WORK * len(rows.train) + len(rows.test)
                self._work[job.key, fold] = 0.0 if frozen else float(macs * steps)  # a head is small
                self._left += job.recipe.epochs * self._work[job.key, fold]

    def count_epoch(self, job: Job, fold: int, epochs: int) -> None:
        """Count an epoch that was trained just now."""
        with self._lock:
            self.trained.add((job.key, fold))
            self._here += self._work[job.key, fold]
        self.count(job, fold, epochs)

    def count(self, job: Job, fold: int, epochs: int) -> None:
        """Show how many epochs of a fold are done; those of an earlier command say nothing about the pace."""
        with self._lock:
            more = epochs - self._done.get((job.key, fold), 0)
            self._done[job.key, fold] = epochs
            self._left -= more * self._work[job.key, fold]
            if job.pretrained:
                self._images.pop(job.pretrained.features, None)  # all of them are stored
            self._show()

    def count_features(self, weights: PretrainedWeights, images: int, total: int) -> None:
        """Show how many images have features of a backbone; the first call gives those of an earlier command."""
        with self._lock:
            if weights.features in self._started:
                self._here += (self._images[weights.features] - (total - images)) * self._features[weights.features]
            self._started.add(weights.features)
            self._images[weights.features] = total - images
            self._show(f"features by {weights.backbone}: {images:,} of {total:,} images")

    def _show(self, note: str = "") -> None:
        left = self._left + sum(images * self._features[key] for key, images in self._images.items())
        self._line(sum(self._done.values()), self._epochs, note, pace=(self._here, left))
