"""What params.yaml names must exist: seen before anything runs, every fault at once."""

from __future__ import annotations

from pathlib import Path

from osteo_models.core.errors import InputError, ParamsError
from osteo_models.core.params import PARAMS_FILE, Params
from osteo_models.models import check_spec, find_entry
from osteo_models.models.pretrained import read_initial_weights
from osteo_models.registry.rules import check_rules
from osteo_models.search.space import list_space_faults
from osteo_models.training.pretrained_plan import find_pretrained


def check_params(params: Params, weights_dir: Path | None = None) -> None:
    """See that every architecture can be built with its spec, suits its stages, and every gate rule is known.

    Then, that the weights which the networks of the profile in force start from can be had and read.

    Args:
        params: params.yaml.
        weights_dir: OSTEO_WEIGHTS_DIR.

    Raises:
        ParamsError: Listing every fault.
        WeightsError: Weights cannot be had, or are not what they should be.
    """
    faults: list[str] = []
    for name, spec in params.architectures.items():
        try:
            check_spec(name, spec)
        except InputError as error:
            faults.append(f"architectures.{name}: {error}")
        except TypeError as error:
            faults.append(f"architectures.{name}: a value of the wrong kind ({error})")
    known = [name for name in params.architectures if not any(f"architectures.{name}:" in fault for fault in faults)]
    for stage, item in params.stages.items():
        for name in item.architectures:
            if name not in known:
                continue
            image_sets = find_entry(name, params.architectures[name]).image_sets
            if not set(item.images) & set(image_sets):
                taken = ", ".join(image_sets)
                faults.append(f"stages.{stage}: {name} takes none of {', '.join(item.images)}, only {taken}")
    faults += list_space_faults(params)
    try:
        check_rules(params.gate)
    except ParamsError as error:
        faults.append(error.found)
    if faults:
        raise ParamsError("; ".join(faults), where=PARAMS_FILE, remedy="fix params.yaml and run the command again")
    for about, file in find_pretrained(params, weights_dir).values():
        if file is not None:
            read_initial_weights(about, file)
