"""The explanation gallery: worst errors and right cases with their maps, and whether the maps depend on the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from PIL import Image

from osteo_models.core.terms import CLASS_NAMES
from osteo_models.report.report_data import Records, ReportData
from osteo_models.report.sections.cohort import encode_picture
from osteo_models.report.wording import PROPOSED, is_number, write_metric

METHODS: Final = {"gradcampp": "Grad-CAM++", "smoothgrad": "SmoothGrad"}
KINDS: Final = {"worst_error": "Worst errors", "correct": "Correctly classified"}
BYTES: Final = 700_000  # of pictures: keeps the page of 80 jobs below 3 MB


def build(data: ReportData) -> dict[str, Any]:
    """The section's content."""
    gallery, left_out = build_gallery(data)
    return {
        "gallery": gallery,
        "left_out": left_out,
        "shares": build_shares(data.explained),
        "sanity": build_sanity(data.sanity),
    }


def build_gallery(data: ReportData) -> tuple[dict[str, dict[str, Records]], int]:
    """Cases by model and kind, the worst errors first; and how many maps did not fit on the page."""
    root, room, left_out = data.artifacts / "explain", BYTES, 0
    gallery: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    for row in sorted(data.explained, key=_order_case):
        size, uri = _read_picture(root, row["file"]) if room > 0 else (0, "")
        if size >= room:
            room, left_out = 0, left_out + 1  # the remaining files need not be read
            continue
        room -= size
        kinds = gallery.setdefault(str(row["model"]), {}).setdefault(KINDS.get(row["kind"], str(row["kind"])), {})
        case = kinds.setdefault(f"{row['image_id']}/{row['modality']}", _start_case(row))
        case["pictures"].append(_picture(row, uri))
    return {
        model: {kind: list(cases.values()) for kind, cases in kinds.items()} for model, kinds in gallery.items()
    }, left_out


def _order_case(row: dict[str, Any]) -> tuple[bool, str, int]:
    """The paper's own networks first, and of each the worst errors: the last ones may not fit on the page."""
    kinds = list(KINDS)
    rank = kinds.index(row["kind"]) if row["kind"] in kinds else len(kinds)
    return (not any(name in str(row["model"]) for name in PROPOSED), str(row["model"]), rank)


def _read_picture(root: Path, name: object) -> tuple[int, str]:
    """Size and data URI of a picture below `root`, as WebP; (0, "") when there is none that can be read."""
    path = (root / str(name)).resolve()
    if not path.is_relative_to(root.resolve()) or not path.is_file():
        return 0, ""
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            return encode_picture(picture.convert("RGB"), "WEBP", quality=78, method=2)
    except OSError:  # includes Pillow's error for unidentified files
        return 0, ""


def _name_class(row: dict[str, Any]) -> str:
    return CLASS_NAMES[int(row["target"])] if row["target"] in (0, 1) else "unknown class"


def _start_case(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "image_id": str(row["image_id"]),
        "patient_id": str(row["patient_id"]),
        "modality": str(row["modality"]).upper(),
        "name": _name_class(row),
        "score": f"{row['score']:.2f}" if is_number(row["score"]) else "undefined",
        "pictures": [],
    }


def _picture(row: dict[str, Any], uri: str) -> dict[str, str]:
    """One map over its image; `uri` is empty when the file is missing."""
    method, share = METHODS.get(row["method"], str(row["method"])), row.get("vertebrae_share")
    text = f"{write_metric('accuracy', share, 0)} % on the vertebrae" if is_number(share) else ""
    image = f"{str(row['modality']).upper()} image {row['image_id']}"
    alt = f"{method} map over {image}, {_name_class(row)}, score {row['score']}"
    return {"uri": uri, "alt": f"{alt}, {text}" if text else alt, "method": method, "share": text}


def build_shares(cases: Records) -> Records:
    """Mean share of the map on the vertebrae by model, modality, method and kind, where it is known."""
    groups: dict[tuple[str, ...], Records] = {}
    for row in cases:
        key = (str(row["model"]), str(row["modality"]), str(row["method"]), str(row["kind"]))
        groups.setdefault(key, []).append(row)
    return [
        {
            "model": model,
            "modality": modality,
            "method": METHODS.get(method, method),
            "kind": KINDS.get(kind, kind),
            "vertebrae": _mean(groups[model, modality, method, kind], "vertebrae_share"),
            "area": _mean(groups[model, modality, method, kind], "area_share"),
            "maps": len(groups[model, modality, method, kind]),
        }
        for model, modality, method, kind in sorted(groups)
    ]


def _mean(rows: Records, column: str) -> float | None:
    """Mean of the known shares, in per cent."""
    values = [float(row[column]) for row in rows if is_number(row.get(column))]
    return 100 * sum(values) / len(values) if values else None


def build_sanity(sanity: dict[str, Any]) -> Records:
    """Similarity of a map to that of the same network with random weights."""
    return [
        {"model": model, "method": METHODS.get(method, method), "reading": _judge(result), **result}
        for model, methods in sorted(sanity.items())
        if isinstance(methods, dict)
        for method, result in sorted(methods.items())
    ]


def _judge(result: dict[str, Any]) -> str:
    if not is_number(result["similarity"]):
        return "cannot be judged"
    return "hardly depends on the weights: not an explanation" if result["flagged"] else "depends on the weights"
