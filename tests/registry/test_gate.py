"""Promotion, refusal, waiver and rollback: the journal says who is champion, and MLflow's alias follows."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest

from osteo_models.core.errors import ConflictError, GateRefused, InputError, ParamsError, StaleDataError
from osteo_models.core.params import GateRule
from osteo_models.core.settings import load_settings
from osteo_models.ops.doctor import find_problems
from osteo_models.registry import gate
from osteo_models.registry.gate import Waiver, promote, rollback, sync_alias
from osteo_models.registry.journal import open_journal, show_history
from osteo_models.registry.journal_events import Author
from osteo_models.registry.manifest import hash_files, write_manifest
from osteo_models.registry.registration import register_version
from osteo_models.registry.retention import read_runs
from osteo_models.registry.run_context import RunContext
from osteo_models.registry.tracking import open_tracking
from osteo_models.registry.verify import check_judged, check_version
from osteo_models.registry.versions import get_version, list_aliases, list_versions, set_alias
from tests.registry.conftest import RECORD, TAGS, stage_metrics
from tests.registry.gate_cases import files_of, make_case, make_splits, register_case

NAME = "osteo-unimodal-mri"
RULE = GateRule(rule="minimum", stages=("stage-3",), metric="balanced_accuracy", value=0.7)
CHAMPION = GateRule(rule="champion", stages=("stage-1",), value=0.05)
AUTHOR = Author("A. Keeper", "c" * 40)


class Desk:
    """A store with its journal, and versions of one model by their balanced accuracy in stage 3."""

    def __init__(self, folder: Path, make_job, make_model) -> None:
        self.folder, self.make_job, self.make_model = folder, make_job, make_model
        self.uri = f"sqlite:///{folder.parent / 'mlflow.db'}"
        self.tracking = open_tracking(self.uri, folder / "mlartifacts")
        self.journal = open_journal(self.uri)

    def version(self, value: float) -> int:
        job = self.make_job()
        metrics = stage_metrics(3, value)
        folder = self.make_model(job.key, seed=int(job.key, 16))
        run = self.tracking.begin_job(job)
        return register_version(
            self.tracking, model_folder=folder, metrics=metrics, tags=TAGS, files=RECORD, run_id=run
        ).version

    def promote(self, version: int | str | None = None, rules=(RULE,), **given):
        known = {"journal": self.journal, "author": AUTHOR} | given
        return promote(self.tracking, NAME, version, rules, **known)

    def champion(self) -> int | None:
        return list_aliases(self.tracking, "champion").get(NAME)

    def events(self) -> list[tuple]:
        return [(each.action, each.version_before, each.version_after) for each in self.journal.history(NAME)]


@pytest.fixture
def desk(tmp_path: Path, fresh_store: Path, make_job, make_model) -> Desk:
    (tmp_path / ".osteo").mkdir()
    shutil.copy(fresh_store, tmp_path / "mlflow.db")
    return Desk(tmp_path / ".osteo", make_job, make_model)


def test_the_way_of_a_model(desk: Desk) -> None:
    first = desk.version(0.8)
    trial = desk.promote(dry_run=True)
    assert (trial.changed, trial.dry_run, trial.verdict.verdict) == (False, True, "PROMOTE")
    assert (desk.champion(), desk.events()) == (None, [])

    promotion = desk.promote()
    assert (promotion.version, promotion.replaced, promotion.changed) == (first, None, True)
    again = desk.promote()
    assert (again.version, again.replaced, again.changed) == (first, None, False)
    assert desk.events() == [("promotion", None, first)]

    bad = desk.version(0.6)
    before = list_versions(desk.tracking, NAME)
    for dry_run in (True, False):
        with pytest.raises(GateRefused) as refused:
            desk.promote(dry_run=dry_run)
        assert refused.value.exit_code == 3
        assert str(refused.value).startswith(
            f"{NAME} version {bad}: REJECT: minimum balanced_accuracy (stage-3): found stage-3 0.600 [0.550, "
            "0.640], needed lower end of the interval of balanced_accuracy of at least 0.7; the champion stays"
        )
    assert list_versions(desk.tracking, NAME) == before
    assert desk.events()[1:] == [("refusal", first, bad)]

    second = desk.version(0.9)
    promotion = desk.promote("challenger")
    assert (promotion.version, promotion.replaced) == (second, first)
    back = desk.promote(str(first))
    assert (back.version, back.replaced, desk.champion()) == (first, second, first)
    assert find_problems(RunContext(load_settings(desk.folder.parent))) == []


def test_the_journal_tells_who_and_why(desk: Desk) -> None:
    first, second = desk.version(0.8), desk.version(0.9)
    desk.promote(first)
    desk.promote(second)
    with pytest.raises(GateRefused):
        desk.promote(desk.version(0.6))
    done = rollback(desk.tracking, NAME, journal=desk.journal, author=AUTHOR, reason="worse on Mondays")
    assert (done.version, done.replaced, desk.champion()) == (first, second, first)
    with pytest.raises(InputError, match="there was no champion before this one"):
        rollback(desk.tracking, NAME, journal=desk.journal, author=AUTHOR)

    shown = show_history(desk.journal, NAME)
    text = "\n".join(line.partition("  A. Keeper: ")[2] for line in shown.as_lines()).strip().splitlines()
    assert text == [
        f"promoted version {first} at cccccccccccc",
        f"promoted version {second} in place of version {first} at cccccccccccc",
        "refused version 3 at cccccccccccc (minimum balanced_accuracy (stage-3))",
        f"rolled back from version {second} to version {first} (worse on Mondays)",
    ]
    assert shown.faults == () and shown.champion == first
    evidence = shown.as_dict()["events"][2]["evidence"]
    assert evidence["rules"][0]["found"] == "stage-3 0.600 [0.550, 0.640]"
    assert evidence["weights"] == get_version(desk.tracking, f"{NAME}/3").sha256
    assert json.dumps(shown.as_dict())
    with pytest.raises(InputError, match=f"no events of 'osteo-nothing'; allowed: {NAME}"):
        show_history(desk.journal, "osteo-nothing")


def test_a_waiver_stays_in_sight(desk: Desk, make_model) -> None:
    number = desk.version(0.6)
    waiver = Waiver("minimum", "pilot with supervision", "B. Head")
    desk.promote(dry_run=True, waivers=[waiver])
    assert desk.events() == []
    promotion = desk.promote(waivers=[waiver])
    assert promotion.verdict.waived[0].waiver == waiver
    assert desk.events() == [("waiver", None, number), ("promotion", None, number)]
    said = "minimum balanced_accuracy (stage-3): pilot with supervision (B. Head)"
    assert desk.journal.history(NAME)[0].reason == said
    version = desk.tracking.client.get_model_version(NAME, str(number))
    assert version.description.count(f"**waived rule** {said}") == 1


def test_every_failed_rule_is_named(desk: Desk) -> None:
    desk.version(0.5)
    rules = [
        RULE,
        GateRule(rule="patients", stages=("stage-3",), value=400),
        GateRule(rule="interval", stages=("stage-5",), metric="roc_auc"),
    ]
    with pytest.raises(GateRefused) as refused:
        desk.promote(rules=rules)
    text = str(refused.value)
    assert "patients (stage-3): found stage-3 40, needed at least 400 patients in each stage" in text
    assert "interval roc_auc (stage-5): found no metrics in stage-5, needed" in text
    assert "minimum balanced_accuracy (stage-3): found stage-3 0.500 [0.450, 0.540]" in text


def test_a_better_and_a_worse_one_beside_the_champion(desk: Desk, tmp_path: Path) -> None:
    def register(folder: str, **given) -> int:
        case = make_case(**given)
        return register_case(desk.tracking, case, tmp_path / folder, desk.make_job, desk.make_model).version

    first, same, worse = register("a"), register("b", seed=1), register("c", signal=0.3, seed=5)
    few = register("d", splits=make_splits(16), signal=0.7, seed=9)
    desk.promote(first, [CHAMPION])
    assert desk.promote(same, [CHAMPION]).replaced == first
    with pytest.raises(GateRefused, match="REJECT: champion .*: found champion version 2: stage-1 AUC 0"):
        desk.promote(worse, [CHAMPION])
    with pytest.raises(GateRefused, match="NOT_ENOUGH_EVIDENCE: .* on 32 of 32 images, .* it could have shown 0"):
        desk.promote(few, [CHAMPION])
    desk.tracking.client.delete_model_version(NAME, str(same))
    with pytest.raises(GateRefused, match="champion version 2: it is no longer in the store"):
        desk.promote(first, [CHAMPION])


def test_wrong_names(desk: Desk) -> None:
    desk.version(0.9)
    with pytest.raises(InputError, match="no registered model 'osteo-unimodal-xray'"):
        promote(desk.tracking, "osteo-unimodal-xray", None, [RULE], journal=desk.journal, author=AUTHOR)
    with pytest.raises(InputError, match="no version 99; allowed: "):
        desk.promote(99)
    with pytest.raises(ParamsError, match="unknown rule 'luck'"):
        desk.promote(rules=[GateRule(rule="luck", stages=("stage-3",))])
    assert desk.events() == []


def test_two_promotions_at_once_have_one_winner(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = [desk.version(0.8), desk.version(0.9)]
    judged = threading.Barrier(len(versions))
    assess = gate.assess

    def assess_together(*given, **named):
        verdict = assess(*given, **named)
        judged.wait(timeout=60)
        return verdict

    monkeypatch.setattr(gate, "assess", assess_together)
    done: dict[int, object] = {}

    def run(version: int) -> None:
        try:
            tracking = open_tracking(desk.uri, desk.folder / "mlartifacts")
            done[version] = promote(tracking, NAME, version, [RULE], journal=open_journal(desk.uri), author=AUTHOR)
        except ConflictError as error:
            done[version] = error

    threads = [threading.Thread(target=run, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    (winner,) = [version for version, found in done.items() if not isinstance(found, ConflictError)]
    (loser,) = [found for found in done.values() if isinstance(found, ConflictError)]
    assert f"the champion was changed to version {winner} by A. Keeper at" in str(loser)
    assert "run it again, and it is judged against the new champion" in str(loser)
    assert (desk.champion(), desk.events()) == (winner, [("promotion", None, winner)])


def test_evidence_that_is_not_what_was_judged_is_told_by_the_journal(desk: Desk, tmp_path: Path) -> None:
    """Evidence, manifest and tags changed together agree with one another, and not with the journal."""
    first, second = (
        register_case(desk.tracking, make_case(seed=seed), tmp_path / str(seed), desk.make_job, desk.make_model)
        for seed in (1, 2)
    )
    settings, rules = load_settings(desk.folder.parent), [GateRule(rule="files_intact")]
    for version in (first, second, first):
        desk.promote(version.version, rules)
    judged = json.loads(desk.journal.history(NAME)[0].evidence)["osteo.manifest"]
    assert judged == first.tags["osteo.manifest"] and find_problems(RunContext(settings)) == []

    folder, client = files_of(desk.tracking, first), desk.tracking.client
    groups = folder / "evidence" / "evaluation" / "groups.csv"
    original = groups.read_bytes()
    groups.write_bytes(original.replace(b"0.7", b"0.9"))
    (problem,) = find_problems(RunContext(settings))
    assert "evidence/evaluation/groups.csv is changed; restore" in str(problem)
    digest = write_manifest(folder, hash_files(folder))
    client.set_model_version_tag(NAME, str(first.version), "osteo.manifest", digest)
    shown = f"manifest {judged[:12]} was judged, {digest[:12]} is here"
    said = (
        f"{NAME} version {first.version}: its evidence is not that of its promotion (event 3): {shown}; restore it "
        f"from a backup, or have it judged as it is now by `osteo promote {NAME} {first.version}`"
    )
    changed = get_version(desk.tracking, f"{NAME}/{first.version}")
    assert list(check_version(desk.tracking, changed, read_runs(desk.tracking))) == []
    assert [str(each) for each in check_judged(desk.journal, changed)] == [said]
    assert [str(each) for each in find_problems(RunContext(settings))] == [said]

    desk.promote(second.version, rules)
    with pytest.raises(StaleDataError, match=r"its evidence is not that of its promotion \(event 3\)"):
        rollback(desk.tracking, NAME, journal=desk.journal, author=AUTHOR)
    desk.promote(first.version, rules)  # judged as it is now, and the journal says so
    assert desk.journal.history(NAME)[-1].reason.endswith(shown)
    assert find_problems(RunContext(settings)) == []


def test_a_champion_whose_evidence_changed_is_judged_again(desk: Desk) -> None:
    number = desk.version(0.8)
    desk.promote(number)
    version = get_version(desk.tracking, f"{NAME}/{number}")
    folder = files_of(desk.tracking, version)
    (folder / "evidence").mkdir()
    (folder / "evidence" / "notes.csv").write_text("better")
    digest = write_manifest(folder, hash_files(folder))
    desk.tracking.client.set_model_version_tag(NAME, str(number), "osteo.manifest", digest)
    assert desk.promote(number, dry_run=True).would_change
    assert desk.promote(number).changed and not desk.promote(number).changed
    assert desk.events() == [("promotion", None, number), ("promotion", number, number)]
    with pytest.raises(InputError, match="no champion before this one"):
        rollback(desk.tracking, NAME, journal=desk.journal, author=AUTHOR)


def test_an_alias_moved_by_hand_is_found_and_put_back(desk: Desk) -> None:
    first, second = desk.version(0.8), desk.version(0.9)
    settings = load_settings(desk.folder.parent)
    desk.promote(first)
    set_alias(desk.tracking, NAME, "champion", second)
    (problem,) = find_problems(RunContext(settings))
    assert str(problem) == (
        f"{NAME}: alias champion is version {second}, the journal says version {first}; "
        f"`osteo promote {NAME} {first}` puts the alias back, "
        f"`osteo promote {NAME} {second}` has version {second} judged"
    )
    desk.promote(first)
    assert (desk.champion(), find_problems(RunContext(settings))) == (first, [])
    desk.tracking.client.delete_registered_model_alias(NAME, "champion")
    assert [each.found for each in find_problems(RunContext(settings))] == [
        f"alias champion is nowhere, the journal says version {first}"
    ]
    sync_alias(desk.tracking, desk.journal, NAME)
    assert find_problems(RunContext(settings)) == []


def test_an_alias_without_any_promotion_is_found(desk: Desk) -> None:
    number = desk.version(0.8)
    set_alias(desk.tracking, NAME, "champion", number)
    (problem,) = find_problems(RunContext(load_settings(desk.folder.parent)))
    assert problem.found == f"alias champion is version {number}, the journal says nowhere"


def test_more_models_than_one_page(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("osteo_models.registry.runs.PAGE", 2)
    for number in range(5):
        desk.tracking.client.create_registered_model(f"model-{number}")
    versions = [desk.version(0.8) for _ in range(3)]
    assert [each.version for each in list_versions(desk.tracking)] == versions[::-1]
    assert [each.version for each in list_versions(desk.tracking, NAME)] == versions[::-1]
    assert list_aliases(desk.tracking, "challenger") == {NAME: versions[-1]}
