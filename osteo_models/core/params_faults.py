"""Faults of params.yaml in words: of its form, and names in it that point nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast


def as_list(value: object) -> object:
    """One name stands for a list of one."""
    return [value] if isinstance(value, str) else value


def explain_fault(fault: Mapping[str, Any]) -> str:
    """A fault of pydantic's in one line: its path, what is wrong, what was found."""
    path = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"{path}: unknown key"
    if fault["type"] == "missing":
        return f"{path}: missing"
    message = str(fault["msg"]).removeprefix("Value error, ")
    return f"{path}: {message}" if fault["type"] == "value_error" else f"{path}: {message}, found {fault['input']!r}"


def find_reference_faults(raw: dict[str, Any]) -> list[str]:
    """Names that point nowhere; looked for in the raw document, so that they show beside faults of form."""
    profiles, architectures, stages = (_mapping(raw.get(key)) for key in ("profiles", "architectures", "stages"))
    faults: list[str] = []
    if profiles and raw.get("profile") not in profiles:
        faults.append(f"profile: {raw.get('profile')!r} is not one of {sorted(profiles)}")
    named = [(f"stages.{key}.architectures", _mapping(item).get("architectures")) for key, item in stages.items()]
    named.append(("ensembles", raw.get("ensembles", [])))
    named += [
        (f"profiles.{key}.{names}", _mapping(item).get(names))
        for key, item in profiles.items()
        for names in ("image_protocol", "leave_out")
    ]
    budgets = _mapping(_mapping(raw.get("search")).get("budgets"))
    faults += [
        f"search.budgets: no entry for the profile {name!r}" for name in profiles if budgets and name not in budgets
    ]
    for where, names in named:
        faults += [
            f"{where}: {name!r} has no entry under `architectures`"
            for name in _list(names)
            if name not in architectures
        ]
    for position, rule in enumerate(_list(raw.get("gate"))):
        faults += [f"gate.{position}.{fault}" for fault in _rule_faults(_mapping(rule), profiles, stages)]
    return faults + _stage_faults(stages)


def _rule_faults(rule: dict[str, Any], profiles: dict[str, Any], stages: dict[str, Any]) -> Iterator[str]:
    for key, known in (("profiles", profiles), ("stages", stages)):
        for name in _list(rule.get(key)):
            if name not in known:
                yield f"{key}: {name!r} is not one of {sorted(known)}"
    if "validation" not in rule:
        return
    used = [_mapping(item).get("validation") for item in stages.values()]
    wanted = _list(as_list(rule["validation"]))
    if wanted and not any(name in used for name in wanted):
        yield f"validation: no stage has {' or '.join(map(str, wanted))}"


def _stage_faults(stages: dict[str, Any]) -> list[str]:
    """Tables of the paper that two stages claim."""
    tables = [_mapping(item).get("paper_table") for item in stages.values()]
    twice = sorted({table for table in tables if isinstance(table, int) and tables.count(table) > 1})
    return [f"stages: paper_table {table} is named by more than one stage" for table in twice]


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def _mapping(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
