"""All cases of one network: their maps, pictures and shares, and the check against untrained networks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from scipy.stats import spearmanr
from torch import nn

from osteo_models.core.terms import MODALITIES
from osteo_models.explain.explained_cases import Scene
from osteo_models.explain.maps import METHODS, Maps, Method, explain_images
from osteo_models.explain.overlays import draw_overlay, name_note, name_title
from osteo_models.models import build, find_entry
from osteo_models.training.inference import find_tower

MAX_SIMILARITY: Final = 0.5
COLUMNS: Final = (
    *("model", "modality", "image_id", "patient_id", "target", "score", "kind", "method", "file"),
    *("vertebrae_share", "area_share", "flagged"),
)


@dataclass(frozen=True)
class Effort:
    """Computation spent on a network.

    Args:
        samples: Noisy copies of an image for SmoothGrad.
        draws: Untrained networks for the check; the maps of a single one may be similar by chance.
    """

    samples: int
    draws: int


@dataclass(frozen=True)
class Gallery:
    """The results of one network: rows of cases.csv, and each method's similarity to untrained networks."""

    rows: list[dict[str, Any]]
    similarity: dict[Method, float | None]


def choose_effort(architecture: str, spec: Mapping[str, Any]) -> Effort:
    """Fewer samples and draws for a backbone of millions of weights, which needs thirty times the work per image."""
    return Effort(samples=4, draws=1) if _has_backbone(architecture, spec) else Effort(samples=16, draws=2)


def draw_fresh(architecture: str, spec: Mapping[str, Any], draws: int) -> list[nn.Module]:
    """Untrained networks of an architecture, without ImageNet weights."""
    blank = {"weights": "random"} if _has_backbone(architecture, spec) else {}
    return [build(architecture, seed=seed, **{**spec, **blank}).eval() for seed in range(draws)]


def _has_backbone(architecture: str, spec: Mapping[str, Any]) -> bool:
    """Whether an architecture can start from weights that were trained elsewhere."""
    return "backbone" in spec or "weights" in find_entry(architecture).spec


def make_gallery(
    name: str,
    scenes: Sequence[Scene],
    network: nn.Module,
    fresh: Sequence[nn.Module],
    *,
    out: Path,
    seed: int,
    samples: int,
    device: str = "cpu",
    synthetic: bool,
) -> Gallery:
    """Explain every case of a network by every method, and write `<out>/<name>/<image_id>-<method>.png`.

    Args:
        name: Name of the model.
        scenes: At least one.
        network: The trained one; of a multimodal network each modality is explained by its own tower.
        fresh: Networks of the same architecture with freshly drawn weights.
        out: Folder of all galleries.
        seed: Seed of SmoothGrad's noise.
        samples: Noisy copies of each image for SmoothGrad; half as many for the fresh networks.
        device: Where to compute.
        synthetic: Whether the images are of the phantom; each picture then says so.

    Raises:
        InputError: The network explains no single image.
    """
    (out / name).mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    maps: dict[Method, list[Maps]] = {method: [] for method in METHODS}
    others: dict[Method, list[Maps]] = {method: [] for method in METHODS}
    for modality in MODALITIES:
        group = [scene for scene in scenes if scene.case.modality == modality]
        if not group:
            continue
        images, decisions = np.stack([scene.pixels for scene in group]), [scene.case.decision for scene in group]
        tower = find_tower(network, modality)
        found = explain_images(tower, images, decisions, seed=seed, device=device, samples=samples)
        for blank in fresh:
            tower, fewer = find_tower(blank, modality), -(-samples // 2)
            untrained = explain_images(tower, images, decisions, seed=seed, device=device, samples=fewer)
            for method in METHODS:
                maps[method].append(found[method])
                others[method].append(untrained[method])
        for index, scene in enumerate(group):
            for method in METHODS:
                row = _describe(name, scene, method, found[method][index])
                _draw(scene, method, found[method][index], synthetic).save(out / row["file"])
                rows.append(row)
    similarity: dict[Method, float | None] = {
        method: mean_similarity(np.concatenate(maps[method]), np.concatenate(others[method])) for method in METHODS
    }
    return Gallery(rows, similarity)


def _draw(scene: Scene, method: Method, heat: Maps, synthetic: bool) -> Image.Image:
    case = scene.case
    title = name_title(METHODS[method], case.modality, case.decision, case.score, target=case.target)
    note = name_note("synthetic cohort" if synthetic else "")
    return draw_overlay(scene.pixels, heat, title=title, note=note, mask=scene.mask)


def _describe(name: str, scene: Scene, method: Method, heat: Maps) -> dict[str, Any]:
    """The row of cases.csv; a map that is 0 everywhere has no share."""
    case, mask = scene.case, None if scene.mask is None else scene.mask / 255.0
    return {
        "model": name,
        "modality": case.modality,
        "image_id": case.image_id,
        "patient_id": case.patient_id,
        "target": case.target,
        "score": case.score,
        "kind": case.kind,
        "method": method,
        "file": f"{name}/{case.image_id}-{method}.png",
        "vertebrae_share": None if mask is None else share_inside(heat, mask),
        "area_share": None if mask is None else float(mask.mean()),
    }


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
    """A network in one line: cases, share of the maps on the vertebrae, similarity to untrained networks."""
    table = frame_gallery(gallery)
    parts = [f"{table['image_id'].nunique()} cases"]
    for method, title in METHODS.items():
        of_method = table[table["method"] == method]
        share, area = (pd.to_numeric(of_method[name]).mean() for name in ("vertebrae_share", "area_share"))
        similarity = gallery.similarity[method]
        on_bone = "" if pd.isna(share) else f" {share:.0%} on vertebrae ({area:.0%} of the area),"
        alike = "undefined" if similarity is None else f"{similarity:.2f}"
        warning = ": HARDLY CHANGES without training" if hardly_changes(similarity) else ""
        parts.append(f"{title}{on_bone} similarity to untrained {alike}{warning}")
    return "; ".join(parts)


def share_inside(heat: Maps, mask: npt.NDArray[np.floating]) -> float | None:
    """The share of a map that is inside a mask; a uniform map has the mask's mean.

    Shapes:
        heat, mask: (H, W).

    Args:
        heat: 0 or more.
        mask: The share of each pixel that is inside, 0 to 1.

    Returns:
        0 to 1; None when the map is 0 everywhere.
    """
    total = float(heat.sum(dtype=np.float64))
    return float((heat * mask).sum(dtype=np.float64)) / total if total > 0 else None


def rank_correlation(heat: Maps, other: Maps) -> float | None:
    """Spearman's rank correlation between two maps of one image, (H, W); None when a map is constant."""
    if np.ptp(heat) == 0 or np.ptp(other) == 0:
        return None
    return float(cast(Any, spearmanr)(heat.ravel(), other.ravel()).statistic)


def mean_similarity(maps: Maps, others: Maps) -> float | None:
    """Mean rank correlation of the maps of a trained network and of one with random weights, over the images.

    A map that stays the same without the learned weights shows the image, not what the network learned.

    Shapes:
        maps, others: (B, H, W).

    Returns:
        The mean over the images where the correlation is defined; None when it is defined for none of them.

    Source: Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018.
    """
    values = [rank_correlation(heat, other) for heat, other in zip(maps, others, strict=True)]
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def hardly_changes(similarity: float | None) -> bool:
    """Whether a method is flagged: its maps hardly change when the weights are drawn again."""
    return similarity is not None and similarity > MAX_SIMILARITY
