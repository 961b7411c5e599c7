"""Mutation testing: small faults are put into the code one by one, and some test must fail for each.

    python -m tests.mutation --sample 20 --seed 1 data/splits evaluation

runs the tests of each module (`TESTS`) against a random sample of its mutants, and lists those that no test notices.
The code is copied to a temporary folder, also for what the tests start as processes of their own. Each mutant runs in a
fork of one process that has imported the large libraries: seconds instead of half a minute.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import contextlib
import importlib
import os
import py_compile
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, settings

ROOT = Path(__file__).parents[1]
LIBRARIES = ("numpy", "pandas", "pyarrow.parquet", "scipy.stats", "sklearn.metrics", "sklearn.model_selection")
STAGES = ["evaluation/test_evaluate.py", "evaluation/test_paper_tables.py"]
AUDITS = ["evaluation/test_audits.py", *STAGES]
# By the path of a module: the test files that are to notice its faults, the quickest first.
TESTS = {
    "data/pairs": ["data/test_splits.py"],
    "data/splits": ["data/test_splits.py"],
    "data/withdrawal": ["data/test_withdrawal.py"],
    "evaluation/audits/__init__": AUDITS,
    "evaluation/audits/groups": AUDITS,
    "evaluation/audits/leakage": AUDITS,
    "evaluation/audits/shortcuts": AUDITS,
    "evaluation/calibration": ["evaluation/test_calibration.py"],
    "evaluation/comparisons": STAGES,
    "evaluation/delong": ["evaluation/test_delong.py", "evaluation/test_delong_library.py"],
    "evaluation/dvc_files": ["evaluation/test_dvc_files.py"],
    "evaluation/evaluate": STAGES,
    "evaluation/image_facts": ["evaluation/test_image_facts.py", "evaluation/test_audits.py"],
    "evaluation/intervals": [
        "evaluation/test_effective.py",
        "evaluation/test_intervals.py",
        "evaluation/test_metrics.py",
    ],
    "evaluation/job_tables": STAGES,
    "evaluation/metrics": ["evaluation/test_folds.py", "evaluation/test_metrics.py", "evaluation/test_effective.py"],
    "evaluation/paired": [
        "evaluation/test_paired_auc.py",
        "evaluation/test_paired.py",
        "evaluation/test_effective.py",
        "evaluation/test_audits.py",
    ],
    "evaluation/paper/__init__": STAGES,
    "evaluation/paper/paper_ledger": ["evaluation/test_paper_ledger.py"],
    "evaluation/paper/reproduced_tables": STAGES,
    "evaluation/patient_level": [
        "evaluation/test_patient_level.py",
        "evaluation/test_metrics.py",
        "evaluation/test_effective.py",
    ],
    "evaluation/predictions": ["evaluation/test_evaluate.py"],
    "evaluation/roc": [
        "evaluation/test_patient_level.py",
        "evaluation/test_delong.py",
        "evaluation/test_delong_library.py",
        "evaluation/test_thresholds.py",
        "evaluation/test_evaluate.py",
    ],
    "evaluation/rows": STAGES,
    "evaluation/scored_cases": ["evaluation/test_metrics.py", "evaluation/test_delong.py"],
    "registry/rules/__init__": ["registry/test_rules.py"],
    "registry/rules/comparison_rules": ["registry/test_rules.py"],
    "registry/rules/metric_rules": ["registry/test_rules.py"],
    "registry/rules/provenance_rules": ["registry/test_rules.py"],
    "registry/rules/results": ["registry/test_rules.py", "registry/test_gate_broken.py"],
    "search/development": ["search/test_patient_folds.py"],
}
PAIRS = "Lt LtE, Gt GtE, Eq NotEq, Is IsNot, In NotIn, And Or, Add Sub, Mult Div, BitAnd BitOr"
SWAPS = {one: other for pair in PAIRS.split(", ") for one, other in (pair.split(), reversed(pair.split()))}
SWAPS |= dict.fromkeys(("FloorDiv", "Mod", "Pow", "MatMult"), "Mult")
Mutation = Callable[[], None]


def list_mutations(tree: ast.AST) -> Iterator[tuple[int, str, Mutation]]:
    """Every mutation of a module: its line, what it does, and the change of the tree."""
    for node in _walk(tree):
        line = getattr(node, "lineno", 0)
        for number, operator in enumerate(getattr(node, "ops", [])):
            if swap := SWAPS.get(type(operator).__name__):
                yield line, f"{type(operator).__name__} -> {swap}", _setter(node.ops, number, getattr(ast, swap)())
        if swap := SWAPS.get(type(getattr(node, "op", None)).__name__):
            yield line, f"{type(node.op).__name__} -> {swap}", _setter(node, "op", getattr(ast, swap)())
        if isinstance(node, ast.Constant) and (value := _change(node.value)) is not None:
            yield line, f"{node.value!r} -> {value!r}", _setter(node, "value", value)
        if isinstance(node, ast.If | ast.IfExp | ast.While):
            yield line, f"not ({ast.unparse(node.test)})", _setter(node, "test", ast.UnaryOp(ast.Not(), node.test))
        if isinstance(node, ast.Return) and node.value and ast.unparse(node.value) != "None":
            yield line, "return None", _setter(node, "value", ast.Constant(None))
        for number, keyword in enumerate(node.keywords if isinstance(node, ast.Call) else []):
            yield line, f"without {ast.unparse(keyword)}", lambda node=node, number=number: node.keywords.pop(number)
        for field, value in ast.iter_fields(node):
            if isinstance(value, ast.UnaryOp):
                yield line, f"{ast.unparse(value)} -> {ast.unparse(value.operand)}", _setter(node, field, value.operand)
        for number, statement in enumerate(node.body if isinstance(getattr(node, "body", None), list) else []):
            if isinstance(statement, ast.AugAssign | ast.Raise | ast.Continue | ast.Break) or (
                isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
            ):
                what = f"without `{ast.unparse(statement)[:60]}`"
                yield statement.lineno, what, _setter(node.body, number, ast.Pass())


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """What can change a result: no type, no docstring, no decorator, no words of an error."""
    yield node
    for name, field in ast.iter_fields(node):
        for child in field if isinstance(field, list) else [field]:
            words = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
            dull = name in ("annotation", "returns", "decorator_list", "bases") or isinstance(node, ast.JoinedStr)
            if isinstance(child, ast.AST) and not (words or dull or isinstance(child, ast.Raise | ast.Import)):
                yield from _walk(child)


def _change(value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return f"{value}x" if isinstance(value, str) and re.fullmatch(r"\S+", value) else None  # words are for people


def _setter(owner: object, key: str | int, value: object) -> Mutation:
    if isinstance(owner, list):
        return lambda: owner.__setitem__(key, value)  # type: ignore[index]
    return lambda: setattr(owner, str(key), value)


def run_tests(folder: Path, files: list[str], limit: float) -> bool:
    """Whether the tests pass, in a fork of this process; they fail also where they take too long."""
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(folder)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1), os.dup2(null, 2)
        files = [str(folder / "tests" / name) for name in files]
        os._exit(int(pytest.main(["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", *files])))
    deadline = time.monotonic() + limit
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it started
    return ended[1] == 0


def try_module(folder: Path, module: str, sample: int, seed: int) -> tuple[int, int]:
    """The number of mutants that were tried, and of those that a test noticed."""
    path = folder / "osteo_models" / f"{module}.py"
    source, began = path.read_text(encoding="utf-8"), time.monotonic()
    if not run_tests(folder, TESTS[module], 600):
        raise SystemExit(f"{module}: its tests fail without any mutation")
    limit = 30 + 5 * (time.monotonic() - began)
    count = len(list(list_mutations(ast.parse(source))))
    chosen = sorted(random.Random(f"{seed} {module}").sample(range(count), min(sample, count)))
    killed = 0
    for number in chosen:
        tree = ast.parse(source)
        line, what, mutate = list(list_mutations(tree))[number]
        mutate()
        path.write_text(ast.unparse(ast.fix_missing_locations(tree)), encoding="utf-8")
        if run_tests(folder, TESTS[module], limit):
            print(f"  survived: {module}.py:{line}: {what}   | {source.splitlines()[line - 1].strip()}", flush=True)  # noqa: T201
        else:
            killed += 1
    path.write_text(source, encoding="utf-8")
    print(f"{module}: {killed} of {len(chosen)} killed ({count} mutants in all)", flush=True)  # noqa: T201
    return len(chosen), killed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", help="beginnings of paths below osteo_models; all where none is given")
    parser.add_argument("--sample", type=int, default=20, help="mutants of each module")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_file():
                shutil.copy(ROOT / name, folder / name)
        compileall.compile_dir(folder, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
        sys.dont_write_bytecode = True
        sys.path[:] = [str(folder), *(each for each in sys.path if Path(each or ".").resolve() != ROOT)]
        os.environ |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        for library in LIBRARIES:
            importlib.import_module(library)
        found = (Phase.explicit, Phase.generate)  # the smallest example is of no interest
        settings.register_profile("mutation", phases=found, derandomize=True, database=None)
        settings.load_profile("mutation")
        modules = [name for name in TESTS if name.startswith(tuple(given.modules or [""]))]
        counts = [try_module(folder, name, given.sample, given.seed) for name in modules]
    tried, killed = (sum(column) for column in zip(*counts, strict=True))
    print(f"{killed} of {tried} killed: {killed / tried:.0%}")  # noqa: T201


if __name__ == "__main__":
    main()
