"""One fit: a network, a recipe and the data of one fold, trained epoch by epoch.

The seed, the number of the epoch and the state at its start decide what happens in it, so a fit that was stopped and
resumed equals an uninterrupted one bit for bit, on the same machine and number of threads. All images are in memory as
one array, and a batch is one selection from it.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from osteo_models.core.errors import InputError, StaleDataError
from osteo_models.core.terms import MODALITIES
from osteo_models.training.epoch_metrics import EpochResult, judge_scores, mean_loss, non_finite_loss_error
from osteo_models.training.fold import FoldData
from osteo_models.training.inference import Scores, arithmetic_of, as_batch, as_tensor, repeatable_kernels, score_rows
from osteo_models.training.recipe import ADAM_EPSILON, Arithmetic, Recipe, resolve_precision

VERSION: Final = 1  # of the results of training; see `training.identity`
TEST_BATCH: Final = 32  # larger ones leave the processor's cache, and were slower in every arithmetic


class Fit:
    """The training of one network on one fold.

    Args:
        network: Trained in place; moved to `device` and into channels-last memory.
        recipe: Epochs, batch size, learning rate, precision.
        data: Pairs to train on for a multimodal network, rows for all others.
        seed: Decides the order of the images, 0 or more.
        device: Such as `cpu` or `cuda:0`.

    Raises:
        InputError: the rows of `data` are not of the kind that the network takes, or the device is not here.
    """

    def __init__(
        self, network: nn.Module, recipe: Recipe, data: FoldData, *, seed: int, device: str | torch.device = "cpu"
    ) -> None:
        self.recipe, self.data, self.seed = recipe, data, seed
        self.device = torch.device(device)
        self.arithmetic: Arithmetic = resolve_precision(recipe.precision, self.device)
        self.history: tuple[EpochResult, ...] = ()
        self._fusion: str | None = getattr(network, "fusion", None)
        _check_rows(self._fusion, data)
        # Fast convolutions. On a CPU batch norm sums less exactly in this layout: scores in training differ from
        # float64 by up to 1e-4 in float32, far below what bfloat16 does; scores in testing do not.
        layout: dict[str, Any] = {"memory_format": torch.channels_last}
        self.network = network.to(self.device, **layout)
        for layer in network.modules() if not getattr(network, "keeps_batch_norm", False) else ():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = 1 - recipe.batch_norm_momentum  # PyTorch counts the share that a step replaces
        self._trained = {name: value for name, value in network.named_parameters() if value.requires_grad}
        self._optimizer = torch.optim.Adam(
            self._trained.values(), lr=recipe.learning_rate, eps=ADAM_EPSILON, fused=self.device.type in ("cpu", "cuda")
        )
        # Only float16 has gradients that vanish; disabled, the scaler passes everything through.
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.arithmetic == "float16")
        self._images = as_tensor(data.images).to(self.device)
        self._target = torch.from_numpy(data.target.astype(np.float32)).to(self.device)
        self._train = torch.from_numpy(data.train.astype(np.int64)).to(self.device)
        self._data_digest = data.digest()
        self._scores: Scores | None = None

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    def run_epoch(self) -> EpochResult:
        """Train for one epoch, then score the test set.

        Raises:
            OsteoError: a loss is not a finite number; the fit is of no use then.
        """
        start = time.perf_counter()
        epoch = self.epoch + 1
        self.network.train()
        order = torch.from_numpy(shuffled(len(self._train), self.seed, epoch)).to(self.device)
        batches = self._train[order].split(self.recipe.batch_size)
        with repeatable_kernels(), drawing_from(self.seed, epoch, self.device):
            losses = torch.stack([self._step(rows) for rows in batches])
        train_loss = mean_loss(losses, batches, epoch)
        self._scores = None
        tested = self.data.test[:, 0] if self.data.test.ndim == 2 else self.data.test
        test_loss, balanced_accuracy = judge_scores(self.scores(), self.data.target[tested])
        if not math.isfinite(test_loss):
            raise non_finite_loss_error(test_loss, f"epoch {epoch}, test images")
        result = EpochResult(epoch, train_loss, test_loss, balanced_accuracy, time.perf_counter() - start)
        self.history = (*self.history, result)
        return result

    def scores(self) -> Scores:
        """Scores of the test set by the network as it is now: (m,), or (m, K) for pairs; float32 in [0, 1]."""
        if self._scores is None:
            test = torch.from_numpy(self.data.test.astype(np.int64)).to(self.device)
            self._scores = self._score_towers(test) if self._fusion == "loss" else self._score(self.network, test)
        return self._scores

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """A copy of everything that the rest of the fit depends on: tensors by name, and what JSON can hold."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for name, parameter in self._trained.items():
            for key, value in self._optimizer.state.get(parameter, {}).items():
                tensors[f"adam.{key}.{name}"] = value
        facts = {
            "fit": self._identity(),
            "history": [asdict(result) for result in self.history],
            "scaler": self._scaler.state_dict(),
        }
        copies = {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
        return {name: value.cpu() for name, value in copies.items()}, facts

    def load_state(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Go on from a state that `state()` gave.

        Raises:
            StaleDataError: the state is of another fit; nothing was changed.
        """
        own, saved = self._identity(), facts.get("fit", {})
        differing = [
            f"{key} {saved.get(key)!r}, here {value!r}" for key, value in own.items() if saved.get(key) != value
        ]
        if differing:
            raise StaleDataError(f"the state is of another fit: {'; '.join(differing)}")
        prefix = "network."
        weights = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        self.network.load_state_dict(weights)
        self._optimizer.state.clear()
        for name, parameter in self._trained.items():
            keys = [key for key in ("step", "exp_avg", "exp_avg_sq") if f"adam.{key}.{name}" in tensors]
            state = {key: _laid_out_as(parameter, tensors[f"adam.{key}.{name}"]) for key in keys}
            if state:
                self._optimizer.state[parameter] = state
        if facts["scaler"]:
            self._scaler.load_state_dict(dict(facts["scaler"]))
        self.history = tuple(EpochResult(**result) for result in facts["history"])
        self._scores = None

    def _step(self, rows: Tensor) -> Tensor:
        """One step on rows (b,) or pairs (b, K), an image of each of K modalities; gives the loss per score."""
        target = self._target[rows[:, 0] if self._fusion else rows]
        with arithmetic_of(self.arithmetic, self.device):
            if self._fusion:
                outputs = self.network(*(self._batch(column) for column in rows.unbind(1)))
            else:
                outputs = (self.network(self._batch(rows)),)
        # With one classifier for all features there is one output, given several times.
        outputs = outputs[:1] if self._fusion == "feature" else outputs
        losses = [binary_cross_entropy_with_logits(each.float(), target) for each in outputs]
        loss = sum(losses[1:], losses[0])
        self._optimizer.zero_grad()
        self._scaler.scale(loss).backward()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return loss.detach() / len(outputs)

    def _batch(self, rows: Tensor) -> Tensor:
        return as_batch(self._images.index_select(0, rows))

    def _score(self, network: nn.Module, rows: Tensor) -> Scores:
        columns = rows.unbind(1) if rows.ndim == 2 else [rows]
        batch = TEST_BATCH if self._images.ndim == 3 else max(1, len(rows))  # features are small
        return score_rows(network, [self._images[each] for each in columns], self.arithmetic, batch)

    def _score_towers(self, rows: Tensor) -> Scores:
        """Each row by the tower of its modality."""
        scores = np.empty(len(rows), np.float32)
        tested = self.data.modality[self.data.test]
        for number in np.unique(tested).tolist():
            chosen = tested == number
            tower: nn.Module = self.network.tower(list(MODALITIES)[number])  # pyright: ignore[reportCallIssue]
            scores[chosen] = self._score(tower, rows[torch.from_numpy(chosen).to(rows.device)])
        return scores

    def _identity(self) -> dict[str, Any]:
        """What makes two fits the same; the number of epochs is no part of it, so a finished fit can be prolonged."""
        shapes = {name: tuple(value.shape) for name, value in self.network.state_dict().items()}
        return {
            "seed": self.seed,
            "batch_size": self.recipe.batch_size,
            "learning_rate": self.recipe.learning_rate,
            "batch_norm_momentum": self.recipe.batch_norm_momentum,
            "arithmetic": self.arithmetic,
            "network": hashlib.sha256(repr(shapes).encode()).hexdigest(),
            "data": self._data_digest,
        }


def shuffled(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the training images in an epoch: a matter of these three numbers alone."""
    return np.random.default_rng([seed, epoch]).permutation(count)


@contextmanager
def drawing_from(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """Random numbers of this epoch inside, for networks with dropout; the random state of before afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.default_rng([seed, epoch, 1]).integers(2**63)))
        yield


def _check_rows(fusion: str | None, data: FoldData) -> None:
    """Rows of the wrong kind would fail deep inside the network."""
    for name, rows, paired in (("train", data.train, fusion is not None), ("test", data.test, fusion == "feature")):
        if (rows.ndim == 2) != paired:
            network = f"a network with fusion={fusion!r}" if fusion else "a network for single images"
            kind = "pairs" if rows.ndim == 2 else "single rows"
            raise InputError(f"`{name}` holds {kind}", where=network, allowed="pairs" if paired else "single rows")


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """A copy with the parameter's memory layout: the fused optimizer walks through both side by side."""
    if value.ndim == 0:  # the count of steps
        return value.to(parameter.device, copy=True)
    return torch.empty_like(parameter, requires_grad=False).copy_(value)
