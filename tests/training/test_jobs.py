from dataclasses import dataclass, replace

import pytest

from osteo_models.core.errors import InputError, WeightsError
from osteo_models.core.params import parse_params
from osteo_models.core.terms import PRETRAINED
from osteo_models.models import pretrained_weights
from osteo_models.training.jobs import describe_left_out, plan_jobs
from osteo_models.training.pretrained_plan import PretrainedWeights
from osteo_models.training.recipe import Recipe

RECIPE = Recipe(epochs=3, precision="float32")


@dataclass(frozen=True)
class Known:
    """Tables that are known by their hashes alone."""

    images: str = "a"
    folds: str = "f"

    def digest_images(self):
        return self.images

    def digest_inputs(self, job):
        return {"images": f"{self.images} {job.images}", "folds": self.folds}


TABLES = Known()


def names(params):
    return [(job.stage, job.name) for job in plan_jobs(params, TABLES, RECIPE)]


def test_the_quick_profile_runs_six_stages_and_the_image_protocol_for_the_proposed_networks(params):
    planned = names(params)
    assert len(planned) == len(set(planned)) == 27
    assert {stage for stage, _ in planned} == {f"stage-{number}" for number in range(1, 7)}
    assert ("stage-1", "unimodal-mri-image") in planned
    assert ("stage-1", "traditional_cnn-mri-image") not in planned
    assert ("stage-5", "traditional_cnn-combined-patient") in planned
    assert ("stage-5", "multimodal-multimodal-patient") in planned
    assert ("stage-6", "traditional_cnn-mri-patient") not in planned


def test_what_a_profile_leaves_out_is_told(raw_params):
    six = "efficientnet_b0, resnet50, inception_v3, inception_resnet_v2, efficientnetv2_s, convnext_tiny"
    assert describe_left_out(parse_params(raw_params)) == [
        "2 epochs instead of 20",
        "batch-norm momentum 0.9 instead of 0.99",
        f"the pretrained networks {six}",
        "the image protocol of traditional_cnn, efficientnet_lite0",
    ]
    del raw_params["stages"]["stage-6"]
    assert "table 10 of the paper" in describe_left_out(parse_params(raw_params))


def test_the_paper_profile_leaves_nothing_out_but_weights_that_are_asked_to_be_random(raw_params):
    raw_params["profile"] = "paper"
    assert describe_left_out(parse_params(raw_params)) == []
    for name in ("resnet50", "convnext_tiny"):
        raw_params["architectures"][name]["weights"] = "random"
    told = ["the ImageNet weights of resnet50, convnext_tiny (random ones instead)"]
    assert describe_left_out(parse_params(raw_params)) == told


def test_the_paper_profile_plans_all_ten_in_stages_1_to_3_and_5(raw_params):
    raw_params["profile"] = "paper"
    for name in PRETRAINED:
        raw_params["architectures"][name]["weights"] = "random"
    planned = names(parse_params(raw_params))
    for name in (*PRETRAINED, "efficientnet_lite0", "unimodal", "traditional_cnn"):
        for stage, images in (("stage-1", "mri"), ("stage-2", "ct"), ("stage-3", "combined")):
            assert {(stage, f"{name}-{images}-patient"), (stage, f"{name}-{images}-image")} <= set(planned)
        assert {("stage-5", f"{name}-{images}-patient") for images in ("mri", "ct", "combined")} <= set(planned)


def test_a_network_of_timm_is_an_entry_and_nothing_else(raw_params):
    raw_params["architectures"]["resnet18"] = {"backbone": "resnet18", "weights": "random"}
    raw_params["stages"]["stage-1"]["architectures"].append("resnet18")
    planned = plan_jobs(parse_params(raw_params), TABLES, RECIPE)
    (job,) = [job for job in planned if job.architecture == "resnet18"]
    assert (job.name, job.pretrained.frozen, job.pretrained.backbone) == (
        "resnet18-mri-patient",
        True,
        "resnet18.a1_in1k",
    )


def test_features_are_named_by_all_that_decides_them_and_shared_by_all_else(raw_params, tmp_path):
    def name(tables=TABLES, recipe=RECIPE, backbone="efficientnet_lite0", **settings):
        jobs = plan_jobs(parse_params(raw_params), tables, recipe, **settings)
        found = {job.pretrained.features for job in jobs if job.architecture == backbone}
        assert len(found) == 1  # whatever the stage, the image set, and the protocol
        return found.pop()

    first = name()
    same = [name(Known(folds="y")), name(TABLES, replace(RECIPE, epochs=9, learning_rate=0.1))]
    raw_params["experiments"]["seed"] = 5
    same.append(name())
    assert set(same) == {first}
    others = [
        name(Known("b")),
        name(TABLES, replace(RECIPE, precision="bfloat16")),
        name(TABLES, device="cuda"),
        name(TABLES, threads=2),
    ]
    raw_params["architectures"]["efficientnet_lite0"]["weights"] = "random"
    others.append(name())
    raw_params["experiments"]["seed"] = 6
    others.append(name())
    assert len({first, *others}) == 1 + len(others)


def test_weights_that_cannot_be_had_are_told_together_before_anything_is_planned(raw_params, monkeypatch):
    monkeypatch.setattr(pretrained_weights, "_ask_hub", lambda: "no network here")
    pretrained_weights._find_on_hub.cache_clear()
    raw_params["profiles"]["quick"]["leave_out"] = ["efficientnet_b0", "inception_v3", "efficientnetv2_s"]
    with pytest.raises(WeightsError) as caught:
        plan_jobs(parse_params(raw_params), TABLES, RECIPE)
    pretrained_weights._find_on_hub.cache_clear()
    assert str(caught.value) == (
        "resnet50.a1_in1k, inception_resnet_v2.tf_in1k, convnext_tiny.fb_in1k: the ImageNet weights cannot be had (not "
        "in the hub's cache, and the hub cannot be reached: no network here); allowed: `resnet50.a1_in1k.safetensors` "
        "or .pth, `inception_resnet_v2.tf_in1k.safetensors` or .pth, `convnext_tiny.fb_in1k.safetensors` or .pth; "
        "three ways out: run once where the hub can be reached, and its cache keeps them; or put this file into a "
        "folder and set OSTEO_WEIGHTS_DIR to it; or ask for another start by name, with `weights: random`"
    )


def test_an_unknown_architecture_is_refused_before_anything_trains(raw_params):
    raw_params["architectures"]["resnet51"] = {}
    raw_params["stages"]["stage-1"]["architectures"].append("resnet51")
    with pytest.raises(InputError, match="unknown architecture `resnet51`; allowed: .*traditional_cnn"):
        plan_jobs(parse_params(raw_params), TABLES, RECIPE)


def test_the_key_changes_with_everything_that_decides_the_result(params):
    job = plan_jobs(params, TABLES, RECIPE)[0]
    assert job.key == plan_jobs(params, TABLES, RECIPE)[0].key
    changed = [
        replace(job, seed=1),
        replace(job, spec={"filters": [1]}),
        replace(job, recipe=replace(RECIPE, epochs=4)),
        replace(job, recipe=replace(RECIPE, precision="bfloat16")),
        replace(job, inputs=job.inputs | {"images": "other"}),
        replace(job, inputs=job.inputs | {"folds": "other"}),
        replace(job, versions=job.versions | {"training": 99}),
        replace(job, threads=2),
        replace(job, device="cuda"),
        replace(job, pretrained=PretrainedWeights("resnet18.a1_in1k", "imagenet", "full", sha256="1")),
        replace(job, pretrained=PretrainedWeights("resnet18.a1_in1k", "imagenet", "full", sha256="2")),
        replace(job, pretrained=PretrainedWeights("resnet18.a1_in1k", "imagenet", "frozen", sha256="2")),
        replace(job, protocol="image" if job.protocol == "patient" else "patient"),
    ]
    assert len({job.key, *(other.key for other in changed)}) == 1 + len(changed)
    named = [PretrainedWeights("resnet18.a1_in1k", "imagenet", "frozen", features=name) for name in ("1", "2")]
    assert len({replace(job, pretrained=weights).key for weights in named}) == 1  # made of images of other jobs, too


def test_folds_have_seeds_of_their_own(params):
    job = plan_jobs(params, TABLES, RECIPE)[0]
    assert len({job.fold_seed(fold) for fold in range(5)}) == 5
    assert job.fold_seed(0) != replace(job, seed=job.seed + 1).fold_seed(0)
    assert replace(job, seed=7).fold_seed(3) == 3_466_196_061  # in every process: results are compared by bits
