"""The people of the synthetic cohort: DXA examinations, control candidates, and what is latent in each of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import lru_cache
from typing import Final, Literal

from osteo_models.core.terms import OSTEOPOROSIS, Modality, Sex
from osteo_models.phantom.plan import PLANS, CohortPlan, GroupPlan, Scale, deal_ages, deal_slices
from osteo_models.phantom.random_fields import Draws, digest

Source = Literal["dxa", "control_candidate"]

FIRST_DAY: Final = date(2018, 1, 1)
LAST_DAY: Final = date(2021, 3, 31)
NEAR_DAYS: Final = 176  # within six months, with a margin
DXA_FINDINGS: Final = (
    *("severe_scoliosis", "lumbar_deformity", "spondyloarthritis", "inflammatory_disease"),
    *("tumoral_lesion", "stabilization_surgery"),
)


@dataclass(frozen=True)
class Person:
    """One row of the clinical table and what the images are made from.

    Args:
        t_tenths: T-scores of L1-L4 in tenths; empty for people without a DXA.
        density: Latent mean T-score of L1-L4, also of people without a DXA.
        slices: Number of images on disk.
    """

    patient_id: str
    source: Source
    sex: Sex
    age_years: int
    postmenopausal: bool
    density: float
    glucocorticoids: bool = False
    findings: tuple[str, ...] = ()
    dxa_date: date | None = None
    t_tenths: tuple[int, ...] = ()
    modality: Modality | None = None
    imaging_date: date | None = None
    slices: int = 0

    @property
    def image_ids(self) -> tuple[str, ...]:
        """`<patient_id>-<modality>-<number>`, from the patient's right to the left."""
        return tuple(f"{self.patient_id}-{self.modality}-{number:03d}" for number in range(1, self.slices + 1))


@lru_cache(maxsize=4)
def make_population(seed: int, scale: Scale) -> tuple[Person, ...]:
    """All people, ordered by pseudonym, so that the order does not reveal the class."""
    plan = PLANS[scale]
    people = [*_study_groups(plan, seed), *_other_dxa(plan, seed), *_other_candidates(plan, seed)]
    named = [replace(person, patient_id=digest(seed, "person", index).hex()[:8]) for index, person in enumerate(people)]
    return tuple(sorted(named, key=lambda person: person.patient_id))


def _study_groups(plan: CohortPlan, seed: int) -> Iterator[Person]:
    for group in plan.groups:
        draws = Draws(seed, "group", group.modality, group.target)
        ages = deal_ages(group, draws)
        slices = deal_slices(group, ages, draws)
        everyone: list[Sex] = ["M" if index < group.men else "F" for index in range(group.people)]
        sexes = draws.shuffled(everyone)
        for age, count, sex in zip(ages, slices, sexes, strict=True):
            if group.target == OSTEOPOROSIS:
                person = _with_t_scores(_dxa_person(draws, sex, age), _low_t(group, age, draws), draws)
            else:
                person = _candidate(draws, sex, age)
            day = person.dxa_date + timedelta(draws.integer(-NEAR_DAYS, NEAR_DAYS)) if person.dxa_date else _day(draws)
            yield replace(person, modality=group.modality, imaging_date=day, slices=count)


def _low_t(group: GroupPlan, age: int, draws: Draws) -> float:
    """A mean T-score below -1, falling with age; people of the hold-out's ages have lost little bone."""
    if group.close_ages[0] <= age <= group.close_ages[1]:
        return draws.uniform(-1.5, -1.15)
    mean = draws.normal(-1.9 - 0.022 * (age - 50), 0.7)
    return max(-4.5, mean if mean < -1.12 else -2.24 - mean)


def _dxa_person(draws: Draws, sex: Sex, age: int) -> Person:
    menopause = sex == "F" and age >= 43 + draws.integer(0, 11)
    return Person("", "dxa", sex, age, menopause, 0.0, glucocorticoids=draws.chance(0.04), dxa_date=_day(draws))


def _with_t_scores(person: Person, mean: float, draws: Draws) -> Person:
    """T-scores of the four levels around a mean, at least 0.05 away from the threshold on the mean's side."""
    scores = [round((mean + draws.normal(0.0, 0.25)) * 10) for _ in range(4)]
    while mean < -1 and sum(scores) > -42:
        scores[draws.integer(0, 3)] -= 1
    while mean >= -1 and sum(scores) < -38:
        scores[draws.integer(0, 3)] += 1
    return replace(person, t_tenths=tuple(scores), density=sum(scores) / 40)


def _candidate(draws: Draws, sex: Sex, age: int) -> Person:
    density = max(-0.8, draws.normal(0.42 - 0.035 * max(0, age - 28), 0.66))
    return Person("", "control_candidate", sex, age, False, density)


def _day(draws: Draws) -> date:
    return FIRST_DAY + timedelta(draws.integer(0, (LAST_DAY - FIRST_DAY).days))


def _imaged(person: Person, draws: Draws, *, slices: int, days: tuple[int, int] = (-NEAR_DAYS, NEAR_DAYS)) -> Person:
    modality: Modality = "mri" if draws.chance(0.55) else "ct"
    offset = timedelta(draws.integer(*days))
    day = person.dxa_date + offset if person.dxa_date else _day(draws)
    return replace(person, modality=modality, imaging_date=day, slices=slices)


def _other_dxa(plan: CohortPlan, seed: int) -> Iterator[Person]:
    """DXA examinations that the rules leave out, each for its reason.

    Some were imaged elsewhere: the table has a date, the disk no images.
    """
    draws = Draws(seed, "other examinations")
    studied = sum(group.people for group in plan.groups if group.target == OSTEOPOROSIS)
    reasons = [
        *["late"] * (plan.kept_people - studied),
        *["finding"] * (plan.low_t_people - plan.kept_people),
        *["high_t"] * (plan.dxa_people - plan.low_t_people),
    ]
    on_disk = dict(plan.imaged_excluded)
    for reason in reasons:
        sex: Sex = "M" if draws.chance(0.12) else "F"
        person = _dxa_person(draws, sex, draws.integer(38, 84))
        mean = draws.uniform(-0.85, 1.9) if reason == "high_t" else min(-1.1, draws.normal(-2.0, 0.7))
        person = _with_t_scores(person, mean, draws)
        if reason == "finding" or (reason == "high_t" and draws.chance(0.15)):
            person = replace(person, findings=_findings(draws))
        slices = draws.integer(3, 4) if on_disk.get(reason, 0) > 0 else 0
        on_disk[reason] = on_disk.get(reason, 0) - 1
        if reason == "late" and (slices or draws.chance(0.15)):
            later = draws.chance(0.5)
            person = _imaged(person, draws, slices=slices, days=(190, 700) if later else (-700, -190))
        elif reason != "late" and (slices or draws.chance(0.1)):
            person = _imaged(person, draws, slices=slices)
        yield person


def _findings(draws: Draws) -> tuple[str, ...]:
    count = 2 if draws.chance(0.15) else 1
    return tuple(sorted(draws.shuffled(DXA_FINDINGS)[:count]))


def _other_candidates(plan: CohortPlan, seed: int) -> Iterator[Person]:
    """Candidates that are no controls, each for its reason."""
    draws = Draws(seed, "other candidates")
    left = plan.candidates - sum(group.people for group in plan.groups if group.target != OSTEOPOROSIS)
    cycle = ("age", "finding", "steroid", "age", "finding", "secondary", "age", "no_image", "menopause", "age")
    on_disk = dict(plan.imaged_excluded)
    for reason in (cycle[index % len(cycle)] for index in range(left)):
        sex: Sex = "F" if reason == "menopause" or draws.chance(0.5) else "M"
        age = draws.integer(39, 44) if reason == "menopause" else draws.integer(19, 44)
        if reason == "age":
            age = draws.integer(16, 17) if draws.chance(0.2) else draws.integer(45, 62)
        person = replace(
            _candidate(draws, sex, age),
            postmenopausal=reason == "menopause" or (sex == "F" and age > 51),
            glucocorticoids=reason == "steroid",
            findings={"finding": _findings(draws), "secondary": ("secondary_osteoporosis",)}.get(reason, ()),
        )
        # Findings on disk are shown by people with a DXA.
        slices = draws.integer(3, 4) if reason != "finding" and on_disk.get(reason, 0) > 0 else 0
        on_disk[reason] = on_disk.get(reason, 0) - 1
        yield person if reason == "no_image" else _imaged(person, draws, slices=slices)
