"""Golden cases: requests kept with a version, and the scores that they must give wherever it is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from osteo_models.errors import InputError, WeightsError
from osteo_models.registry.network import LoadedNetwork, parse_json
from osteo_models.registry.scoring import encode_picture, score_table
from osteo_models.terms import IMAGE_COLUMNS, IMAGE_ROWS, Modality, modalities_of

GOLDEN: Final = "golden.json"
STEPS: Final = ((3, 0), (0, 4), (1, 1), (2, 5), (7, 2), (1, 9), (11, 3), (5, 5))  # of grey, down and across
TOLERANCE: Final = 1e-5
LOW_PRECISION_TOLERANCE: Final = 0.02  # of bfloat16 and float16, whose sums differ between processors


def make_golden(loaded: LoadedNetwork) -> dict[str, Any]:
    """Drawn patterns, no patient's images, with their scores.

    The patterns are scored by the path of the evaluation (`score_images`), so they hold serving to it.
    """
    taken = modalities_of(loaded.record.images)
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
