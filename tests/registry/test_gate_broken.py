"""Versions, each broken in one way, are refused with the right rule named; the sound one passes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from mlflow.entities import Metric

from osteo_models.core.errors import GateRefused
from osteo_models.core.params import Params
from osteo_models.core.settings import Settings
from osteo_models.registry.gate import promote
from osteo_models.registry.journal import Journal, open_journal
from osteo_models.registry.journal_events import Author
from osteo_models.registry.tracking import Tracking, open_tracking
from osteo_models.registry.versions import VersionInfo, get_version, list_aliases
from tests.registry.gate_cases import (
    NAME,
    Case,
    change_card,
    files_of,
    make_case,
    make_groups,
    make_predictions,
    make_repository,
    make_shortcuts,
    register_case,
)

FOLDS = "(stage-1, stage-2, stage-3, stage-4)"
ALL = "(stage-1, stage-2, stage-3, stage-4, stage-5, stage-6)"
BALANCED = "stage_1.patient.balanced_accuracy"
MINIMUM = f"minimum balanced_accuracy {FOLDS}"
VETO = "minimum balanced_accuracy (stage-5, stage-6)"
INTERVAL = f"interval balanced_accuracy {FOLDS}"
MATCH = f"metrics_match {ALL}"
SUBGROUPS = f"subgroups accuracy {FOLDS}"
AGE = "age_alone balanced_accuracy (stage-5)"
REJECT, LACKING = "REJECT", "NOT_ENOUGH_EVIDENCE"


def _set(**changes: object) -> Callable[[Case], None]:
    return lambda case: [setattr(case, name, value) for name, value in changes.items()] and None


def _metric(name: str, value: float | None) -> Callable[[Case], None]:
    return _set(metrics={name: value})


def _tag(name: str, value: str | None) -> Callable[[Case], None]:
    return _set(tags={name: value})


def _weak(stage: str, signal: float) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        case.predictions[stage] = make_predictions(case.splits, stage, signal=signal)

    return change


def _split(row: int, column: str, value: object) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        case.splits.loc[row, column] = value

    return change


def _other_fold(case: Case) -> None:
    table = case.predictions["stage-1"]
    table.loc[0, "fold"] = 4 - table.loc[0, "fold"]


def _holdout_in_folds(case: Case) -> None:
    table, held = case.predictions["stage-1"], case.predictions["stage-5"]
    table.loc[0, ["image_id", "patient_id", "target"]] = held.loc[0, ["image_id", "patient_id", "target"]]


def _trained_in_holdout(case: Case) -> None:
    extra = case.predictions["stage-1"].iloc[[0]].assign(stage="stage-5", fold=0)
    case.predictions["stage-5"] = pd.concat([case.predictions["stage-5"], extra], ignore_index=True)


def _held_in_fold(case: Case) -> None:
    case.splits.loc[case.splits["holdout"] == 1, "fold_patient"] = 0


def _picked(case: Case) -> None:
    case.predictions["stage-5"] = case.predictions["stage-5"].iloc[1:].reset_index(drop=True)


def _no_predictions(stage: str) -> Callable[[Tracking, object], None]:
    return lambda tracking, version: shutil.rmtree(files_of(tracking, version) / "evidence" / stage)


def _flip(name: str) -> Callable[[Case], None]:
    def damage(tracking: Tracking, version: object) -> None:
        path = files_of(tracking, version) / "evidence" / name
        path.write_bytes(path.read_bytes().replace(b"0.9", b"0.8"))

    return _set(damage=damage)


def _change_tag(tracking: Tracking, version: VersionInfo) -> None:
    tracking.client.set_model_version_tag(NAME, str(version.version), "profile", "quick")


def _change_metric(tracking: Tracking, version: VersionInfo) -> None:
    point = Metric("stage_1.patient.sensitivity", 0.999, 2**42, 1, model_id=version.model_id, run_id=version.run_id)
    tracking.log_points(version.run_id, [point])


def _add(tracking: Tracking, version: object) -> None:
    (files_of(tracking, version) / "evidence" / "stage-1" / "notes.txt").write_text("better than it looks")


def _cut(what: str, into: str = "") -> Callable[[Case], None]:
    return _set(damage=change_card(lambda card, tags: card.replace(tags.get(what, what), into)))


# What is broken, how, the rules that must be named, what they say, the verdict.
BROKEN: list[tuple[str, Callable[[Case], None], list[str], str, str]] = [
    ("weak in cross-validation", _weak("stage-1", -0.2), [MINIMUM], "stage-1 0.", REJECT),
    ("uncertain in cross-validation", _weak("stage-1", 0.5), [MINIMUM], "patients would decide", LACKING),
    ("weak on the hold-out", _weak("stage-5", -1.0), [VETO, AGE], "stage-5 0.083 [0.002, 0.414]", REJECT),
    (
        "a number that is not one",
        _metric(BALANCED, float("nan")),
        [MATCH, MINIMUM, INTERVAL],
        "stage-1 undefined",
        REJECT,
    ),
    ("an undefined metric", _metric(BALANCED, None), [MATCH, MINIMUM, INTERVAL], "stage-1 undefined", REJECT),
    (
        "no lower end",
        _metric(f"{BALANCED}.ci_low", None),
        [MATCH, MINIMUM, INTERVAL],
        "stage-1 has no balanced_accuracy.ci_low",
        REJECT,
    ),
    (
        "no upper end",
        _metric(f"{BALANCED}.ci_high", None),
        [MATCH, MINIMUM, INTERVAL],
        "stage-1 has no balanced_accuracy.ci_high",
        REJECT,
    ),
    (
        "an interval beside its value",
        _metric(f"{BALANCED}.ci_high", 0.1),
        [MATCH, MINIMUM, INTERVAL],
        ", 0.100] and n 160",
        REJECT,
    ),
    ("no number of images", _metric("stage_1.patient.n", None), [MATCH, INTERVAL], "stage-1 has no n", REJECT),
    ("another number of images", _metric("stage_1.patient.n", 1013.0), [MATCH], "n is stated as 1013", REJECT),
    ("a flattered number", _metric("stage_5.patient.brier", 0.01), [MATCH], "stage-5 brier is stated as 0.01", REJECT),
    (
        "an unknown number of patients",
        _metric("stage_1.patient.n_patients", None),
        [MATCH, f"patients {FOLDS}"],
        "stage-1 unknown",
        REJECT,
    ),
    ("a patient in two folds", _split(0, "fold_patient", 3), ["patient_disjoint"], "1 patients on two sides", REJECT),
    (
        "a patient half in the patient-based set",
        _split(0, "patient_test", 1),
        ["patient_disjoint"],
        "patient_te",
        REJECT,
    ),
    ("predictions of another fold", _other_fold, ["patient_disjoint"], "1 of 160 predictions of stage-1", REJECT),
    (
        "no splits",
        lambda case: _set(splits=case.splits.iloc[:0])(case),
        ["data_pinned", "patient_disjoint", "holdout_untouched"],
        "no splits/splits.csv is kept with the version",
        LACKING,
    ),
    ("a hold-out patient in a fold", _held_in_fold, ["holdout_untouched"], "in a fold or in the patient", REJECT),
    ("half a patient held out", _split(0, "holdout", 1), ["holdout_untouched"], "two sides of holdout", REJECT),
    (
        "the hold-out in cross-validation",
        _holdout_in_folds,
        ["holdout_untouched", "patient_disjoint"],
        "of hold-out patients in stage-1",
        REJECT,
    ),
    ("a trained image on the hold-out", _trained_in_holdout, ["holdout_untouched"], "not in the hold-out", REJECT),
    ("hold-out images picked", _picked, ["holdout_untouched"], "1 images of the hold-out were not scored", REJECT),
    (
        "code not committed",
        _tag("git.tree", "a" * 40),
        ["code_pinned"],
        "git tree aaaaaaaaaaaa is in no branch",
        LACKING,
    ),
    (
        "outside git",
        _set(tags={"git.commit": None, "git.tree": None}),
        ["code_pinned", "card"],
        "outside a git",
        REJECT,
    ),
    ("a tag changed later", _set(damage=_change_tag), ["files_intact"], "tag profile is quick, registered as", REJECT),
    (
        "a metric changed later",
        _set(damage=_change_metric),
        ["files_intact"],
        "sensitivity is 0.999, registered",
        REJECT,
    ),
    ("no hash of the data", _tag("dvc.data", ""), ["data_pinned", "card"], "no dvc.data", REJECT),
    (
        "a run of another job",
        _set(job={"osteo.job": "e" * 16}),
        ["data_pinned"],
        "the run is of job eeeeeeeeeeeeeeee",
        REJECT,
    ),
    ("no hash of the splits", _tag("dvc.splits", None), ["data_pinned", "card"], "no dvc.splits", REJECT),
    ("splits of another hash", _tag("dvc.splits", "a" * 32), ["data_pinned"], "the splits kept are", REJECT),
    ("a hash that is none", _tag("dvc.data", "today"), ["data_pinned"], "'today', no MD5", REJECT),
    ("a table changed later", _flip("evaluation/groups.csv"), ["files_intact"], "groups.csv is changed", REJECT),
    ("a file added later", _set(damage=_add), ["files_intact"], "notes.txt is not in the manifest", REJECT),
    (
        "predictions removed later",
        _set(damage=_no_predictions("stage-1")),
        ["files_intact", MATCH],
        "unimodal-mri-patient.parquet is missing",
        REJECT,
    ),
    ("age alone is better", _set(shortcuts=make_shortcuts(1.0)), [AGE], "against 1.000 of age alone", REJECT),
    ("age alone is unknown", _set(shortcuts=make_shortcuts(None)), [AGE], "against unknown of age alone", LACKING),
    ("no audit of age", _set(shortcuts=None), [AGE], "no evaluation/shortcuts.csv is kept", LACKING),
    ("a subgroup under its floor", _set(groups=make_groups(0.3)), [SUBGROUPS], "stage-1 sex M with 0.300", REJECT),
    ("no audit of subgroups", _set(groups=None), [SUBGROUPS], "no evaluation/groups.csv is kept", LACKING),
    (
        "subgroups too small",
        _set(groups=make_groups().iloc[2:]),
        [SUBGROUPS],
        "no subgroup with an interval in stage-1, stage-2",
        LACKING,
    ),
    ("no card", _set(damage=change_card(lambda card, tags: " ")), ["card", "files_intact"], "no card", REJECT),
    ("a card without the weights", _cut("osteo.weights"), ["card", "files_intact"], "does not give weights", REJECT),
    (
        "a card without its limits",
        _cut("No medical device"),
        ["card", "files_intact"],
        "that it is no medical device",
        REJECT,
    ),
    (
        "a card without a stage",
        _cut("| stage-5 | patient |", "|"),
        ["card", "files_intact"],
        "the line of stage-5",
        REJECT,
    ),
    (
        "a card that hides what it is",
        _cut("Synthetic cohort"),
        ["card", "files_intact"],
        "that the cohort is synthetic",
        REJECT,
    ),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, fresh_store: Path) -> tuple[Tracking, Journal, Settings]:
    folder = tmp_path_factory.mktemp("broken")
    shutil.copy(fresh_store, folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    return open_tracking(uri, folder / "mlartifacts"), open_journal(uri), make_repository(folder / "project")


def _shown(tracking: Tracking, number: int):
    """All that MLflow shows of a version and of its model."""
    version = tracking.client.get_model_version(NAME, str(number))
    return get_version(tracking, f"{NAME}/{number}"), version.description, list_aliases(tracking, "champion")


def test_there_are_thirty_ways_at_least() -> None:
    assert len({name for name, *_ in BROKEN}) == len(BROKEN) >= 30


@pytest.mark.parametrize(
    ("break_it", "rules", "says", "verdict"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN]
)
def test_a_broken_version_is_refused(
    store, params: Params, tmp_path: Path, make_job, make_model, break_it, rules, says, verdict
) -> None:
    tracking, journal, settings = store
    case = make_case()
    break_it(case)
    version = register_case(tracking, case, tmp_path, make_job, make_model)
    before, events = _shown(tracking, version.version), len(journal.history(NAME))
    with pytest.raises(GateRefused) as refused:
        promote(tracking, NAME, version.version, params.gate, journal=journal, author=Author("t"), settings=settings)
    found = refused.value.verdict
    assert sorted(result.rule for result in found.failed) == sorted(rules)
    assert says in str(refused.value)
    assert found.verdict == verdict

    assert _shown(tracking, version.version) == before
    assert journal.state(NAME).champion is None
    (event,) = journal.history(NAME)[events:]
    assert (event.action, event.version_after, event.version_before) == ("refusal", version.version, None)
    assert all(rule in event.reason for rule in rules)
    assert not any(name in event.evidence for name in case.splits["patient_id"].unique())


def test_the_sound_version_passes(store, params: Params, tmp_path: Path, make_job, make_model) -> None:
    tracking, journal, settings = store
    version = register_case(tracking, make_case(), tmp_path, make_job, make_model)
    promotion = promote(
        tracking, NAME, version.version, params.gate, journal=journal, author=Author("t"), settings=settings
    )
    assert (promotion.changed, promotion.verdict.verdict) == (True, "PROMOTE")
    assert [result.rule for result in promotion.verdict.results if not result.applies] == [f"champion {FOLDS}"]
    assert list_aliases(tracking, "champion") == {NAME: version.version}
