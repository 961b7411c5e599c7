"""Private names of other packages: they exist, and no others are used."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

from osteo_models.core.private_apis import PRIVATE_APIS, PrivateApi
from tests.conftest import ROOT

# Private modules and attributes that are imported or read by name; attributes of `self` are ours.
PACKAGES = ("ray", "optuna", "torch", "mlflow", "prefect", "dvc", "timm")


@pytest.mark.parametrize("api", PRIVATE_APIS, ids=lambda api: f"{api.module}:{api.name}")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_private_name_is_still_there(api: PrivateApi) -> None:
    module = importlib.import_module(api.module)
    if api.function:
        assert f'"{api.name}"' in inspect.getsource(inspect.unwrap(getattr(module, api.function)))
    else:
        assert hasattr(module, api.name)
    code = Path(ROOT, *api.used_in.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    assert api.name in code, f"{api.used_in} does not use it any more"


def find_private_names(tree: ast.AST) -> list[str]:
    """Private modules that are imported, and private attributes of imported modules."""
    imported, found = set[str](), list[str]()
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        module = [node.module] if isinstance(node, ast.ImportFrom) and node.module else names
        if any(name.partition(".")[0] in PACKAGES for name in module):
            imported |= {(alias.asname or alias.name).partition(".")[0] for alias in getattr(node, "names", [])}
            parts = [part for name in (*module, *names) for part in name.split(".")]
            found += [part for part in parts if part.startswith("_")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            root = node.value
            while isinstance(root, ast.Attribute | ast.Call):
                root = root.value if isinstance(root, ast.Attribute) else root.func
            if isinstance(root, ast.Name) and root.id in imported:
                found.append(node.attr)
    return found


def test_no_other_private_names_are_used() -> None:
    paths = [path for folder in ("osteo_models", "pipelines") for path in (ROOT / folder).rglob("*.py")]
    found = {str(path): find_private_names(ast.parse(path.read_text(encoding="utf-8"))) for path in paths}
    assert {path: names for path, names in found.items() if names} == {}
    example = "import ray\nfrom ray._private import worker\nray.get(1)._x\nray.tune._y()\nself._z"
    assert find_private_names(ast.parse(example)) == ["_private", "_x", "_y"]
