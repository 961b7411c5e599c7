"""Networks that are quick to make, as for the tests of the registry."""

from tests.registry.conftest import make_model, one_thread

__all__ = ["make_model", "one_thread"]
