import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small_fits import make_fit, make_small_network
from torch import nn

from osteo_models.core.errors import InputError, OsteoError, StaleDataError
from osteo_models.models import build
from osteo_models.training.fit import Fit, shuffled
from osteo_models.training.inference import score_images


def test_a_separable_fold_is_learned() -> None:
    fit = make_fit()
    results = [fit.run_epoch() for _ in range(12)]
    assert [each.epoch for each in results] == list(range(1, 13)) and fit.epoch == 12
    assert results[-1].train_loss < 0.5 * results[0].train_loss
    assert results[-1].test_balanced_accuracy == 1.0 and results[-1].test_loss < 0.4
    assert all(each.seconds > 0 for each in results) and fit.history == tuple(results)


def test_scores_are_those_of_the_test_rows_in_their_order() -> None:
    fit = make_fit()
    result = fit.run_epoch()
    expected = score_images(fit.network, fit.data.images[fit.data.test], precision="float32")
    assert fit.scores().dtype == np.float32
    np.testing.assert_array_equal(fit.scores(), expected)
    target = fit.data.target[fit.data.test]
    losses = -np.log(np.where(target == 1, expected, 1 - expected))
    assert result.test_loss == pytest.approx(losses.mean(), abs=1e-6)


def test_one_step_is_adam_on_binary_cross_entropy() -> None:
    # From zero moments Adam's first step is the learning rate against the gradient's sign, wherever epsilon is small
    # beside the gradient.
    fit = make_fit(batch_size=64, learning_rate=1e-3)
    bias = dict(fit.network.named_parameters())["classifier.output.bias"]
    target = fit.data.target[fit.data.train]
    score = score_images(fit.network, fit.data.images[fit.data.train], precision="float32")
    gradient = float((score - target).mean())
    loss = -np.log(np.where(target == 1, score, 1 - score)).mean()
    result = fit.run_epoch()
    assert bias.item() == pytest.approx(-1e-3 * math.copysign(1, gradient), rel=1e-3)
    assert result.train_loss == pytest.approx(loss, abs=1e-6)


def test_the_last_batch_may_be_smaller_and_counts_by_its_images(monkeypatch: Any) -> None:
    sizes: list[int] = []
    losses = iter([1.0, 2.0, 4.0])

    def step(self: Fit, rows: torch.Tensor) -> torch.Tensor:
        sizes.append(len(rows))
        return torch.tensor(next(losses))

    monkeypatch.setattr(Fit, "_step", step)
    assert make_fit().run_epoch().train_loss == pytest.approx((16 * 1 + 16 * 2 + 6 * 4) / 38)
    assert sizes == [16, 16, 6]


def test_every_image_is_seen_once_in_an_order_of_its_own_each_epoch() -> None:
    orders = [shuffled(100, seed, epoch) for seed, epoch in ((1, 1), (1, 2), (2, 1))]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert np.array_equal(shuffled(100, 1, 2), orders[1])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_fit_gives_the_same_bits_and_another_seed_others(precision: str) -> None:
    first, second, other = (make_fit(seed=seed, precision=precision) for seed in (7, 7, 8))
    for fit in (first, second, other):
        fit.run_epoch()
    np.testing.assert_array_equal(first.scores(), second.scores())
    assert not np.array_equal(first.scores(), other.scores())


def test_the_global_random_state_is_left_alone_and_has_no_say() -> None:
    def with_dropout() -> torch.nn.Module:
        network = make_small_network()
        return torch.nn.Sequential(torch.nn.Dropout(0.5), network)

    scores = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        fit = make_fit(with_dropout())
        fit.run_epoch()
        assert torch.equal(torch.get_rng_state(), before)
        scores.append(fit.scores())
    np.testing.assert_array_equal(*scores)


def test_towers_are_trained_on_pairs_and_tested_on_single_rows() -> None:
    fit = make_fit(build("multimodal"), kind="towers", learning_rate=1e-3)
    before = {name: value.clone() for name, value in fit.network.named_parameters()}
    result = fit.run_epoch()
    moved = [name for name, value in fit.network.named_parameters() if not torch.equal(value, before[name])]
    assert len(moved) == len(before)
    tested = fit.data.modality[fit.data.test]
    expected = np.empty(10, np.float32)
    for modality, rows in (("mri", tested == 0), ("ct", tested == 1)):
        images = fit.data.images[fit.data.test[rows]]
        expected[rows] = score_images(fit.network, images, modality=modality, precision="float32")  # type: ignore[arg-type]
    np.testing.assert_array_equal(fit.scores(), expected)
    assert 0.2 < result.train_loss < 1.4  # per score, not the sum over both towers


def test_feature_fusion_is_trained_and_tested_on_pairs() -> None:
    fit = make_fit(build("multimodal", fusion="feature"), kind="pairs", learning_rate=1e-3)
    result = fit.run_epoch()
    assert fit.scores().shape == (5, 2) and np.array_equal(fit.scores()[:, 0], fit.scores()[:, 1])
    target = fit.data.target[fit.data.test[:, 0]]
    score = fit.scores()[:, 0].astype(float)
    assert result.test_loss == pytest.approx(-np.log(np.where(target == 1, score, 1 - score)).mean(), abs=1e-6)


@pytest.mark.parametrize(
    ("spec", "kind", "message"),
    [
        (None, "pairs", "a network for single images: `train` holds pairs; allowed: single rows"),
        ("loss", "rows", "a network with fusion='loss': `train` holds single rows; allowed: pairs"),
        ("loss", "pairs", "a network with fusion='loss': `test` holds pairs; allowed: single rows"),
        ("feature", "towers", "a network with fusion='feature': `test` holds single rows; allowed: pairs"),
    ],
)
def test_rows_of_the_wrong_kind_are_refused(spec: str | None, kind: str, message: str) -> None:
    network = build("multimodal", fusion=spec) if spec else None
    with pytest.raises(InputError) as caught:
        make_fit(network, kind=kind)
    assert str(caught.value) == message


def test_a_loss_that_is_no_number_says_where() -> None:
    fit = make_fit()
    fit.run_epoch()
    with torch.no_grad():
        dict(fit.network.named_parameters())["classifier.output.bias"].fill_(math.nan)
    with pytest.raises(OsteoError) as caught:
        fit.run_epoch()
    assert str(caught.value) == (
        "epoch 2, batch 1 of 3: the loss is nan; allowed: finite numbers; "
        "lower `learning_rate`, or set `precision` to float32"
    )
    assert fit.epoch == 1


def test_weights_lost_by_the_last_step_are_noticed_too(monkeypatch: Any) -> None:
    fit = make_fit()
    monkeypatch.setattr(Fit, "_step", lambda self, rows: torch.tensor(0.7))
    monkeypatch.setattr(Fit, "scores", lambda self: np.full(10, np.nan, np.float32))
    with pytest.raises(OsteoError, match="epoch 1, test images: the loss is nan"):
        fit.run_epoch()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("network", ["small", "unimodal"])
def test_a_state_put_into_a_new_fit_goes_on_to_the_same_bits(precision: str, network: str) -> None:
    def make() -> Fit:
        return make_fit(build("unimodal") if network == "unimodal" else None, precision=precision)

    straight, stopped, resumed = make(), make(), make()
    for _ in range(3):
        straight.run_epoch()
    stopped.run_epoch()
    tensors, facts = stopped.state()
    resumed.load_state(tensors, json.loads(json.dumps(facts)))
    assert resumed.history == stopped.history
    resumed.run_epoch()
    resumed.run_epoch()
    ours, theirs = resumed.state()[0], straight.state()[0]
    assert ours.keys() == theirs.keys() and any(name.startswith("adam.exp_avg_sq.") for name in ours)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    np.testing.assert_array_equal(resumed.scores(), straight.scores())


def test_a_state_before_the_first_epoch_is_a_state_too() -> None:
    fit = make_fit()
    before = fit.state()
    fit.run_epoch()
    after = fit.scores()
    fit.load_state(*before)
    assert fit.epoch == 0 and not np.array_equal(fit.scores(), after)
    fit.run_epoch()
    np.testing.assert_array_equal(fit.scores(), after)


def test_the_state_of_another_fit_is_refused_and_changes_nothing() -> None:
    fit, other = make_fit(), make_fit(seed=8, learning_rate=0.1)
    other.run_epoch()
    before = fit.scores()
    with pytest.raises(StaleDataError) as caught:
        fit.load_state(*other.state())
    assert str(caught.value) == "the state is of another fit: seed 8, here 7; learning_rate 0.1, here 0.01"
    np.testing.assert_array_equal(fit.scores(), before)
    assert fit.epoch == 0


def test_a_finished_fit_can_be_prolonged() -> None:
    short, long = make_fit(epochs=1), make_fit(epochs=2)
    short.run_epoch()
    long.load_state(*short.state())
    assert long.epoch == 1


def test_other_data_or_another_network_is_another_fit() -> None:
    fit = make_fit()
    darker = Fit(fit.network, fit.recipe, replace(fit.data, images=fit.data.images // 2), seed=7)
    wider = make_fit(make_small_network(units=9))
    for other, part in ((darker, "data"), (wider, "network")):
        with pytest.raises(StaleDataError, match=rf"^the state is of another fit: {part} '\w+', here '\w+'$"):
            other.load_state(*fit.state())


def test_frozen_weights_stay() -> None:
    network = make_small_network()
    frozen = dict(network.named_parameters())["features.conv1.weight"].requires_grad_(False)
    before = frozen.clone()
    fit = make_fit(network)
    fit.run_epoch()
    assert torch.equal(frozen, before)
    assert "network.features.conv1.weight" in fit.state()[0] and "adam.step.features.conv1.weight" not in fit.state()[0]


def test_the_recipe_decides_the_arithmetic() -> None:
    assert make_fit(precision="bfloat16").arithmetic == "bfloat16"


@pytest.mark.parametrize("transfer", ["frozen", "full"])
def test_the_batch_norm_of_a_pretrained_network_is_its_own(transfer: str) -> None:
    network = build("tiny", backbone="test_efficientnet", weights="random", transfer=transfer)
    before = {name: value.clone() for name, value in network.state_dict().items() if "running" in name}
    make_fit(network, batch_norm_momentum=0.5).run_epoch()
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert layers and {layer.momentum for layer in layers} == {0.1}
    kept = all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    assert before and kept == (transfer == "frozen")
