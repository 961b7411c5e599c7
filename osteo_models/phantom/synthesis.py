"""The synthetic cohort on disk: the clinical table and one DICOM file per slice."""

from __future__ import annotations

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
from osteo_models.data.clinical import COLUMNS, T_SCORES
from osteo_models.data.data_folder import IMAGES, VERTEBRAE, Staging, write_rows
from osteo_models.phantom.anatomy import make_anatomy
from osteo_models.phantom.dicom_writer import SliceWriter
from osteo_models.phantom.plan import Scale
from osteo_models.phantom.population import Person, make_population
from osteo_models.phantom.render import render_slice
from osteo_models.phantom.scene import make_volume
from osteo_models.phantom.tissue import store_ct, store_mr

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CohortCounts:
    """Number of people and images in a cohort."""

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
    The cohort is made next to `out` and replaces it at the end: a run that is killed leaves `out` as it was.

    Args:
        scale: `paper` (the paper's counts) or `small` (12 people a group).
        workers: Processes, 1 or more; None takes one per processor.
        overwrite: Replace what is in `out`.
        progress: Called with the images written and the images in all.

    Raises:
        InputError: `out` is not empty and `overwrite` is off.
        OsteoError: Another command is changing the data set in `out`.
    """
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
        write_rows(folder / "clinical.csv", COLUMNS, map(_clinical_row, people))
        written, total = 0, counts.mri_images + counts.ct_images
        for count in _write_all(imaged, folder, seed, workers or len(os.sched_getaffinity(0))):
            written += count
            if progress:
                progress(written, total)
    return counts


@contextmanager
def _build(staging: Staging, overwrite: bool) -> Iterator[Path]:
    """The folder of the new cohort, which replaces `out` at the end."""
    if staging.out.is_dir() and any(staging.out.iterdir()) and not overwrite:
        remedy = "name another folder, or pass --overwrite to replace what is there"
        raise InputError("the folder is not empty", where=str(staging.out), remedy=remedy)
    with staging.build() as folder:
        folder.mkdir()
        yield folder


def _clinical_row(person: Person) -> dict[str, object]:
    scores = [f"{tenths / 10:.1f}" for tenths in person.t_tenths] or [""] * len(T_SCORES)
    imaging = {"mri_date": "", "ct_date": ""}
    if person.modality and person.imaging_date:
        imaging[f"{person.modality}_date"] = person.imaging_date.isoformat()
    return {
        "patient_id": person.patient_id,
        "source": person.source,
        "sex": person.sex,
        "age_years": person.age_years,
        "postmenopausal": int(person.postmenopausal),
        "glucocorticoids": int(person.glucocorticoids),
        "findings": ";".join(person.findings),
        "dxa_date": person.dxa_date.isoformat() if person.dxa_date else "",
        **dict(zip(T_SCORES, scores, strict=True)),
        **imaging,
    }


def _write_all(people: list[Person], folder: Path, seed: int, workers: int) -> Iterator[int]:
    """Write the slices of all people; yields the count of each person."""
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
