"""The search's space: how a candidate is drawn, the paper's network in it, and what is refused without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from osteo_models.core.errors import InputError
from osteo_models.core.params import Params
from osteo_models.core.search_params import SearchBudget, SearchSpace
from osteo_models.models.traditional import count_cost

if TYPE_CHECKING:
    import optuna

MILLION: Final = 1e6
FIRST: Final = "(the paper's network is the first candidate)"

# The paper's network by the names that candidates are drawn under; its spec is empty.
PAPER: Final[Mapping[str, int | str]] = {
    "layers": 2,
    "pooling": "max",
    "filters_1": 64,
    "kernel_1": 3,
    "stride_1": 1,
    "pool_1": 2,
    "filters_2": 32,
    "kernel_2": 3,
    "stride_2": 1,
    "pool_2": 2,
    "dense_layers": 2,
    "dense_1": 128,
    "dense_2": 64,
}


@dataclass(frozen=True)
class Proposal:
    """A network to try.

    Attributes:
        spec: Of the traditional CNN; empty for the paper's network.
        learning_rate: None for the recipe's own.
    """

    spec: Mapping[str, Any]
    learning_rate: float | None


def draw(trial: optuna.Trial, space: SearchSpace, learning_rate: tuple[float, float] | None) -> Proposal:
    """Draw a network; names that were drawn before keep their value."""
    drawn: dict[str, Any] = {}

    def choose(name: str, choices: Sequence[Any]) -> Any:
        drawn[name] = trial.suggest_categorical(name, choices)
        return drawn[name]

    layers = range(1, choose("layers", space.layers) + 1)
    spec: dict[str, Any] = {"pooling": choose("pooling", space.poolings)}
    for key, name, choices in (
        ("filters", "filters", space.filters),
        ("kernels", "kernel", space.kernels),
        ("strides", "stride", space.strides),
        ("pools", "pool", space.pools),
    ):
        spec[key] = [choose(f"{name}_{number}", choices) for number in layers]
    dense = range(1, choose("dense_layers", space.dense_layers) + 1)
    spec["dense"] = [choose(f"dense_{number}", space.dense) for number in dense]
    rate = trial.suggest_float("learning_rate", *learning_rate, log=True) if learning_rate else None
    return Proposal({} if drawn == PAPER else spec, rate)


def refuse(proposal: Proposal, budget: SearchBudget) -> str | None:
    """Why a network is not to be trained: its shape is impossible, or it costs too much; None where it may be."""
    try:
        cost = count_cost(**proposal.spec)
    except InputError as error:
        return f"impossible: {error}"
    for found, most, unit in (
        (cost.macs, budget.million_macs, "multiply-accumulates"),
        (cost.parameters, budget.million_parameters, "parameters"),
    ):
        if found > most * MILLION:
            return f"too costly: {found / MILLION:.1f} million {unit}, at most {most:g}"
    return None


def list_space_faults(params: Params) -> list[str]:
    """Why the paper's network, which is the first candidate, is not in the space; empty where it is."""
    search, rate = params.search, params.experiments.learning_rate
    lists = {"layers": "layers", "pooling": "poolings", "filters": "filters", "kernel": "kernels"}
    lists |= {"stride": "strides", "pool": "pools", "dense_layers": "dense_layers", "dense": "dense"}
    missing: dict[str, set[str]] = {}
    for name, value in PAPER.items():
        key = lists[name.rstrip("_12")]
        if value not in getattr(search.space, key):
            missing.setdefault(key, set()).add(str(value))
    faults = [f"search.space.{key}: lacks {', '.join(sorted(values))} {FIRST}" for key, values in missing.items()]
    for name, budget in search.budgets.items():
        if (why := refuse(Proposal({}, None), budget)) is not None:
            faults.append(f"search.budgets.{name}: {why} {FIRST}")
    if search.learning_rate and not search.learning_rate[0] <= rate <= search.learning_rate[1]:
        faults.append(f"search.learning_rate: {list(search.learning_rate)} lacks `experiments.learning_rate` {FIRST}")
    return faults
