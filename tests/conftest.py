"""What several layers' tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from osteo_models.core.params import Params, load_params, parse_params
from tests.site_of_servers import site

__all__ = ["site"]  # one for all folders of tests

INTENSITY = {"mri": {"percentiles": [1.0, 99.5]}, "ct": {"window_hu": [-160, 840]}}
ROOT = Path(__file__).parents[1]
STAGES = load_params(ROOT / "params.yaml").stage_table


@pytest.fixture
def raw_params() -> dict:
    """The project's own params.yaml, to be changed by a test."""
    return yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def params(raw_params: dict) -> Params:
    """The project's own parameters."""
    return parse_params(raw_params)
