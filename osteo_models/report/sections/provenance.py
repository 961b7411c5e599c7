"""What the numbers were made with: data, splits, code, seeds, predictions files, and how long this page took."""

from __future__ import annotations

from typing import Any, Final

from osteo_models.core.files import hash_file
from osteo_models.report.html_table import Cell, Table, count, make_table, number, word
from osteo_models.report.report_data import Evidence, Facts, flatten_params

SEEDS: Final = {
    "data.synthetic.seed": "synthetic cohort",
    "splits.seed": "splits",
    "experiments.seed": "training",
    "search.seed": "architecture search",
    "evaluate.seed": "pairs of the audits",
}


def build(evidence: Evidence, facts: Facts) -> dict[str, Any]:
    """The section's content."""
    splits = evidence.artifacts / "splits" / "splits.csv"
    return {
        "provenance": facts.provenance | ({"splits.csv (md5)": hash_file(splits, "md5")} if splits.is_file() else {}),
        "seeds": [(label, str(seed)) for path, label in SEEDS.items() if (seed := facts.param(path)) is not None],
        "params": list(flatten_params(facts.params)),
        "missing": evidence.missing,
        "files": build_files(evidence),
        "times": build_times(facts),
    }


def build_files(evidence: Evidence) -> Table:
    """Every predictions file with its hash; the other tables name them."""
    images: dict[str, tuple[Any, Any]] = {}
    for row in evidence.summary:
        if (row["subset"], row["level"]) == ("all", "image"):
            images[str(row["source"])] = (row["n"], row["n_patients"])
    rows = []
    for path in sorted(evidence.artifacts.glob("predictions/*/*.parquet")):
        name = path.relative_to(evidence.artifacts).as_posix()
        n, patients = images.get(name, (None, None))
        rows.append([word(name, kind="source"), count(n), count(patients), Cell(hash_file(path, "md5"), kind="source")])
    caption = "Every statistic of this page comes from these files."
    return make_table("predictions", caption, ("File", "Images", "Patients", "<md5"), rows)


def build_times(facts: Facts) -> Table:
    """Seconds by section; this last section and the writing come on top."""
    rows = [[word(name), number(seconds, 3)] for name, seconds in facts.seconds.items()]
    if rows:
        rows.append([word("all of these"), number(sum(facts.seconds.values()), 3)])
    return make_table("times", "Time to build each section of this page.", ("Section", "Seconds"), rows)
