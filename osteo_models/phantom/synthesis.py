"""The synthetic cohort on disk: the clinical table and one DICOM file per slice."""

from __future__ import annotations

import csv
import multiprocessing
import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from osteo_models.core.errors import InputError
from osteo_models.core.terms import LEVELS
from osteo_models.data.data_folder import IMAGES, VERTEBRAE, Staging
from osteo_models.phantom.anatomy import make_anatomy
from osteo_models.phantom.dicom_writer import SliceWriter
from osteo_models.phantom.plan import PLANS, Scale
from osteo_models.phantom.population import Person, make_population
from osteo_models.phantom.render import render_slice
from osteo_models.phantom.scene import make_volume
from osteo_models.phantom.tissue import store_ct, store_mr

Progress = Callable[[int, int], None]

CLINICAL_COLUMNS = (
    *("patient_id", "source", "sex", "age_years", "postmenopausal", "glucocorticoids", "findings", "dxa_date"),
    *(f"t_score_{level}" for level in LEVELS),
    *("mri_date", "ct_date"),
)


@dataclass(frozen=True)
class CohortCounts:
    """What was written."""

    dxa_examinations: int
    control_candidates: int
    imaged_people: int
    mri_images: int
    ct_images: int


def synthesize_cohort(
    out: Path,
    *,
    seed: int,
    scale: Scale,
    workers: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> CohortCounts:
    """Write `clinical.csv` and each image with its label map; the same seed gives the same bytes.

    An image is `dicom/<patient_id>/<mri|ct>-<nnn>.dcm`, its label map `vertebrae/<patient_id>/<mri|ct>-<nnn>.png`.
    The cohort is made beside `out` and takes its place at the end: a run that is killed leaves `out` as it was.

    Args:
        scale: `paper` (the paper's counts) or `small` (12 people a group).
        workers: Processes, 1 or more; None takes one per processor.
        overwrite: Replace what is in `out`.
        progress: Called with the images written and the images in all.

    Raises:
        InputError: `out` holds something and `overwrite` is off, or an argument is out of range.
        OsteoError: Another command is changing the data set in `out`.
    """
    _check(seed, scale, workers)
    people = make_population(seed, scale)
    imaged = [person for person in people if person.slices]
    counts = CohortCounts(
        dxa_examinations=sum(person.source == "dxa" for person in people),
        control_candidates=sum(person.source == "control_candidate" for person in people),
        imaged_people=len(imaged),
        mri_images=sum(person.slices for person in imaged if person.modality == "mri"),
        ct_images=sum(person.slices for person in imaged if person.modality == "ct"),
    )
    staging = Staging(out)
    with staging.lock(), _build(staging, overwrite) as folder:
        write_clinical(folder / "clinical.csv", people)
        written, total = 0, counts.mri_images + counts.ct_images
        for count in _write_all(imaged, folder, seed, workers or len(os.sched_getaffinity(0))):
            written += count
            if progress:
                progress(written, total)
    return counts


def _check(seed: int, scale: str, workers: int | None) -> None:
    if seed < 0:
        raise InputError(f"seed {seed}", where="seed", allowed="0 or more")
    if scale not in PLANS:
        raise InputError(f"scale {scale!r}", where="scale", allowed=" or ".join(PLANS))
    if workers is not None and workers < 1:
        raise InputError(f"{workers} workers", where="workers", allowed="1 or more")


@contextmanager
def _build(staging: Staging, overwrite: bool) -> Iterator[Path]:
    """The folder of the new cohort, which takes the place of `out` at the end."""
    if staging.out.is_dir() and any(staging.out.iterdir()) and not overwrite:
        remedy = "name another folder, or pass --overwrite to replace what is there"
        raise InputError("the folder is not empty", where=str(staging.out), remedy=remedy)
    with staging.build() as folder:
        folder.mkdir()
        yield folder


def write_clinical(path: Path, people: tuple[Person, ...]) -> None:
    """The clinical table, one row per person."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CLINICAL_COLUMNS)
        writer.writerows(_clinical_row(person) for person in people)


def _clinical_row(person: Person) -> list[str | int]:
    scores = [f"{tenths / 10:.1f}" for tenths in person.t_tenths] or [""] * len(LEVELS)
    dates = [person.imaging_date if person.modality == modality else None for modality in ("mri", "ct")]
    head = [person.patient_id, person.source, person.sex, person.age_years]
    flags = [int(person.postmenopausal), int(person.glucocorticoids), ";".join(person.findings)]
    return [*head, *flags, *(day.isoformat() if day else "" for day in (person.dxa_date,)), *scores,
            *(day.isoformat() if day else "" for day in dates)]  # fmt: skip


def _write_all(people: list[Person], folder: Path, seed: int, workers: int) -> Iterator[int]:
    """Write everybody's slices; yields the count of each person."""
    write = partial(_write_person, folder=folder, seed=seed)
    if workers == 1:
        yield from map(write, people)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(write, people, chunksize=2)


def _write_person(person: Person, folder: Path, seed: int) -> int:
    anatomy = make_anatomy(person, seed)
    volume = make_volume(anatomy, seed, person.patient_id)
    writer = SliceWriter(person, anatomy, seed)
    images, labelled = (folder / name / person.patient_id for name in (IMAGES, VERTEBRAE))
    images.mkdir(parents=True)
    labelled.mkdir(parents=True)
    for number, position in enumerate(anatomy.positions, start=1):
        modality = "mri" if person.modality == "mri" else "ct"
        tissue, labels = render_slice(anatomy, volume, position, modality)
        if modality == "mri":
            stored = store_mr(tissue, anatomy, seed, person.patient_id, number)
        else:
            stored = store_ct(tissue, seed, person.patient_id, number)
        name = f"{modality}-{number:03d}"
        (images / f"{name}.dcm").write_bytes(writer.encode(number, stored))
        # Run-length coding: other strategies differ in bytes between builds of zlib.
        Image.fromarray(labels).save(labelled / f"{name}.png", compress_type=zlib.Z_RLE)
    return person.slices
