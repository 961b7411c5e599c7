"""MLflow's server over an embedded store: `python -m osteo_models.registry.local_server FILE ARTIFACTS [OPTIONS]`.

The caller holds the store's lock until the server answers.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mlflow.cli import cli


def main(file: str, artifacts: str, *options: str) -> None:
    """Make the database where there is none, and serve it."""
    if not Path(file).exists():
        from osteo_models.registry.store import make_sqlite  # what the server itself need not import

        make_sqlite(Path(file), "mlflow-artifacts:/")
    places = ("--backend-store-uri", f"sqlite:///{file}", "--artifacts-destination", Path(artifacts).as_uri())
    cli(["server", *places, *options])


if __name__ == "__main__":
    main(*sys.argv[1:])
