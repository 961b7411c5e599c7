"""Osteoporosis prediction from lumbar MRI and CT, with data, trials and models under version control.

For notebooks and scripts; each name is imported on first use:

- `load_cohort`, `load_splits`, `load_predictions`: pandas data frames of the current results
- `list_versions`, `load_version`: registered versions; `load_version(...).score_files(folder)` scores images
- `compare_versions`: two versions on the images that both scored
- `summarize`: metrics with 95 % intervals that count patients
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from osteo_models.evaluation.metrics import summarize
    from osteo_models.ops.notebook import (
        compare_versions,
        list_versions,
        load_cohort,
        load_predictions,
        load_splits,
        load_version,
    )

__version__ = "0.1.0"
__all__ = [
    "compare_versions",
    "list_versions",
    "load_cohort",
    "load_predictions",
    "load_splits",
    "load_version",
    "summarize",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "osteo_models.evaluation.metrics" if name == "summarize" else "osteo_models.ops.notebook"
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
