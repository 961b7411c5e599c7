"""The people of the synthetic cohort: the paper's counts, ages and selection."""

from __future__ import annotations

import re
import statistics

import pytest

from osteo_models.core.terms import CONTROL, OSTEOPOROSIS
from osteo_models.phantom.plan import PLANS, GroupPlan, deal_ages, deal_slices
from osteo_models.phantom.population import Person, make_population
from osteo_models.phantom.random_fields import Draws

SEED = 2023
GROUPS = [(scale, group) for scale, plan in PLANS.items() for group in plan.groups]
# People, men, images, ages, mean, standard deviation as the paper prints them.
PRINTED = {
    ("mri", OSTEOPOROSIS): (62, 2, 535, (44, 86), 65, 9.9),
    ("mri", CONTROL): (58, 26, 526, (20, 44), 32, 8.3),
    ("ct", OSTEOPOROSIS): (50, 3, 562, (46, 83), 68, 8.7),
    ("ct", CONTROL): (50, 30, 534, (18, 44), 28, 7.6),
}


def is_selected(person: Person, target: int) -> bool:
    """The paper's rules, written again."""
    if target == OSTEOPOROSIS:
        near = person.dxa_date and person.imaging_date and abs((person.imaging_date - person.dxa_date).days) <= 183
        return bool(near) and sum(person.t_tenths) < -40 and not person.findings
    clean = not (person.findings or person.glucocorticoids or person.postmenopausal)
    return person.source == "control_candidate" and 18 <= person.age_years <= 44 and clean and bool(person.imaging_date)


def group_of(people: tuple[Person, ...], modality: str, target: int) -> list[Person]:
    return [each for each in people if each.modality == modality and is_selected(each, target)]


@pytest.mark.parametrize("seed", [0, 7, SEED])
@pytest.mark.parametrize(("modality", "target"), PRINTED)
def test_groups_match_the_paper_to_the_printed_digit(seed, modality, target):
    group = group_of(make_population(seed, "paper"), modality, target)
    ages = [person.age_years for person in group]
    people, men, images, span, mean, sd = PRINTED[modality, target]
    assert (len(group), sum(each.sex == "M" for each in group)) == (people, men)
    assert sum(each.slices for each in group) == images
    assert (min(ages), max(ages)) == span
    assert round(statistics.mean(ages)) == mean
    assert round(statistics.stdev(ages), 1) == round(statistics.pstdev(ages), 1) == sd


def subsets(sizes: list[int], wanted: int, at_most: int = 100) -> int:
    """In how many ways sizes add up to what is wanted, with at most so many of them."""
    ways = {(0, 0): 1}
    for size in sizes:
        for (total, used), count in list(ways.items()):
            ways[total + size, used + 1] = ways.get((total + size, used + 1), 0) + count
    return sum(count for (total, used), count in ways.items() if total == wanted and 0 < used <= at_most)


@pytest.mark.parametrize("seed", [0, SEED])
@pytest.mark.parametrize(
    ("scale", "images", "few"),
    [("paper", {"mri": 24, "ct": 34}, 4), ("small", {"mri": 10, "ct": 10}, 2)],
)
def test_many_whole_patients_make_up_the_hold_out(seed, scale, images, few):
    people, groups = make_population(seed, scale), PLANS[scale].groups
    assert len(groups) == len(PRINTED)
    for group in groups:
        close = [
            person.slices
            for person in group_of(people, group.modality, group.target)
            if group.close_ages[0] <= person.age_years <= group.close_ages[1]
        ]
        assert subsets(close, images[group.modality], few) >= 2


def test_density_decides_who_is_osteoporotic_and_overlaps_at_close_ages():
    people = make_population(SEED, "paper")
    for modality in ("mri", "ct"):
        patients, controls = (group_of(people, modality, target) for target in (OSTEOPOROSIS, CONTROL))
        assert max(each.density for each in patients) <= -1.05
        assert min(each.density for each in controls) >= -0.95
        young = [each.density for each in patients if each.age_years <= 48]
        assert min(young) > -2.3


def test_pseudonyms_are_unique_and_tell_nothing():
    people = make_population(SEED, "paper")
    names = [person.patient_id for person in people]
    assert len(set(names)) == len(names) > 1800
    assert names == sorted(names)
    assert [name for name in names if not re.fullmatch(r"[0-9a-f]{8}", name)] == []
    by_name = [person.source == "dxa" for person in people if person.slices]
    # A run of one class at either end would show that the order carries it.
    assert 0 < sum(by_name[:25]) < 25
    assert 0 < sum(by_name[-25:]) < 25


def test_every_rule_has_work_to_do():
    people = make_population(SEED, "paper")
    dxa = [person for person in people if person.source == "dxa"]
    low = [person for person in dxa if sum(person.t_tenths) < -40]
    kept = [person for person in low if not person.findings]
    assert (len(dxa), len(low), len(kept)) == (1800, 412, 246)
    # Nobody stands on the threshold, where rounding could decide.
    assert min(abs(sum(person.t_tenths) + 40) for person in dxa) >= 2
    late = [each for each in kept if each.imaging_date and not is_selected(each, OSTEOPOROSIS)]
    assert len(late) >= 8
    candidates = [person for person in people if person.source == "control_candidate"]
    reasons = {
        "age": any(not 18 <= each.age_years <= 44 for each in candidates),
        "menopause": any(each.postmenopausal and each.age_years <= 44 for each in candidates),
        "steroid": any(each.glucocorticoids for each in candidates),
        "finding": any(each.findings for each in candidates),
        "secondary": any("secondary_osteoporosis" in each.findings for each in candidates),
        "no image": any(each.imaging_date is None for each in candidates),
    }
    assert reasons == dict.fromkeys(reasons, True)


def test_excluded_people_have_images_on_disk():
    people = make_population(SEED, "paper")
    imaged = [each for each in people if each.slices]
    excluded = [each for each in imaged if not (is_selected(each, OSTEOPOROSIS) or is_selected(each, CONTROL))]
    assert len(excluded) == 25
    assert 75 <= sum(each.slices for each in excluded) <= 100


def test_selected_people_all_have_images():
    people = make_population(SEED, "paper")
    for modality, target in PRINTED:
        assert min(each.slices for each in group_of(people, modality, target)) > 0


@pytest.mark.parametrize(("scale", "group"), GROUPS)
def test_dealing_is_exact_for_every_plan(scale, group: GroupPlan):
    draws = Draws("test", scale, group.modality, group.target)
    ages = deal_ages(group, draws)
    slices = deal_slices(group, ages, draws)
    assert len(ages) == len(slices) == group.people
    assert (ages[0], ages[-1], sum(slices)) == (*group.ages, group.images)
    low, high = group.close_ages
    others = [count for age, count in zip(ages, slices, strict=True) if not low <= age <= high]
    assert group.slices[0] <= min(others)
    assert max(others) <= group.slices[1]


def test_draws_are_what_the_generator_defines():
    draws = Draws("pinned")
    assert [draws.integer(0, 999) for _ in range(5)] == [21, 802, 300, 490, 629]
    uniform = [draws.uniform() for _ in range(200)]
    assert 0.0 <= min(uniform) < 0.1 and 0.9 < max(uniform) < 1.0
    sample = [draws.normal(10.0, 2.0) for _ in range(2000)]
    assert statistics.mean(sample) == pytest.approx(10.0, abs=0.2)
    assert statistics.stdev(sample) == pytest.approx(2.0, abs=0.15)
    assert sorted(draws.shuffled(range(30))) == list(range(30))


def test_noise_fields_have_unit_spread_and_are_independent():
    draws = Draws("fields")
    field = draws.white(200, 200)
    first, second = draws.white_pair(200, 200)
    for each in (field, first, second):
        assert abs(float(each.mean())) < 0.02
        assert float(each.std()) == pytest.approx(1.0, abs=0.02)
    assert abs(float((first * second).mean())) < 0.02
