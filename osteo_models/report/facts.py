"""What the page is told beside the files: where the numbers come from, and with which settings they were made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Facts:
    """About the run as a whole.

    Attributes:
        provenance: Commit, data hash, versions of packages.
        params: params.yaml as it was used.
        left_out: What the profile leaves out of the paper's protocol.
        seconds: By section, in the order of building; filled while the page is made.
    """

    provenance: dict[str, str]
    params: Mapping[str, Any]
    synthetic: bool
    left_out: list[str]
    seconds: dict[str, float]

    @property
    def profile(self) -> str:
        return str(self.params.get("profile", ""))

    def param(self, path: str) -> Any:
        """A value of params.yaml by its dotted name; None where it is not given."""
        value: Any = self.params
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        return value


def flatten_params(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values, such as ("experiments.epochs", "20")."""
    for name, value in params.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from flatten_params(value, f"{path}.")
        elif isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
            for number, item in enumerate(value):
                nested = item if isinstance(item, Mapping) else {"value": item}
                yield from flatten_params(nested, f"{path}[{number}].")
        elif isinstance(value, (list, tuple)):
            yield path, ", ".join(str(item) for item in value)
        else:
            yield path, "–" if value is None else str(value)
