"""The programs take the options that start.sh and compose.yaml give them: each parses them itself, and does no more."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import cache

import click
import pytest
import yaml
from cyclopts import CycloptsError

from osteo_models.ops.servers.object_store import find_weed
from tests.conftest import ROOT
from tests.infra.conftest import NEEDS, Stage


def _mlflow(words: Sequence[str]) -> None:
    with warnings.catch_warnings():  # its tables are made with what SQLAlchemy gives up
        warnings.simplefilter("ignore")
        from mlflow.cli import cli
    context = cli.commands[words[0]].make_context(words[0], list(words[1:]))
    _uvicorn([*context.params["uvicorn_opts"].split(), "app"])


def _uvicorn(words: Sequence[str]) -> None:
    from uvicorn.main import main

    main.make_context("uvicorn", list(words))


def _python(words: Sequence[str]) -> None:
    if words[:2] == ["-m", "uvicorn"]:
        _uvicorn(words[2:])
    else:
        assert (ROOT / words[0].removeprefix("/opt/osteo/")).is_file(), words[0]


def _ray(words: Sequence[str]) -> None:
    from ray.scripts.scripts import cli

    cli.commands[words[0]].make_context(words[0], list(words[1:]))


def _prefect(words: Sequence[str]) -> None:
    from prefect.cli._app import _app

    first = _app.meta.parse_args(list(words), exit_on_error=False, print_error=False)[
        1
    ]  # what stands before the command
    _app.parse_args(list(first.args), exit_on_error=False, print_error=False)


def _optuna_dashboard(words: Sequence[str]) -> None:
    from optuna_dashboard import _cli

    class Parsed(Exception):
        pass

    def stop(*_: object) -> None:
        raise Parsed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Parsed):
        patch.setattr(sys, "argv", ["optuna-dashboard", *words])
        patch.setattr(_cli.DashboardConfig, "build_from_sources", stop)
        _cli.main()


@cache
def _weed_options(command: str) -> dict[str, bool]:
    """Its own list, and whether an option takes a value."""
    asked = subprocess.run([str(find_weed()), *command.split(), "-h"], capture_output=True, text=True, check=False)
    found = re.findall(r"^  -([\w.]+)( \w+)?", asked.stderr + asked.stdout, flags=re.MULTILINE)
    return {name: bool(value) for name, value in found}


def _weed(words: Sequence[str]) -> None:
    place = words.index("server")
    for command, options in (("", words[:place]), ("server", words[place + 1 :])):
        for option in options:
            name, given, _ = option.removeprefix("-").partition("=")
            known = _weed_options(command)
            assert option.startswith("-") and name in known, option
            assert given or not known[name], f"{option} needs a value"


PROGRAMS: dict[str, Callable[[Sequence[str]], None]] = {
    "mlflow": _mlflow,
    "optuna-dashboard": _optuna_dashboard,
    "prefect": _prefect,
    "python": _python,
    "ray": _ray,
    "weed": _weed,
}


@pytest.mark.parametrize("server", NEEDS)
def test_the_options_of_a_server_are_its_programs(stage: Stage, server: str) -> None:
    assert stage.start(server, "ray-head:6379", RAY_ADDRESS="ray-head:6379").returncode == 0
    calls = stage.calls()
    assert len(calls) == (5 if server == "flow-worker" else 1)
    for call in calls:
        program, *words = call.words
        PROGRAMS[program](words)


def test_the_options_of_a_health_check_are_rays() -> None:
    services = yaml.safe_load((ROOT / "infra" / "compose.yaml").read_text(encoding="utf-8"))["services"]
    direct, program, *words = services["ray-head"]["healthcheck"]["test"]
    assert (direct, program) == ("CMD", "ray")
    _ray(words)


@pytest.mark.parametrize(
    ("program", "words", "error", "message"),
    [
        ("mlflow", ["server", "--app-nam", "osteo"], click.NoSuchOption, "--app-nam"),
        ("mlflow", ["server", "--app-name", "nobody"], click.BadParameter, "'nobody' is not one of"),
        ("mlflow", ["server", "--uvicorn-opts", "--no-prox"], click.NoSuchOption, "--no-prox"),
        ("optuna-dashboard", ["--prt", "8080", "sqlite://"], SystemExit, "unrecognized arguments: --prt"),
        ("prefect", ["--no-promptly", "deploy", "--all"], CycloptsError, "--no-promptly"),
        ("prefect", ["work-pool", "create", "osteo", "--typ", "process"], CycloptsError, "--typ"),
        ("python", ["-m", "uvicorn", "--factor", "x:y"], click.NoSuchOption, "--factor"),
        ("python", ["/opt/osteo/infra/buckets.py", "osteo"], AssertionError, "buckets.py"),
        ("ray", ["start", "--heads"], click.NoSuchOption, "--heads"),
        ("weed", ["server", "-s3.prt=8333"], AssertionError, "-s3.prt=8333"),
        ("weed", ["server", "-s3.port"], AssertionError, "-s3.port needs a value"),
        ("weed", ["-logtostder=true", "server", "-s3"], AssertionError, "-logtostder=true"),
    ],
)
def test_a_misspelt_option_is_found(
    program: str, words: list[str], error: type[BaseException], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(error) as caught:
        PROGRAMS[program](words)
    assert message in str(caught.value) + capsys.readouterr().err
