"""MLflow's listings, whole: a store gives out runs, models and versions in pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from mlflow.store.entities import PagedList

PAGE: Final = 1000  # of the most that every store gives in one answer

Found = TypeVar("Found")


def list_all(search: Callable[..., PagedList[Found]], *arguments: Any, **given: Any) -> Iterator[Found]:
    """Everything that a search of MLflow's client finds.

    Args:
        search: Such as `client.search_runs`.
        arguments: Its arguments.
        given: Its arguments by name.
    """
    token: str | None = None
    while True:
        page = search(*arguments, max_results=PAGE, page_token=token, **given)
        yield from page
        token = page.token
        if not token:
            return
