"""Every command in README and docs has a valid syntax; links and pictures lead somewhere."""

import importlib.util
import re
import subprocess
import sys

import click
import pytest
import yaml

from osteo_models.cli.main import main
from osteo_models.core.params import parse_params
from tests.conftest import ROOT
from tests.docs.console import PAGES, find_difference, read_commands

COMMANDS = [command for page in PAGES for command in read_commands(page)]
OTHERS = {"source", "git", "pip", "curl", "mlflow", "optuna-dashboard", "prefect"}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def parse(words):
    """Fail where a program would refuse the words."""
    program, *arguments = words
    if program == "osteo":
        parse_osteo(arguments)
    elif program == "dvc":
        from dvc.cli import parse_args

        parse_args(arguments)
    elif program == "make":
        assert set(arguments) <= TARGETS
    elif program == "python":
        assert arguments[0] == "-m" and importlib.util.find_spec(arguments[1])
    else:
        assert program in OTHERS


def parse_osteo(arguments):
    command, context = main, click.Context(main)
    while isinstance(command, click.Group):
        name, *arguments = arguments
        found = command.get_command(context, name)
        assert found is not None, f"no command {name}"
        command = found
    try:
        command.make_context(command.name, list(arguments), parent=context)
    except click.BadParameter as error:
        assert "does not exist" in error.format_message(), error.format_message()


def test_the_pages_show_commands():
    assert len(COMMANDS) > 50
    assert sum(not command.reason for command in COMMANDS) > 30


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.place)
def test_the_syntax_is_valid(command):
    for words in command.split():
        parse(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_in_console_blocks(page):
    text = page.read_text(encoding="utf-8")
    fences = re.findall(r"^```(.*)$", text, re.MULTILINE)[::2]
    assert set(fences) <= {"console", "python", "yaml", "json", "text"}
    assert len(re.findall(r"<!-- not run: ", text)) == len(
        {c.line for c in read_commands(page) if c.reason and first(c)}
    )


def first(command):
    """Whether a command is the first of its block."""
    lines = command.page.read_text(encoding="utf-8").splitlines()
    return lines[command.line - 2] == "```console"


def test_reasons_name_tests_that_exist():
    for command in COMMANDS:
        for path in re.findall(r"tests/[\w/.]+", command.reason):
            assert (ROOT / path).exists(), command.place


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_named_on_a_page_exist(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`((?:osteo_models|pipelines|tests|infra)/[\w./-]+)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []
    tests = set(re.findall(r"`(test_\w+\.py)`", text))
    assert tests <= {path.name for path in (ROOT / "tests").rglob("test_*.py")}


def test_the_recipes_are_valid_params(raw_params):
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    recipes = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)]
    assert len(recipes) > 4
    for recipe in recipes:
        for section, content in recipe.items():
            if isinstance(content, list):
                raw_params[section] += content
            else:
                raw_params[section] |= content
    parse_params(raw_params)


def test_the_recipe_of_an_architecture_builds_a_network():
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    recipe = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0]
    check = "import torch; from osteo_models.models import build\n"
    check += "print(build('tiny_cnn', width=16)(torch.rand(2, 3, 80, 60)).shape)"
    done = subprocess.run([sys.executable, "-c", recipe + check], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "torch.Size([2])\n", done.stderr


def test_outputs_are_compared_in_kind():
    shown = ["osteo-x version 1 @champion", "...", "  a.dcm: 0.489 control", "..."]
    output = "osteo-x version 12 @champion\nnotes\n  a.dcm: 0.512 osteoporosis\nend\n"
    assert find_difference(shown, output) == ""
    assert "expected:   a.dcm" in find_difference(shown, output.replace("a.dcm", "b.dcm"))
    assert "expected: osteo-x" in find_difference(shown, "first\n" + output)
    assert "not expected: end" in find_difference(shown[:-1], output)
    assert find_difference(["weights: 006064f6 is e27ce0b08691..."], "weights: 3eefa09a is 88611e75985cbece") == ""
