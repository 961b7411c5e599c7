"""Prefect flows, one per DVC stage: order and concurrency only.

Prefect reads its environment, and reports its use, while it is imported; so the environment is set here, before any
flow module can import it.
"""

from osteo_models.settings import prepare_environment

prepare_environment()
