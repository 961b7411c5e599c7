"""Commands that change one data set at the same time: none undoes what the other did."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from osteo_models.core.errors import OsteoError
from osteo_models.data.intake import pseudonyms
from osteo_models.data.intake.dataset import Staging
from osteo_models.data.intake.import_log import ImportLog
from osteo_models.data.intake.importer import _save_names, import_source
from osteo_models.data.intake.pseudonyms import Pseudonyms, load_key
from osteo_models.data.intake.sources import Input
from osteo_models.data.withdrawal import read_withdrawn, withdraw_patient
from osteo_models.phantom import synthesis, synthesize_cohort
from tests.data.gated import Gated
from tests.data.intake_files import KEY, as_bytes, clinical_table, make_dicom

FORK = multiprocessing.get_context("fork")
FIRST, SECOND = (KEY.patient(name) for name in ("P1", "P2"))
ROUNDS = 25


@pytest.fixture
def source(tmp_path) -> Path:
    """An export of two people, with their clinical table beside it."""
    folder = tmp_path / "export"
    folder.mkdir()
    clinical_table("P1", "P2").to_csv(tmp_path / "clinical.csv", index=False)
    for number, patient in enumerate(("P1", "P2")):
        (folder / f"{patient}.dcm").write_bytes(as_bytes(make_dicom(seed=number, patient=patient)))
    return folder


@pytest.fixture
def data(source, tmp_path) -> Path:
    """The data set of that export."""
    import_source(source, tmp_path / "clinical.csv", tmp_path / "data", KEY)
    return tmp_path / "data"


def holds(data: Path, patient: str) -> bool:
    """Whether a data set has an image or a row of a person."""
    tables = [path.read_text() for path in data.glob("*.csv") if path.name != "withdrawn.csv"]
    return (data / "dicom" / patient).exists() or any(patient in text for text in tables)


def at_once(*works: Callable[[], None]) -> list[int]:
    """Run functions in processes that begin together; their exit codes."""
    barrier = FORK.Barrier(len(works))

    def run(work: Callable[[], None]) -> None:
        barrier.wait()
        work()

    processes = [FORK.Process(target=run, args=(work,)) for work in works]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode or 0 for process in processes]


@pytest.mark.parametrize("order", [(FIRST, SECOND), (SECOND, FIRST)], ids=["first", "second"])
def test_of_two_withdrawals_at_once_neither_is_lost(data, tmp_path, order):
    waiting = Gated(tmp_path, "lock", "withdraw", data, order[0])
    withdraw_patient(data, order[1])
    assert waiting.finish() == ""
    assert read_withdrawn(data) == {FIRST, SECOND}
    assert not holds(data, FIRST) and not holds(data, SECOND)


def test_an_import_that_waits_for_a_withdrawal_does_not_bring_the_person_back(data, source, tmp_path):
    waiting = Gated(tmp_path, "lock", "import", data, source, tmp_path / "clinical.csv")
    withdraw_patient(data, FIRST)
    assert waiting.finish() == ""
    assert read_withdrawn(data) == {FIRST} and not holds(data, FIRST) and holds(data, SECOND)


def test_a_withdrawal_that_waits_for_an_import_takes_out_what_came_in(data, source, tmp_path):
    waiting = Gated(tmp_path, "lock", "withdraw", data, FIRST)
    (source / "more.dcm").write_bytes(as_bytes(make_dicom(seed=9, patient="P1")))
    assert import_source(source, tmp_path / "clinical.csv", data, KEY).added == 1
    assert waiting.finish() == ""
    assert read_withdrawn(data) == {FIRST} and not holds(data, FIRST) and holds(data, SECOND)


@pytest.mark.parametrize("work", ["withdraw", "import"])
def test_an_exchange_under_way_is_left_alone(data, source, tmp_path, work):
    arguments = [FIRST] if work == "withdraw" else [source, tmp_path / "clinical.csv"]
    exchanging = Gated(tmp_path, "exchange", work, data, *arguments)
    assert not data.exists()  # between the two renames
    for change in (
        lambda: withdraw_patient(data, SECOND),
        lambda: import_source(source, tmp_path / "clinical.csv", data, KEY),
    ):
        with pytest.raises(OsteoError, match="wait for it"):
            change()
    assert exchanging.finish() == ""
    assert holds(data, SECOND) and holds(data, FIRST) == (work == "import")


def test_withdrawals_that_begin_together_again_and_again(data, tmp_path):
    kept = tmp_path / "kept"
    shutil.copytree(data, kept)

    def insist(patient: str) -> None:
        while True:
            try:
                withdraw_patient(data, patient)
            except OsteoError as error:
                assert error.remedy.startswith("wait for it")
            else:
                return

    for _ in range(ROUNDS):
        assert at_once(lambda: insist(FIRST), lambda: insist(SECOND)) == [0, 0]
        assert read_withdrawn(data) == {FIRST, SECOND}
        assert not holds(data, FIRST) and not holds(data, SECOND)
        shutil.rmtree(data)
        shutil.copytree(kept, data)


def test_two_of_three_processes_never_hold_the_lock(data, tmp_path):
    """The first removes its folder while the second has the lock file open, and then the third comes."""
    first = Gated(tmp_path, "exchange", "withdraw", data, FIRST)
    second = Gated(tmp_path, "flock", "hold", data)
    assert first.finish() == ""
    second.go()
    second.wait()  # it has the lock
    with pytest.raises(OsteoError, match="wait for it"), Staging(data).lock():
        pass
    assert second.finish() == ""
    with Staging(data).lock():
        pass


def test_a_link_to_a_data_set_has_its_lock(data, tmp_path):
    (tmp_path / "link").symlink_to(data, target_is_directory=True)
    with (
        Staging(data).lock(),
        pytest.raises(OsteoError, match="wait for it"),
        Staging(tmp_path / "link").lock(),
    ):
        pass
    withdraw_patient(tmp_path / "link", FIRST)
    assert (tmp_path / "link").is_symlink() and not holds(data, FIRST)


def test_an_import_refuses_a_data_set_that_was_made_meanwhile_with_another_key(source, tmp_path):
    waiting = Gated(tmp_path, "lock", "import", tmp_path / "data", source, tmp_path / "clinical.csv")
    import_source(source, tmp_path / "clinical.csv", tmp_path / "data", Pseudonyms(bytes(32)))
    assert "the data set was made with another key" in waiting.finish()
    assert not holds(tmp_path / "data", FIRST)


def test_a_key_that_another_import_makes_first_is_kept(tmp_path, monkeypatch):
    made, make = list[str](), pseudonyms._make_key

    def make_after_another(path: Path) -> None:
        make(path)
        made.append(path.read_text())
        make(path)

    monkeypatch.setattr(pseudonyms, "_make_key", make_after_another)
    assert [load_key(tmp_path / "keys" / "key", data=tmp_path / "data").key.hex() + "\n"] == made


def test_imports_that_make_the_key_at_once_use_one_key(tmp_path):
    queue = FORK.SimpleQueue()
    for number in range(ROUNDS):
        path = tmp_path / str(number) / "key"
        works = [lambda path=path: queue.put(load_key(path, data=tmp_path / "data").key)] * 4
        assert at_once(*works) == [0] * 4
        assert len({queue.get() for _ in works}) == 1
        assert [each.name for each in path.parent.iterdir()] == ["key"]


def test_imports_into_two_data_sets_at_once_keep_all_names(tmp_path):
    count = 8
    names = tmp_path / "key.names.csv"

    def keep(number: int) -> None:
        log = ImportLog(tmp_path / f"{number}.sqlite", {})
        log.add_inputs([(f"input-{number}", Input("a.dcm", 1, "", tmp_path, 0))])
        _save_names(log, tmp_path / f"export-{number}", names)
        log.close()

    assert at_once(*[lambda number=number: keep(number) for number in range(count)]) == [0] * count
    assert {line.split(",")[0] for line in names.read_text().splitlines()[1:]} == {f"input-{n}" for n in range(count)}


def test_a_cohort_that_is_being_made_keeps_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(synthesis, "_write_person", lambda person, folder, seed: person.slices)
    refused: list[int] = []

    def import_meanwhile(done: int, total: int) -> None:
        with pytest.raises(OsteoError, match="wait for it"), Staging(tmp_path / "data").lock():
            pass
        refused.append(done)

    synthesize_cohort(tmp_path / "data", seed=1, scale="small", workers=1, progress=import_meanwhile)
    assert refused


def test_a_cohort_whose_maker_is_killed_between_the_renames_is_there_at_the_next_command(tmp_path, monkeypatch):
    monkeypatch.setattr(synthesis, "_write_person", lambda person, folder, seed: person.slices)
    out = tmp_path / "data"
    out.mkdir()
    (out / "mine.txt").write_text("old")
    child = os.fork()
    if child == 0:
        rename = os.rename
        os.rename = lambda source, target: os._exit(9) if Path(target) == out else rename(source, target)
        synthesize_cohort(out, seed=1, scale="small", workers=1, overwrite=True)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9 and not out.exists()
    with Staging(out).lock():
        pass
    assert [path.name for path in out.iterdir()] == ["clinical.csv"]
