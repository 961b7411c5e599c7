"""What the phantom's slices show: bone density, age, likeness of neighbours, exact arithmetic."""

from __future__ import annotations

import ast
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from osteo_models import phantom
from osteo_models.phantom.anatomy import COLUMNS, ROWS, make_anatomy
from osteo_models.phantom.population import Person, make_population
from osteo_models.phantom.render import render_slice
from osteo_models.phantom.scene import make_volume, running_mean
from osteo_models.phantom.tissue import RESCALE_INTERCEPT, store_ct, store_mr

SEED = 2023


def person_with(modality: str, density: float, age_years: int = 40, name: str = "0123abcd") -> Person:
    return Person(name, "control_candidate", "F", age_years, False, density, modality=modality, slices=3)


def shoot(person: Person, number: int = 2):
    """Noise-free tissue, stored pixels and labels of one slice."""
    anatomy = make_anatomy(person, SEED)
    volume = make_volume(anatomy, SEED, person.patient_id)
    position = anatomy.positions[number - 1]
    tissue, labels = render_slice(anatomy, volume, position, person.modality)
    if person.modality == "ct":
        stored = store_ct(tissue, SEED, person.patient_id, number)
    else:
        stored = store_mr(tissue, anatomy, SEED, person.patient_id, number)
    return tissue, stored, labels


def shrink(mask, pixels: int):
    """The mask without its outermost pixels."""
    for _ in range(pixels):
        inner = mask.copy()
        for axis in (0, 1):
            for step in (-1, 1):
                inner &= np.roll(mask, step, axis)
        mask = inner
    return mask


def trabecular_mean(person: Person) -> float:
    tissue, _, labels = shoot(person)
    return float(tissue[shrink(labels > 0, 5)].mean())


def test_trabecular_hounsfield_units_follow_the_t_score():
    names = [f"{number:08x}" for number in range(5)]
    means = {
        density: np.mean([trabecular_mean(person_with("ct", density, name=name)) for name in names])
        for density in (0.5, -1.0, -2.5, -3.5)
    }
    assert 180 <= means[0.5] <= 220
    assert 135 <= means[-1.0] <= 175
    assert means[-2.5] < 115
    assert means[-3.5] < 90
    assert list(means.values()) == sorted(means.values(), reverse=True)


def test_the_cortex_thins_with_density_on_ct():
    def rim(density: float) -> float:
        tissue, _, labels = shoot(person_with("ct", density))
        inside = labels > 0
        # Contrast to the inside, so that the inside itself does not decide.
        return float(tissue[inside & ~shrink(inside, 2)].mean() - tissue[shrink(inside, 5)].mean())

    assert rim(0.5) > rim(-1.5) + 20 > rim(-3.5) + 40


def test_lost_bone_brightens_the_marrow_on_t1():
    for name in ("00000001", "00000002", "00000003"):
        bright, dark = (trabecular_mean(person_with("mri", density, name=name)) for density in (-3.5, 0.5))
        assert bright > 1.15 * dark


def test_age_changes_what_is_not_bone_density():
    young, old = (
        [make_anatomy(person_with("mri", -1.0, age, f"{number:08x}"), SEED) for number in range(20)] for age in (25, 80)
    )

    def mean(anatomies, value):
        return sum(value(each) for each in anatomies) / len(anatomies)

    def lumbar_length(anatomy):
        return (anatomy.vertebrae[7].y - anatomy.vertebrae[3].y) / anatomy.size

    assert mean(old, lambda a: sum(a.discs)) > mean(young, lambda a: sum(a.discs)) + 2
    assert mean(old, lumbar_length) < mean(young, lumbar_length) - 5
    assert mean(old, lambda a: a.muscle_fat) > mean(young, lambda a: a.muscle_fat) + 0.2
    assert mean(old, lambda a: a.vertebrae[5].lip) > mean(young, lambda a: a.vertebrae[5].lip) + 0.5
    assert all(each.vertebrae[5].density == pytest.approx(-1.0, abs=1.0) for each in young + old)


def test_fractures_come_with_low_density():
    def deformed(density: float) -> int:
        anatomies = [make_anatomy(person_with("ct", density, 70, f"{number:08x}"), SEED) for number in range(30)]
        lumbar = [vertebra for anatomy in anatomies for vertebra in anatomy.vertebrae[:8]]
        return sum(each.wedge > 0.15 or max(each.bow) > 4.2 for each in lumbar)

    assert deformed(0.0) <= 10 < deformed(-3.5)


def test_slices_of_a_patient_resemble_each_other():
    first, second = person_with("ct", -1.0, name="aaaaaaaa"), person_with("ct", -1.0, name="bbbbbbbb")
    middle, beside, other = shoot(first, 2)[1], shoot(first, 3)[1], shoot(second, 2)[1]

    def likeness(one, two) -> float:
        return float(np.corrcoef(one.ravel(), two.ravel())[0, 1])

    assert likeness(middle, beside) > 0.9
    assert likeness(middle, beside) > likeness(middle, other) + 0.05
    assert not np.array_equal(middle, beside)


def test_tissues_have_their_values():
    tissue, stored, labels = shoot(person_with("ct", 0.0))
    assert (stored.shape, stored.dtype) == ((ROWS, COLUMNS), np.uint16)
    hounsfield = stored.astype(int) + RESCALE_INTERCEPT
    assert np.median(hounsfield[:, -8:]) < -900  # air behind the body
    assert stored.max() <= 4095
    assert np.abs(hounsfield - tissue)[shrink(labels > 0, 6)].mean() < 40
    t1, stored, labels = shoot(person_with("mri", 0.0))
    assert np.median(stored[:, -8:]) < 40
    assert np.quantile(t1, 0.98) > 1.6 * t1[shrink(labels > 0, 5)].mean()  # fat is brighter than marrow
    assert stored.max() > 900


def test_the_mask_names_the_five_lumbar_bodies_from_above():
    people = [person for person in make_population(SEED, "small") if person.slices]
    person = next(each for each in people if each.modality == "ct")
    labels = shoot(person, person.slices // 2 + 1)[2]
    spacing = make_anatomy(person, SEED).spacing
    assert labels.shape == (ROWS, COLUMNS)
    assert sorted(np.unique(labels)) == [0, 1, 2, 3, 4, 5]
    heights = [float(np.nonzero(labels == level)[0].mean()) for level in range(1, 6)]
    assert heights == sorted(heights)
    areas = [float((labels == level).sum()) * spacing**2 for level in range(1, 6)]
    assert all(500 < area < 1400 for area in areas)
    assert all(25 < (b - a) * spacing < 50 for a, b in pairwise(heights))


def test_a_slice_depends_on_its_person_alone():
    person = person_with("mri", -2.0)
    assert np.array_equal(shoot(person)[1], shoot(replace(person, findings=("tumoral_lesion",)))[1])


def test_running_mean_is_exact_in_whole_numbers():
    line = np.arange(20, dtype=np.float32)
    assert running_mean(line, 2)[5:15].tolist() == line[5:15].tolist()
    assert running_mean(np.full(9, 3.25, np.float32), 3).tolist() == [3.25] * 9


# Functions whose last bit depends on the processor or the library's build.
INEXACT = {
    *("sin", "cos", "tan", "exp", "log", "log2", "log10", "tanh", "arctan2", "power", "hypot", "cbrt", "interp"),
    *("dot", "matmul", "einsum", "inner", "convolve", "fft", "linalg", "random", "mean", "std", "var", "prod", "pow"),
    *("float_power", "gaussian_filter", "polyval", "linspace", "logspace", "norm", "default_rng"),
}


def test_only_exact_operations_reach_the_pixels():
    faults = []
    for file in sorted(Path(phantom.__path__[0]).glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        philox = {
            id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "Philox"
        }
        for node in ast.walk(tree):
            of_library = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
            if of_library and node.value.id in ("np", "math") and node.attr in INEXACT and id(node) not in philox:
                faults.append(f"{file.name}:{node.lineno} {node.attr}")
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
                faults.append(f"{file.name}:{node.lineno} @")
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and file.name != "plan.py":
                faults.append(f"{file.name}:{node.lineno} **")
            if isinstance(node, ast.ImportFrom) and node.module in ("math", "random", "scipy", "statistics"):
                faults += [f"{file.name}: {each.name}" for each in node.names if each.name != "sqrt"]
    assert faults == []
