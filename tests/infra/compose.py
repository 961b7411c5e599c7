"""compose.yaml as Compose reads it: variables put in, checked against the schema of the Compose specification.

The schema is the one that check-jsonschema carries. It says nothing about the form of ports and durations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from check_jsonschema.builtin_schemas import get_builtin_schema
from jsonschema.validators import validator_for

_SCHEMA = get_builtin_schema("vendor.compose-spec")


class UnsetVariable(ValueError):
    """A variable that the file requires is unset or empty."""


_VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?:(:?[-?])([^}]*))?\})")


def interpolate(value: Any, environ: Mapping[str, str]) -> Any:
    """Put in variables as Compose does, extensions included: `${A}`, `${A-x}`, `${A:-x}`, `${A?x}`, `${A:?x}`, `$$`."""
    if isinstance(value, dict):
        return {key: interpolate(item, environ) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolate(item, environ) for item in value]
    return _VARIABLE.sub(lambda found: _put_in(found, environ), value) if isinstance(value, str) else value


def _put_in(found: re.Match[str], environ: Mapping[str, str]) -> str:
    dollar, name, operator, rest = found.groups()
    if dollar:
        return "$"
    given = environ.get(name)
    missing = given is None or (bool(operator) and operator.startswith(":") and not given)
    if not missing:
        return given or ""
    if operator and operator.endswith("?"):
        raise UnsetVariable(f"{name}: {rest}")
    return rest if operator else ""


def read_compose(raw: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The file as Compose would start it.

    Raises:
        UnsetVariable: It requires a variable that is not there.
        ValidationError: The specification does not allow it.
    """
    compose = interpolate(dict(raw), environ)
    validator_for(_SCHEMA)(_SCHEMA).validate(compose)
    return compose
