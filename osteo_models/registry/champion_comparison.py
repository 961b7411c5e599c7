"""The champion beside a version: both on the same images, from the predictions that are kept with each.

Where the champion's predictions are of other data they say nothing about these images: it is then scored again, on the
version's hold-out, without the patients that the champion itself was trained on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from osteo_models.core.errors import ImageError, StoreError, WeightsError
from osteo_models.core.settings import Settings
from osteo_models.core.terms import IMAGE_COLUMNS, IMAGE_ROWS, Modality, Stage
from osteo_models.data.prepare import prepare_bytes
from osteo_models.data.revisions import read_data_digest
from osteo_models.data.tables import read_frame
from osteo_models.evaluation.paired import PairedScores
from osteo_models.evaluation.predictions import Predictions
from osteo_models.registry.gate_evidence import Kept
from osteo_models.registry.lookup import VersionInfo
from osteo_models.registry.manifest import load_network
from osteo_models.registry.rules.results import Rival
from osteo_models.registry.tracking import Tracking

DATA: Final = "dvc.data"


def find_rival(
    tracking: Tracking,
    version: VersionInfo,
    kept: Kept,
    champion: VersionInfo,
    champion_kept: Kept,
    *,
    settings: Settings | None = None,
    data: str = "data",
) -> Rival:
    """The champion beside a version.

    Args:
        tracking: The store.
        version: The version to judge.
        kept: Its files.
        champion: The champion.
        champion_kept: Its files.
        settings: Where the images are, should the champion have to score them.
        data: The data set's path, as in params.yaml.

    Raises:
        StoreError: The store does not answer, or an image that is here cannot be read.
    """
    if champion_kept.changes:
        return Rival(champion.version, lacking=f"it is not as it was registered: {champion_kept.changes[0]}")
    if version.tags.get(DATA) and version.tags.get(DATA) == champion.tags.get(DATA):
        return _match(kept, champion_kept, champion.version)
    tested = next((each for each in kept.predictions.values() if each.validation == "holdout"), None)
    if tested is None:
        return Rival(champion.version, lacking="its predictions are of other data, and there is no hold-out to score")
    if settings is None or read_data_digest(settings.root, data) != version.tags.get(DATA):
        why = "its predictions are of other data, and the images of this version are not here to score"
        return Rival(champion.version, lacking=why)
    if champion_kept.splits is None:
        why = "its predictions are of other data, and it is not known whom it was trained on"
        return Rival(champion.version, lacking=why)
    try:
        return _score_again(tracking, tested, champion, champion_kept, settings, data)
    except (ImageError, WeightsError) as error:
        return Rival(champion.version, lacking=f"it could not be scored again ({error})")


def _match(kept: Kept, other: Kept, champion: int) -> Rival:
    """Both versions' saved scores of the same images."""
    scores: dict[Stage, PairedScores] = {}
    images: dict[Stage, int] = {}
    for (stage, protocol), mine in kept.predictions.items():
        theirs = other.predictions.get((stage, protocol))
        if protocol != "patient" or theirs is None:
            continue
        _, rows, their_rows = np.intersect1d(mine.image_id, theirs.image_id, return_indices=True)
        images[stage] = mine.image_id.size
        if rows.size:
            a, b = mine.select(rows), theirs.select(their_rows)
            if not (np.array_equal(a.target, b.target) and np.array_equal(a.patient_id, b.patient_id)):
                return Rival(champion, lacking=f"its predictions of {stage} give images another class or patient")
            scores[stage] = PairedScores(a.target, a.patient_id, a.score, b.score)
    return Rival(champion, scores, images)


def _score_again(
    tracking: Tracking, tested: Predictions, champion: VersionInfo, kept: Kept, settings: Settings, data: str
) -> Rival:
    """The champion's own scores of the version's hold-out, with images prepared as it was trained on them."""
    splits = kept.splits
    trained = set() if splits is None else set(splits[splits["holdout"] == 0]["patient_id"])
    mine = tested.select(np.asarray([name not in trained for name in tested.patient_id.tolist()], dtype=np.bool_))
    rival = Rival(champion.version, {}, {tested.stage: tested.image_id.size}, rescored=True)
    if not mine.image_id.size:
        why = "its predictions are of other data, and it was trained on every patient of this hold-out"
        return Rival(champion.version, rescored=True, lacking=why)
    loaded = load_network(tracking, champion)
    paths = _find_images(settings, data)
    if any(not paths.get(name, Path()).is_file() for name in mine.image_id.tolist()):
        return Rival(champion.version, lacking="it could not be scored again (images of the hold-out are not here)")
    pixels = np.zeros((mine.image_id.size, IMAGE_ROWS, IMAGE_COLUMNS), np.uint8)
    modalities: list[Modality | None] = []
    for position, (name, modality) in enumerate(zip(mine.image_id.tolist(), mine.modality.tolist(), strict=True)):
        try:
            content = paths[name].read_bytes()
        except OSError as error:  # its text names the file, and so a patient's pseudonym
            remedy = "check the permissions and the disk of the data set"
            raise StoreError(f"an image cannot be read ({error.strerror})", where=data, remedy=remedy) from None
        image = prepare_bytes(content, prepare=loaded.record.prepare, modality=modality, where=name)
        pixels[position] = image.pixels
        modalities.append(image.modality)
    scores = PairedScores(mine.target, mine.patient_id, mine.score, loaded.score(pixels, modalities))
    return Rival(champion.version, {tested.stage: scores}, rival.images, rescored=True)


def _find_images(settings: Settings, data: str) -> dict[str, Path]:
    """Where the image files of the cohort are, by their ids; none where the table of the cohort is not here."""
    listed = settings.artifacts / "cohort" / "images.csv"
    if not listed.is_file():
        return {}
    table = read_frame(listed).set_index("image_id")["path"]
    return {str(name): settings.root / data / "dicom" / str(path) for name, path in table.items()}
