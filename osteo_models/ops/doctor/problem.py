"""What a check takes, and what it yields."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from osteo_models.core.params import Params
from osteo_models.core.settings import Settings
from osteo_models.registry.journal import Journal
from osteo_models.registry.tracking import Tracking


@dataclass(frozen=True)
class Problem:
    """Something wrong: where, what was found, and what to do.

    Attributes:
        fix: Fixes it and returns what was done; None if a person must decide.
    """

    where: str
    found: str
    remedy: str
    fix: Callable[[], str] | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.where}: {self.found}; {self.remedy}"

    def as_dict(self) -> dict[str, str | bool]:
        """What `--json` shows."""
        return {"where": self.where, "found": self.found, "remedy": self.remedy, "fixable": self.fix is not None}


@dataclass(frozen=True)
class Project:
    """What the checks look at; a part that cannot be opened is None, and reported as a problem."""

    settings: Settings
    params: Params | None
    tracking: Tracking | None
    journal: Journal | None

    @property
    def data(self) -> Path:
        """The folder of the data set."""
        return self.settings.root / (self.params.data.path if self.params else "data")


Check = Callable[[Project], Iterator[Problem]]
