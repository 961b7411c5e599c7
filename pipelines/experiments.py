"""DVC stage `experiments`: one Prefect task and one Ray Tune job per job, in parallel while the cluster has room."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, wait
from dataclasses import asdict
from functools import partial
from typing import Any, Final

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner

from osteo_models.core.errors import OsteoError
from osteo_models.core.processes import name_process
from osteo_models.registry.run_context import RunContext
from osteo_models.registry.runs import JobRun, end_orphans, find_orphans
from osteo_models.registry.tracking import Tracking
from osteo_models.registry.write_queue import Writer, open_writer
from osteo_models.search.winner import apply_winner, read_winner
from osteo_models.training.backbone_cache import BackboneCache
from osteo_models.training.cross_validation import run_job
from osteo_models.training.fold import Arrays
from osteo_models.training.job_data import Tables, as_arrays, load_tables, select_rows
from osteo_models.training.jobs import Job, describe_left_out, plan_jobs
from osteo_models.training.outputs import describe_weights, predictions_file, write_jobs, write_model, write_outputs
from osteo_models.training.ray_cluster import Cluster, open_cluster, share_slots
from osteo_models.training.recipe import Recipe
from osteo_models.training.result_store import FoldResult, open_result_store
from osteo_models.training.trial import count_threads
from pipelines.entry import exit_on_termination, main, on_shutdown, say
from pipelines.training_progress import TrainingProgress

BEGIN_SECONDS: Final = 5.0  # for the store to refuse a job before training; a server that is away is not waited for
COSTS = ("parameters", "trainable_parameters", "macs", "seconds_per_epoch", "feature_seconds")  # metrics of a run


class ExperimentRun:
    """What all jobs of one run share; a plain class: Prefect passes its objects to tasks unchanged."""

    def __init__(
        self,
        context: RunContext,
        tables: Tables,
        cluster: Cluster,
        jobs: Sequence[Job],
        arrays: Arrays,
        writer: Writer,
    ) -> None:
        self.context, self.tables, self.cluster, self.writer = context, tables, cluster, writer
        settings = context.settings
        self.progress = TrainingProgress(jobs, tables)
        count_features = self.progress.count_features
        self.backbones = BackboneCache(cluster, arrays, settings.features, settings.weights_dir, count_features)
        self.tags = {**context.tags, **context.settings.experiment}
        self.folds = sum(job.folds for job in jobs)
        self.ends: dict[str, Future[tuple[float, float]]] = {}

    def read_times(self, job: Job) -> dict[str, float]:
        """Start and end of a job's run, in seconds since 1970; waits until the run is written."""
        started, ended = self.ends[job.key].result()
        return {"started": started, "ended": ended}


@task(task_run_name="{job.stage} {job.name}", cache_policy=NO_CACHE)
def train_job(job: Job, run: ExperimentRun) -> dict:
    """Train the folds without a result and write the job's tables; returns its entry in jobs.json.

    Runs are logged in parallel to the training.
    """
    tracking, settings, write = run.context.tracking, run.context.settings, run.writer.submit
    begun = write(tracking.begin_job, _describe(job, run))
    if wait([begun], BEGIN_SECONDS).done:
        begun.result()

    def log_fold(result: FoldResult) -> None:
        params = _fold_params(job, result)
        write(lambda: tracking.log_fold(begun.result(), result.fold, params, result.history))
        run.progress.count(job, result.fold, job.recipe.epochs)

    try:
        inputs = run.backbones.prepare(job)
        results = run_job(
            job,
            {fold: select_rows(job, fold, run.tables) for fold in range(job.folds)},
            run.cluster,
            folder=settings.jobs,
            at_once=share_slots(run.cluster, job.folds, run.folds),
            inputs=inputs,
            on_epoch=run.progress.count_epoch,
            on_fold=log_fold,
        )
    except OsteoError as error:
        reason = str(error)
        write(lambda: tracking.fail_run(begun.result(), reason))
        raise
    seconds = inputs.seconds if inputs else 0.0
    entry = write_outputs(settings.artifacts, job, results, run.tables, feature_seconds=seconds)
    if job.stage == run.context.params.stage_table.find_holdout(job.architecture, job.images):
        write_model(
            settings.artifacts,
            job,
            results[0],
            prepare=run.context.params.prepare,
            threshold=run.context.params.evaluate.threshold,
            weights_dir=settings.weights_dir,
        )
    predictions = settings.artifacts / predictions_file(job)
    costs = {name: entry[name] for name in COSTS}
    run.ends[job.key] = write(lambda: tracking.finish_run(begun.result(), costs, [predictions]))
    return entry | {"profile": run.context.params.profile}


def _describe(job: Job, run: ExperimentRun) -> JobRun:
    recipe = asdict(job.recipe)
    spec = {f"spec.{name}": value for name, value in job.spec.items()}
    return JobRun(
        key=job.key,
        stage=job.stage,
        name=job.name,
        params={"architecture": job.architecture, "images": job.images, "protocol": job.protocol, **recipe, **spec}
        | {"seed": job.seed, "folds": job.folds, **describe_weights(job)},
        tags=run.tags,
        dataset_name="lumbar-cohort",
        dataset_digest=run.tags["dvc.data"] or job.inputs["images"],
        dataset_source=f"{run.context.params.data.path}.dvc",
        images=len(run.tables.splits),
    )


def _fold_params(job: Job, result: FoldResult) -> dict:
    return {
        "fold": result.fold,
        "seed": job.fold_seed(result.fold),
        "device": result.device,
        "precision": result.precision,
    }


@flow(name="experiments", validate_parameters=False)
def train(jobs: Sequence[Job], run: ExperimentRun) -> None:
    """Run every job; one that fails does not stop the others."""
    with exit_on_termination():
        futures = [train_job.submit(job, run) for job in jobs]
        entries = [future.result(raise_on_failure=False) for future in futures]
    failed = [entry for entry in entries if isinstance(entry, Exception)]
    if failed:
        reasons = "; ".join(sorted({str(error) for error in failed}))
        raise OsteoError(f"{len(failed)} of {len(jobs)} jobs failed: {reasons}", remedy="run the same command again")
    run.writer.finish()
    done = [entry | run.read_times(job) for job, entry in zip(jobs, entries, strict=True) if isinstance(entry, dict)]
    write_jobs(run.context.settings.artifacts, done)


def experiments() -> None:
    """Plan the jobs of the profile in force and run them on the cluster."""
    context = RunContext()
    params, settings, tracking = context.params, context.settings, context.tracking
    tables = load_tables(settings.artifacts)
    item = params.experiments
    say(f"  profile {params.profile}" + "".join(f"; left out: {text}" for text in describe_left_out(params)))
    resources = {"cpus": item.resources.cpu, "gpus": item.resources.gpu, "precision": item.precision}
    arrays, store = as_arrays(tables), open_result_store(settings.jobs_store)
    with (
        on_shutdown(partial(_end_runs, tracking)),
        open_writer(tracking) as writer,
        open_cluster(settings.ray_address, arrays, store=store, **resources) as cluster,
    ):
        recipe = Recipe(
            params.active_profile.epochs,
            item.batch_size,
            item.learning_rate,
            cluster.precision,
            params.active_profile.batch_norm_momentum,
        )
        threads = count_threads(item.resources.cpu)
        jobs = plan_jobs(
            params,
            tables,
            recipe,
            threads=threads,
            device=cluster.device,
            weights_dir=settings.weights_dir,
        )
        jobs = apply_winner(jobs, read_winner(settings.artifacts))
        run = ExperimentRun(context, tables, cluster, jobs, arrays, writer)
        say(f"  {len(jobs)} jobs, {run.folds} folds, {cluster.slots} at a time, {cluster.precision}")
        runner: Any = ThreadPoolTaskRunner(max_workers=cluster.slots)  # more would only queue for the same workers
        train.with_options(task_runner=runner)(jobs, run)
        say(f"  {len(run.progress.trained)} folds trained, {run.folds - len(run.progress.trained)} reused")


def _end_runs(tracking: Tracking) -> None:
    end_orphans(tracking, find_orphans(tracking, ended={name_process()}))


if __name__ == "__main__":
    main(experiments)
