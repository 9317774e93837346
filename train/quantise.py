"""From a float32 ONNX file to INT8 with explicit Q/DQ nodes, for OpenVINO and ONNX Runtime.

NNCF measures the ranges on real pictures and places the nodes: weights signed per channel, activations after a ReLU
unsigned with zero point 0. TensorRT takes signed activations only. Making them signed halves their steps, and on
resunet-small that cost 0.013 to 0.022 of Dice per image where unsigned INT8 cost nothing, so it is left to the
TensorRT path, which has FP16. The first layer's scaling stays in float. Separate because only this file imports NNCF.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx

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
    return quantised
