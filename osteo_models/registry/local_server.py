"""MLflow's server over an embedded store: `python -m osteo_models.registry.local_server FILE ARTIFACTS [OPTIONS]`."""

from __future__ import annotations

import sys
from pathlib import Path

from mlflow.cli import cli

from osteo_models.registry.embedded import lock_embedded, make_embedded


def main(file: str, artifacts: str, *options: str) -> None:
    """Make the database where there is none, and serve it."""
    with lock_embedded(Path(file)):
        make_embedded(Path(file), "mlflow-artifacts:/")
    places = ("--backend-store-uri", f"sqlite:///{file}", "--artifacts-destination", Path(artifacts).as_uri())
    cli(["server", *places, *options])


if __name__ == "__main__":
    main(*sys.argv[1:])
