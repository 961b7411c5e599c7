"""The small job tables of the training tests, which searches draw their candidates' folds from too."""

from tests.training.conftest import small_params, tables

__all__ = ["small_params", "tables"]
