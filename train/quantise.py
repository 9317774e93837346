"""From a float32 ONNX file to INT8 with explicit Q/DQ nodes: one file for the CPU's runtimes, one for TensorRT.

NNCF measures the ranges on real pictures and places the nodes; weights are signed, per channel. The first layer's
scaling stays in float. Two files, because activations after a ReLU are better off unsigned, and TensorRT has signed
ones with zero point 0 only: it takes others without a word and clips them at half their range.

Signed steps are twice as coarse, and the first stage feels it most: what it makes reaches everything after it, by the
skip connection the last stage too. So in the signed file the stem, the first encoder stage and the last convolution
are left in float, all of them cheap: on resunet-small that takes the error of a logit from 0.34 to 0.14, less than the
unsigned file's 0.23. Hold the signed file against float32 by ONNX Runtime, not OpenVINO (2026.4), whose own arithmetic
on signed activations costs 0.015 of Dice that is not in the file. Separate because only this file imports NNCF.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

from endostream.configs.errors import ModelError

Inputs = Sequence[npt.NDArray[np.uint8]]
"""Pictures to measure on, each uint8 H × W × 3 RGB of the model's size; about 300."""
FLOAT_NODES = ("scale_scaled", "scale")
"""Of ``onnx_graph.py``: the scaling to [-1, 1], which has nothing to gain."""
FLOAT_STAGES = ("stem_", "encoder0_", "logits")
"""What the names of nodes begin with that stay in float where activations are signed."""
SIGNED_STEP = 255 / 127
"""Step of a signed activation over that of an unsigned one with the same range."""


def int8_from_onnx(model: onnx.ModelProto, inputs: Inputs) -> onnx.ModelProto:
    """Quantise weights (per channel) and activations (per tensor), symmetric; ``model`` is ``onnx_from_network``'s.

    Raises:
        ModelError: NNCF is not installed.
    """
    return _quantised(model, inputs, FLOAT_NODES)


def signed_int8_from_onnx(model: onnx.ModelProto, inputs: Inputs) -> onnx.ModelProto:
    """The same for TensorRT: activations signed with zero point 0, the sensitive stages left in float.

    Raises:
        ModelError: NNCF is not installed.
    """
    stages = [
        node.name
        for node in model.graph.node
        if node.op_type in ("Conv", "Add", "Resize") and node.name.startswith(FLOAT_STAGES)
    ]
    quantised = _quantised(model, inputs, (*FLOAT_NODES, *stages))
    _make_signed(quantised)
    onnx.checker.check_model(quantised, full_check=True)
    return quantised


def _make_signed(model: onnx.ModelProto) -> None:
    """Turn unsigned Q/DQ pairs into signed ones of the same range, in place."""
    constants = {constant.name: constant for constant in model.graph.initializer}
    scales = set()
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        zero = constants[node.input[2]]
        if zero.data_type == TensorProto.UINT8:
            shape = numpy_helper.to_array(zero).shape
            zero.CopyFrom(numpy_helper.from_array(np.zeros(shape, np.int8), zero.name))
            scales.add(node.input[1])
    for name in scales:
        step = numpy_helper.to_array(constants[name]) * np.float32(SIGNED_STEP)
        constants[name].CopyFrom(numpy_helper.from_array(step.astype(np.float32), name))
    del model.graph.value_info[:]  # of the old types


def _quantised(model: onnx.ModelProto, inputs: Inputs, float_nodes: Sequence[str]) -> onnx.ModelProto:
    try:
        import nncf
    except ImportError as error:
        raise ModelError("INT8: NNCF is not installed. Try: pip install 'endostream[train]'") from error
    quantised: onnx.ModelProto = nncf.quantize(
        model,
        nncf.Dataset(inputs, lambda image: {"image": image[None]}),
        preset=nncf.QuantizationPreset.PERFORMANCE,
        subset_size=len(inputs),
        ignored_scope=nncf.IgnoredScope(names=list(float_nodes)),
    )
    return quantised
