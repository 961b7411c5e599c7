"""The report page stands with the runs that it is about."""

from __future__ import annotations

import pytest

from osteo_models.core.errors import InputError, StaleDataError
from osteo_models.registry.model_card import attach_report


def test_the_page_is_an_artifact_of_the_jobs_run(project) -> None:
    page = project.settings.artifacts / "report" / "index.html"
    with pytest.raises(StaleDataError, match="index.html: file not found; make it with `dvc repro report`"):
        attach_report(project.tracking, page)
    page.parent.mkdir()
    for text in ("first", "second"):
        page.write_text(text)
        (run_id,) = attach_report(project.tracking, page)
        assert run_id == project.tracking.find_job(project.version.job).run_id
        place = project.settings.state / "mlartifacts" / "stage-5" / run_id / "artifacts" / "report" / "index.html"
        assert place.read_text() == text
    assert attach_report(project.tracking, page, ["osteo-unimodal-mri/1", "osteo-unimodal-mri@challenger"]) == [run_id]
    with pytest.raises(InputError, match="no version 9"):
        attach_report(project.tracking, page, ["osteo-unimodal-mri/9"])
