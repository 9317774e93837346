"""A network of ours in small, written by hand: two convolutions, a residual sum, half-size logits drawn up again."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HW = (32, 48)


def tiny_network(seed: int = 0, quantise: str = "") -> onnx.ModelProto:
    """``image`` (uint8, 1 × 32 × 48 × 3) to ``logits``; with Q/DQ around the sum's convolution if ``quantise`` says
    ``"int8"`` or ``"uint8"``.
    """
    random = np.random.default_rng(seed)
    height, width = HW
    values: dict[str, Any] = {
        "by": np.array(1 / 127.5, np.float32),
        "offset": np.array(-1, np.float32),
        "factors": np.array([1, 1, 2, 2], np.float32),
    }
    for name, shape in (("a", (8, 3, 3, 3)), ("b", (8, 8, 3, 3)), ("out", (1, 8, 1, 1))):
        values[f"{name}_kernel"] = random.normal(0, 0.3, shape).astype(np.float32)
        values[f"{name}_bias"] = random.normal(0, 0.1, shape[0]).astype(np.float32)
    node, same = helper.make_node, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        node("Transpose", ["image"], ["chw"], name="chw", perm=[0, 3, 1, 2]),
        node("Cast", ["chw"], ["float"], name="float", to=TensorProto.FLOAT),
        node("Mul", ["float", "by"], ["scaled"], name="scaled"),
        node("Add", ["scaled", "offset"], ["scale"], name="scale"),
        node("Conv", ["scale", "a_kernel", "a_bias"], ["a"], name="a", strides=[2, 2], **same),
        node("Relu", ["a"], ["a_relu"], name="a_relu"),
    ]
    source, kernel = "a_relu", "b_kernel"
    if quantise:
        nodes += _quantised(values, np.int8 if quantise == "int8" else np.uint8)
        source, kernel = "a_dq", "b_kernel_dq"
    nodes += [
        node("Conv", [source, kernel, "b_bias"], ["b"], name="b", **same),
        node("Add", ["b", "a_relu"], ["sum"], name="sum"),
        node("Relu", ["sum"], ["sum_relu"], name="sum_relu"),
        node("Conv", ["sum_relu", "out_kernel", "out_bias"], ["out"], name="out", kernel_shape=[1, 1]),
        node("Resize", ["out", "", "factors"], ["up"], name="up", mode="linear"),
        node("Transpose", ["up"], ["logits"], name="logits_out", perm=[0, 2, 3, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, height, width, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, height, width, 1])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _quantised(values: dict[str, Any], kind: type[np.integer[Any]]) -> list[Any]:
    """Q/DQ on ``a_relu`` and DQ on ``b``'s weights, which become INT8 per channel."""
    kernel = values.pop("b_kernel")
    scale = np.abs(kernel).max(axis=(1, 2, 3)) / 127
    values["b_kernel_int8"] = np.round(kernel / scale[:, None, None, None]).astype(np.int8)
    values |= {"b_scale": scale.astype(np.float32), "b_zero": np.zeros(8, np.int8)}
    values |= {"a_scale": np.array(3 / np.iinfo(kind).max, np.float32), "a_zero": np.zeros((), kind)}
    node = helper.make_node
    return [
        node("QuantizeLinear", ["a_relu", "a_scale", "a_zero"], ["a_q"], name="a_q"),
        node("DequantizeLinear", ["a_q", "a_scale", "a_zero"], ["a_dq"], name="a_dq"),
        node(
            "DequantizeLinear",
            ["b_kernel_int8", "b_scale", "b_zero"],
            ["b_kernel_dq"],
            name="b_kernel_dq",
            axis=0,
        ),
    ]


def write_tiny(path: Path, seed: int = 0, quantise: str = "") -> Path:
    """Save ``tiny_network`` and return ``path``."""
    onnx.save(tiny_network(seed, quantise), path)
    return path
