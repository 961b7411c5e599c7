"""An import from its source to the data set: list, judge, write, exchange; killed anywhere, it goes on or never was."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pebble import ProcessPool

from osteo_models.core.errors import InputError
from osteo_models.core.files import hold_lock, write_atomically
from osteo_models.core.terms import Modality
from osteo_models.data.clinical import read_clinical
from osteo_models.data.data_folder import Staging
from osteo_models.data.intake.dataset import Outcome, finish_dataset, read_pictures
from osteo_models.data.intake.deidentify import Person, clean_clinical, pool_age
from osteo_models.data.intake.import_log import Ledger
from osteo_models.data.intake.pseudonyms import Pseudonyms, check_key, describe_key
from osteo_models.data.intake.reading import Task, Written, judge_headers, write_images
from osteo_models.data.intake.reformat import is_even
from osteo_models.data.intake.sources import SOURCES, Input, Refusal, list_inputs
from osteo_models.data.intake.workers import Batch, batch_by_size, open_workers, run_batches
from osteo_models.data.withdrawal import read_withdrawn

SERIES_SECONDS = 120.0  # for the files of one axial series

Progress = Callable[[int, int], None]


def import_source(
    source: Path,
    clinical: Path,
    out: Path,
    pseudonyms: Pseudonyms,
    *,
    pictures: Path | None = None,
    names: Path | None = None,
    workers: int = 1,
    on_judged: Progress = lambda *_: None,
    on_written: Progress = lambda *_: None,
    on_built: Callable[[Path], object] = lambda _: None,
) -> Outcome:
    """Import a folder or zip archive into a data set.

    Args:
        source: Of DICOM, PNG and JPEG files.
        clinical: The clinical table, with the patients' identifiers as they stand in the files.
        out: The data set; it is made, or added to.
        pseudonyms: The key.
        pictures: A table of the PNG and JPEG files: file, patient_id, modality.
        names: A private table, kept by the key, that says which input is which file.
        workers: Processes that read.
        on_judged: Told of inputs whose header was judged.
        on_written: Told of inputs that were written or refused.
        on_built: Called with the folder of the successor before it takes the place of the data set.

    Raises:
        InputError: The source or a table cannot be used; nothing was changed.
        OsteoError: Another command is changing the data set.
    """
    if source.resolve() == out.resolve() or source.resolve().is_relative_to(out.resolve()):
        raise InputError("the source lies within the data set", where=str(source), remedy="name another --out")
    table = read_clinical(clinical)
    listed = read_pictures(pictures) if pictures else {}
    staging = Staging(out)
    with staging.lock():
        check_key(out, pseudonyms)
        withdrawn = read_withdrawn(out)
        staging.prepare()
        ledger = Ledger(staging.ledger, _describe(source, clinical, pictures, pseudonyms, withdrawn))
        try:
            ledger.list_inputs((_identify(item, pseudonyms), item) for item in list_inputs(source))
            if not ledger.count():
                raise InputError("holds no file", where=str(source), allowed=SOURCES)
            people = _people(table, pseudonyms)
            with open_workers(workers) as pool:
                _judge(pool, ledger, source, pseudonyms, workers, on_judged)
                _assign(ledger, people, listed, withdrawn)
                _write(pool, ledger, source, people, pseudonyms, staging.images, workers, on_written)
            cleaned = clean_clinical(table, pseudonyms)
            cleaned = cleaned[~cleaned["patient_id"].isin(withdrawn)]
            found = finish_dataset(staging, ledger, cleaned, describe_key(pseudonyms))
            if names:
                _keep_names(ledger, source, names)
        finally:
            ledger.close()
        on_built(staging.building)
        staging.exchange()
    return found


def _describe(
    source: Path, clinical: Path, pictures: Path | None, pseudonyms: Pseudonyms, withdrawn: set[str]
) -> dict[str, str]:
    """What decides which inputs are accepted: where it changes, a killed import begins from the start."""
    tables = [path.read_bytes() for path in (clinical, pictures) if path]
    return {
        "source": str(source.resolve()),
        "tables": hashlib.sha256(b"\0".join(tables)).hexdigest(),
        "key": describe_key(pseudonyms),
        "withdrawn": ",".join(sorted(withdrawn)),
    }


def _people(table: pd.DataFrame, pseudonyms: Pseudonyms) -> dict[str, Person]:
    return {
        str(row["patient_id"]): Person(
            pseudonyms.patient(str(row["patient_id"])), str(row["sex"]), pool_age(int(row["age_years"]))
        )
        for row in table[["patient_id", "sex", "age_years"]].to_dict("records")
    }


def _input(row: Mapping[str, Any], source: Path) -> Input:
    return Input(row["name"], row["size"], row["stamp"], source, row["entry"])


def _identify(item: Input, pseudonyms: Pseudonyms) -> str:
    """What stands for an input: two exports may both have a file IM0001."""
    return pseudonyms.name(f"{item.source.name}/{item.name}")


def _judge(
    pool: ProcessPool, ledger: Ledger, source: Path, pseudonyms: Pseudonyms, workers: int, progress: Progress
) -> None:
    """Every header, in workers; results are entered in the order they come."""
    total = ledger.count()
    done = total - ledger.count("new")
    rows = (_input(row, source) for row in ledger.rows("state = 'new'"))
    batches = batch_by_size(rows, lambda item: item.size)
    for results in run_batches(pool, judge_headers, batches, ahead=2 * workers):
        ledger.settle(
            (_identify(item, pseudonyms), "refused", {"reason": result.reason})
            if isinstance(result, Refusal)
            else (_identify(item, pseudonyms), "readable", result)
            for item, result in results
        )
        done += len(results)
        progress(done, total)


def _assign(
    ledger: Ledger,
    people: Mapping[str, Person],
    listed: Mapping[str, tuple[str, Modality]],
    withdrawn: set[str],
) -> None:
    """Refuse what no person or no sagittal view can be found for, before any pixel is decoded."""

    def settled() -> Iterator[tuple[str, str, dict[str, Any]]]:
        for row in ledger.rows("state = 'readable'"):
            if row["plane"] == "picture":
                row["patient"], row["modality"] = listed.get(row["name"], (None, None))
            if reason := _why_not(row, ledger, people, withdrawn):
                yield row["id"], "refused", {"reason": reason}
            elif row["plane"] == "picture":
                yield row["id"], "readable", {"patient": row["patient"], "modality": row["modality"]}

    ledger.settle(settled())
    for stack in ledger.stacks():
        rows = list(ledger.rows("stack = ? and state = 'readable'", (stack,)))
        if not is_even([row["height"] for row in rows]):
            ledger.settle((row["id"], "refused", {"reason": "short_series"}) for row in rows)


def _why_not(row: Mapping[str, Any], ledger: Ledger, people: Mapping[str, Person], withdrawn: set[str]) -> str:
    """The reason to refuse a readable input; empty where there is none."""
    if row["patient"] is None:
        return "not_listed"
    if row["patient"] not in people:
        return "not_in_table"
    if people[row["patient"]].patient_id in withdrawn:
        return "withdrawn"
    if row["plane"] in ("sagittal", "picture"):
        return ""
    # An axial CT series is reformatted, unless the study brings its own sagittal views.
    usable = row["stack"] and not ledger.sagittal_ct(row["patient"], row["study"])
    return "" if usable else "other_plane"


def _write(
    pool: ProcessPool,
    ledger: Ledger,
    source: Path,
    people: Mapping[str, Person],
    pseudonyms: Pseudonyms,
    folder: Path,
    workers: int,
    progress: Progress,
) -> None:
    total = ledger.count("readable", "accepted")
    done = ledger.count("accepted")

    def make(rows: list[dict[str, Any]]) -> Task:
        first = rows[0]
        picture = first["modality"] if first["plane"] == "picture" else None
        inputs = tuple(_input(row, source) for row in rows)
        return Task(inputs, people[first["patient"]], pseudonyms, folder, picture)

    def single() -> Iterator[Task]:
        for row in ledger.rows("state = 'readable' and stack is null"):
            yield make([row])

    def batches() -> Iterator[Batch[Task]]:
        yield from batch_by_size(single(), lambda task: task.inputs[0].size)
        for stack in ledger.stacks():
            yield Batch([make(list(ledger.rows("stack = ? and state = 'readable'", (stack,))))], SERIES_SECONDS)

    for results in run_batches(pool, write_images, batches(), ahead=2 * workers):
        ledger.settle(each for task, result in results for each in _settled(task, result, pseudonyms))
        done += sum(len(task.inputs) for task, _ in results)
        progress(done, total)


def _settled(
    task: Task, result: list[Written] | Refusal, pseudonyms: Pseudonyms
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """A series' images are entered with its first file; the other files gave them too."""
    for number, item in enumerate(task.inputs):
        identifier = _identify(item, pseudonyms)
        if isinstance(result, Refusal):
            yield identifier, "refused", {"reason": result.reason}
        else:
            images = [[each.path, each.pixels, each.look] for each in result] if number == 0 else []
            yield identifier, "accepted", {"images": images}


def _keep_names(ledger: Ledger, source: Path, path: Path) -> None:
    """Add the names of this import to the private table, which several data sets may share."""
    with hold_lock(path.with_name(f"{path.name}.lock")):
        known: dict[str, tuple[str, str]] = {}
        if path.exists():
            with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                known = {row["input"]: (row["source"], row["file"]) for row in csv.DictReader(file)}
        known |= {row["id"]: (source.name, row["name"]) for row in ledger.rows()}
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("input", "source", "file"))
        writer.writerows((name, *of) for name, of in sorted(known.items()))
        write_atomically(path, text.getvalue(), mode=0o600)
