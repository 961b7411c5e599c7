"""`osteo predict`, `explain`, `score`, `serve`, `report`: using registered versions; thin, as `main`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from osteo_models.cli import options
from osteo_models.cli.options import pass_context
from osteo_models.registry.run_context import RunContext


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@options.model
@options.modality
@click.option("--allow-ood", is_flag=True, help="Score also images that are out of distribution.")
@options.as_json
@pass_context
def predict(context: RunContext, path: Path, model: str, modality: Any, allow_ood: bool, as_json: bool) -> None:
    """Score a DICOM, PNG or JPEG file, or a folder of them, per image and per patient."""
    from osteo_models.registry.package import load_version
    from osteo_models.serving.predict import predict_path

    prediction = predict_path(load_version(context.tracking, model), path, modality, allow_ood=allow_ood)
    options.show(prediction.as_dict(), prediction.as_lines(), as_json)


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@options.model
@options.modality
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("explanations"),
    show_default=True,
    help="Folder to write to.",
)
@click.option("--allow-ood", is_flag=True, help="Explain also images that are out of distribution.")
@click.option("--seed", type=click.IntRange(min=0), default=2023, show_default=True, help="Of SmoothGrad's noise.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@options.as_json
@pass_context
def explain(
    context: RunContext,
    path: Path,
    model: str,
    modality: Any,
    out: Path,
    allow_ood: bool,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Show what a model's score depends on, for a DICOM, PNG or JPEG file, or a folder of them.

    Writes a picture for each image and method (Grad-CAM++, SmoothGrad) and a list of them, explanations.json.
    """
    from osteo_models.explain.maps import pick_device
    from osteo_models.registry.package import load_version
    from osteo_models.serving.explain_files import explain_path

    version = load_version(context.tracking, model, device=pick_device(device))
    explanation = explain_path(version, path, modality, out=out, seed=seed, allow_ood=allow_ood)
    options.show(explanation.as_dict(), explanation.as_lines(), as_json)


@click.command()
@click.option("--compare", nargs=2, metavar="A B", help="Two versions side by side: NAME@alias or NAME/version each.")
@click.option("--out", type=click.Path(path_type=Path), help="The page to write, with --compare.")
@options.as_json
@pass_context
def report(context: RunContext, compare: tuple[str, str] | None, out: Path | None, as_json: bool) -> None:
    """Write the report's page again from artifacts/, or a page that compares two registered versions."""
    params = context.params  # checked before the report's modules are imported
    from osteo_models.ops.notebook import compare_versions
    from osteo_models.report.report_command import write_report

    if compare:
        page = compare_versions(*compare).write_page(out)
    elif out:
        raise click.UsageError("--out goes with --compare; the report itself stands in artifacts/report/")
    else:
        page = write_report(params, context.settings)
    options.show({"page": str(page)}, [str(page)], as_json)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--model", required=True, help="NAME@alias or NAME/version, such as osteo-unimodal-mri-ensemble@champion."
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("scores.csv"), show_default=True)
@options.modality
@click.option("--allow-ood", is_flag=True, help="Score also images that are out of distribution.")
@pass_context
def score(context: RunContext, folder: Path, model: str, out: Path, modality: Any, allow_ood: bool) -> None:
    """Score a folder of images into tables, one per image and one per patient.

    A file that was not scored has a row with its reason. As a Prefect flow: `python -m pipelines.score`.
    """
    from osteo_models.registry.package import load_version
    from osteo_models.serving.batch import patients_path, score_folder

    version = load_version(context.tracking, model)
    prediction = score_folder(version, folder, out, modality=modality, allow_ood=allow_ood)
    counts = f"{len(prediction.images)} images scored, {len(prediction.refused)} refused"
    click.echo(f"{prediction.model} version {prediction.version}: {counts}")
    click.echo(f"{out}, {patients_path(out)}")


@click.command()
@click.argument("model")
@click.option("--port", type=click.IntRange(1, 65535), default=5001, show_default=True)
@pass_context
def serve(context: RunContext, model: str, port: int) -> None:
    """Serve a registered version over HTTP on loopback, after a check of all its files.

    MODEL is NAME@alias or NAME/version. The same as `mlflow models serve --env-manager local`, which works too; here
    the files are compared with what was registered before any code of the version runs.
    """
    from osteo_models.core.errors import StoreError
    from osteo_models.ops.servers import serve_model
    from osteo_models.registry.package import open_package
    from osteo_models.registry.versions import get_version

    version = get_version(context.tracking, model)
    with open_package(context.tracking, version) as package:
        click.echo(f"{version.title}: POST http://127.0.0.1:{port}/invocations; Ctrl+C ends it")
        code = serve_model(package.folder, port)
    if code:
        raise StoreError(f"the scoring server ended with exit code {code}", remedy="see its output above")


COMMANDS: Final[tuple[click.Command, ...]] = (predict, explain, report, score, serve)
