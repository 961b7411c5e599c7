"""The file that MLflow keeps with a version and runs to load it; imported by nothing."""

from mlflow.models import set_model

from osteo_models.registry.serving import NetworkModel

set_model(NetworkModel())
