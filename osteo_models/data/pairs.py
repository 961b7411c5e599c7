"""Pairs of MRI and CT images for the multimodal network."""

from __future__ import annotations

import numpy as np
import pandas as pd

from osteo_models.core.params import Splits


def pair_images(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Pair MRI with CT images for the multimodal network, at random within a class.

    MRI and CT come from different patients, so a pair shares its class and nothing else; the larger modality is cut
    to the smaller (class-wise truncation).

    Args:
        table: image_id, modality, target.
        seed: Of the draw.

    Returns:
        target, mri_image_id, ct_image_id.
    """
    rng = np.random.default_rng(seed)
    parts: list[pd.DataFrame] = []
    for target, group in table.groupby("target"):
        ids = [
            rng.permutation(group.loc[group["modality"] == name, "image_id"].to_numpy(str)) for name in ("mri", "ct")
        ]
        n = min(len(ids[0]), len(ids[1]))
        parts.append(pd.DataFrame({"target": target, "mri_image_id": ids[0][:n], "ct_image_id": ids[1][:n]}))
    return pd.concat(parts, ignore_index=True)


def make_pairs(table: pd.DataFrame, splits: Splits) -> pd.DataFrame:
    """All pairs that are trained or tested on: split, fold, target, mri_image_id, ct_image_id.

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
    return pd.concat(parts, ignore_index=True)[["split", "fold", "target", "mri_image_id", "ct_image_id"]]
