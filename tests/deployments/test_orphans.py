"""A stage ends with the command that started it, also where that ended before the kernel could be asked to watch it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"
WAIT = """
import os, sys, time
parent = os.getppid()
os.write(1, b"begun\\n")
while os.getppid() == parent:
    time.sleep(0.01)
"""
MAIN = """
from pipelines.entry import main
main(lambda *_: os.write(1, b"trained\\n"))
"""
DIE = """
import os
from osteo_models.core.settings import die_with_parent
os.write(1, b"begun\\n")
die_with_parent()
os.write(1, b"trained\\n")
"""


def run(code: str, folder: Path, *, kill: bool, **environment: str) -> str:
    """Run a stage below a process that is killed once the stage has begun; gives what the stage says after that."""
    given = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-c", PARENT, code]
    with subprocess.Popen(
        command, cwd=folder, env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout and process.stdout.readline() == "begun\n"
        if kill:
            process.kill()
        return process.stdout.read()  # to the stage's end


def test_a_stage_whose_parent_ends_while_it_imports(tmp_path: Path) -> None:
    said = run("import pipelines" + WAIT + MAIN, tmp_path, kill=True, OSTEO_DIE_WITH_PARENT="1", DVC_STAGE="splits")
    assert said == "stopped; what is finished is kept, and `dvc repro` goes on from there\n"


def test_a_stage_of_dvc_that_is_an_orphan_from_its_beginning(tmp_path: Path) -> None:
    adopted = WAIT + "if os.getppid() != 1: sys.exit('adopted by another process than the first')\n"
    said = run(adopted + DIE, tmp_path, kill=True, DVC_STAGE="splits")
    if "adopted" in said:
        pytest.skip(said)
    assert said == "begun\n"


@pytest.mark.parametrize("environment", [{}, {"DVC_STAGE": "splits"}])
def test_one_with_a_parent_lives(tmp_path: Path, environment: dict[str, str]) -> None:
    assert run(DIE, tmp_path, kill=False, **environment) == "trained\n"


def test_a_child_that_asks_before_its_exec_lives(tmp_path: Path) -> None:
    code = "import os, subprocess\nfrom osteo_models.core.settings import die_with_parent\nos.write(1, b'begun\\n')\n"
    code += "subprocess.run(['echo', 'trained'], preexec_fn=die_with_parent)\n"
    assert run(code, tmp_path, kill=False) == "trained\n"
