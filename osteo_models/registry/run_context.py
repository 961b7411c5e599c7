"""The run context of a command or flow: settings, parameters, tracking store, journal and tags, each loaded once."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from osteo_models.core.settings import Settings, load_settings

if TYPE_CHECKING:  # a command imports only what it uses
    from osteo_models.core.params import Params
    from osteo_models.registry.journal import Journal
    from osteo_models.registry.journal_events import Author
    from osteo_models.registry.tracking import Tracking


class RunContext:
    """Everything a command or flow works with, loaded on first use; by default that of the current folder.

    A plain class: Prefect passes its objects to tasks unchanged.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or load_settings()

    @cached_property
    def params(self) -> Params:
        """The content of params.yaml; a ParamsError where it is missing or wrong."""
        from osteo_models.core.params import PARAMS_FILE, load_params

        return load_params(self.settings.root / PARAMS_FILE)

    @property
    def data(self) -> Path:
        """Folder of the data set."""
        return self.settings.root / self.params.data.path

    @cached_property
    def tracking(self) -> Tracking:
        """The MLflow store; a StoreError where it cannot be used."""
        from osteo_models.registry.tracking import open_tracking

        return open_tracking(self.settings.tracking_uri, self.settings.state / "mlartifacts")

    @cached_property
    def journal(self) -> Journal:
        """The promotion journal; a StoreError where its database cannot be used."""
        from osteo_models.registry.journal import open_journal

        return open_journal(self.settings.journal_uri)

    @cached_property
    def author(self) -> Author:
        """The person who runs the command, for the journal."""
        from osteo_models.registry.journal_events import read_author

        return read_author(self.settings)

    @cached_property
    def tags(self) -> dict[str, str]:
        """Tags of the origin of every MLflow run: code, data, splits, profile. The splits must exist."""
        from osteo_models.core.files import hash_file
        from osteo_models.data.code_tree import read_code
        from osteo_models.data.revisions import read_data_digest

        return {
            **read_code(self.settings.root),
            "dvc.data": read_data_digest(self.settings.root, self.params.data.path) or "",
            "dvc.splits": hash_file(self.settings.artifacts / "splits" / "splits.csv", "md5"),
            "profile": self.params.profile,
            "synthetic": str(self.params.data.synthetic is not None).lower(),
        }
