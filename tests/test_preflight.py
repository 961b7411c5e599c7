import pytest

from osteo_models.errors import ParamsError
from osteo_models.params import parse_params
from osteo_models.preflight import check_params


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
