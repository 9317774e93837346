"""What TensorRT is given computes what the network file does, at each precision, and nothing else is given to it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from endostream.configs.errors import ConfigError, ModelError
from endostream.models.logits_segmenter import prob_of
from endostream.models.trt_graph import engine_graph
from endostream.models.trt_precision import at_precision

from .tiny_onnx import HW, tiny_network


def run(model: onnx.ModelProto, image: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": image[None]}), strict=True))


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(1).integers(256, size=(*HW, 3), dtype=np.uint8)


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    found = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    values = [*found.graph.value_info, *found.graph.output]
    return {value.name: value.type.tensor_type.elem_type for value in values}


def test_the_outputs_are_the_mask_and_the_probabilities_of_the_networks_logits(image: np.ndarray) -> None:
    model = tiny_network()
    logits = run(model, image)["logits"][0, :, :, 0]
    found = run(engine_graph(model), image)
    assert sorted(found) == ["mask", "prob"]
    assert found["mask"].dtype == np.uint8
    assert 0 < found["mask"].sum() < found["mask"].size
    assert np.array_equal(found["mask"], logits > 0)
    assert found["prob"] == pytest.approx(prob_of(logits), abs=1e-6)
    assert np.array_equal(found["prob"] > 0.5, logits > 0)


def test_a_logit_of_next_to_nothing_is_above_one_half_in_both_outputs(image: np.ndarray) -> None:
    model = tiny_network()
    for constant in model.graph.initializer:
        if constant.name == "out_kernel":
            constant.CopyFrom(numpy_helper.from_array(np.zeros((1, 8, 1, 1), np.float32), "out_kernel"))
        if constant.name == "out_bias":
            constant.CopyFrom(numpy_helper.from_array(np.full(1, 1e-12, np.float32), "out_bias"))
    found = run(engine_graph(model), image)
    assert (found["mask"] == 1).all()
    assert (found["prob"] > 0.5).all()


def test_the_uint8_picture_goes_straight_into_the_cast_as_tensorrt_demands() -> None:
    graph = engine_graph(tiny_network()).graph
    readers = [node for node in graph.node if "image" in node.input]
    assert [node.op_type for node in readers] == ["Cast"]
    assert graph.node[0].op_type == "Cast"


def test_the_file_it_was_made_from_is_not_touched() -> None:
    model = tiny_network()
    before = model.SerializeToString()
    engine_graph(at_precision(model, "fp16"))
    assert model.SerializeToString() == before


def without_cast(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if node.op_type == "Cast")
    node.op_type = "Identity"
    del node.attribute[:]


def open_height(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "height"


def float_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def two_outputs(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("up", TensorProto.FLOAT, [1, 1, *HW]))


def other_name(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "score"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (without_cast, "image is not read by one chain that ends in a Cast"),
        (open_height, "uint8 1 × -1 × 48 × 3"),
        (float_input, "takes image: float 1 × 32 × 48 × 3"),
        (two_outputs, "up: float 1 × 1 × 32 × 48"),
        (other_name, "gives score: float"),
    ],
)
def test_another_network_is_refused_by_what_it_takes_and_gives(
    spoil: Callable[[onnx.ModelProto], None], said: str
) -> None:
    model = tiny_network()
    spoil(model)
    with pytest.raises(ModelError, match=said):
        engine_graph(model)


def test_float16_computes_all_convolutions_but_the_last_and_no_sum(image: np.ndarray) -> None:
    model = tiny_network()
    half = at_precision(model, "fp16")
    types = types_of(half)
    assert {name for name in ("a", "b", "a_relu", "sum", "out", "up", "scale") if types[name] == 10} == {
        "a",
        "a_relu",
        "b",
    }
    assert types["logits"] == TensorProto.FLOAT
    kinds = {constant.name: constant.data_type for constant in half.graph.initializer}
    assert kinds["b_kernel_half"] == TensorProto.FLOAT16
    assert kinds["out_kernel"] == TensorProto.FLOAT
    assert "b_kernel" not in kinds
    exact, found = run(model, image)["logits"], run(half, image)["logits"]
    assert 0 < np.abs(exact - found).max() < 0.02


def test_a_tensor_that_two_nodes_want_in_float32_is_cast_once() -> None:
    half = at_precision(tiny_network(), "fp16")
    casts = [node.output[0] for node in half.graph.node if node.op_type == "Cast"]
    assert sorted(casts) == sorted({*casts})
    assert "a_relu_float" in casts


def test_float32_is_the_file_as_it_is() -> None:
    model = tiny_network()
    assert at_precision(model, "fp32") is model


def test_int8_leaves_the_quantised_convolution_alone_and_halves_the_others(image: np.ndarray) -> None:
    model = tiny_network(quantise="int8")
    made = at_precision(model, "int8")
    types = types_of(made)
    assert types["a"] == TensorProto.FLOAT16
    assert types["b"] == TensorProto.FLOAT
    assert types["a_q"] == TensorProto.INT8
    assert run(made, image)["logits"] == pytest.approx(run(model, image)["logits"], abs=0.1)


def without_zero_points(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            del node.input[2:]


def shifted(model: onnx.ModelProto) -> None:
    for constant in model.graph.initializer:
        if constant.name == "a_zero":
            constant.CopyFrom(numpy_helper.from_array(np.array(3, np.int8), "a_zero"))


@pytest.mark.parametrize("spoil", [without_zero_points, shifted])
def test_int8_with_zero_points_tensorrt_does_not_have_is_refused(spoil: Any) -> None:
    model = tiny_network(quantise="int8")
    spoil(model)
    with pytest.raises(ModelError, match="expected int8 with zero point 0"):
        at_precision(model, "int8")


def test_unsigned_int8_is_refused_since_tensorrt_takes_it_and_clips_at_half_the_range() -> None:
    with pytest.raises(ModelError, match="a_q quantises to uint8; expected int8"):
        at_precision(tiny_network(quantise="uint8"), "int8")


@pytest.mark.parametrize(
    ("quantise", "precision", "said"),
    [
        ("", "int8", "no Q/DQ nodes"),
        ("int8", "fp16", "has Q/DQ nodes"),
        ("int8", "fp32", "has Q/DQ nodes"),
    ],
)
def test_a_file_of_another_precision_is_refused(quantise: str, precision: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        at_precision(tiny_network(quantise=quantise), precision)


def test_a_weight_that_float16_cannot_hold_is_refused_by_name() -> None:
    model = tiny_network()
    for constant in model.graph.initializer:
        if constant.name == "a_bias":
            constant.CopyFrom(numpy_helper.from_array(np.full(8, 1e5, np.float32), "a_bias"))
    with pytest.raises(ModelError, match=r"a_bias goes up to 1e\+05; expected at most 65504"):
        at_precision(model, "fp16")


def test_another_precision_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="'bf16'; expected one of fp32, fp16, int8"):
        at_precision(tiny_network(), "bf16")
