"""Private names of other packages that this project uses, each with its reason; a test checks that they still exist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class PrivateApi:
    """A name without a promise of stability.

    Attributes:
        module: Module that defines it.
        name: Attribute of the module, or a keyword of `function`.
        function: Function of the module that takes `name` as a keyword; empty for an attribute.
        used_in: Module of this project that uses it.
        reason: Why no public name serves.
    """

    module: str
    name: str
    function: str
    used_in: str
    reason: str


PRIVATE_APIS: Final = (
    PrivateApi(
        module="ray",
        function="init",
        name="_temp_dir",
        used_in="osteo_models.training.ray_cluster",
        reason="A local cluster needs a folder of its own user, which `osteo doctor` checks for leftovers.",
    ),
    PrivateApi(
        module="ray.tune.execution.class_cache",
        function="",
        name="ENV_VARS_TO_PROPAGATE",
        used_in="osteo_models.training.ray_cluster",
        reason="Tune sends AWS keys of the driver to all workers, whose agents log them; workers have their own.",
    ),
)
