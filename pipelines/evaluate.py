"""DVC stage `evaluate`: every statistic from the saved predictions, to tables and to the jobs' MLflow runs."""

from __future__ import annotations

import json

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from osteo_models.core.terms import metric_prefix
from osteo_models.evaluation.evaluate import Evaluation, evaluate_predictions
from osteo_models.registry.run_context import RunContext
from pipelines.entry import main, say


@task(cache_policy=NO_CACHE)
def compute(context: RunContext) -> Evaluation:
    """Compute and write the statistics."""
    options = context.params.evaluate
    return evaluate_predictions(
        context.settings.artifacts, context.params.stage_table, threshold=options.threshold, seed=options.seed
    )


@task(cache_policy=NO_CACHE)
def log(metrics: dict[str, dict[str, float]], context: RunContext) -> None:
    """Log each job's metrics to its MLflow run."""
    for job in json.loads((context.settings.artifacts / "jobs.json").read_text(encoding="utf-8")):
        name = f"{job['stage']}/{job['architecture']}-{job['images']}-{job['protocol']}"
        prefix = metric_prefix(job["stage"], job["protocol"])
        context.tracking.log_statistics(job["key"], {f"{prefix}.{key}": value for key, value in metrics[name].items()})


@flow(name="evaluate")
def evaluate() -> None:
    """Evaluate every job; print its balanced accuracy, and how long each section took."""
    context = RunContext()
    evaluation = compute(context)
    log(evaluation.metrics, context)
    for name, values in sorted(evaluation.metrics.items()):
        low, high = values.get("balanced_accuracy.ci_low"), values.get("balanced_accuracy.ci_high")
        interval = "" if low is None or high is None else f" ({low:.3f}-{high:.3f})"
        say(f"  {name}: balanced accuracy {values.get('balanced_accuracy', float('nan')):.3f}{interval}")
    say("  " + ", ".join(f"{section} {seconds:.1f} s" for section, seconds in evaluation.seconds.items()))


if __name__ == "__main__":
    main(evaluate)
