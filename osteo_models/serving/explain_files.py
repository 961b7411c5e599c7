"""Explanations of image files: pictures of where in an image the score comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from osteo_models.core.errors import InputError
from osteo_models.core.terms import CLASS_NAMES, Modality
from osteo_models.data.prepare import PreparedImage
from osteo_models.explain.maps import METHODS, explain_images
from osteo_models.explain.overlays import draw_overlay, name_note, name_title
from osteo_models.serving.model_record import ENSEMBLE_SUFFIX
from osteo_models.serving.predict import (
    NO_REFERENCE,
    NOTICE,
    ImageScore,
    LoadedVersion,
    Refusal,
    describe_model,
    score_files,
)
from osteo_models.training.inference import find_tower

LIST: Final = "explanations.json"
REMEDY: Final = "name another folder with --out"
METHOD: Final = "A map shows what the score depends on in this image; it proves nothing about the bone."


@dataclass(frozen=True)
class ImageExplanation:
    """One image and one method; `picture` is the file that was written, `ood` as in `ImageScore`."""

    file: str
    patient_id: str | None
    modality: Modality | None
    score: float
    decision: str
    ood: str | None
    method: str
    picture: str


@dataclass(frozen=True)
class Explanation:
    """Explanations of some files; `compared` and `refused` as in `Prediction`."""

    model: str
    version: int
    threshold: float
    synthetic: bool
    compared: bool
    explanations: list[ImageExplanation]
    refused: list[Refusal]
    notice: str = f"{METHOD} {NOTICE}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def as_lines(self) -> Iterator[str]:
        """For people."""
        yield describe_model(self)
        if not self.compared:
            yield NO_REFERENCE
        for one in self.explanations:
            ood = f"; out of distribution: {one.ood}" if one.ood else ""
            yield f"  {one.file}: {one.score:.3f} {one.decision}, {one.method}: {one.picture}{ood}"
        for refused in self.refused:
            yield f"  refused: {refused}"
        yield self.notice


def explain_path(
    version: LoadedVersion,
    path: Path,
    modality: Modality | None,
    *,
    out: Path,
    seed: int,
    allow_ood: bool = False,
) -> Explanation:
    """Explain the score of a file, or of every file of a folder.

    Args:
        version: What scores them, on the device that it was loaded on.
        path: DICOM, PNG or JPEG.
        modality: Modality of PNG and JPEG files.
        out: Folder for `<file>-<method>.png`, in folders as the files, and the list of them, `explanations.json`.
        seed: Seed of SmoothGrad's noise.
        allow_ood: Explain also images that are out of distribution.

    Raises:
        InputError: No such path, the version is a fold ensemble, `out` cannot be used, or no file could be scored (with
            the reasons).
    """
    if out.exists() and not out.is_dir():
        raise InputError("a file, not a folder", where=str(out), remedy=REMEDY)
    if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
        raise InputError("is in the folder that is read", where=str(out), remedy=REMEDY)
    record = version.network.record
    if record.members > 1:  # the mean of several networks' maps is not validated
        found = f"a fold ensemble of {record.members} networks, and maps show one network"
        remedy = f"explain the single network, such as {version.name.removesuffix(ENSEMBLE_SUFFIX)}"
        raise InputError(found, where=f"models:/{version.name}/{version.version}", remedy=remedy)
    scored = score_files(version.network, path, modality, allow_ood=allow_ood)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be made ({error.strerror})", where=str(out), remedy=REMEDY) from None
    root = path if path.is_dir() else path.parent
    explanations: list[ImageExplanation] = []
    for present in sorted({image.modality for image in scored.images}, key=str):
        pairs = [pair for pair in zip(scored.images, scored.prepared, strict=True) if pair[0].modality == present]
        explanations += _explain(version, pairs, root, out, seed)
    explanations.sort(key=lambda one: one.file)
    explanation = Explanation(
        version.name,
        version.version,
        record.threshold,
        version.synthetic,
        version.network.ood is not None,
        explanations,
        scored.refused,
    )
    (out / LIST).write_text(json.dumps(explanation.as_dict(), indent=1) + "\n", encoding="utf-8")
    return explanation


def _explain(
    version: LoadedVersion, images: Sequence[tuple[ImageScore, PreparedImage]], root: Path, out: Path, seed: int
) -> list[ImageExplanation]:
    """Explain images of one modality together."""
    modality = images[0][0].modality
    tower = find_tower(version.network.network, modality)
    pixels = np.stack([image.pixels for _, image in images])
    decisions = [CLASS_NAMES.index(score.decision) for score, _ in images]
    maps = explain_images(tower, pixels, decisions, seed=seed, device=version.network.device)
    made: list[ImageExplanation] = []
    for index, (score, image) in enumerate(images):
        origin = ["trained on a synthetic cohort"] * version.synthetic + ["out of distribution"] * bool(score.ood)
        note = name_note(", ".join(origin))
        file = Path(score.file)
        folder = out / file.relative_to(root).parent
        folder.mkdir(parents=True, exist_ok=True)
        facts = (score.file, score.patient_id, modality, score.score, score.decision, score.ood)
        for method, name in METHODS.items():
            picture = folder / f"{file.name}-{method}.png"
            title = name_title(name, modality, decisions[index], score.score)
            draw_overlay(image.pixels, maps[method][index], title=title, note=note).save(picture)
            made.append(ImageExplanation(*facts, method, str(picture)))
    return made
