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
from osteo_models.registry.search_runs import CandidateRun, begin_search, finish_search, log_candidate
from osteo_models.registry.write_queue import open_writer
from osteo_models.search.candidate import Course
from osteo_models.search.development import Development, select_development
from osteo_models.search.driver import run_search
from osteo_models.search.leaderboard import Record, find_best
from osteo_models.search.reestimate import estimate_again
from osteo_models.search.search_outputs import CANDIDATES, FOLDER, SUMMARY, summarize_search, write_search
from osteo_models.search.space import list_space_faults
from osteo_models.search.study import Design, Study, list_search_versions
from osteo_models.search.study_storage import explain_storage, open_study, storage_url
from osteo_models.search.winner import BEST, write_winner
from osteo_models.training.job_data import load_tables
from osteo_models.training.recipe import Recipe
from osteo_models.training.result_store import open_shelf
from osteo_models.training.trial import count_threads
from osteo_models.training.tune import Cluster, open_cluster
from pipelines.entry import main, say


@dataclass(frozen=True)
class Bench:
    """What the steps of a search share."""

    design: Design
    study: Study
    development: Development
    cluster: Cluster
    context: RunContext
    run_id: str
    resources: tuple[float, float]
    logged: set[int] = field(default_factory=set)

    def log(self, records: Sequence[Record]) -> None:
        """Record the candidates that have come to an end and are not recorded yet."""
        for record in records:
            if record.status != "running" and record.number not in self.logged:
                log_candidate(self.context.tracking, self.run_id, _describe(record))
                self.logged.add(record.number)


@task(cache_policy=NO_CACHE)
def explore(bench: Bench) -> list[Record]:
    """Train the candidates that have no end yet; returns all of them."""
    design, total = bench.design, bench.design.budget.candidates
    progress = Progress("candidates", before=total - bench.study.count_left())

    folds = bench.development.deal(design.budget.folds, design.derive_seed("folds"))
    seeds = [design.derive_seed("weights", fold) for fold in range(len(folds))]
    folder = bench.context.settings.jobs / f"{design.key}-{bench.study.token}"
    shelf = bench.cluster.shelf / folder.name if bench.cluster.shelf else None
    course = Course(design.recipe, folds, bench.development.patient, seeds, folder, *bench.resources, shelf=shelf)
    with open_writer(bench.context.tracking) as writer:  # beside the scheduler, which the workers wait for

        def show() -> None:
            found = bench.study.records()
            writer.submit(bench.log, found)
            progress(sum(record.status != "running" for record in found), total, _count(found))

        run_search(bench.study, course, bench.cluster, name=f"search-{design.key}", on_change=show)
    bench.log(bench.study.records())
    return bench.study.records()


@task(cache_policy=NO_CACHE)
def estimate(best: Record, records: Sequence[Record], bench: Bench) -> dict:
    """Train the winner on fresh folds and write what was found; returns the summary."""
    design, settings = bench.design, bench.context.settings
    budget, progress, epochs = design.budget, Progress("winner on fresh folds, epochs"), dict[int, int]()

    def show(fold: int, done: int) -> None:
        epochs[fold] = done
        progress(sum(epochs.values()), budget.folds * budget.epochs)

    again = estimate_again(best, design, bench.development, bench.cluster, folder=settings.jobs, on_epoch=show)
    summary = summarize_search(records, bench.study.sessions(), bench.study.count_refused(), again=again)
    summary |= {"folds": budget.folds, "epochs": budget.epochs}
    write_search(settings.artifacts, records, summary)
    write_winner(settings.artifacts, best)
    return summary


def run(bench: Bench) -> dict:
    """Search, estimate the winner again, and write both down."""

    @flow(name="search")
    def steps() -> dict:
        """A flow without parameters: Prefect stores them."""
        return _run(bench)

    return steps()


def _run(bench: Bench) -> dict:
    try:
        records = explore(bench)
        best = find_best(records)
        if best is None:
            raise OsteoError("no candidate was finished", where="search")
        summary = estimate(best, records, bench)
    except OsteoError as error:
        bench.context.tracking.fail_job(bench.run_id, str(error))
        raise
    numbers = {name: value for name, value in summary.items() if value is not None}
    files = [bench.context.settings.artifacts / FOLDER / name for name in (CANDIDATES, SUMMARY, BEST.name)]
    finish_search(bench.context.tracking, bench.run_id, numbers, files)
    return summary


def search(context: RunContext) -> None:
    """Design the search of the profile in force and run it on the cluster."""
    params, settings = context.params, context.settings
    if faults := list_space_faults(params):
        raise ParamsError("; ".join(faults), where=PARAMS_FILE)
    development = _load_development(settings)
    item, url = params.experiments, storage_url(settings.state, params.search.storage or settings.search_storage)
    resources = (item.resources.cpu, item.resources.gpu)
    with (
        explain_storage(url),
        open_cluster(
            settings.ray_address,
            development.arrays,
            cpus=resources[0],
            gpus=resources[1],
            precision=item.precision,
            shelf=open_shelf(settings.jobs_store),
        ) as cluster,
    ):
        design = _design(params, development, cluster)
        study = Study(open_study(url, design.key), design)
        run_id = begin_search(context.tracking, design.key, _list_parameters(design), context.tags)
        bench = Bench(design, study, development, cluster, context, run_id, resources)
        budget, images = design.budget, len(development.patient)
        say(f"  profile {params.profile}: {budget.candidates} candidates, {budget.folds} folds, {budget.epochs} epochs")
        say(f"  {images:,} MRI images outside the hold-out, {cluster.slots} at a time, {cluster.precision}")
        summary = run(bench)
        for record in study.records():
            if record.status == "failed":
                say(f"  candidate {record.number} failed: {record.reason}")
    say(f"  best: candidate {summary['best_candidate']}, balanced accuracy {summary['best_balanced_accuracy']:.3f}")
    say(f"  on fresh folds: {summary['reestimated_balanced_accuracy']:.3f}")


def _load_development(settings: Settings) -> Development:
    """What a search may see; the tables end here, and the hold-out's images with them."""
    tables = load_tables(settings.artifacts)
    return select_development(tables.splits, tables.images, "mri")


def _design(params: Params, development: Development, cluster: Cluster) -> Design:
    budget, item = params.search.budgets[params.profile], params.experiments
    design = Design(
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
    folds = development.deal(budget.folds, design.derive_seed("folds"))
    return replace(design, inputs=development.digest_inputs(folds))


def _list_parameters(design: Design) -> dict:
    """Parameters of the search's run."""
    budget = {f"budget.{name}": value for name, value in design.budget.model_dump().items() if name != "candidates"}
    space = {f"space.{name}": value for name, value in design.space.model_dump(mode="json").items()}
    recipe = {"batch_size": design.recipe.batch_size, "precision": design.recipe.precision}
    rate = {"learning_rate": design.learning_rate or design.recipe.learning_rate}
    return {"seed": design.seed, **budget, **space, **recipe, **rate}


def _describe(record: Record) -> CandidateRun:
    rate = {"learning_rate": record.learning_rate} if record.learning_rate is not None else {}
    metrics: dict[str, float] = {"parameters": record.parameters, "macs": record.macs}
    if record.seconds_per_epoch is not None:
        metrics["seconds_per_epoch"] = record.seconds_per_epoch
    return CandidateRun(
        number=record.number,
        status=record.status,
        params={f"spec.{name}": value for name, value in record.spec.items()} | rate,
        curve=record.values,
        metrics=metrics,
        reason=record.reason,
        started=record.timing.started if record.timing else None,
        ended=record.timing.ended if record.timing else None,
    )


def _count(records: Sequence[Record]) -> str:
    """The progress in a few words."""
    counts = [(status, sum(record.status == status for record in records)) for status in ("finished", "pruned")]
    counts += [(status, sum(record.status == status for record in records)) for status in ("failed", "running")]
    best = find_best(records)
    words = [f"{count} {status}" for status, count in counts if count]
    return ", ".join([*words, *([f"best {best.balanced_accuracy:.3f}"] if best else [])])


if __name__ == "__main__":
    main(search)
