"""DVC stage `search`: the architecture of the traditional CNN, on the MRI development set alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from osteo_models.core.errors import OsteoError, ParamsError
from osteo_models.core.params import PARAMS_FILE, Params
from osteo_models.core.progress import Progress
from osteo_models.core.settings import Settings
from osteo_models.registry.run_context import RunContext
from osteo_models.registry.search_runs import begin_search, log_candidate
from osteo_models.registry.write_queue import open_writer
from osteo_models.search.development import Development, select_development
from osteo_models.search.driver import reestimate, run_search
from osteo_models.search.leaderboard import (
    CANDIDATES,
    FOLDER,
    SUMMARY,
    Record,
    Status,
    count_status,
    find_best,
    summarize_search,
    write_search,
)
from osteo_models.search.space import list_space_faults
from osteo_models.search.study import Study, StudySpec, list_search_versions
from osteo_models.search.study_storage import explain_storage, storage_url
from osteo_models.search.winner import BEST, Winner, write_winner
from osteo_models.training.job_data import load_tables
from osteo_models.training.ray_cluster import Cluster, open_cluster
from osteo_models.training.recipe import Recipe
from osteo_models.training.result_store import open_result_store
from osteo_models.training.trial import count_threads
from pipelines.entry import main, say


@dataclass(frozen=True)
class SearchTask:
    """What the steps of a search share."""

    study: Study
    development: Development
    cluster: Cluster
    context: RunContext
    run_id: str
    logged: set[int] = field(default_factory=set)

    def log(self, records: Sequence[Record]) -> None:
        """Log the candidates that are closed and not logged yet."""
        for record in records:
            if record.status != "running" and record.number not in self.logged:
                log_candidate(self.context.tracking, self.run_id, record)
                self.logged.add(record.number)


@task(cache_policy=NO_CACHE)
def explore(search: SearchTask) -> list[Record]:
    """Train the candidates that are not closed yet; returns all of them."""
    study, total = search.study, search.study.spec.budget.candidates
    progress = Progress("candidates", before=total - study.count_left())
    with open_writer(search.context.tracking) as writer:  # in parallel to the scheduler, on which the workers depend

        def show() -> None:
            records = study.records()
            writer.submit(search.log, records)
            progress(len(records) - count_status(records, "running"), total, _describe(records))

        run_search(study, search.development, search.cluster, folder=search.context.settings.jobs, on_change=show)
    search.log(study.records())
    return study.records()


@task(cache_policy=NO_CACHE)
def estimate(best: Record, records: Sequence[Record], search: SearchTask) -> dict:
    """Train the winner on fresh folds and write the results of the search; returns the summary."""
    study, artifacts = search.study, search.context.settings.artifacts
    budget, progress, epochs = study.spec.budget, Progress("winner on fresh folds, epochs"), dict[int, int]()

    def show(fold: int, done: int) -> None:
        epochs[fold] = done
        progress(sum(epochs.values()), budget.folds * budget.epochs)

    fresh = reestimate(
        best, study.spec, search.development, search.cluster, folder=search.context.settings.jobs, on_epoch=show
    )
    summary = summarize_search(records, study.sessions(), study.count_refused(), reestimate=fresh)
    summary |= {"folds": budget.folds, "epochs": budget.epochs}
    write_search(artifacts, records, summary)
    write_winner(artifacts, Winner(best.number, best.spec, best.learning_rate))
    return summary


def run(search: SearchTask) -> dict:
    """Search, estimate the winner again, and log both."""

    @flow(name="search")
    def steps() -> dict:
        """A flow without parameters, which Prefect would store."""
        records = explore(search)
        best = find_best(records)
        if best is None:
            raise OsteoError("no candidate was finished", where="search")
        return estimate(best, records, search)

    try:
        summary = steps()
    except OsteoError as error:
        search.context.tracking.fail_run(search.run_id, str(error))
        raise
    numbers = {name: value for name, value in summary.items() if value is not None}
    files = [search.context.settings.artifacts / FOLDER / name for name in (CANDIDATES, SUMMARY, BEST.name)]
    search.context.tracking.finish_run(search.run_id, numbers, files)
    return summary


def search(context: RunContext | None = None) -> None:
    """Specify the search of the profile in force and run it on the cluster."""
    context = context or RunContext()
    params, settings = context.params, context.settings
    if faults := list_space_faults(params):
        raise ParamsError("; ".join(faults), where=PARAMS_FILE)
    development = _load_development(settings)
    item, url = params.experiments, storage_url(settings.state, params.search.storage or settings.search_storage)
    with (
        explain_storage(url),
        open_cluster(
            settings.ray_address,
            development.arrays,
            cpus=item.resources.cpu,
            gpus=item.resources.gpu,
            precision=item.precision,
            store=open_result_store(settings.jobs_store),
        ) as cluster,
    ):
        study = Study(url, _specify(params, development, cluster))
        tags = {**context.tags, **context.settings.experiment}
        run_id = begin_search(context.tracking, study.spec.key, _list_parameters(study.spec), tags)
        budget, images = study.spec.budget, len(development.patient)
        say(f"  profile {params.profile}: {budget.candidates} candidates, {budget.folds} folds, {budget.epochs} epochs")
        say(f"  {images:,} MRI images outside the hold-out, {cluster.slots} at a time, {cluster.precision}")
        summary = run(SearchTask(study, development, cluster, context, run_id))
        for record in study.records():
            if record.status == "failed":
                say(f"  candidate {record.number} failed: {record.reason}")
    say(f"  best: candidate {summary['best_candidate']}, balanced accuracy {summary['best_balanced_accuracy']:.3f}")
    say(f"  on fresh folds: {summary['reestimated_balanced_accuracy']:.3f}")


def _load_development(settings: Settings) -> Development:
    """The images that a search may use; other images are not kept in memory."""
    tables = load_tables(settings.artifacts)
    return select_development(tables.splits, tables.images, "mri")


def _specify(params: Params, development: Development, cluster: Cluster) -> StudySpec:
    budget, item = params.search.budgets[params.profile], params.experiments
    spec = StudySpec(
        space=params.search.space,
        budget=budget,
        learning_rate=params.search.learning_rate,
        recipe=Recipe(budget.epochs, item.batch_size, item.learning_rate, cluster.precision),
        seed=params.search.seed,
        threads=count_threads(item.resources.cpu),
        device=cluster.device,
        inputs={},
        versions=list_search_versions(),
    )
    return replace(spec, inputs=development.digest_inputs(spec.deal(development)))


def _list_parameters(spec: StudySpec) -> dict:
    """Parameters of the search's run."""
    budget = {f"budget.{name}": value for name, value in spec.budget.model_dump().items() if name != "candidates"}
    space = {f"space.{name}": value for name, value in spec.space.model_dump(mode="json").items()}
    recipe = {"batch_size": spec.recipe.batch_size, "precision": spec.recipe.precision}
    rate = {"learning_rate": spec.learning_rate or spec.recipe.learning_rate}
    return {"seed": spec.seed, **budget, **space, **recipe, **rate}


def _describe(records: Sequence[Record]) -> str:
    """Numbers of candidates by status, and the best accuracy."""
    statuses: tuple[Status, ...] = ("finished", "pruned", "failed", "running")
    words = [f"{count} {status}" for status in statuses if (count := count_status(records, status))]
    best = find_best(records)
    return ", ".join([*words, *([f"best {best.balanced_accuracy:.3f}"] if best else [])])


if __name__ == "__main__":
    main(search)
