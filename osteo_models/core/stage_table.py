"""The table of stages: `stages` of params.yaml as rows, which everything after training reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from osteo_models.core.errors import InputError
from osteo_models.core.terms import ImageSet, Stage, Validation

PAPER_TABLES: Final = (3, 4, 5, 6, 7, 10)  # the paper's tables of networks, one for each of its experiments


@dataclass(frozen=True)
class StageRow:
    """One stage.

    Attributes:
        validation: How its test images are held apart from training.
        images: Image sets that its networks are trained and tested on.
        architectures: Networks that it lists, whatever the profile leaves out.
        folds: Number of networks that one job trains.
        title: Heading of the report; empty for the usual one of its validation and images.
        paper_table: Number of the paper's table with the same experiment; None where there is none.
    """

    name: Stage
    validation: Validation
    images: tuple[ImageSet, ...]
    architectures: tuple[str, ...]
    folds: int = 1
    title: str = ""
    paper_table: int | None = None


@dataclass(frozen=True)
class StageTable:
    """All stages, in the order of params.yaml."""

    rows: tuple[StageRow, ...]

    def __iter__(self) -> Iterator[StageRow]:
        return iter(self.rows)

    @property
    def names(self) -> tuple[Stage, ...]:
        """All names."""
        return tuple(row.name for row in self.rows)

    def find(self, name: Stage) -> StageRow:
        """The row of a stage.

        Raises:
            InputError: There is no such stage.
        """
        for row in self.rows:
            if row.name == name:
                return row
        remedy = "add it to `stages` in params.yaml, or run `dvc repro`"
        raise InputError(f"no stage {name!r}", where="params.yaml", allowed=", ".join(self.names), remedy=remedy)

    def select(self, *validations: Validation) -> tuple[Stage, ...]:
        """Names of the stages with one of these validations."""
        return tuple(row.name for row in self.rows if row.validation in validations)

    def find_paper_table(self, *tables: int) -> tuple[Stage, ...]:
        """Names of the stages that repeat one of these tables of the paper."""
        return tuple(row.name for row in self.rows if row.paper_table in tables)

    def find_folds(self, images: ImageSet) -> Stage | None:
        """The cross-validation of an image set: the first stage with folds that has it."""
        return next((row.name for row in self.rows if row.validation == "folds" and images in row.images), None)

    def find_holdout(self, architecture: str, images: ImageSet) -> Stage | None:
        """The stage whose network is registered: the first hold-out that lists the architecture on the image set."""
        for row in self.rows:
            if row.validation == "holdout" and architecture in row.architectures and images in row.images:
                return row.name
        return None
