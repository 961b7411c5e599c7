"""The file that MLflow keeps with a version and runs to load it: checks the package, then imports its library."""

import contextlib
import sys
from importlib.util import cache_from_source
from pathlib import Path

from mlflow.models import set_model

# MLflow imports this file and the library from where the package is. Bytecode there would be files that are not in the
# manifest: what Python made of this file is removed, and no more is written.
sys.dont_write_bytecode = True
with contextlib.suppress(OSError, NotImplementedError):
    own = Path(cache_from_source(__file__))
    own.unlink(missing_ok=True)
    own.parent.rmdir()

from osteo_models.registry.manifest import find_damage  # noqa: E402

folder = Path(__file__).parent
# While a package is being made it has no description yet, and MLflow runs this file from elsewhere.
damage = find_damage(folder, None) if (folder / "MLmodel").is_file() else []
if damage:
    raise RuntimeError(f"not the package that {folder / 'manifest.json'} lists: {', '.join(map(str, damage[:5]))}")

from osteo_models.registry.pyfunc_model import NetworkModel  # noqa: E402

set_model(NetworkModel(folder))
