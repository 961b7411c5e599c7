"""The file that MLflow keeps with a version and runs to load it; imported by nothing."""

import contextlib
import sys
from importlib.util import cache_from_source
from pathlib import Path

from mlflow.models import set_model

# MLflow imports this file and the library from where the version lies. Bytecode there would be files that nobody
# registered, and the next look at the version would refuse it: what Python made of this file goes, no more is written.
sys.dont_write_bytecode = True
with contextlib.suppress(OSError, NotImplementedError):
    own = Path(cache_from_source(__file__))
    own.unlink(missing_ok=True)
    own.parent.rmdir()

from osteo_models.registry.serving import NetworkModel  # noqa: E402

set_model(NetworkModel())
