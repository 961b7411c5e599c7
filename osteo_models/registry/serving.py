"""What a registered version does with a request: a table with one image per row in, scores and decisions out.

Columns: `image` (base64 of a DICOM, PNG or JPEG file), `modality` (`mri` or `ct`; needed where neither the file nor the
model says it), `patient_id` (handed back). A request may mix MRI and CT where the model takes both.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from PIL import Image

from osteo_models.data.prepare import PreparedImage, prepare_bytes
from osteo_models.errors import ImageError, InputError, OsteoError
from osteo_models.registry.network import RECORD, WEIGHTS, LoadedNetwork, ModelRecord, read_network
from osteo_models.terms import IMAGE_COLUMNS, IMAGE_ROWS, Modality, modalities_of

FAULTS_SHOWN: Final = 10


class NetworkModel(PythonModel):
    """The pyfunc around a saved network; its artifacts are `weights` and `record`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the weights; no pickle is involved."""
        self._loaded = read_network(Path(context.artifacts["weights"]), Path(context.artifacts["record"]))

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]  # MLflow types its own as returning None
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Score a table; a wrong one is the caller's fault (HTTP 400) and told in one line."""
        try:
            return score_table(self._loaded, model_input)
        except OsteoError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None


def score_table(loaded: LoadedNetwork, table: pd.DataFrame) -> pd.DataFrame:
    """Score the images of a table.

    Returns:
        score, decision, modality, patient_id; rows and index as in `table`.

    Raises:
        InputError: No `image` column, or rows that cannot be scored: all of them are named.
    """
    if "image" not in table:
        raise InputError("no column `image`", allowed="image, modality, patient_id")
    prepared: list[PreparedImage] = []
    faults: list[str] = []
    for position, row in enumerate(table.to_dict("records")):
        try:
            prepared.append(_prepare(row, loaded.record, f"row {position}"))
        except ImageError as error:
            faults.append(str(error))
    if faults:
        rest = f"; and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
        raise InputError(f"{len(faults)} of {len(table)} rows: {'; '.join(faults[:FAULTS_SHOWN])}{rest}")
    pixels = np.zeros((len(prepared), IMAGE_ROWS, IMAGE_COLUMNS), np.uint8)
    for position, item in enumerate(prepared):
        pixels[position] = item.pixels
    modalities: list[Modality | None] = [item.modality for item in prepared]
    score = loaded.score(pixels, modalities)
    given = [_text(row.get("patient_id")) for row in table.to_dict("records")]
    patients = [name or item.patient_id for name, item in zip(given, prepared, strict=True)]
    return pd.DataFrame(
        {
            "score": score,
            "decision": (score >= loaded.record.threshold).astype(np.int64),
            # As text columns pandas would turn None into NaN, which JSON does not know.
            "modality": pd.Series(modalities, dtype=object, index=table.index),
            "patient_id": pd.Series(patients, dtype=object, index=table.index),
        },
        index=table.index,
    )


def _prepare(row: Mapping[Any, Any], record: ModelRecord, where: str) -> PreparedImage:
    """Decode the image of one row and prepare it."""
    modality = _read_modality(row, where)
    try:
        data = base64.b64decode(str(_text(row["image"]) or ""), validate=True)
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
    taken = modalities_of(record.images)
    if modality is not None and modality not in taken:
        raise ImageError(f"`modality` is {modality!r}", where=where, allowed=f"this model takes {' and '.join(taken)}")
    image = prepare_bytes(data, prepare=record.prepare, modality=modality, where=where)
    settled = image.modality or (taken[0] if len(taken) == 1 else None)
    if settled is not None and settled not in taken:
        raise ImageError(f"the file is {settled}", where=where, allowed=f"this model takes {' and '.join(taken)}")
    if settled is None and record.images == "multimodal":
        raise ImageError("neither the file nor `modality` says mri or ct", where=where, allowed=", ".join(taken))
    return PreparedImage(image.pixels, settled, image.patient_id)


def _read_modality(row: Mapping[Any, Any], where: str) -> Modality | None:
    text = _text(row.get("modality"))
    for modality in get_args(Modality):
        if text is not None and text.lower() == modality:
            return modality
    if text is None:
        return None
    raise ImageError(f"`modality` is {text!r}", where=where, allowed=", ".join(get_args(Modality)))


def _text(value: object) -> str | None:
    """A cell as text; a missing one comes as None or NaN, depending on its neighbours."""
    return None if value is None or value != value or value == "" else str(value)


def make_signature() -> ModelSignature:
    """What goes in and out, in MLflow's terms."""
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "image"),
        ColSpec(DataType.string, "modality", required=False),
        ColSpec(DataType.string, "patient_id", required=False),
    ]
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.double, "score"),
        ColSpec(DataType.long, "decision"),
        ColSpec(DataType.string, "modality", required=False),
        ColSpec(DataType.string, "patient_id", required=False),
    ]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))


def make_example(record: ModelRecord) -> pd.DataFrame:
    """Two rows that show the form of a request; drawn patterns, no patient's images."""
    taken = modalities_of(record.images)
    rows, columns = np.mgrid[0:IMAGE_ROWS, 0:IMAGE_COLUMNS]
    patterns = [(rows * 3 % 256).astype(np.uint8), (columns * 4 % 256).astype(np.uint8)]
    table = pd.DataFrame(
        {
            "image": [encode_picture(pattern) for pattern in patterns],
            "modality": [taken[0], taken[-1]],
            "patient_id": ["example-1", "example-2"],
        }
    )
    table.columns = table.columns.astype(object)  # MLflow compares them in a way that pandas deprecates for text
    return table


def encode_picture(pixels: np.ndarray) -> str:
    """Grey 8-bit pixels as base64 of a PNG file, as a request carries them."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def artifact_paths(folder: Path) -> dict[str, str]:
    """The files of a model folder under the names that `NetworkModel` looks for."""
    return {"weights": str(folder / WEIGHTS), "record": str(folder / RECORD)}
