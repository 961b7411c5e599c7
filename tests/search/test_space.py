from typing import Any

import pytest

from osteo_models.core.params import parse_params
from osteo_models.search.space import PAPER, Proposal, draw, list_space_faults, refuse


class Drawing:
    """Takes what a mapping says, else the last choice; keeps the names."""

    def __init__(self, values=()) -> None:
        self.values, self.names = dict(values), []

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        self.names.append(name)
        value = self.values.get(name, choices[-1])
        assert value in choices
        return value

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        assert log
        return self.values.get(name, high)


def test_the_papers_network_has_an_empty_spec(params):
    drawing = Drawing(PAPER)
    assert draw(drawing, params.search.space, None) == Proposal({}, None)
    assert set(drawing.names) == set(PAPER)


def test_a_network_is_drawn_layer_by_layer(params):
    drawing = Drawing({"layers": 3, "filters_2": 16, "dense_layers": 1, "dense_1": 32})
    proposal = draw(drawing, params.search.space, (1e-4, 1e-2))
    assert proposal.learning_rate == 1e-2
    assert proposal.spec == {
        "pooling": "average",
        "filters": [128, 16, 128],
        "kernels": [7, 7, 7],
        "strides": [2, 2, 2],
        "pools": [3, 3, 3],
        "dense": [32],
    }


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({}, None),
        (
            {"filters": [8] * 3, "pools": 5},
            "impossible: traditional_cnn, convolution 3: pool 5 is larger than the 3 x 2 map it is given",
        ),
        ({"filters": [64, 64]}, "too costly: 55.0 million multiply-accumulates, at most 32"),
        ({"filters": [2], "pools": 1, "dense": [512]}, "too costly: 4.9 million parameters, at most 4"),
    ],
)
def test_what_cannot_be_built_or_costs_too_much_is_refused(params, spec, why):
    assert refuse(Proposal(spec, None), params.search.budgets["quick"]) == why


def test_the_papers_network_must_be_in_the_space(raw_params):
    assert list_space_faults(parse_params(raw_params)) == []
    raw_params["search"]["space"] |= {"filters": [8, 32], "poolings": ["average"], "dense": [16]}
    raw_params["search"]["budgets"]["quick"]["million_macs"] = 20
    raw_params["search"]["learning_rate"] = [0.01, 0.1]
    first = "(the paper's network is the first candidate)"
    assert list_space_faults(parse_params(raw_params)) == [
        f"search.space.poolings: lacks max {first}",
        f"search.space.filters: lacks 64 {first}",
        f"search.space.dense: lacks 128, 64 {first}",
        f"search.budgets.quick: too costly: 31.6 million multiply-accumulates, at most 20 {first}",
        f"search.learning_rate: [0.01, 0.1] lacks `experiments.learning_rate` {first}",
    ]
