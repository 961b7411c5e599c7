"""What explanations leave for the stages after them: cases.csv and sanity.json, and a line for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pandas as pd

from osteo_models.explain.checks import hardly_changes
from osteo_models.explain.gallery import Gallery
from osteo_models.explain.maps import METHODS

COLUMNS: Final = (
    *("model", "modality", "image_id", "patient_id", "target", "score", "kind", "method", "file"),
    *("vertebrae_share", "area_share", "flagged"),
)


def write_tables(galleries: Mapping[str, Gallery], out: Path) -> None:
    """Write cases.csv, a row for each picture, and sanity.json: {model: {method: {similarity, flagged}}}.

    `similarity` compares the maps with those of untrained networks, None where undefined; `flagged` is 1 where
    the maps of a method hardly change when the weights of the network are drawn again.
    """
    out.mkdir(parents=True, exist_ok=True)
    tables = [frame_gallery(gallery) for gallery in galleries.values()]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)
    table.to_csv(out / "cases.csv", index=False)
    sanity = {
        name: {
            method: {"similarity": value, "flagged": int(hardly_changes(value))}
            for method, value in gallery.similarity.items()
        }
        for name, gallery in galleries.items()
    }
    (out / "sanity.json").write_text(json.dumps(sanity, indent=1) + "\n", encoding="utf-8")


def frame_gallery(gallery: Gallery) -> pd.DataFrame:
    """The rows of one network."""
    flagged = {method: int(hardly_changes(value)) for method, value in gallery.similarity.items()}
    rows = [row | {"flagged": flagged[row["method"]]} for row in gallery.rows]
    return pd.DataFrame(rows, columns=COLUMNS)


def describe_gallery(gallery: Gallery) -> str:
    """A network in one line: its cases, how much of the maps lies on the vertebrae, and whether they mean anything."""
    table = frame_gallery(gallery)
    parts = [f"{table['image_id'].nunique()} cases"]
    for method, title in METHODS.items():
        of_method = table[table["method"] == method]
        share, area = (pd.to_numeric(of_method[name]).mean() for name in ("vertebrae_share", "area_share"))
        similarity = gallery.similarity[method]
        on_bone = "" if pd.isna(share) else f" {share:.0%} on vertebrae ({area:.0%} of the area),"
        alike = "undefined" if similarity is None else f"{similarity:.2f}"
        warning = ": HARDLY CHANGES without training" if hardly_changes(similarity) else ""
        parts.append(f"{title}{on_bone} likeness to untrained {alike}{warning}")
    return "; ".join(parts)
