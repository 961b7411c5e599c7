"""Scores of a table of images, as a request brings them: one image per row in, scores and decisions out.

Columns: `image` (base64 of a DICOM, PNG or JPEG file), `modality` (`mri` or `ct`; needed where neither the file nor the
model says it), `patient_id` (handed back). A request may mix MRI and CT where the model takes both. The parameter
`accept_unlike` has images scored that do not look like the training images; `unlike` then says why they do not.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from osteo_models.core.errors import ImageError, InputError, WeightsError
from osteo_models.core.terms import IMAGE_COLUMNS, IMAGE_ROWS, MODALITIES, Modality, decide
from osteo_models.data.prepare import PreparedImage, prepare_bytes
from osteo_models.serving.network import LoadedNetwork, ModelRecord, parse_json

FAULTS_SHOWN: Final = 10
MOST_ROWS: Final = 256  # of one request
MOST_CHARACTERS: Final = 48_000_000  # of one image in base64: 36 MB
COLUMNS: Final = ("image", "modality", "patient_id")
ACCEPT: Final = "accept_unlike"
GOLDEN: Final = "golden.json"
STEPS: Final = ((3, 0), (0, 4), (1, 1), (2, 5), (7, 2), (1, 9), (11, 3), (5, 5))  # of grey, down and across
TOLERANCE: Final = 1e-5
LOW_PRECISION_TOLERANCE: Final = 0.02  # of bfloat16 and float16, whose sums differ between processors


def check_table(table: object) -> pd.DataFrame:
    """See that a request is a table of the known columns and of a size that is answered at once.

    Raises:
        InputError: It is not.
    """
    allowed = ", ".join(COLUMNS)
    if not isinstance(table, pd.DataFrame):
        raise InputError(f"the request is {type(table).__name__}", allowed=f"a table with the columns {allowed}")
    if unknown := [str(name) for name in table.columns if name not in COLUMNS]:
        raise InputError(f"unknown column {', '.join(unknown)}", allowed=allowed)
    if not 1 <= len(table) <= MOST_ROWS:
        raise InputError(f"{len(table)} rows", allowed=f"1 to {MOST_ROWS} in one request", remedy="split it")
    return table


def score_table(loaded: LoadedNetwork, table: pd.DataFrame, *, accept_unlike: bool = False) -> pd.DataFrame:
    """Score the images of a table.

    Args:
        loaded: The network.
        table: `image`, and perhaps `modality` and `patient_id`.
        accept_unlike: Also images that do not look like the training images.

    Returns:
        score, decision; uncertainty (standard deviation over an ensemble's members) and agreement (the share of them
        that decide alike), None for a network alone; modality, patient_id; unlike, why an image does not look like the
        training images; members, every member's score. Rows and index as in `table`.

    Raises:
        InputError: No `image` column, or rows that cannot be scored: all of them are named.
    """
    if "image" not in table:
        raise InputError("no column `image`", allowed=", ".join(COLUMNS))
    readable: dict[int, PreparedImage] = {}
    faults: dict[int, str] = {}
    for position, row in enumerate(table.to_dict("records")):
        try:
            readable[position] = _prepare(row, loaded.record, f"row {position}")
        except ImageError as error:
            faults[position] = str(error)
    prepared = list(readable.values())
    members, unlike = examine_images(loaded, prepared)
    for position, fault in zip(readable, unlike, strict=True):
        if fault and not accept_unlike:
            faults[position] = str(refuse_unlike(fault, f"row {position}"))
    if faults:
        shown = [faults[position] for position in sorted(faults)[:FAULTS_SHOWN]]
        rest = f"; and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
        raise InputError(f"{len(faults)} of {len(table)} rows: {'; '.join(shown)}{rest}")
    modalities = [item.modality for item in prepared]
    given = [_text(name) for name in table.get("patient_id", [None] * len(table))]
    patients = [name or item.patient_id for name, item in zip(given, prepared, strict=True)]
    columns = judge_members(members, loaded.record.threshold)
    texts = {"modality": modalities, "patient_id": patients, "unlike": unlike, "members": members.T.tolist()}
    # As text columns pandas would turn None into NaN, which JSON does not know.
    columns |= {name: pd.Series(values, dtype=object, index=table.index) for name, values in texts.items()}
    return pd.DataFrame(columns, index=table.index)


def judge_members(members: npt.NDArray[np.float64], threshold: float) -> dict[str, Any]:
    """Score, decision, uncertainty and agreement of m images from the scores (k, m) of k networks."""
    score = members.mean(axis=0)
    decision = decide(score, threshold)
    alone = np.full(len(score), None, dtype=object)
    several = len(members) > 1
    return {
        "score": score,
        "decision": decision.astype(np.int64),
        "uncertainty": members.std(axis=0, ddof=1) if several else alone,
        "agreement": (decide(members, threshold) == decision).mean(axis=0) if several else alone,
    }


def examine_images(
    loaded: LoadedNetwork, images: Sequence[PreparedImage]
) -> tuple[npt.NDArray[np.float64], list[str | None]]:
    """Score images, and compare them with the training images: by their pixels, then in the network's own features.

    Returns:
        Every member's scores (k, m). For each image why it does not look like the training images: None where it
        does, or where nothing of them was kept.
    """
    pixels = np.zeros((len(images), IMAGE_ROWS, IMAGE_COLUMNS), np.uint8)
    for position, item in enumerate(images):
        pixels[position] = item.pixels
    members, features = loaded.examine(pixels, [item.modality for item in images])
    unlike: list[str | None] = []
    for position, item in enumerate(images):
        fault = loaded.likeness.find_fault(item.pixels, item.modality) if loaded.likeness else None
        if fault is None and loaded.features:
            fault = loaded.features.find_fault([rows[position] for rows in features], item.modality)
        unlike.append(fault)
    return members, unlike


def refuse_unlike(fault: str, where: str) -> ImageError:
    """The error of an image that does not look like the training images, where that is not accepted."""
    remedy = f"`{ACCEPT}` (--accept-unlike) has it scored all the same"
    return ImageError(f"it does not look like the training images: {fault}", where=where, remedy=remedy)


def _prepare(row: Mapping[Any, Any], record: ModelRecord, where: str) -> PreparedImage:
    """Decode the image of one row and prepare it."""
    modality = _read_modality(row, where)
    text = _text(row["image"]) or ""
    if len(text) > MOST_CHARACTERS:
        found = f"`image` has {len(text):,} characters"
        raise ImageError(found, where=where, allowed=f"up to {MOST_CHARACTERS:,}: one slice, not a series")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ImageError("`image` is no base64", where=where, allowed="base64 of a DICOM, PNG or JPEG file") from None
    if not data:
        raise ImageError("`image` is empty", where=where, allowed="base64 of a DICOM, PNG or JPEG file")
    return prepare_image(data, modality, record, where)


def prepare_image(data: bytes, modality: Modality | None, record: ModelRecord, where: str) -> PreparedImage:
    """Prepare an image file for a model, and settle its modality.

    Args:
        data: The whole file.
        modality: What the caller knows of it.
        record: Of the model.
        where: What to call the file in errors.

    Raises:
        ImageError: The file cannot be read, or is nothing that the model takes.
    """
    taken = record.modalities
    if modality is not None and modality not in taken:
        raise ImageError(f"`modality` is {modality!r}", where=where, allowed=f"this model takes {' and '.join(taken)}")
    image = prepare_bytes(data, prepare=record.prepare, modality=modality, where=where)
    settled = image.modality or (taken[0] if len(taken) == 1 else None)
    if settled is not None and settled not in taken:
        raise ImageError(f"the file is {settled}", where=where, allowed=f"this model takes {' and '.join(taken)}")
    if settled is None and record.images == "multimodal":
        raise ImageError(
            f"neither the file nor `modality` says {' or '.join(taken)}", where=where, allowed=", ".join(taken)
        )
    return PreparedImage(image.pixels, settled, image.patient_id)


def _read_modality(row: Mapping[Any, Any], where: str) -> Modality | None:
    text = _text(row.get("modality"))
    for modality in MODALITIES:
        if text is not None and text.lower() == modality:
            return modality
    if text is None:
        return None
    raise ImageError(f"`modality` is {text!r}", where=where, allowed=", ".join(MODALITIES))


def _text(value: object) -> str | None:
    """A cell as text; a missing one comes as None or NaN, depending on its neighbours."""
    return None if value is None or value != value or value == "" else str(value)


def encode_picture(pixels: np.ndarray) -> str:
    """Grey 8-bit pixels as base64 of a PNG file, as a request carries them."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def make_golden(loaded: LoadedNetwork) -> dict[str, Any]:
    """Drawn patterns, no patient's images, with their scores.

    The patterns are scored by the path of the evaluation (`score_images`), so they hold serving to it.
    """
    taken = loaded.record.modalities
    rows, columns = np.mgrid[0:IMAGE_ROWS, 0:IMAGE_COLUMNS]
    patterns = np.stack([(rows * down + columns * across) % 256 for down, across in STEPS]).astype(np.uint8)
    modalities: list[Modality | None] = [taken[row % len(taken)] for row in range(len(patterns))]
    scores = loaded.score(patterns, modalities)
    cases = [
        {"image": encode_picture(pattern), "modality": modality, "score": float(score)}
        for pattern, modality, score in zip(patterns, modalities, scores, strict=True)
    ]
    exact = loaded.record.precision == "float32"
    return {"tolerance": TOLERANCE if exact else LOW_PRECISION_TOLERANCE, "cases": cases}


def check_golden(loaded: LoadedNetwork, path: Path) -> None:
    """Score a version's golden cases.

    Raises:
        WeightsError: The file is damaged, or a score differs by more than its tolerance.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        table, tolerance = pd.DataFrame(content["cases"]), float(content["tolerance"])
        wanted = table.pop("score").to_numpy(np.float64)
        found = score_table(loaded, table, accept_unlike=True)["score"].to_numpy()
    except (OSError, ValueError, KeyError, TypeError, InputError) as error:
        raise WeightsError(f"no golden cases ({error})", where=str(path), remedy="register the model anew") from None
    difference = float(np.abs(found - wanted).max())
    if not difference <= tolerance:
        raise WeightsError(
            f"a golden case differs by {difference:.2g}",
            where=str(path),
            allowed=f"up to {tolerance:g}",
            remedy="install the packages of the version's requirements.txt, or register the model anew",
        )
