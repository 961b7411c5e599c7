"""The explanation gallery: worst errors and right cases with their maps, and whether the maps depend on the weights."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image

from osteo_models.core.terms import CLASS_NAMES
from osteo_models.report.html_table import Cell, Table, make_table, number, word
from osteo_models.report.report_data import Evidence, Facts, Records
from osteo_models.report.wording import PROPOSED, is_number, write_metric

METHODS: Final = {"gradcampp": "Grad-CAM++", "smoothgrad": "SmoothGrad"}
KINDS: Final = {"worst_error": "Worst errors", "correct": "Rightly classified"}
BYTES: Final = 700_000  # of pictures: with the rest of the page under 3 MB as text, for 80 jobs


@dataclass(frozen=True)
class Picture:
    """One map over its image; `uri` is empty where the file is missing."""

    uri: str
    alt: str
    method: str
    share: str


@dataclass(frozen=True)
class Case:
    """One image with its maps."""

    image_id: str
    patient_id: str
    modality: str
    name: str
    score: str
    pictures: list[Picture]


def build(evidence: Evidence, facts: Facts) -> dict[str, Any]:
    """The section's content."""
    gallery, left_out = build_gallery(evidence)
    return {
        "gallery": gallery,
        "left_out": left_out,
        "shares": build_shares(evidence.explanations.cases),
        "sanity": build_sanity(evidence.explanations.sanity),
    }


def build_gallery(evidence: Evidence) -> tuple[dict[str, dict[str, list[Case]]], int]:
    """By model, then by kind, the worst errors first; and how many maps found no room on the page."""
    root, room, left_out = evidence.artifacts / "explain", BYTES, 0
    found: dict[str, dict[str, dict[str, Case]]] = {}
    ordered = sorted(evidence.explanations.cases, key=_order_case)
    for row in ordered:
        data = _read_picture(root, row["file"]) if room > 0 else b""
        if data is not None and len(data) >= room:
            room, left_out = 0, left_out + 1  # the rest need not be read
            continue
        room -= len(data or b"")
        kinds = found.setdefault(str(row["model"]), {}).setdefault(KINDS.get(row["kind"], str(row["kind"])), {})
        case = kinds.setdefault(f"{row['image_id']}/{row['modality']}", _start_case(row))
        case.pictures.append(_picture(row, data))
    return {
        model: {kind: list(cases.values()) for kind, cases in kinds.items()} for model, kinds in found.items()
    }, left_out


def _order_case(row: dict[str, Any]) -> tuple[bool, str, int]:
    """The paper's own networks first, of each the worst errors first: what finds no room is the least missed."""
    kinds = list(KINDS)
    place = kinds.index(row["kind"]) if row["kind"] in kinds else len(kinds)
    return (not any(name in str(row["model"]) for name in PROPOSED), str(row["model"]), place)


def _read_picture(root: Path, name: object) -> bytes | None:
    """A picture below `root`, packed closer; None where there is none that can be read."""
    path = (root / str(name)).resolve()
    if not path.is_relative_to(root.resolve()) or not path.is_file():
        return None
    buffer = io.BytesIO()
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            picture.convert("RGB").save(buffer, "WEBP", quality=78, method=2)
    except OSError:  # also what Pillow calls unidentified
        return None
    return buffer.getvalue()


def _start_case(row: dict[str, Any]) -> Case:
    target = CLASS_NAMES[int(row["target"])] if row["target"] in (0, 1) else "unknown class"
    score = f"{row['score']:.2f}" if is_number(row["score"]) else "undefined"
    return Case(str(row["image_id"]), str(row["patient_id"]), str(row["modality"]).upper(), target, score, [])


def _picture(row: dict[str, Any], data: bytes | None) -> Picture:
    method = METHODS.get(row["method"], str(row["method"]))
    share = row.get("vertebrae_share")
    shown = f"{write_metric('accuracy', share, 0)} % on the vertebrae" if is_number(share) else ""
    target = CLASS_NAMES[int(row["target"])] if row["target"] in (0, 1) else "unknown class"
    alt = f"{method} map over {str(row['modality']).upper()} image {row['image_id']}, {target}, score {row['score']}"
    uri = f"data:image/webp;base64,{base64.b64encode(data).decode('ascii')}" if data else ""
    return Picture(uri, f"{alt}{f', {shown}' if shown else ''}", method, shown)


def build_shares(cases: Records) -> Table:
    """Mean share of the map on the vertebrae by model, modality, method and kind, where it is known."""
    groups: dict[tuple[str, ...], Records] = {}
    for row in cases:
        key = (str(row["model"]), str(row["modality"]), str(row["method"]), str(row["kind"]))
        groups.setdefault(key, []).append(row)
    rows = [
        [
            word(model),
            word(modality.upper()),
            word(METHODS.get(method, method)),
            word(KINDS.get(kind, kind).lower()),
            _mean_share(groups[model, modality, method, kind], "vertebrae_share"),
            _mean_share(groups[model, modality, method, kind], "area_share"),
            number(len(groups[model, modality, method, kind]), 0),
        ]
        for model, modality, method, kind in sorted(groups)
    ]
    columns = (
        *("Model", "<Modality", "<Method", "<Cases", "On the vertebrae, % of the map"),
        *("Vertebrae, % of the image: an even map's share", "Maps"),
    )
    caption = "How much of a map lies on the vertebrae, mean over the cases shown."
    return make_table("map-shares", caption, columns, rows, files=["explain/cases.csv"])


def _mean_share(rows: Records, column: str) -> Cell:
    known = [float(row[column]) for row in rows if is_number(row.get(column))]
    return number(100 * sum(known) / len(known) if known else None, 1, absent="not known")


def build_sanity(sanity: dict[str, Any]) -> Table:
    """Similarity of a map to that of the same network with random weights."""
    rows = [
        [
            word(model),
            word(METHODS.get(method, method)),
            number(found["similarity"], 2, absent="undefined"),
            word(_judge(found)),
        ]
        for model, methods in sorted(sanity.items())
        if isinstance(methods, dict)
        for method, found in sorted(methods.items())
    ]
    columns = ("Model", "<Method", "Similarity to the randomised network", "<Reading")
    caption = "Do the maps depend on what was learnt? 1: the random network's map is the same."
    return make_table("map-sanity", caption, columns, rows, files=["explain/sanity.json"])


def _judge(found: dict[str, Any]) -> str:
    if not is_number(found["similarity"]):
        return "nothing can be said"
    return "hardly depends on the weights: do not read it as a reason" if found["flagged"] else "depends on the weights"
