import pytest
from safetensors.torch import save_file

from osteo_models.core.errors import ParamsError, WeightsError
from osteo_models.core.params import parse_params
from osteo_models.models.pretrained import describe_backbone, read_initial_weights
from osteo_models.ops.parameter_checks import check_params


def test_the_projects_own_file_passes(params):
    check_params(params)


def test_specs_stages_and_rules_are_checked_together(raw_params):
    raw_params["architectures"] |= {"unimodal": {"filtres": [1]}, "multimodal": {"fusion": "lose"}, "resnet51": {}}
    raw_params["stages"]["stage-4"]["architectures"].append("traditional_cnn")
    raw_params["gate"][0]["rule"] = "minimun"
    raw_params["search"]["space"]["filters"] = [8, 32]
    with pytest.raises(ParamsError) as caught:
        check_params(parse_params(raw_params))
    for fault in (
        "architectures.unimodal: unimodal: unknown spec key `filtres`",
        "architectures.multimodal: ",
        "architectures.resnet51: unknown architecture `resnet51`",
        "stages.stage-4: traditional_cnn takes none of multimodal, only mri, ct, combined",
        "gate.0.rule: unknown rule 'minimun'",
        "search.space.filters: lacks 64",
    ):
        assert fault in str(caught.value)
    assert caught.value.exit_code == 2


def test_weights_of_the_profile_in_force_are_looked_for_and_read(raw_params, tmp_path):
    raw_params["architectures"]["mine"] = {"backbone": "test_efficientnet"}
    check_params(parse_params(raw_params), tmp_path)  # in no stage: nothing is looked for
    raw_params["stages"]["stage-1"]["architectures"].append("mine")
    path = tmp_path / "test_efficientnet.r160_in1k.safetensors"
    start = read_initial_weights(describe_backbone("test_efficientnet"), None)
    save_file(start, path)
    check_params(parse_params(raw_params), tmp_path)
    save_file({**start, "conv_stem.weight": start["conv_stem.weight"][:1].clone()}, path)
    with pytest.raises(WeightsError, match="1 of .* tensors do not fit, the first is `conv_stem.weight`: of shape"):
        check_params(parse_params(raw_params), tmp_path)


def test_a_network_of_timm_that_is_none_is_a_fault_among_the_others(raw_params):
    raw_params["architectures"] |= {"mine": {"backbone": "resnet81"}, "resnet50": {"weights": "good"}}
    with pytest.raises(ParamsError) as caught:
        check_params(parse_params(raw_params))
    assert "architectures.mine: `backbone` is 'resnet81'; allowed: a name of timm, such as" in str(caught.value)
    assert "architectures.resnet50: resnet50.a1_in1k: `weights` is 'good'; allowed: imagenet" in str(caught.value)
