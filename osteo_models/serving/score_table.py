"""Scores of a table of images, as an HTTP request brings it: one image per row in, scores and decisions out.

Columns: `image` (base64 of a DICOM, PNG or JPEG file), `modality` (`mri` or `ct`; needed where neither the file nor the
model determines it), `patient_id` (returned). A request may mix MRI and CT where the model takes both. The parameter
`allow_ood` scores images that are out of distribution; the column `ood` then has the reason.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from PIL import Image

from osteo_models.core.errors import ImageError, InputError, WeightsError
from osteo_models.core.terms import IMAGE_COLUMNS, IMAGE_ROWS, Modality
from osteo_models.data.prepare import PreparedImage
from osteo_models.serving.inputs import prepare_row, read_cell
from osteo_models.serving.model_record import parse_json
from osteo_models.serving.network import LoadedNetwork, examine_images, judge_members, refuse_ood

FAULTS_SHOWN: Final = 10
MOST_ROWS: Final = 256  # of one request
COLUMNS: Final = ("image", "modality", "patient_id")
ALLOW_OOD: Final = "allow_ood"
GOLDEN: Final = "golden.json"
STEPS: Final = ((3, 0), (0, 4), (1, 1), (2, 5), (7, 2), (1, 9), (11, 3), (5, 5))  # of grey, down and across
TOLERANCE: Final = 1e-5
LOW_PRECISION_TOLERANCE: Final = 0.02  # of bfloat16 and float16, whose sums differ between processors


def check_table(table: object) -> pd.DataFrame:
    """Check that a request is a table of the known columns and of a size that is answered at once.

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


def score_table(network: LoadedNetwork, table: pd.DataFrame, *, allow_ood: bool = False) -> pd.DataFrame:
    """Score the images of a table.

    Args:
        network: What scores them.
        table: `image`, and perhaps `modality` and `patient_id`.
        allow_ood: Score also images that are out of distribution.

    Returns:
        score, decision, uncertainty, agreement: see `judge_members`; modality, patient_id; ood, why an image is out of
        distribution; members, the score of every member. Rows and index as in `table`.

    Raises:
        InputError: No `image` column, or rows that cannot be scored: all of them are named.
    """
    if "image" not in table:
        raise InputError("no column `image`", allowed=", ".join(COLUMNS))
    readable: dict[int, PreparedImage] = {}
    faults: dict[int, str] = {}
    for position, row in enumerate(table.to_dict("records")):
        try:
            readable[position] = prepare_row(row, network.record, f"row {position}")
        except ImageError as error:
            faults[position] = str(error)
    prepared = list(readable.values())
    members, ood = examine_images(network, prepared)
    for position, fault in zip(readable, ood, strict=True):
        if fault and not allow_ood:
            faults[position] = str(refuse_ood(fault, f"row {position}"))
    if faults:
        shown = [faults[position] for position in sorted(faults)[:FAULTS_SHOWN]]
        more = f"; and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
        raise InputError(f"{len(faults)} of {len(table)} rows: {'; '.join(shown)}{more}")
    given = [read_cell(name) for name in table.get("patient_id", [None] * len(table))]
    texts = {
        "modality": [image.modality for image in prepared],
        "patient_id": [name or image.patient_id for name, image in zip(given, prepared, strict=True)],
        "ood": ood,
        "members": members.T.tolist(),
    }
    columns = judge_members(members, network.record.threshold)
    # As text columns pandas would turn None into NaN, which is not valid JSON.
    columns |= {name: pd.Series(values, dtype=object, index=table.index) for name, values in texts.items()}
    return pd.DataFrame(columns, index=table.index)


def encode_picture(pixels: np.ndarray) -> str:
    """Grey 8-bit pixels as base64 of a PNG file, as a request carries them."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def make_golden(network: LoadedNetwork) -> dict[str, Any]:
    """Drawn patterns, no patient's images, with their scores.

    The patterns are scored by the path of the evaluation (`score_images`), which serving must agree with.
    """
    taken = network.record.modalities
    rows, columns = np.mgrid[0:IMAGE_ROWS, 0:IMAGE_COLUMNS]
    patterns = np.stack([(rows * down + columns * across) % 256 for down, across in STEPS]).astype(np.uint8)
    modalities: list[Modality | None] = [taken[row % len(taken)] for row in range(len(patterns))]
    scores = network.score(patterns, modalities)
    cases = [
        {"image": encode_picture(pattern), "modality": modality, "score": float(score)}
        for pattern, modality, score in zip(patterns, modalities, scores, strict=True)
    ]
    exact = network.record.precision == "float32"
    return {"tolerance": TOLERANCE if exact else LOW_PRECISION_TOLERANCE, "cases": cases}


def check_golden(network: LoadedNetwork, path: Path) -> None:
    """Score a version's golden cases.

    Raises:
        WeightsError: The file is damaged, or a score differs by more than its tolerance.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        table, tolerance = pd.DataFrame(content["cases"]), float(content["tolerance"])
        expected = table.pop("score").to_numpy(np.float64)
        scores = score_table(network, table, allow_ood=True)["score"].to_numpy()
    except (OSError, ValueError, KeyError, TypeError, InputError) as error:
        raise WeightsError(f"no golden cases ({error})", where=str(path), remedy="register the model again") from None
    difference = float(np.abs(scores - expected).max())
    if not difference <= tolerance:
        raise WeightsError(
            f"a golden case differs by {difference:.2g}",
            where=str(path),
            allowed=f"up to {tolerance:g}",
            remedy="install the packages of the version's requirements.txt, or register the model again",
        )
