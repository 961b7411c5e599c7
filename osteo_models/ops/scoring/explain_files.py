"""`osteo explain`: image files to pictures of what a model's answer hangs on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from osteo_models.core.errors import InputError
from osteo_models.core.terms import CLASS_NAMES, Modality
from osteo_models.explain.maps import METHODS, explain_images, pick_device
from osteo_models.explain.overlays import draw_overlay, name_note, name_title
from osteo_models.ops.scoring.inputs import NOTICE, UNCOMPARED, FileImage, Refusal, Request, read_request
from osteo_models.registry.tracking import Tracking
from osteo_models.serving.ensemble import SUFFIX
from osteo_models.training.inference import find_tower

LIST: Final = "explanations.json"
OTHER: Final = "name another folder with --out"
METHOD: Final = "A map shows what the score hangs on in this image; it proves nothing about the bone."


@dataclass(frozen=True)
class Explained:
    """One image and one method: `picture` is the file that was written, `unlike` as `osteo predict` says it."""

    file: str
    patient_id: str | None
    modality: Modality | None
    score: float
    decision: str
    unlike: str | None
    method: str
    picture: str


@dataclass(frozen=True)
class Explanation:
    """What was explained; `compared` is whether images were compared with the training images, as in `Prediction`."""

    model: str
    version: int
    threshold: float
    synthetic: bool
    compared: bool
    explanations: list[Explained]
    refused: list[Refusal]
    notice: str = field(default=f"{METHOD} {NOTICE}")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def as_lines(self) -> Iterator[str]:
        """For people."""
        trained = ", trained on a synthetic cohort" if self.synthetic else ""
        yield f"{self.model} version {self.version}{trained}; osteoporosis at a score of {self.threshold:g} or more"
        if not self.compared:
            yield UNCOMPARED
        for each in self.explanations:
            unlike = f"; unlike the training images: {each.unlike}" if each.unlike else ""
            yield f"  {each.file}: {each.score:.3f} {each.decision}, {each.method}: {each.picture}{unlike}"
        for refused in self.refused:
            yield f"  refused: {refused}"
        yield self.notice


def explain_path(
    tracking: Tracking,
    path: Path,
    reference: str,
    modality: Modality | None,
    *,
    out: Path,
    seed: int,
    accept_unlike: bool = False,
    device: str = "auto",
) -> Explanation:
    """Explain a model's answer for a file, or every file of a folder.

    Args:
        tracking: The store.
        path: DICOM, PNG or JPEG.
        reference: `NAME@alias`, `NAME/3` or `NAME`.
        modality: Of PNG and JPEG files.
        out: Folder for `<file>-<method>.png`, in folders as the files, and the list of them, `explanations.json`.
        seed: Of SmoothGrad's noise.
        accept_unlike: Explain also what does not look like the training images.
        device: As `pick_device` takes it.

    Raises:
        InputError: No such path, version or device, the version is a fold ensemble, `out` cannot be used, or no file
            could be scored (with the reasons).
        WeightsError: The version is no model of ours or was changed.
    """
    place = pick_device(device)
    if out.exists() and not out.is_dir():
        raise InputError("a file, not a folder", where=str(out), remedy=OTHER)
    if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
        raise InputError("lies in the folder that is read", where=str(out), remedy=OTHER)
    request = read_request(tracking, path, reference, modality, accept_unlike=accept_unlike, device=place)
    _refuse_ensemble(request)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be made ({error.strerror})", where=str(out), remedy=OTHER) from None
    root = path if path.is_dir() else path.parent
    explanations: list[Explained] = []
    for wanted in sorted({each.image.modality for each in request.images}, key=str):
        images = [each for each in request.images if each.image.modality == wanted]
        explanations += _explain(request, images, root, out, seed, place)
    version = request.version
    explanation = Explanation(
        version.name,
        version.version,
        request.loaded.record.threshold,
        request.synthetic,
        request.loaded.likeness is not None,
        sorted(explanations, key=lambda each: each.file),
        request.refused,
    )
    text = json.dumps(explanation.as_dict(), indent=1) + "\n"
    (out / LIST).write_text(text, encoding="utf-8")
    return explanation


def _refuse_ensemble(request: Request) -> None:
    """A map follows one network; the mean of several networks' maps was checked by nobody."""
    record = request.loaded.record
    if record.members > 1:
        alone = request.version.name.removesuffix(SUFFIX)
        found = f"a fold ensemble of {record.members} networks, and maps show one network"
        raise InputError(found, where=request.version.uri, remedy=f"explain the network alone, such as {alone}")


def _explain(
    request: Request, images: list[FileImage], root: Path, out: Path, seed: int, device: str
) -> list[Explained]:
    """Explain images of one modality together."""
    modality = images[0].image.modality
    tower = find_tower(request.loaded.network, modality)
    pixels, decisions = np.stack([each.image.pixels for each in images]), [each.decision for each in images]
    maps = explain_images(tower, pixels, decisions, seed=seed, device=device)
    made: list[Explained] = []
    for index, each in enumerate(images):
        origin = ["trained on a synthetic cohort"] * request.synthetic + ["unlike its images"] * bool(each.unlike)
        note = name_note(", ".join(origin))
        place = out / each.file.relative_to(root).parent
        place.mkdir(parents=True, exist_ok=True)
        for method, name in METHODS.items():
            picture = place / f"{each.file.name}-{method}.png"
            title = name_title(name, modality, each.decision, each.score)
            draw_overlay(each.image.pixels, maps[method][index], title=title, note=note).save(picture)
            facts = (
                str(each.file),
                each.image.patient_id,
                modality,
                each.score,
                CLASS_NAMES[each.decision],
                each.unlike,
            )
            made.append(Explained(*facts, method, str(picture)))
    return made
