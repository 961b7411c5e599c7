"""How many people of which ages with how many slices: the paper's groups, met exactly by searching whole numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from osteo_models.core.terms import CONTROL, OSTEOPOROSIS, Modality
from osteo_models.phantom.random_fields import Draws

Scale = Literal["paper", "small"]

SEARCH_STEPS: Final = 200_000


@dataclass(frozen=True)
class GroupPlan:
    """One group of the study.

    Args:
        ages: Youngest and oldest, both present.
        mean_age: As printed, to the whole year.
        sd_tenths: Standard deviation as printed, in tenths of a year; None leaves mean and deviation free.
        close_ages: The ages of the hold-out (44 next to 44, so that age cannot tell the classes apart).
        close_slices: Slices of the people of those ages: many subsets of them add up to the hold-out.
        slices: Fewest and most slices of anybody else.
    """

    modality: Modality
    target: int
    people: int
    men: int
    images: int
    ages: tuple[int, int]
    mean_age: int
    sd_tenths: int | None
    close_ages: tuple[int, int]
    close_slices: tuple[int, ...]
    slices: tuple[int, int]


@dataclass(frozen=True)
class CohortPlan:
    """The whole clinical table.

    Args:
        dxa_people: DXA examinations, one person each.
        low_t_people: Of these, people with a mean T-score below -1.
        kept_people: Of these, people without an excluding finding; the imaged study group is among them.
        candidates: Candidates for the control group.
        imaged_excluded: People with images on disk who are excluded by the rules, by reason.
    """

    groups: tuple[GroupPlan, ...]
    dxa_people: int
    low_t_people: int
    kept_people: int
    candidates: int
    imaged_excluded: Mapping[str, int]


_MRI_SLICES, _CT_SLICES, _FEW = (8, 7, 9, 8, 8, 10, 7), (11, 12, 11, 10, 12, 11, 13), (5, 6, 5, 4)

PLANS: Final[Mapping[Scale, CohortPlan]] = {
    "paper": CohortPlan(
        groups=(
            GroupPlan("mri", OSTEOPOROSIS, 62, 2, 535, (44, 86), 65, 99, (44, 46), _MRI_SLICES[:6], (5, 12)),
            GroupPlan("mri", CONTROL, 58, 26, 526, (20, 44), 32, 83, (39, 44), _MRI_SLICES * 2, (6, 12)),
            GroupPlan("ct", OSTEOPOROSIS, 50, 3, 562, (46, 83), 68, 87, (46, 48), _CT_SLICES[:5], (7, 15)),
            GroupPlan("ct", CONTROL, 50, 30, 534, (18, 44), 28, 76, (40, 44), _CT_SLICES[:6], (7, 15)),
        ),
        dxa_people=1800,
        low_t_people=412,
        kept_people=246,
        candidates=242,
        imaged_excluded={"late": 8, "high_t": 6, "finding": 4, "age": 3, "menopause": 1, "steroid": 2, "secondary": 1},
    ),
    "small": CohortPlan(
        groups=(
            GroupPlan("mri", OSTEOPOROSIS, 12, 1, 64, (44, 86), 65, None, (44, 46), _FEW, (3, 8)),
            GroupPlan("mri", CONTROL, 12, 5, 64, (20, 44), 32, None, (39, 44), _FEW, (3, 8)),
            GroupPlan("ct", OSTEOPOROSIS, 12, 1, 64, (46, 83), 68, None, (46, 48), _FEW, (3, 8)),
            GroupPlan("ct", CONTROL, 12, 7, 64, (18, 44), 28, None, (40, 44), _FEW, (3, 8)),
        ),
        dxa_people=180,
        low_t_people=64,
        kept_people=40,
        candidates=48,
        imaged_excluded={"late": 1, "high_t": 1, "age": 1, "steroid": 1},
    ),
}


def deal_ages(plan: GroupPlan, draws: Draws) -> list[int]:
    """Ages of a group, youngest first: the printed range, mean and standard deviation hold to the printed digits.

    The deviation rounds to the printed one with the divisor n as well as with n - 1.
    """
    low, high = plan.close_ages
    close = [low + index * (high - low + 1) // len(plan.close_slices) for index in range(len(plan.close_slices))]
    fixed = [plan.ages[0], plan.ages[1], *close]
    sd = (plan.sd_tenths or 90) / 10
    free = [_clip(int(draws.normal(plan.mean_age, sd)), plan) for _ in range(plan.people - len(fixed))]
    # No other person has the ages of the hold-out: its people's T-scores and slices are planned.
    free = [_outside(age, plan) for age in free]
    if plan.sd_tenths is not None:
        _fit_spread(free, fixed, plan, draws)
    return sorted(free + fixed)


def _clip(age: int, plan: GroupPlan) -> int:
    return min(plan.ages[1], max(plan.ages[0], age))


def _outside(age: int, plan: GroupPlan) -> int:
    low, high = plan.close_ages
    if low <= age <= high:
        return high + 1 if plan.target == OSTEOPOROSIS else low - 1
    return age


def _fit_spread(free: list[int], fixed: list[int], plan: GroupPlan, draws: Draws) -> None:
    """Move single ages by a year while that brings the sums nearer to what the printed figures ask for."""
    n = plan.people
    # All in whole numbers: 400 n times the sum of squares for a deviation between those of divisors n and n - 1.
    wanted_sum = n * plan.mean_age
    wanted_squares = 400 * n * plan.mean_age**2 + 4 * (plan.sd_tenths or 0) ** 2 * n - 2 * (plan.sd_tenths or 0) ** 2

    def distance(total: int, squares: int) -> int:
        return 4000 * abs(total - wanted_sum) * plan.mean_age + abs(400 * squares - wanted_squares)

    total, squares = sum(free) + sum(fixed), sum(age * age for age in free + fixed)
    best = distance(total, squares)
    for _ in range(SEARCH_STEPS):
        if _spread_is_right(total, squares, plan):
            return
        first, second = draws.integer(0, len(free) - 1), draws.integer(0, len(free) - 1)
        changed = {first: free[first] + draws.integer(-1, 1)}
        changed[second] = changed.get(second, free[second]) + draws.integer(-1, 1)
        if any(_clip(age, plan) != age or _outside(age, plan) != age for age in changed.values()):
            continue
        new_total = total + sum(age - free[index] for index, age in changed.items())
        new_squares = squares + sum(age * age - free[index] ** 2 for index, age in changed.items())
        if distance(new_total, new_squares) <= best:
            total, squares, best = new_total, new_squares, distance(new_total, new_squares)
            for index, age in changed.items():
                free[index] = age


def _spread_is_right(total: int, squares: int, plan: GroupPlan) -> bool:
    n, sd = plan.people, plan.sd_tenths or 0
    spread = n * squares - total * total  # n^2 times the variance with divisor n
    mean_fits = abs(2 * (total - n * plan.mean_age)) < n
    return mean_fits and all(
        (2 * sd - 1) ** 2 * divisor < 400 * spread < (2 * sd + 1) ** 2 * divisor for divisor in (n * n, n * (n - 1))
    )


def deal_slices(plan: GroupPlan, ages: list[int], draws: Draws) -> list[int]:
    """Slices per person, in the order of `ages`; they add up to the images of the group."""
    low, high = plan.slices
    planned = iter(draws.shuffled(plan.close_slices))
    is_close = [plan.close_ages[0] <= age <= plan.close_ages[1] for age in ages]
    counts = [next(planned, low) if close else draws.integer(low, high) for close in is_close]
    others = [index for index, close in enumerate(is_close) if not close]
    while (gap := plan.images - sum(counts)) != 0:
        index = others[draws.integer(0, len(others) - 1)]
        counts[index] = min(high, max(low, counts[index] + (1 if gap > 0 else -1)))
    return counts
