"""Networks: built by name and spec, the same seed giving the same weights everywhere."""

from osteo_models.models import dual_block as dual_block  # registers unimodal and multimodal
from osteo_models.models import pretrained as pretrained  # registers timm's networks
from osteo_models.models import traditional as traditional  # registers traditional_cnn
from osteo_models.models.catalog import (
    Entry,
    build,
    build_unfilled,
    check_spec,
    complete_spec,
    count_parameters,
    find_entry,
    list_architectures,
)

__all__ = [
    "Entry",
    "build",
    "build_unfilled",
    "check_spec",
    "complete_spec",
    "count_parameters",
    "find_entry",
    "list_architectures",
]
