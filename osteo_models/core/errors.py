"""Expected errors, each with the way out.

OsteoError                      exit code 1: the work failed
|-- InputError                  exit code 2: what was given is wrong
|   |-- ParamsError             params.yaml
|   |-- TableError              a table: missing column, bad value
|   |-- ImageError              an image file that cannot be used
|   `-- SplitError              a split that leaks or does not exist
|-- StaleDataError              data on disk is not the data that was recorded
|-- StoreError                  MLflow, Prefect or DVC cannot be used
|-- WeightsError                network weights cannot be had
|-- ConflictError               another process was faster
`-- GateRefused                 exit code 3: promotion refused
"""

from __future__ import annotations

from typing import ClassVar


class OsteoError(Exception):
    """An error a user can act on, in one line.

    Args:
        found: What is wrong, with the offending value.
        where: File, column, option or object it was found in.
        allowed: What would have been right.
        remedy: What to do next.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, found: str, *, where: str = "", allowed: str = "", remedy: str = "") -> None:
        self.found, self.where, self.allowed, self.remedy = found, where, allowed, remedy
        head = f"{where}: {found}" if where else found
        parts = [head, f"allowed: {allowed}" if allowed else "", remedy]
        super().__init__("; ".join(part for part in parts if part))


class InputError(OsteoError):
    """What was given (option, file, table) is wrong; nothing was written."""

    exit_code = 2


class ParamsError(InputError):
    """params.yaml is wrong; the message lists every fault."""


class TableError(InputError):
    """A table is wrong; the message lists every fault."""


class ImageError(InputError):
    """An image file cannot be read or used."""


class SplitError(InputError):
    """A split puts a patient on two sides, or cannot be made from the data."""


class StaleDataError(OsteoError):
    """Data on disk differs from what was recorded."""


class StoreError(OsteoError):
    """A store or server (MLflow, Prefect, DVC) cannot be used."""


class WeightsError(OsteoError):
    """Network weights are missing or damaged."""


class ConflictError(OsteoError):
    """Another process changed the champion meanwhile; nothing was changed by this command."""


class GateRefused(OsteoError):
    """Promotion was refused; the message names the rules that failed.

    Attributes:
        verdict: What the gate said, rule by rule (`registry.rules.Verdict`).
    """

    exit_code = 3
    verdict: object = None
