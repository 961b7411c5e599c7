"""Comparison of a version with the champion on the same images, from the predictions that are kept with each.

Predictions of other data cannot be compared: the champion is then scored again on the version's hold-out, without the
patients that the champion itself was trained on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from osteo_models.core.errors import ImageError, StoreError, WeightsError
from osteo_models.core.settings import Settings
from osteo_models.core.terms import IMAGE_COLUMNS, IMAGE_ROWS, Modality, Stage
from osteo_models.data.prepare import prepare_bytes
from osteo_models.data.revisions import read_data_digest
from osteo_models.data.tables import read_frame
from osteo_models.evaluation.paired import PairedScores
from osteo_models.evaluation.predictions import Predictions
from osteo_models.registry.package import load_network
from osteo_models.registry.rules.results import DATA_TAG, ChampionComparison, Evidence
from osteo_models.registry.tracking import Tracking
from osteo_models.registry.versions import VersionInfo
from osteo_models.serving.network import LoadedNetwork


def compare_with_champion(
    tracking: Tracking,
    evidence: Evidence,
    champion: VersionInfo,
    champion_evidence: Evidence,
    *,
    settings: Settings | None = None,
    data: str = "data",
) -> ChampionComparison:
    """Compare a version with the champion.

    Args:
        evidence: Stored evidence of the version to judge.
        champion: The champion.
        champion_evidence: Its stored evidence.
        settings: Where the images are, should the champion have to score them.
        data: Path of the data set, as in params.yaml.

    Raises:
        StoreError: The store does not answer, or an image that exists cannot be read.
    """
    if champion_evidence.changes:
        found = f"it is not as it was registered: {champion_evidence.changes[0]}"
        return ChampionComparison(champion.version, missing_evidence=found)
    digest = evidence.tags.get(DATA_TAG)
    if digest and digest == champion.tags.get(DATA_TAG):
        return _match(evidence, champion_evidence, champion.version)
    tested = next((table for table in evidence.predictions.values() if table.validation == "holdout"), None)
    if tested is None:
        return _no_scores(champion, "and there is no hold-out to score")
    if settings is None or read_data_digest(settings.root, data) != digest:
        return _no_scores(champion, "and the images of this version are not here to score")
    if champion_evidence.splits is None:
        return _no_scores(champion, "and the patients that it was trained on are not known")
    try:
        return _score_again(tracking, tested, champion, champion_evidence.splits, settings, data)
    except (ImageError, WeightsError) as error:
        return ChampionComparison(champion.version, missing_evidence=f"it could not be scored again ({error})")


def _no_scores(champion: VersionInfo, why: str) -> ChampionComparison:
    return ChampionComparison(champion.version, missing_evidence=f"its predictions are of other data, {why}")


def _match(evidence: Evidence, champion_evidence: Evidence, champion: int) -> ChampionComparison:
    """Both versions' saved scores of the same images."""
    scores: dict[Stage, PairedScores] = {}
    images: dict[Stage, int] = {}
    for (stage, protocol), own in evidence.predictions.items():
        other = champion_evidence.predictions.get((stage, protocol))
        if protocol != "patient" or other is None:
            continue
        _, rows, other_rows = np.intersect1d(own.image_id, other.image_id, return_indices=True)
        images[stage] = own.image_id.size
        if rows.size:
            a, b = own.select(rows), other.select(other_rows)
            if not (np.array_equal(a.target, b.target) and np.array_equal(a.patient_id, b.patient_id)):
                found = f"its predictions of {stage} give images another class or patient"
                return ChampionComparison(champion, missing_evidence=found)
            scores[stage] = PairedScores(a.target, a.patient_id, a.score, b.score)
    return ChampionComparison(champion, scores, images)


def _score_again(
    tracking: Tracking, tested: Predictions, champion: VersionInfo, splits: pd.DataFrame, settings: Settings, data: str
) -> ChampionComparison:
    """The champion's own scores of the version's hold-out, with images prepared as it was trained on them."""
    trained = set(splits[splits["holdout"] == 0]["patient_id"])
    new = tested.select(np.asarray([name not in trained for name in tested.patient_id.tolist()], dtype=np.bool_))
    if not new.image_id.size:
        return _no_scores(champion, "and it was trained on every patient of this hold-out")
    network = load_network(tracking, champion)
    paths = _find_images(settings, data)
    if any(not paths.get(name, Path()).is_file() for name in new.image_id.tolist()):
        found = "it could not be scored again (images of the hold-out are not here)"
        return ChampionComparison(champion.version, missing_evidence=found)
    scores = PairedScores(new.target, new.patient_id, new.score, _score_files(network, new, paths, data))
    sizes: dict[Stage, int] = {tested.stage: tested.image_id.size}
    return ChampionComparison(champion.version, {tested.stage: scores}, sizes, rescored=True)


def _score_files(network: LoadedNetwork, table: Predictions, paths: dict[str, Path], data: str) -> np.ndarray:
    pixels = np.zeros((table.image_id.size, IMAGE_ROWS, IMAGE_COLUMNS), np.uint8)
    modalities: list[Modality | None] = []
    for position, (name, modality) in enumerate(zip(table.image_id.tolist(), table.modality.tolist(), strict=True)):
        try:
            content = paths[name].read_bytes()
        except OSError as error:  # its text names the file, and so a patient's pseudonym
            remedy = "check the permissions and the disk of the data set"
            raise StoreError(f"an image cannot be read ({error.strerror})", where=data, remedy=remedy) from None
        image = prepare_bytes(content, prepare=network.record.prepare, modality=modality, where=name)
        pixels[position] = image.pixels
        modalities.append(image.modality)
    return network.score(pixels, modalities)


def _find_images(settings: Settings, data: str) -> dict[str, Path]:
    """Paths of the cohort's image files by image id; empty where the table of the cohort is missing."""
    listed = settings.artifacts / "cohort" / "images.csv"
    if not listed.is_file():
        return {}
    table = read_frame(listed).set_index("image_id")["path"]
    return {str(name): settings.root / data / "dicom" / str(path) for name, path in table.items()}
