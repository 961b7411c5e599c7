"""DVC stage `cohort`: from the clinical table and DICOM files to the selected people and their prepared images."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from osteo_models.core.params import Params
from osteo_models.core.progress import Progress
from osteo_models.data.clinical import read_clinical
from osteo_models.data.data_folder import check_not_imported
from osteo_models.data.image_file import read_headers
from osteo_models.data.prepare import prepare_files
from osteo_models.data.selection import list_images, select_people, write_cohort
from osteo_models.registry.run_context import RunContext
from pipelines.entry import main, say


@task(cache_policy=NO_CACHE)
def select(params: Params, data: Path) -> tuple[pd.DataFrame, dict]:
    """Apply the inclusion and exclusion rules and find the images of those who stay."""
    people, steps = select_people(read_clinical(data / "clinical.csv"), params.cohort)
    for group, rules in steps.items():
        say(f"  {group}: " + " -> ".join(f"{step['left']:,}" for step in rules))
    return list_images(people, data / "dicom"), steps


@task(cache_policy=NO_CACHE)
def prepare(params: Params, data: Path, images: pd.DataFrame, steps: dict, out: Path) -> None:
    """Window, crop and resize every image, and write the cohort with the headers of its images."""
    paths = [data / "dicom" / path for path in images["path"]]
    files = list(zip(paths, images["modality"], strict=True))
    pixels = prepare_files(files, params.prepare, progress=Progress("images prepared"))
    write_cohort(out, images, pixels, steps)
    read_headers(images, data / "dicom").to_csv(out / "headers.csv", index=False)


@flow(name="cohort")
def cohort() -> None:
    """Select people and prepare their images."""
    context = RunContext()
    params, data = context.params, context.data
    check_not_imported(context.settings.root, params.data)
    images, steps = select(params, data)
    prepare(params, data, images, steps, context.settings.artifacts / "cohort")


if __name__ == "__main__":
    main(cohort)
