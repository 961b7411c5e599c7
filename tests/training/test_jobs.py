from dataclasses import replace

import pytest

from osteo_models.errors import InputError
from osteo_models.params import parse_params
from osteo_models.training.jobs import describe_left_out, plan_jobs
from osteo_models.training.recipe import Recipe

DIGESTS = {"splits.csv": "abc"}
RECIPE = Recipe(epochs=3, precision="float32")


def names(params):
    return [(job.stage, job.name) for job in plan_jobs(params, DIGESTS, RECIPE)]


def test_the_quick_profile_runs_six_stages_and_the_image_protocol_for_the_proposed_networks(params):
    planned = names(params)
    assert len(planned) == len(set(planned)) == 21
    assert {stage for stage, _ in planned} == {f"stage-{number}" for number in range(1, 7)}
    assert ("stage-1", "unimodal-mri-image") in planned
    assert ("stage-1", "traditional_cnn-mri-image") not in planned
    assert ("stage-5", "traditional_cnn-combined-patient") in planned
    assert ("stage-5", "multimodal-multimodal-patient") in planned
    assert ("stage-6", "traditional_cnn-mri-patient") not in planned


def test_the_paper_profile_leaves_nothing_out(raw_params):
    left_out = describe_left_out(parse_params(raw_params))
    assert left_out[:2] == ["2 epochs instead of 20", "batch-norm momentum 0.9 instead of 0.99"]
    assert "the pretrained networks efficientnet_b0" in left_out[2]
    assert left_out[3:] == ["the image protocol of traditional_cnn"]
    del raw_params["stages"]["stage-6"]
    assert "stage-6" in describe_left_out(parse_params(raw_params))
    raw_params["stages"]["stage-6"] = {
        "images": ["mri"],
        "validation": "patient_test",
        "architectures": ["unimodal"],
    }
    raw_params["profile"] = "paper"
    params = parse_params(raw_params)
    assert len(describe_left_out(params)) == 1  # the networks that there are not yet
    assert ("stage-3", "traditional_cnn-combined-image") in names(params)


def test_an_unknown_architecture_is_refused_before_anything_trains(raw_params):
    raw_params["architectures"]["resnet51"] = {}
    raw_params["stages"]["stage-1"]["architectures"].append("resnet51")
    with pytest.raises(InputError, match="unknown architecture `resnet51`; allowed: .*traditional_cnn"):
        plan_jobs(parse_params(raw_params), DIGESTS, RECIPE)


def test_the_key_changes_with_everything_that_decides_the_result(params):
    job = plan_jobs(params, DIGESTS, RECIPE)[0]
    assert job.key == plan_jobs(params, DIGESTS, RECIPE)[0].key
    changed = [
        replace(job, seed=1),
        replace(job, spec={"filters": [1]}),
        replace(job, recipe=replace(RECIPE, epochs=4)),
        replace(job, recipe=replace(RECIPE, precision="bfloat16")),
        replace(job, digests={"splits.csv": "abd"}),
        replace(job, code="other"),
        replace(job, threads=2),
        replace(job, device="cuda"),
        replace(job, protocol="image" if job.protocol == "patient" else "patient"),
    ]
    assert len({job.key, *(other.key for other in changed)}) == 1 + len(changed)


def test_folds_have_seeds_of_their_own(params):
    job = plan_jobs(params, DIGESTS, RECIPE)[0]
    assert len({job.fold_seed(fold) for fold in range(5)}) == 5
    assert job.fold_seed(0) == job.fold_seed(0)
