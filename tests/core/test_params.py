import pytest
from pydantic import ValidationError

from osteo_models.core.errors import ParamsError
from osteo_models.core.params import load_params, parse_params


def test_the_projects_own_file_is_right(params):
    assert params.active_profile.epochs < params.profiles["paper"].epochs
    assert params.splits.holdout["ct"].images_per_class == 34


def test_all_faults_are_told_at_once(raw_params):
    raw_params["profil"] = "quick"
    raw_params["profile"] = "fast"
    del raw_params["cohort"]["t_score_below"]
    raw_params["splits"]["folds"] = "five"
    raw_params["prepare"]["intensity"]["ct"]["window_hu"] = [5, 1]
    raw_params["stages"]["stage-1"]["architectures"].append("resnet51")
    raw_params["profiles"]["quick"]["leave_out"].append("vgg61")
    raw_params["cohort"]["excluded_findings"].append("severe_scoliosys")
    raw_params["prepare"]["crop_mm"] = [0, 120]
    raw_params["prepare"]["intensity"]["mri"]["percentiles"] = [1, 995]
    raw_params["cohort"]["control_age_years"] = [44, 18]
    del raw_params["splits"]["holdout"]["ct"]
    raw_params["gate"][0]["profiles"] = ["papers"]
    with pytest.raises(ParamsError) as caught:
        parse_params(raw_params)
    text = str(caught.value)
    assert "13 faults" in text
    for fault in (
        "profil: unknown key",
        "profile: 'fast' is not one of ['paper', 'quick']",
        "cohort.t_score_below: missing",
        "splits.folds: Input should be a valid integer",
        "the first number must be below the second, got [5.0, 1.0]",
        "the first number must be below the second, got [44, 18]",
        "cohort.excluded_findings.6: Input should be 'severe_scoliosis'",
        "prepare.crop_mm.0: Input should be greater than 0",
        "prepare.intensity.mri.percentiles.1: Input should be less than or equal to 100",
        "splits.holdout: missing ct",
        "stages.stage-1.architectures: 'resnet51' has no entry under `architectures`",
        "gate.0.profiles: 'papers' is not one of ['paper', 'quick']",
        "profiles.quick.leave_out: 'vgg61' has no entry under `architectures`",
    ):
        assert fault in text
    assert caught.value.exit_code == 2


def test_a_missing_file_says_where_to_go(tmp_path):
    with pytest.raises(ParamsError, match=r"file not found; run the command in the project's folder"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(("text", "found"), [("a: [", "not valid YAML"), ("- 1", "a mapping was expected, found list")])
def test_what_is_no_mapping_is_refused(tmp_path, text, found):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError, match=found):
        load_params(path)


def test_parameters_cannot_be_changed(params):
    with pytest.raises(ValidationError):
        params.profile = "paper"


def test_the_image_protocol_is_run_for_the_profiles_architectures_only(params):
    assert params.protocols("stage-1", "unimodal") == ("patient", "image")
    assert params.protocols("stage-1", "traditional_cnn") == ("patient",)
    assert params.protocols("stage-5", "unimodal") == ("patient",)


def test_a_profile_runs_what_it_does_not_leave_out(raw_params):
    assert parse_params(raw_params).list_run("stage-1") == ("unimodal", "traditional_cnn", "efficientnet_lite0")
    raw_params["profile"] = "paper"
    assert len(parse_params(raw_params).list_run("stage-1")) == 9


def test_faults_of_the_search_are_told_at_once(raw_params):
    search = raw_params["search"]
    search["storage"] = "postgresql://me:secret@host/search"
    search["learning_rate"] = [0.1, 0.01]
    search["space"] |= {"kernels": [3, 5, 3], "dense": [], "poolings": ["mean"]}
    search["budgets"]["quick"]["folds"] = 1
    del search["budgets"]["paper"]
    with pytest.raises(ParamsError) as caught:
        parse_params(raw_params)
    text = str(caught.value)
    assert "7 faults" in text
    for fault in (
        "search.storage: holds a password; keep it out of params.yaml, such as in ~/.pgpass",
        "search.learning_rate: the first number must be below the second, got [0.1, 0.01]",
        "search.space.kernels: 3 stands there more than once",
        "search.space.dense: at least one value is needed",
        "search.space.poolings.0: Input should be 'max' or 'average', found 'mean'",
        "search.budgets.quick.folds: Input should be greater than or equal to 2",
        "search.budgets: no entry for the profile 'paper'",
    ):
        assert fault in text
    search["storage"] = "search.db"
    with pytest.raises(ParamsError, match="a database's address was expected, such as postgresql://host/name"):
        parse_params(raw_params)


def test_an_ensemble_is_of_an_architecture_that_is_trained(raw_params):
    raw_params["ensembles"] = ["unimodal", "resnet51"]
    with pytest.raises(ParamsError, match="1 fault: ensembles: 'resnet51' has no entry under `architectures`"):
        parse_params(raw_params)


def test_a_rule_is_asked_of_every_stage_with_its_validation(raw_params):
    raw_params["stages"]["stage-7"] = {"validation": "holdout", "images": ["mri"], "architectures": ["unimodal"]}
    raw_params["gate"] = [
        {"rule": "patients", "validation": "holdout", "value": 2},
        {"rule": "patients", "validation": ["patient_test", "holdout"], "value": 2},
        {"rule": "patients", "stages": ["stage-2"], "validation": "holdout", "value": 2},
        {"rule": "card"},
    ]
    found = parse_params(raw_params)
    assert [rule.stages for rule in found.gate] == [
        ("stage-5", "stage-7"),
        ("stage-5", "stage-6", "stage-7"),
        ("stage-2", "stage-5", "stage-7"),
        (),
    ]
    assert parse_params(found.model_dump(mode="json")) == found


def test_faults_of_stages_and_of_rules_that_name_them_are_told_at_once(raw_params):
    stages = raw_params["stages"]
    stages["Stage-7"] = {"validation": "holdout", "images": ["mri"], "architectures": ["unimodal"]}
    stages["stage-2"]["paper_table"] = 3
    stages["stage-3"]["paper_table"] = 8
    del stages["stage-6"]
    raw_params["gate"] += [
        {"rule": "patients", "validation": "patient_test", "value": 2},
        {"rule": "patients", "stages": ["stage-9"], "value": 2},
        {"rule": "patients", "validation": "random", "value": 2},
    ]
    first = len(raw_params["gate"]) - 3
    with pytest.raises(ParamsError) as caught:
        parse_params(raw_params)
    for fault in (
        "stages.Stage-7.[key]: String should match pattern",
        "stages: paper_table 3 is named by more than one stage",
        "stages.stage-3.paper_table: 8 is no table of networks in the paper; those are [3, 4, 5, 6, 7, 10]",
        f"gate.{first}.validation: no stage has patient_test",
        f"gate.{first + 1}.stages: 'stage-9' is not one of ['Stage-7', 'stage-1', 'stage-2',",
        f"gate.{first + 2}.validation: no stage has random",
    ):
        assert fault in str(caught.value)


def test_the_first_hold_out_that_lists_a_network_has_it_registered(raw_params):
    row = {"validation": "holdout", "images": ["mri"], "architectures": ["unimodal", "resnet50"]}
    raw_params["stages"] = {"stage-7": row} | raw_params["stages"]
    table = parse_params(raw_params).stage_table
    assert [table.find_holdout(*job) for job in (("unimodal", "mri"), ("unimodal", "ct"), ("multimodal", "mri"))] == [
        "stage-7",
        "stage-5",
        "stage-5",
    ]
    assert table.find_holdout("nothing", "mri") is None
    assert table.find_folds("combined") == "stage-3"
