"""The file that MLflow keeps with a version and runs to load it; imported by nothing."""

import sys

from mlflow.models import set_model

# MLflow imports the library from where the version lies: bytecode written there would be a file that nobody registered.
sys.dont_write_bytecode = True

from osteo_models.registry.serving import NetworkModel  # noqa: E402

set_model(NetworkModel())
