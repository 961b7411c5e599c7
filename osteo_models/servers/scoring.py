"""A registered version behind MLflow's scoring server, in the foreground."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from osteo_models.processes import HOST
from osteo_models.settings import silence_telemetry


def serve_model(package: Path, port: int) -> int:
    """Serve the package of a version by MLflow's scoring server on loopback, in the foreground, without pickles.

    Returns:
        The server's exit code.
    """
    environment = dict(os.environ)
    silence_telemetry(environment)
    environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # bytecode beside the code would be no file of the package
    # MLflow starts `uvicorn` by its name, which only an activated environment has on its path.
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    command = ["mlflow", "models", "serve", "--model-uri", str(package), "--env-manager", "local"]
    command += ["--host", HOST, "--port", str(port)]
    with subprocess.Popen([sys.executable, "-m", *command], env=environment, start_new_session=True) as server:
        before = signal.signal(signal.SIGTERM, _leave)
        try:
            return server.wait()
        except (KeyboardInterrupt, SystemExit):
            return 0
        finally:  # the server starts a process of its own, which would outlive it
            signal.signal(signal.SIGTERM, before)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)


def _leave(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)
