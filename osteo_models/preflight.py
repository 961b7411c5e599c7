"""What params.yaml names must exist: seen before anything runs, every fault at once."""

from __future__ import annotations

from osteo_models.errors import InputError, ParamsError
from osteo_models.models import build, find_entry
from osteo_models.params import PARAMS_FILE, Params
from osteo_models.registry.rules import check_rules
from osteo_models.training.space import list_space_faults


def check_params(params: Params) -> None:
    """See that every architecture can be built with its spec, suits its stages, and every gate rule is known.

    Raises:
        ParamsError: Listing every fault.
    """
    faults: list[str] = []
    for name, spec in params.architectures.items():
        try:
            build(name, **spec)
        except InputError as error:
            faults.append(f"architectures.{name}: {error}")
        except TypeError as error:
            faults.append(f"architectures.{name}: a value of the wrong kind ({error})")
    known = [name for name in params.architectures if not any(f"architectures.{name}:" in fault for fault in faults)]
    for stage, item in params.stages.items():
        for name in item.architectures:
            if name in known and not set(item.images) & set(find_entry(name).image_sets):
                taken = ", ".join(find_entry(name).image_sets)
                faults.append(f"stages.{stage}: {name} takes none of {', '.join(item.images)}, only {taken}")
    faults += list_space_faults(params)
    try:
        check_rules(params.gate)
    except ParamsError as error:
        faults.append(error.found)
    if faults:
        raise ParamsError("; ".join(faults), where=PARAMS_FILE, remedy="mend params.yaml and run the command again")
