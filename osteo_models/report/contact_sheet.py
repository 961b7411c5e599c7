"""The contact sheet of a data set: doubtful inputs and all accepted series as one self-contained page."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image, ImageDraw

from osteo_models.core.errors import ImageError
from osteo_models.core.params import Prepare
from osteo_models.data.data_folder import IMAGES, INTAKE, read_rows
from osteo_models.data.image_file import is_picture, read_header, read_image
from osteo_models.data.prepare import window_image
from osteo_models.data.reasons import DOUBTS

THUMBNAIL_PIXELS: Final = 150
FACTS: Final = {
    "repetition_time_ms": "TR {:g} ms",
    "echo_time_ms": "TE {:g} ms",
    "field_strength_t": "{:g} T",
    "kvp": "{:g} kV",
    "slice_thickness_mm": "{:.1f} mm thick",
    "pixel_spacing_mm": "{:.2f} mm pixels",
}


@dataclass(frozen=True)
class SeriesCard:
    """A series on the page.

    Attributes:
        name: Pseudonym of the series, or of its input.
        reason: A key of `DOUBTS`, empty where it is accepted.
        inputs, images: How many there are.
        facts: What the header states of the acquisition.
        picture: Thumbnail of the middle image, with the outline of the part that networks see, as base64.
    """

    name: str
    patient: str
    modality: str
    reason: str
    inputs: int
    images: int
    facts: str
    picture: str


def list_series(data: Path, doubtful: Path, prepare: Prepare) -> list[SeriesCard]:
    """The doubtful series of a data set, then the accepted ones.

    Args:
        data: The data set.
        doubtful: The private folder of doubtful images.
        prepare: The section of params.yaml.
    """
    files: dict[str, list[Path]] = {}
    for row in read_rows(data / "images.csv"):
        files.setdefault(row["input"], []).append(data / IMAGES / row["path"])
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in read_rows(data / INTAKE):
        if row["status"] != "refused":
            reason = row["reason"] if row["status"] == "doubtful" else ""
            groups.setdefault((reason, row["series"] or row["input"]), []).append(row)
    cards: list[SeriesCard] = []
    for (reason, name), rows in groups.items():
        places = [doubtful / row["input"] for row in rows] if reason else []
        paths = sorted(path for place in places for path in place.glob("*"))
        paths = paths or [path for row in rows for path in files.get(row["input"], [])]
        facts, picture = _show(paths[len(paths) // 2], rows[0]["modality"], prepare) if paths else ("", "")
        cards.append(
            SeriesCard(name, rows[0]["patient_id"], rows[0]["modality"], reason, len(rows), len(paths), facts, picture)
        )
    return sorted(cards, key=lambda card: (not card.reason, card.reason, card.patient, card.name))


def _show(path: Path, modality: str, prepare: Prepare) -> tuple[str, str]:
    """Facts of the header and the thumbnail of an image."""
    data = path.read_bytes()
    try:
        source = read_image(data, where=path.name)
        grey, box = window_image(source, prepare, path.name)
    except ImageError as error:
        return str(error.found), ""
    spacing = source.spacing_mm or (1.0, 1.0)
    height, width = grey.shape[0] * spacing[0], grey.shape[1] * spacing[1]
    scale = THUMBNAIL_PIXELS / max(height, width)
    small = Image.fromarray(grey).resize((max(1, round(width * scale)), max(1, round(height * scale)))).convert("RGB")
    across, down = scale * spacing[1], scale * spacing[0]
    edges = (box[0] * across, box[1] * down, box[2] * across - 1, box[3] * down - 1)
    ImageDraw.Draw(small).rectangle(edges, outline=(255, 190, 40))
    buffer = io.BytesIO()
    small.save(buffer, format="PNG")
    numbers = {} if is_picture(data) else read_header(data, where=path.name).numbers
    facts = [text.format(numbers[name]) for name, text in FACTS.items() if not math.isnan(numbers.get(name, math.nan))]
    return ", ".join(facts), base64.b64encode(buffer.getvalue()).decode()


def render_contact_sheet(cards: list[SeriesCard], data: str) -> str:
    """The page."""
    loader = PackageLoader("osteo_models.report")
    page = Environment(autoescape=True, loader=loader, undefined=StrictUndefined).get_template("contact_sheet.html.j2")
    doubtful = [card for card in cards if card.reason]
    return page.render(data=data, doubtful=doubtful, accepted=cards[len(doubtful) :], doubts=DOUBTS)
