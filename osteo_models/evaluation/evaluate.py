"""All statistics of all jobs, from the saved predictions: no network is run for a number.

Everything is computed before the first file is written, and each file appears whole or not at all.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from threadpoolctl import threadpool_limits  # pyright: ignore[reportMissingTypeStubs]

from osteo_models.core.errors import StaleDataError, TableError
from osteo_models.core.files import write_atomically
from osteo_models.core.stage_table import StageTable
from osteo_models.core.terms import PROTOCOLS, ImageSet, Stage, job_name, metric_prefix
from osteo_models.evaluation.audits import AUDIT_TABLES, audit, flatten_audits, flatten_interval, flatten_job
from osteo_models.evaluation.comparisons import COMPARISON_TABLES, delong_rows, optimism_rows, unpaired_rows
from osteo_models.evaluation.dvc_files import write_headline, write_plots
from osteo_models.evaluation.image_facts import Facts, read_facts
from osteo_models.evaluation.job_tables import JOB_TABLES, evaluate_job
from osteo_models.evaluation.metrics import SEED, Measure, Summary
from osteo_models.evaluation.paper.paper_ledger import LEDGER_TABLES, ledger_rows, size_rows
from osteo_models.evaluation.paper.reproduced_tables import (
    PAPER_TABLES,
    add_printed_extremes,
    add_printed_scores,
    delong_table_rows,
    experiment_rows,
    skewness_rows,
    stage_rows,
    total_rows,
)
from osteo_models.evaluation.predictions import Predictions, read_predictions
from osteo_models.evaluation.rows import Row, Tables

STAGE_METRICS: Final = "evaluation/metrics"  # a file per stage, with all metrics of its jobs
# The columns of each table of artifacts/evaluation.
COLUMNS: Final = JOB_TABLES | COMPARISON_TABLES | PAPER_TABLES | LEDGER_TABLES | AUDIT_TABLES


@dataclass(frozen=True)
class Evaluation:
    """The results by job (`<stage>/<architecture>-<images>-<protocol>`).

    Args:
        summaries: The pooled summary of each job.
        metrics: Flat metrics of each job: its summary, the second threshold, optimism, audits.
        audits: Flat metrics of the whole study.
        seconds: Time of each section.
    """

    summaries: dict[str, Summary]
    metrics: dict[str, dict[str, float]]
    audits: dict[str, float]
    seconds: dict[str, float]


def evaluate_predictions(
    artifacts: Path, stages: StageTable, *, threshold: float = 0.5, seed: int = SEED
) -> Evaluation:
    """Compute and write every statistic of artifacts/predictions.

    Writes to artifacts/evaluation the tables of `COLUMNS`, each row with the file that it comes from, and
    metrics/<stage>.json and metrics/audits.json; to artifacts/metrics/evaluation.json the headline for `dvc metrics`.

    Args:
        artifacts: Predictions; splits and the cohort where they are, for the audits and tables that need them.
        stages: The table of stages.
        threshold: A score from here on is decided as osteoporosis.
        seed: Of random draws, such as the pairs of images.

    Raises:
        InputError: No predictions, or a threshold that cannot be used.
        TableError: Faulty predictions, all faults at once, predictions of a stage that is not in the table or has
            another validation there, or splits of other images. Nothing is written then.
    """
    # thousands of small products: threads would cost more than they give
    with threadpool_limits(1, user_api="blas"):
        return _evaluate(artifacts, stages, Measure(threshold, seed))


def _evaluate(artifacts: Path, stages: StageTable, measure: Measure) -> Evaluation:
    seconds: dict[str, float] = {}
    started = time.perf_counter()

    def finish(section: str) -> None:
        nonlocal started
        now = time.perf_counter()
        seconds[section], started = now - started, now

    jobs, facts = read_predictions(artifacts), read_facts(artifacts)
    _check_stages(jobs, stages)
    finish("reading")
    results = {job.name: evaluate_job(job, jobs, stages, measure) for job in jobs}
    tables: Tables = {name: [] for name in COLUMNS}
    for result in results.values():
        for name, rows in result.tables.items():
            tables[name] += rows
    finish("metrics")
    tables["delong"] += delong_rows(jobs)
    tables["delong_unpaired"] += unpaired_rows(jobs)
    tables["image_vs_patient"] += optimism_rows(jobs, measure)
    finish("comparisons")
    tables |= audit(jobs, {name: result.summaries for name, result in results.items()}, facts, measure)
    finish("audits")
    _add_paper_tables(tables, jobs, facts, stages)
    finish("paper tables")
    metrics = {job.name: results[job.name].metrics | flatten_job(tables, job) for job in jobs}
    for row in tables["image_vs_patient"]:
        name = f"{row['stage']}/{row['architecture']}-{row['images']}-patient"
        metrics[name] |= flatten_interval(row, f"optimism.{row['metric']}", "difference")
    summaries = {name: result.summaries["all"] for name, result in results.items()}
    evaluation = Evaluation(summaries, metrics, flatten_audits(tables), seconds)
    _write(artifacts, stages, evaluation, tables)
    write_headline(artifacts, jobs, evaluation.summaries)
    write_plots(artifacts, jobs, evaluation.summaries)
    finish("writing")
    return evaluation


def _check_stages(jobs: Sequence[Predictions], stages: StageTable) -> None:
    validations = {row.name: row.validation for row in stages}
    faults = [
        f"{job.source}: {job.stage} has validation {job.validation}, "
        f"{validations.get(job.stage) or 'no row'} in params.yaml"
        for job in jobs
        if validations.get(job.stage) != job.validation
    ]
    if faults:
        raise TableError(" | ".join(faults), where="predictions", remedy="run `dvc repro experiments`")


def _add_paper_tables(tables: Tables, jobs: Sequence[Predictions], facts: Facts | None, stages: StageTable) -> None:
    if facts is not None:
        tables["table1"] += skewness_rows(facts)
        tables["table2"] += experiment_rows(jobs, facts, stages)
    for number in range(3, 8):
        tables[f"table{number}"] += stage_rows(number, tables["summary"], stages)
    tables["table8"] = list(add_printed_scores(tables["table8"]))
    tables["table9"] += delong_table_rows(tables["delong"], stages)
    tables["table10"] = list(add_printed_extremes(tables["table10"]))
    tables["table10_totals"] += total_rows(tables["summary"], stages)
    tables["ledger"] += ledger_rows(stages)
    tables["ledger_sizes"] += size_rows()


def _write(artifacts: Path, stages: StageTable, evaluation: Evaluation, tables: Mapping[str, Sequence[Row]]) -> None:
    """Write a metrics file per stage; for a stage without jobs `{}` replaces an outdated file."""
    folder = artifacts / STAGE_METRICS
    for path in folder.glob("*.json"):
        if path.stem not in stages.names:
            path.unlink()
    for stage in stages.names:
        metrics = {
            f"{name.split('/', 1)[1]}.{metric}": value
            for name, values in evaluation.metrics.items()
            if name.split("/", 1)[0] == stage
            for metric, value in values.items()
        }
        _write_numbers(folder / f"{stage}.json", metrics)
    _write_numbers(folder / "audits.json", evaluation.audits)
    for name, rows in tables.items():
        write_table(artifacts / "evaluation" / f"{name}.csv", COLUMNS[name], rows)


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write a CSV file with these columns; a cell that a row lacks, or None, is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def _write_numbers(path: Path, numbers: Mapping[str, float]) -> None:
    write_atomically(path, json.dumps(numbers, indent=2, allow_nan=False) + "\n")


def collect_metrics(artifacts: Path, stages: Iterable[Stage], architecture: str, images: ImageSet) -> dict[str, float]:
    """Read the metrics files of these stages.

    Returns:
        By name, from the stage on, such as `<stage>.patient.balanced_accuracy.ci_low`; stages it took no part in are
        absent.

    Raises:
        StaleDataError: A metrics file is missing.
    """
    collected: dict[str, float] = {}
    for stage in stages:
        path = artifacts / STAGE_METRICS / f"{stage}.json"
        try:
            metrics: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise StaleDataError("file not found", where=str(path), remedy="run `dvc repro evaluate`") from None
        for protocol in PROTOCOLS:
            head = f"{job_name(architecture, images, protocol)}."
            prefix = metric_prefix(stage, protocol)
            collected |= {
                f"{prefix}.{name.removeprefix(head)}": value for name, value in metrics.items() if name.startswith(head)
            }
    return collected
