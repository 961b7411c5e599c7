"""The section `search` of params.yaml as frozen models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class FrozenModel(BaseModel):
    """A section of params.yaml: unknown keys are faults."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def check_order(low_high: tuple[float, float]) -> tuple[float, float]:
    """Refuse a range that is empty or reversed."""
    if low_high[0] >= low_high[1]:
        raise ValueError(f"the first number must be below the second, got {list(low_high)}")
    return low_high


Rate = Annotated[float, Field(gt=0, lt=1)]
Rates = Annotated[tuple[Rate, Rate], AfterValidator(check_order)]
Choice = TypeVar("Choice", int, str)


def _check_distinct(choices: tuple[Choice, ...]) -> tuple[Choice, ...]:
    if not choices:
        raise ValueError("at least one value is needed")
    if twice := sorted({str(each) for each in choices if choices.count(each) > 1}):
        raise ValueError(f"{', '.join(twice)} stands there more than once")
    return choices


Counts = Annotated[tuple[Annotated[int, Field(ge=1)], ...], AfterValidator(_check_distinct)]
CountsFromZero = Annotated[tuple[Annotated[int, Field(ge=0)], ...], AfterValidator(_check_distinct)]
Poolings = Annotated[tuple[Literal["max", "average"], ...], AfterValidator(_check_distinct)]


class SearchSpace(FrozenModel):
    """What the search may choose from; filters, kernels, strides and pools are chosen for each convolution."""

    layers: Counts
    filters: Counts
    kernels: Counts
    strides: Counts
    poolings: Poolings
    pools: Counts
    dense_layers: CountsFromZero
    dense: Counts


class SearchBudget(FrozenModel):
    """How much is searched in a profile, and the costliest network that is tried."""

    candidates: int = Field(ge=1)
    folds: int = Field(ge=2, le=20)
    epochs: int = Field(ge=1)
    million_macs: float = Field(gt=0)
    million_parameters: float = Field(gt=0)


def _check_storage(url: str) -> str:
    if "://" not in url:
        raise ValueError("a database's address was expected, such as postgresql://host/name")
    if urlsplit(url).password:
        raise ValueError("holds a password; keep it out of params.yaml, such as in ~/.pgpass")
    return url


class Search(FrozenModel):
    """The architecture search for the traditional CNN."""

    seed: int = Field(ge=0)
    learning_rate: Rates | None = None
    storage: Annotated[str, AfterValidator(_check_storage)] | None = None
    budgets: Mapping[str, SearchBudget]
    space: SearchSpace
