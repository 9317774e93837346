"""The presets: sizes, input and output, and the order that lets every batch norm fold."""

from typing import Any

import numpy as np
import pytest

from endostream.configs.errors import ConfigError, ModelError
from endostream.train.commands import choose_backend


@pytest.fixture(scope="module")
def resunet() -> Any:
    try:
        choose_backend(threads=1)
    except ModelError as error:
        pytest.skip(str(error))
    from endostream.models import resunet

    return resunet


@pytest.mark.parametrize(
    ("preset", "parameters", "input_hw"),
    [
        ("resunet-paper", 5_168_573, (320, 320)),
        ("resunet-small", 1_949_313, (320, 320)),
        ("resunet-base", 7_676_097, (352, 352)),
    ],
)
def test_a_preset_has_its_size_and_goes_from_bytes_to_logits(
    resunet: Any, preset: str, parameters: int, input_hw: tuple[int, int]
) -> None:
    network = resunet.build_resunet(resunet.preset_config(preset))
    assert network.count_params() == parameters
    assert (network.input.shape, network.input.dtype) == ((None, *input_hw, 3), "uint8")
    assert (network.output.shape, network.output.dtype) == ((None, *input_hw, 1), "float32")


def test_the_paper_s_has_five_residual_blocks_a_side_from_16_to_256(resunet: Any) -> None:
    network = resunet.build_resunet(resunet.preset_config("resunet-paper"))
    for side in ("encoder", "decoder"):
        filters = [network.get_layer(f"{side}{level}_add").output.shape[-1] for level in range(5)]
        assert filters == [16, 32, 64, 128, 256]


@pytest.mark.parametrize("preset", ["resunet-small", "resunet-base"])
def test_every_batch_norm_follows_a_convolution(resunet: Any, preset: str) -> None:
    network = resunet.build_resunet(resunet.preset_config(preset))
    convolved = {id(layer.output) for layer in network.layers if type(layer).__name__ == "Conv2D"}
    norms = [layer for layer in network.layers if type(layer).__name__ == "BatchNormalization"]
    assert norms
    assert all(id(norm.input) in convolved for norm in norms)


def test_auxiliary_outputs_halve_from_one_to_the_next_and_add_only_their_own_weights(resunet: Any) -> None:
    config = resunet.ResUNetConfig("tiny", (64, 64), (8, 12, 16), context_filters=8)
    plain, taught = resunet.build_resunet(config), resunet.build_resunet(config, auxiliary=True)
    assert [output.shape[1:3] for output in taught.outputs] == [(64, 64), (16, 16)]
    assert taught.count_params() - plain.count_params() == 12 + 1


def test_the_network_eats_0_to_255_and_starts_near_the_share_of_polyp(resunet: Any) -> None:
    config = resunet.ResUNetConfig("tiny", (32, 32), (8, 12), context_filters=8)
    logits = resunet.build_resunet(config).predict_on_batch(np.full((1, 32, 32, 3), 128, np.uint8))
    assert np.asarray(logits) == pytest.approx(-1.7, abs=0.1)


def test_a_size_that_does_not_divide_and_an_unknown_preset_are_refused(resunet: Any) -> None:
    with pytest.raises(ConfigError, match="multiples of 32"):
        resunet.build_resunet(resunet.ResUNetConfig("odd", (320, 300), (8, 8, 8, 8, 8), context_filters=8))
    with pytest.raises(ConfigError, match="expected one of resunet-paper, resunet-small, resunet-base"):
        resunet.preset_config("resunet-huge")
