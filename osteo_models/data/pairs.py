"""Pairs of images of different modalities for the multimodal network."""

from __future__ import annotations

import numpy as np
import pandas as pd

from osteo_models.core.params import Splits
from osteo_models.core.terms import MODALITIES


def pair_images(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Pair the images of all modalities for the multimodal network, at random within a class.

    The modalities come from different patients, so a pair shares its class and nothing else; the larger modalities
    are cut to the smallest (class-wise truncation).

    Args:
        table: image_id, modality, target.
        seed: Of the draw.

    Returns:
        target, and `<modality>_image_id` for each modality.
    """
    rng = np.random.default_rng(seed)
    parts: list[pd.DataFrame] = []
    for target, group in table.groupby("target"):
        ids = {
            f"{name}_image_id": rng.permutation(group.loc[group["modality"] == name, "image_id"].to_numpy(str))
            for name in MODALITIES
        }
        n = min(map(len, ids.values()))
        parts.append(pd.DataFrame({"target": target, **{column: names[:n] for column, names in ids.items()}}))
    return pd.concat(parts, ignore_index=True)


def make_pairs(table: pd.DataFrame, splits: Splits) -> pd.DataFrame:
    """All pairs that are trained or tested on: split, fold, target, `<modality>_image_id`.

    `image` and `patient` pairs stay within a fold of that protocol; `development` pairs train networks that are tested
    on the hold-out; `patient_rest` pairs, without the patient-based test set, those that are tested on that set.
    """
    development = table[table["holdout"] == 0]
    parts: list[pd.DataFrame] = []
    for split in ("image", "patient"):
        for fold, group in development.groupby(f"fold_{split}"):
            parts.append(pair_images(group, splits.seed).assign(split=split, fold=fold))
    parts.append(pair_images(development, splits.seed).assign(split="development", fold=0))
    rest = development[development["patient_test"] == 0]
    parts.append(pair_images(rest, splits.seed).assign(split="patient_rest", fold=0))
    return pd.concat(parts, ignore_index=True)[
        ["split", "fold", "target", *(f"{name}_image_id" for name in MODALITIES)]
    ]
