"""Prefect flows, one per DVC stage: order and concurrency only.

Prefect reads its environment, and reports its use, while it is imported; so the environment is set here, before any
flow module can import it. Prefect makes its home there, but not the folder above it.
"""

from osteo_models.core.settings import disable_gc, load_settings, prepare_environment

disable_gc()
prepare_environment()
load_settings().state.mkdir(parents=True, exist_ok=True)
