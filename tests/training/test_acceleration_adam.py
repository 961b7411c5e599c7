"""The short cut of Adam's step, and fits of heads, which take it."""

import numpy as np
import torch

from osteo_models.models.head import Head
from osteo_models.training.acceleration import bind_step
from osteo_models.training.fit import Fit
from osteo_models.training.fold import FoldData
from osteo_models.training.recipe import Recipe

FEATURES, IMAGES = 24, 60


def make_head():
    return Head(torch.Generator().manual_seed(3), FEATURES)


def make_fit(epochs=0):
    rng = np.random.default_rng(0)
    target = np.arange(IMAGES) % 2
    features = (rng.normal(size=(IMAGES, FEATURES)) + target[:, None]).astype(np.float32)
    order = rng.permutation(IMAGES)
    data = FoldData(features, target, np.zeros(IMAGES, bool), order[15:], order[:15])
    fit = Fit(make_head(), Recipe(epochs=4, precision="float32"), data, seed=1)
    for _ in range(epochs):
        fit.run_epoch()
    return fit


def test_the_step_is_adams_own_to_the_bit():
    generator = torch.Generator().manual_seed(0)
    features, target = torch.randn(16, FEATURES, generator=generator), torch.arange(16.0) % 2
    found = []
    for bound in (False, True):
        head = make_head()
        optimizer = torch.optim.Adam(head.parameters(), lr=1e-2, eps=1e-7, fused=True)
        step = optimizer.step
        for _ in range(5):
            head.backpropagate(features, target)
            step()
            step = bind_step(optimizer) if bound and step == optimizer.step else step
        found.append(
            [*head.state_dict().values(), *(each for one in optimizer.state.values() for each in one.values())]
        )
    plain, short = found
    assert len(plain) == 4 + 3 * 4 and float(short[4]) == 5
    assert all(torch.equal(one, other) for one, other in zip(plain, short, strict=True))
    assert not torch.equal(plain[0], make_head().dense.weight)


def test_a_fit_of_a_head_is_the_recipe_as_autograd_and_adam_have_it():
    fit = make_fit(epochs=3)
    head, data = make_head(), fit.data
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3, eps=1e-7)
    features, target = torch.from_numpy(data.images), torch.from_numpy(data.target).float()
    for epoch in (1, 2, 3):
        order = np.random.default_rng([1, epoch]).permutation(len(data.train))
        for rows in torch.from_numpy(data.train[order]).split(16):
            optimizer.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(head(features[rows]), target[rows]).backward()
            optimizer.step()
    for name, expected in head.state_dict().items():
        torch.testing.assert_close(fit.network.state_dict()[name], expected, atol=1e-6, rtol=1e-4)


def test_a_head_that_was_stopped_goes_on_to_the_bit():
    whole, stopped = make_fit(epochs=4), make_fit(epochs=2)
    resumed = make_fit(epochs=1)  # what it bound before it was given the state must not be used after it
    resumed.load_state(*stopped.state())
    for _ in range(2):
        resumed.run_epoch()
    tensors, expected = resumed.state()[0], whole.state()[0]
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], each) for name, each in expected.items())
