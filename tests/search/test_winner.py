import pytest
import yaml

from osteo_models.core.errors import StaleDataError
from osteo_models.search.winner import Winner, apply_winner, read_winner, write_winner
from osteo_models.training.jobs import plan_jobs
from osteo_models.training.recipe import Recipe

SPEC = {"filters": [8], "pooling": "average"}


@pytest.mark.parametrize("rate", [None, 0.004])
def test_the_winner_is_kept_in_a_file(tmp_path, rate):
    winner = Winner(5, SPEC, rate)
    write_winner(tmp_path, winner)
    assert read_winner(tmp_path) == winner
    content = yaml.safe_load((tmp_path / "search" / "best.yaml").read_text())
    assert list(content) == ["architecture", "candidate", "spec", *(["learning_rate"] if rate else [])]
    assert content["architecture"] == "traditional_cnn"


def test_jobs_take_the_winner_in_the_place_of_their_traditional_cnn(params, tables):
    jobs = plan_jobs(params, tables, Recipe())
    placed = apply_winner(jobs, Winner(5, SPEC, 0.004))
    assert len(placed) == len(jobs)
    assert {job.architecture for job in jobs} > {"traditional_cnn"}
    for before, after in zip(jobs, placed, strict=True):
        if before.architecture == "traditional_cnn":
            assert (after.spec, after.recipe.learning_rate) == (SPEC, 0.004)
            assert after.key != before.key
        else:
            assert after == before
    # The paper's network, at the recipe's own rate, is what was there before.
    assert apply_winner(jobs, Winner(0, {}, None)) == jobs


@pytest.mark.parametrize(
    ("text", "found"), [(None, "file not found"), ("spec: [", "cannot be used"), ("a: 1", "cannot")]
)
def test_a_missing_or_damaged_file_says_how_to_make_it(tmp_path, text, found):
    if text is not None:
        (tmp_path / "search").mkdir()
        (tmp_path / "search" / "best.yaml").write_text(text)
    with pytest.raises(StaleDataError, match=rf"best\.yaml: {found}.*make it with `dvc repro search`"):
        read_winner(tmp_path)
