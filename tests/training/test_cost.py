import pytest

from osteo_models.training.outputs import Cost, measure_cost


@pytest.mark.parametrize(
    ("architecture", "spec", "cost"),
    [
        # conv1 4,800 x 27 x 64, conv2 1,200 x 576 x 32, dense 9,600 x 128, 128 x 64, 64 x 1
        ("traditional_cnn", {}, Cost(1_257_505, 1_257_505, 8_294_400 + 22_118_400 + 1_228_800 + 8_192 + 64)),
        ("unimodal", {}, Cost(704_961, 704_705, 41_741_328)),
        ("multimodal", {}, Cost(1_409_922, 1_409_410, 2 * 41_741_328)),
        ("efficientnet_lite0", {}, Cost(3_577_121, 1280 * 128 + 128 + 129, 384_071_520)),
    ],
)
def test_costs(architecture: str, spec: dict, cost: Cost) -> None:
    assert measure_cost(architecture, spec) == cost


def test_a_network_that_is_trained_whole_has_all_parameters_trainable() -> None:
    frozen, full = (measure_cost("efficientnet_lite0", {"transfer": transfer}) for transfer in ("frozen", "full"))
    assert full.macs == frozen.macs and full.parameters == frozen.parameters
    assert full.trainable_parameters == 3_535_105
