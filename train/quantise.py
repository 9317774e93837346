"""From a float32 ONNX file to INT8 with explicit Q/DQ nodes that OpenVINO, ONNX Runtime and TensorRT all
take.

NNCF measures the ranges on real pictures and places the nodes; we then turn its unsigned activations into
signed ones (zero point 0, scale × 255/127), since TensorRT knows no other: on OpenVINO that costs no time
(4.9 and 5.0 ms). The first layer's scaling stays in float. Separate because only this file imports NNCF.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from endostream.configs.errors import ModelError

FLOAT_NODES = ("scale_scaled", "scale")
"""Of ``onnx_graph.py``: the scaling to [-1, 1], which has nothing to gain."""


def int8_from_onnx(model: onnx.ModelProto, inputs: Sequence[npt.NDArray[np.uint8]]) -> onnx.ModelProto:
    """Quantise weights (per channel) and activations (per tensor), symmetric.

    Args:
        model: float32, from ``onnx_from_network``.
        inputs: pictures to measure on, each uint8 H × W × 3 RGB of the model's size; about 300.

    Raises:
        ModelError: NNCF is not installed.
    """
    try:
        import nncf
    except ImportError as error:
        raise ModelError("INT8: NNCF is not installed. Try: pip install endostream[train]") from error
    quantised: onnx.ModelProto = nncf.quantize(
        model,
        nncf.Dataset(inputs, lambda image: {"image": image[None]}),
        preset=nncf.QuantizationPreset.PERFORMANCE,
        subset_size=len(inputs),
        ignored_scope=nncf.IgnoredScope(names=list(FLOAT_NODES)),
    )
    return signed(quantised)


def signed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every unsigned Q/DQ pair of zero point 0 made signed; changed in place and checked.

    Raises:
        ModelError: an unsigned pair with another zero point.
    """
    constants = {each.name: each for each in model.graph.initializer}
    widened: set[str] = set()
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        _, scale, zero = node.input
        if numpy_helper.to_array(constants[zero]).dtype == np.uint8:
            _make_signed(constants, scale, zero, widened)
    del model.graph.value_info[:]  # it still says uint8
    onnx.checker.check_model(model)
    return model


def _make_signed(constants: dict[str, Any], scale: str, zero: str, widened: set[str]) -> None:
    zero_point = numpy_helper.to_array(constants[zero])
    if zero_point.any():
        raise ModelError(f"INT8: {zero} has zero point {zero_point}; expected 0 (symmetric)")
    constants[zero].CopyFrom(numpy_helper.from_array(zero_point.astype(np.int8), zero))
    if scale not in widened:
        value = numpy_helper.to_array(constants[scale]) * np.float32(255 / 127)
        constants[scale].CopyFrom(numpy_helper.from_array(value.astype(np.float32), scale))
        widened.add(scale)
