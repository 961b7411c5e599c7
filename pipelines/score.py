"""Batch flow `score`: the images of a folder to scores.csv, per image and per patient, by a registered model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import click
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from osteo_models.core.terms import MODALITIES, Modality
from osteo_models.registry.package import load_version
from osteo_models.registry.run_context import RunContext
from osteo_models.serving.batch import patients_path, score_folder
from osteo_models.serving.predict import Prediction
from pipelines.entry import main, say
from pipelines.reconcile import tag_flow_run

# Prefect refuses other names before a run starts.
KnownModality = Annotated[Modality, Field(json_schema_extra={"enum": list(MODALITIES)})]


@task(cache_policy=NO_CACHE)
def score_images(
    folder: Path, model: str, out: Path, modality: Modality | None, allow_ood: bool, context: RunContext
) -> Prediction:
    """Score and write both tables."""
    version = load_version(context.tracking, model)
    return score_folder(version, folder, out, modality=modality, allow_ood=allow_ood)


@flow(name="score", on_running=[tag_flow_run])
def score(
    folder: Path,
    model: str,
    out: Path = Path("scores.csv"),
    modality: KnownModality | None = None,
    allow_ood: bool = False,
) -> None:
    """Score a folder and say what was written.

    Args:
        folder: Folder of images.
        model: NAME@alias or NAME/version.
        out: The table of images; that of patients lies beside it.
        modality: Of PNG and JPEG files, which do not say it.
        allow_ood: Score also images that are out of distribution.
    """
    said = score_images(folder, model, out, modality, allow_ood, RunContext())
    say(f"  {said.model} version {said.version}: {len(said.images)} images scored, {len(said.refused)} refused")
    say(f"  {out}, {patients_path(out)}")


@click.command()
@click.option("--input", "folder", type=click.Path(path_type=Path), required=True, help="Folder of images.")
@click.option("--model", required=True, help="NAME@alias or NAME/version.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("scores.csv"), show_default=True)
@click.option("--modality", type=click.Choice(list(MODALITIES)), help="Of PNG and JPEG files, which do not say it.")
@click.option("--allow-ood", is_flag=True, help="Score also images that are out of distribution.")
def run(folder: Path, model: str, out: Path, modality: Any, allow_ood: bool) -> None:
    """Score a folder of images as a Prefect flow."""
    main(lambda: score(folder, model, out, modality, allow_ood))


if __name__ == "__main__":
    run()
