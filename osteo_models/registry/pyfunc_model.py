"""What MLflow calls of a registered version, and how it describes it: the pyfunc, its signature, its example."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

from osteo_models.core.errors import InputError
from osteo_models.core.terms import IMAGE_COLUMNS, IMAGE_ROWS
from osteo_models.serving.model_record import ModelRecord
from osteo_models.serving.network import read_network
from osteo_models.serving.score_table import ALLOW_OOD, GOLDEN, check_golden, check_table, encode_picture, score_table

__all__ = ["NetworkModel", "encode_picture", "make_example", "make_signature", "score_table"]


class NetworkModel(PythonModel):
    """The pyfunc around a package, whose files `model_code` has checked before it imports this."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load_context(self, context: PythonModelContext) -> None:
        """Read the network, and see that golden cases come out as where it was registered; no pickle is involved."""
        model = self._folder / "artifacts"
        self._network = read_network(model)
        golden = model / GOLDEN
        if golden.is_file():
            check_golden(self._network, golden)

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]  # MLflow types its own as returning None
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Score a table; a wrong one is the caller's fault (HTTP 400) and reported in one line."""
        try:
            table = check_table(model_input)
            scored = score_table(self._network, table, allow_ood=bool((params or {}).get(ALLOW_OOD)))
            return scored.drop(columns="members")
        except InputError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None


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
        ColSpec(DataType.double, "uncertainty", required=False),
        ColSpec(DataType.double, "agreement", required=False),
        ColSpec(DataType.string, "modality", required=False),
        ColSpec(DataType.string, "patient_id", required=False),
        ColSpec(DataType.string, "ood", required=False),
    ]
    params = ParamSchema([ParamSpec(ALLOW_OOD, DataType.boolean, default=False)])
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs), params=params)


def make_example(record: ModelRecord) -> pd.DataFrame:
    """Two rows that show the form of a request; drawn patterns, no patient's images."""
    taken = record.modalities
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
