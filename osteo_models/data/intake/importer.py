"""An import from its source to the data set: list, check, write, exchange; killed anywhere, the next run continues."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Final, cast

import pandas as pd
from pebble import ProcessPool

from osteo_models.core.errors import InputError
from osteo_models.core.files import hold_lock, write_atomically
from osteo_models.core.terms import MODALITIES, Modality
from osteo_models.data.clinical import read_clinical
from osteo_models.data.data_folder import Staging
from osteo_models.data.decisions import FINAL_DOUBTS, read_decisions
from osteo_models.data.intake.dataset import ImportSummary, build_dataset, name_series
from osteo_models.data.intake.deidentify import Person, clean_clinical, pool_age
from osteo_models.data.intake.header_words import SiteWords
from osteo_models.data.intake.import_log import ImportLog, Row
from osteo_models.data.intake.pseudonyms import Pseudonyms, check_key, describe_key
from osteo_models.data.intake.reading import Task, Written, check_headers, identify, write_images
from osteo_models.data.intake.reformat import find_gap_fault, find_heights
from osteo_models.data.intake.series import list_frames, rank_series, split_volumes
from osteo_models.data.intake.sources import SOURCES, Input, list_inputs
from osteo_models.data.intake.workers import Batch, batch_by_size, open_workers, run_batches
from osteo_models.data.reasons import RejectedInput
from osteo_models.data.tables import Rule, read_table
from osteo_models.data.withdrawal import read_withdrawn

SERIES_SECONDS: Final = 300.0  # for the files of one axial series
PICTURE_RULES: Final[dict[str, Rule]] = {
    "file": Rule(bool, "the name of a file", unique=True),
    "patient_id": Rule(bool, "an identifier of the clinical table"),
    "modality": Rule(lambda text: text in MODALITIES, " or ".join(MODALITIES)),
}

Progress = Callable[[int, int], None]


def import_source(
    source: Path,
    clinical: Path,
    out: Path,
    pseudonyms: Pseudonyms,
    *,
    pictures: Path | None = None,
    names: Path | None = None,
    doubtful: Path | None = None,
    site_words: SiteWords = (),
    workers: int = 1,
    on_judged: Progress = lambda *_: None,
    on_written: Progress = lambda *_: None,
    on_built: Callable[[Path], object] = lambda _: None,
) -> ImportSummary:
    """Import a folder or zip archive into a data set.

    Args:
        source: Folder or archive of DICOM, PNG and JPEG files.
        clinical: The clinical table, with the patients' identifiers as in the files.
        out: The data set to make or to add to.
        pseudonyms: The key.
        pictures: A table of the PNG and JPEG files: file, patient_id, modality.
        names: A private table, kept next to the key: which input is which file.
        doubtful: A private folder for de-identified images of doubtful inputs, for `osteo data review`.
        site_words: What further words of headers mean.
        workers: Number of worker processes.
        on_judged: Called with the number of headers that are checked, and of all inputs.
        on_written: Called with the number of inputs that are written or refused, and of all readable inputs.
        on_built: Called with the folder of the successor before it replaces the data set.

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
        withdrawn, decisions = read_withdrawn(out), read_decisions(out)
        staging.prepare()
        about = _describe(source, [clinical, *([pictures] if pictures else [])], pseudonyms, withdrawn)
        about |= {"decisions": repr(sorted(decisions.items())), "words": repr(site_words)}
        log = ImportLog(staging.import_log, about)
        try:
            log.add_inputs((identify(file, pseudonyms), file) for file in list_inputs(source))
            if not log.count():
                raise InputError("holds no file", where=str(source), allowed=SOURCES)
            with open_workers(workers) as pool:
                people = _people(table, pseudonyms)
                run = _Import(log, source, people, decisions, site_words, pseudonyms, staging.images, pool, workers)
                run.check(on_judged)
                run.assign(listed, withdrawn)
                run.write(on_written)
            cleaned = clean_clinical(table, pseudonyms)
            cleaned = cleaned[~cleaned["patient_id"].isin(withdrawn)]
            summary = build_dataset(staging, log, cleaned, pseudonyms)
            if names:
                _save_names(log, source, names)
            if doubtful:
                _save_doubtful(log, staging.images, doubtful)
        finally:
            log.close()
        on_built(staging.building)
        staging.exchange()
    return summary


def read_pictures(path: Path) -> dict[str, tuple[str, Modality]]:
    """Patient and modality of each picture, by its name within the source.

    Raises:
        TableError: The file is missing, a column is missing, or values are wrong (all are listed, none is repeated).
    """
    rows = read_table(path, PICTURE_RULES).to_dict("records")
    return {row["file"]: (row["patient_id"], cast("Modality", row["modality"])) for row in rows}


def _describe(source: Path, tables: list[Path], pseudonyms: Pseudonyms, withdrawn: set[str]) -> dict[str, str]:
    """What decides which inputs are accepted: when it changes, a killed import starts again."""
    return {
        "source": str(source.resolve()),
        "tables": hashlib.sha256(b"\0".join(path.read_bytes() for path in tables)).hexdigest(),
        "key": describe_key(pseudonyms),
        "withdrawn": ",".join(sorted(withdrawn)),
    }


def _people(table: pd.DataFrame, pseudonyms: Pseudonyms) -> dict[str, Person]:
    """The person of each identifier in the files."""
    columns = zip(table["patient_id"].astype(str), table["sex"], table["age_years"], strict=True)
    people: dict[str, Person] = {}
    for name, sex, age in columns:  # spaces around an identifier are insignificant (PS3.5 6.2)
        people[name.strip()] = Person(pseudonyms.patient(name.strip()), str(sex), pool_age(int(age)))
    return people


@dataclass(frozen=True)
class _Import:
    """The steps of an import that is open."""

    log: ImportLog
    source: Path
    people: Mapping[str, Person]
    decisions: Mapping[str, str]
    site_words: SiteWords
    pseudonyms: Pseudonyms
    folder: Path
    pool: ProcessPool
    workers: int

    def check(self, progress: Progress) -> None:
        """Check every header in the workers; results are logged in the order in which they arrive."""
        total = self.log.count()
        done = total - self.log.count("new")
        files = (self._input(row) for row in self.log.rows("state = 'new'"))
        judge = partial(check_headers, site_words=self.site_words)
        for results in run_batches(self.pool, judge, batch_by_size(files, _size), ahead=2 * self.workers):
            self.log.update(
                (
                    identify(file, self.pseudonyms),
                    _refused(result.reason) if isinstance(result, RejectedInput) else result | {"state": "readable"},
                )
                for file, result in results
            )
            done += len(results)
            progress(done, total)

    def assign(self, listed: Mapping[str, tuple[str, Modality]], withdrawn: set[str]) -> None:
        """Refuse inputs without a person or a sagittal view before any pixel is decoded; choose the CT series."""
        self.log.update(self._assign(listed, withdrawn))
        for rows in self.log.stacks():
            for volume in split_volumes(rows):
                if fault := find_gap_fault(find_heights([frame.plane for frame in list_frames(volume)])):
                    self.log.update((row["id"], _refused(fault)) for row in volume)
                else:
                    stack = hashlib.sha256("".join(sorted(row["id"] for row in volume)).encode()).hexdigest()
                    self.log.update((row["id"], {"stack": stack}) for row in volume)
        for series in self.log.ct_series("readable"):
            for other in sorted(series, key=rank_series)[1:]:
                self.log.move_series(other, "spare")

    def _assign(self, listed: Mapping[str, tuple[str, Modality]], withdrawn: set[str]) -> Iterator[tuple[str, Row]]:
        for row in self.log.rows("state = 'readable'"):
            if row["plane"] == "picture":
                row["patient"], row["modality"] = listed.get(row["name"], (None, None))
            if reason := self._find_reason(row, withdrawn):
                yield row["id"], _refused(reason)
            elif row["plane"] == "picture":
                yield row["id"], {"patient": row["patient"], "modality": row["modality"]}

    def _find_reason(self, row: Row, withdrawn: set[str]) -> str:
        """The reason to refuse a readable input; empty where there is none."""
        if row["patient"] is None:
            return "not_listed"
        if row["patient"] not in self.people:
            return "not_in_table"
        if self.people[row["patient"]].patient_id in withdrawn:
            return "withdrawn"
        if self._decide(row) == "refused":
            return "reviewed"
        if row["plane"] in ("sagittal", "picture") or row["stack"]:
            return ""
        return "axial_mr" if row["plane"] == "axial" and row["modality"] == "mri" else row["plane"]

    def _decide(self, row: Row) -> str:
        """What a person decided on an input or its series: `accepted`, `refused`, or nothing."""
        return self.decisions.get(row["id"]) or self.decisions.get(name_series(row, self.pseudonyms), "")

    def write(self, progress: Progress) -> None:
        """Write the images of every readable input in the workers.

        Where the chosen CT series of a study gives no image, the next one is tried.
        """
        while self.log.count("readable"):
            total, done = self.log.count("readable", "accepted", "doubtful"), self.log.count("accepted", "doubtful")
            for results in run_batches(self.pool, write_images, self._batches(), ahead=2 * self.workers):
                self.log.update(change for task, result in results for change in self._results(task, result))
                done += sum(len(task.inputs) for task, _ in results)
                progress(done, total)
            for series in self.log.ct_series("spare"):
                if not self.log.has_images(series[0]):
                    self.log.move_series(min(series, key=rank_series), "readable")
        self.log.update((row["id"], _refused("not_preferred")) for row in self.log.rows("state = 'spare'"))

    def _batches(self) -> Iterator[Batch[Task]]:
        single = (self._task([row]) for row in self.log.rows("state = 'readable' and stack is null"))
        yield from batch_by_size(single, lambda task: task.inputs[0].size)
        for rows in self.log.stacks():
            yield Batch([self._task(rows)], SERIES_SECONDS)

    def _task(self, rows: list[Row]) -> Task:
        first, files = rows[0], tuple(self._input(row) for row in rows)
        picture = first["modality"] if first["plane"] == "picture" else None
        person = self.people[first["patient"]]
        axial = tuple(list_frames(rows)) if first["stack"] else ()
        reviewed = self._decide(first) == "accepted"
        doubt = max(row["doubt"] or "" for row in rows)
        return Task(files, person, self.pseudonyms, self.folder, picture, axial, doubt, reviewed)

    def _input(self, row: Row) -> Input:
        names = ("name", "size", "stamp", "entry", "archive", "fault")
        return Input(source=self.source, **{name: row[name] for name in names})

    def _results(self, task: Task, result: Written | RejectedInput) -> Iterator[tuple[str, Row]]:
        """The images of a series are logged with its first input that is not refused."""
        if isinstance(result, RejectedInput):
            result = Written([], dict.fromkeys(range(len(task.inputs)), result.reason))
        doubt = task.doubt or result.doubt
        doubt = "" if task.reviewed and doubt not in FINAL_DOUBTS else doubt
        state = {"state": "doubtful", "reason": doubt} if doubt else {"state": "accepted"}
        images = [astuple(image) for image in result.images]
        for number, file in enumerate(task.inputs):
            if number in result.faults:
                yield identify(file, self.pseudonyms), _refused(result.faults[number])
            else:
                yield identify(file, self.pseudonyms), state | {"images": images}
                images = []


def _size(file: Input) -> int:
    return file.size


def _refused(reason: str) -> Row:
    return {"state": "refused", "reason": reason}


def _save_doubtful(log: ImportLog, images: Path, folder: Path) -> None:
    """Copy the images of doubtful inputs out of the staging folder; they may show a name."""
    for row in log.rows("state = 'doubtful'"):
        for image in row["images"]:
            name = Path(image[0]).name
            target = folder / row["id"] / name
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(target, (images / image[0]).read_bytes(), mode=0o600)


def _save_names(log: ImportLog, source: Path, path: Path) -> None:
    """Add the file names of this import to the private table, which several data sets may share."""
    with hold_lock(path.with_name(f"{path.name}.lock")):
        names: dict[str, tuple[str, str]] = {}
        if path.exists():
            with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                names = {row["input"]: (row["source"], row["file"]) for row in csv.DictReader(file)}
        names |= {row["id"]: (source.name, row["name"]) for row in log.rows()}
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("input", "source", "file"))
        writer.writerows((identifier, *name) for identifier, name in sorted(names.items()))
        write_atomically(path, text.getvalue(), mode=0o600)
