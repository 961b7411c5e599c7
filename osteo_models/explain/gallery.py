"""All cases of one network: their maps, pictures and shares, and the check against networks that learnt nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from PIL import Image
from torch import nn

from osteo_models.core.terms import MODALITIES
from osteo_models.explain.checks import Maps, hardly_changes, mean_similarity, share_inside
from osteo_models.explain.explained_cases import Scene
from osteo_models.explain.maps import METHODS, Method, explain_images
from osteo_models.explain.overlays import draw_overlay, name_note, name_title
from osteo_models.models import build, find_entry
from osteo_models.training.inference import find_tower

COLUMNS: Final = (
    *("model", "modality", "image_id", "patient_id", "target", "score", "kind", "method", "file"),
    *("vertebrae_share", "area_share", "flagged"),
)


@dataclass(frozen=True)
class Effort:
    """How much is spent on a network.

    Args:
        samples: Noisy copies of an image for SmoothGrad.
        draws: Networks with fresh weights for the check: the maps of a single one may be like or unlike by chance.
    """

    samples: int
    draws: int


@dataclass(frozen=True)
class Gallery:
    """What was made of one network: rows of cases.csv, and each method's likeness to networks without training."""

    rows: list[dict[str, Any]]
    similarity: dict[Method, float | None]


def choose_effort(architecture: str, spec: Mapping[str, Any]) -> Effort:
    """Less for a backbone of millions of weights, at some thirty times the work per image."""
    return Effort(samples=4, draws=1) if _has_backbone(architecture, spec) else Effort(samples=16, draws=2)


def draw_fresh(architecture: str, spec: Mapping[str, Any], draws: int) -> list[nn.Module]:
    """Networks of an architecture that learnt nothing, not even from ImageNet."""
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
        name: Of the model.
        scenes: At least one.
        network: The trained one; of a multimodal network each modality is explained by its own tower.
        fresh: Networks of the same architecture with freshly drawn weights.
        out: Folder of all galleries.
        seed: Of SmoothGrad's noise.
        samples: Noisy copies of each image for SmoothGrad; half as many for the fresh networks.
        device: Where to compute.
        synthetic: Whether the images are of the phantom, which each picture then says.

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
            unlearnt = explain_images(tower, images, decisions, seed=seed, device=device, samples=fewer)
            for method in METHODS:
                maps[method].append(found[method])
                others[method].append(unlearnt[method])
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
    """The row of cases.csv; of a map that is 0 everywhere there is no share."""
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
    """A network in one line: its cases, how much of the maps lies on the vertebrae, and whether they mean anything."""
    table = frame_gallery(gallery)
    parts = [f"{table['image_id'].nunique()} cases"]
    for method, title in METHODS.items():
        of_method = table[table["method"] == method]
        share, area = (pd.to_numeric(of_method[name]).mean() for name in ("vertebrae_share", "area_share"))
        similarity = gallery.similarity[method]
        on_bone = "" if pd.isna(share) else f" {share:.0%} on vertebrae ({area:.0%} of the area),"
        alike = "undefined" if similarity is None else f"{similarity:.2f}"
        warning = ": HARDLY CHANGES without training" if hardly_changes(similarity) else ""
        parts.append(f"{title}{on_bone} likeness to untrained {alike}{warning}")
    return "; ".join(parts)
