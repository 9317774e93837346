"""From a network file to the graph an engine is built from: its tensors, made so that the device does the rest.

* Input ``image``: uint8, 1 × H × W × 3. TensorRT takes uint8 at an engine's border only, straight into a Cast; our
  files transpose first, so the two change places.
* Outputs ``mask`` (uint8, H × W, 0 or 1: logit above 0) and ``prob`` (float32, H × W, above 0.5 where the mask is 1)
  in place of ``logits``: live use copies H × W bytes back, evaluation four times as many. Both flavours take uint8
  and bool as an output; uint8 it is, since NumPy and CUDA agree on its values.

Separate from the precisions (``trt_precision.py``). It works on the graph in memory and writes no file.
"""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from endostream.configs.errors import ModelError

from .logits_segmenter import JUST_ABOVE_HALF

INPUT = "image"
LOGITS = "logits"
MASK = "mask"
PROB = "prob"


def engine_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model`` (``image`` to ``logits``) with an engine's inputs and outputs; checked.

    Raises:
        ModelError: another input or output, or sizes that are not fixed.
    """
    height, width = network_hw(model)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    _cast_before_all_else(made.graph)
    _add_outputs(made.graph, height, width)
    try:
        onnx.checker.check_model(made, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"model: its graph is not sound ({_first_line(error)})") from error
    return made


def network_hw(model: onnx.ModelProto) -> tuple[int, int]:
    """Height and width in pixels of a network of ours; raises ModelError for any other network."""
    inputs = [_port(port) for port in model.graph.input]
    outputs = [_port(port) for port in model.graph.output]
    if len(inputs) == len(outputs) == 1:
        height, width = (*inputs[0][2], 0, 0, 0)[1:3]
        wanted_in = (INPUT, TensorProto.UINT8, [1, height, width, 3])
        wanted_out = (LOGITS, TensorProto.FLOAT, [1, height, width, 1])
        if height > 0 and width > 0 and inputs[0] == wanted_in and outputs[0] == wanted_out:
            return height, width
    raise ModelError(
        f"model: takes {_named(inputs)}, gives {_named(outputs)}; expected {INPUT}: uint8 1 × H × W × 3 to {LOGITS}:"
        " float32 1 × H × W × 1, of fixed size. Try: a file of endostream export"
    )


def _cast_before_all_else(graph: Any) -> None:
    """Make the Cast to float32 the first node: nodes before it that only move values are fed its output."""
    kinds = {output: node for node in graph.node for output in node.output}
    cast = next((node for node in graph.node if node.op_type == "Cast" and _from_image(node, kinds)), None)
    readers = [node for node in graph.node if INPUT in node.input]
    if cast is None or len(readers) != 1:
        raise ModelError(
            f"model: {INPUT} is not read by one chain that ends in a Cast. Try: a file of endostream export"
        )
    before = cast.input[0]
    if before == INPUT:
        return
    for node in graph.node:  # who read the cast's output reads what the movers now give
        node.input[:] = [before if name == cast.output[0] else name for name in node.input]
    readers[0].input[:] = [cast.output[0] if name == INPUT else name for name in readers[0].input]
    cast.input[0] = INPUT
    rest = [node for node in graph.node if node is not cast]
    nodes = [cast, *rest]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    del graph.value_info[:]  # of the old types


def _from_image(node: Any, makers: dict[str, Any]) -> bool:
    """Whether ``node``'s input is the image, at most moved on the way."""
    name = node.input[0]
    while name != INPUT:
        maker = makers.get(name)
        if maker is None or maker.op_type not in ("Transpose", "Reshape", "Squeeze", "Unsqueeze"):
            return False
        name = maker.input[0]
    return True


def _add_outputs(graph: Any, height: int, width: int) -> None:
    """Replace the output ``logits`` by ``mask`` and ``prob``."""
    constants = {
        "engine_hw": np.array([height, width], np.int64),
        "engine_zero": np.array(0, np.float32),
        "engine_above_half": np.array(JUST_ABOVE_HALF, np.float32),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    graph.node.extend(
        helper.make_node(kind, inputs, [output], name=output, **attributes)
        for kind, inputs, output, attributes in (
            ("Reshape", [LOGITS, "engine_hw"], "engine_logits", {}),
            ("Greater", ["engine_logits", "engine_zero"], "engine_positive", {}),
            ("Cast", ["engine_positive"], MASK, {"to": TensorProto.UINT8}),
            ("Sigmoid", ["engine_logits"], "engine_sigmoid", {}),
            ("Where", ["engine_positive", "engine_above_half", "engine_zero"], "engine_floor", {}),
            ("Max", ["engine_sigmoid", "engine_floor"], PROB, {}),
        )
    )
    del graph.output[:]
    graph.output.extend(
        helper.make_tensor_value_info(name, kind, [height, width])
        for name, kind in ((MASK, TensorProto.UINT8), (PROB, TensorProto.FLOAT))
    )


def _port(port: Any) -> tuple[str, int, list[int]]:
    """Name, element type and sides; -1 for a side that is not fixed."""
    kind = port.type.tensor_type
    sides = [int(side.dim_value) if side.HasField("dim_value") else -1 for side in kind.shape.dim]
    return port.name, int(kind.elem_type), sides


def _named(ports: list[tuple[str, int, list[int]]]) -> str:
    return (
        ", ".join(
            f"{name}: {TensorProto.DataType.Name(kind).lower()} {' × '.join(map(str, sides))}"
            for name, kind, sides in ports
        )
        or "nothing"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:160]
