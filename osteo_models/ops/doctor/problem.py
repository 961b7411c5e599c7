"""What a check looks at and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from osteo_models.core.params import Params
from osteo_models.core.settings import Settings
from osteo_models.registry.journal import Journal
from osteo_models.registry.tracking import Tracking


@dataclass(frozen=True)
class Ailment:
    """Something wrong: where, what was found, and what to do.

    Attributes:
        mend: Puts it right, where that is safe, and says what it did; None where a person must decide.
    """

    where: str
    found: str
    remedy: str
    mend: Callable[[], str] | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.where}: {self.found}; {self.remedy}"

    def as_dict(self) -> dict[str, str | bool]:
        """What `--json` shows."""
        return {"where": self.where, "found": self.found, "remedy": self.remedy, "mendable": self.mend is not None}


@dataclass(frozen=True)
class Project:
    """What the checks look at; what cannot be opened is None, and an ailment of its own."""

    settings: Settings
    params: Params | None
    tracking: Tracking | None
    journal: Journal | None

    @property
    def data(self) -> Path:
        """The folder of the data set."""
        return self.settings.root / (self.params.data.path if self.params else "data")


Check = Callable[[Project], Iterator[Ailment]]
