"""A network file at a precision: float32 as it is, float16 by casts, INT8 by the Q/DQ nodes in it.

TensorRT 11 has no precision flags any more, and 10 takes a strongly typed network: what computes in which type is what
the graph says. So the precision is made here, the same for both flavours, and ONNX Runtime can run the very graph that
TensorRT is given.

float16: the convolutions but the last. What only moves or clips values (Relu, Concat, Resize) follows its input; sums
and all else are float32, and so is the last convolution. INT8: convolutions between Q/DQ nodes are left alone (their
type is that of the nodes), the others become float16.

Separate from the engine's inputs and outputs (``trt_graph.py``). It measures nothing: INT8 ranges are
``train/quantise_signed.py``'s.
"""

from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from endostream.configs.errors import ConfigError, ModelError

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
FOLLOWERS = {"Relu": 1, "Resize": 1, "Transpose": 1, "MaxPool": 1, "Concat": None}
"""Nodes that keep the type of their input, and how many of their inputs are data; None: all."""
LARGEST_HALF = float(np.finfo(np.float16).max)
QUANTISERS = ("QuantizeLinear", "DequantizeLinear")


def at_precision(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """The network at ``precision``; ``model`` itself is not changed.

    Raises:
        ConfigError: no such precision.
        ModelError: the file does not fit it: Q/DQ nodes, or none, or such as TensorRT computes differently.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision: {precision!r}; expected one of {', '.join(PRECISIONS)}")
    quantised = [node for node in model.graph.node if node.op_type in QUANTISERS]
    if precision != "int8" and quantised:
        raise ModelError(
            f"model: has Q/DQ nodes; expected a float32 file for {precision}. Try: --precision int8, or model.onnx"
        )
    if precision == "int8":
        _require_signed(model, quantised)
    return model if precision == "fp32" else half_from_float(model)


def _require_signed(model: onnx.ModelProto, quantised: list[Any]) -> None:
    """TensorRT's INT8 is signed with zero point 0. It takes other files without a word and clips at half the range."""
    if not quantised:
        raise ModelError(
            "model: no Q/DQ nodes in it; expected an INT8 file. Try: endostream export, or --precision fp16"
        )
    constants = {constant.name: constant for constant in model.graph.initializer}
    for node in quantised:
        zero = constants.get(node.input[2]) if len(node.input) > 2 else None
        signed = zero is not None and zero.data_type == TensorProto.INT8
        if zero is None or not signed or np.any(numpy_helper.to_array(zero)):
            kind = "uint8" if zero is None else TensorProto.DataType.Name(zero.data_type).lower()
            raise ModelError(
                f"model: {node.name} quantises to {kind}; expected int8 with zero point 0, as TensorRT computes. Try:"
                " model_int8_signed.onnx of endostream export"
            )


def half_from_float(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose convolutions compute in float16: all but the last and those between Q/DQ nodes.

    Raises:
        ModelError: a weight is too large for float16.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    _Halver(made.graph).convert()
    onnx.checker.check_model(made, full_check=True)
    return made


class _Halver:
    """Goes through a graph in order, knows each tensor's type so far, and puts casts where types meet."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._constants = {constant.name: constant for constant in graph.initializer}
        self._makers = {output: node for node in graph.node for output in node.output}
        self._last = _last_convolutions(graph)
        self._half: set[str] = set()
        self._made: set[str] = set()
        self._nodes: list[Any] = []

    def convert(self) -> None:
        """Replace the graph's nodes, in place."""
        for node in list(self._graph.node):
            half = self._computes_in_half(node)
            for place in self._data_inputs(node):
                node.input[place] = self._as(node.input[place], half)
            if half:
                self._half.update(node.output)
            self._nodes.append(node)
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in self._nodes]
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        del self._graph.value_info[:]  # of the old types
        self._drop_unread_constants()

    def _computes_in_half(self, node: Any) -> bool:
        if node.op_type == "Conv":
            from_quantised = any(
                name in self._makers and self._makers[name].op_type == "DequantizeLinear"
                for name in node.input
            )
            return node.output[0] not in self._last and not from_quantised
        data = FOLLOWERS.get(node.op_type, 0)
        return node.op_type in FOLLOWERS and any(name in self._half for name in node.input[:data])

    def _data_inputs(self, node: Any) -> range:
        """Places of the inputs that have the node's type; a Resize's scales, say, have their own."""
        count = FOLLOWERS.get(node.op_type)
        return range(len(node.input) if count is None else min(count, len(node.input)))

    def _as(self, name: str, half: bool) -> str:
        """The tensor ``name`` in that type, cast, at most once, if need be."""
        if (name in self._half) == half or not name:
            return name
        if name in self._constants:
            return self._constant(name)
        other = f"{name}_{'half' if half else 'float'}"
        if other not in self._made:
            kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
            self._nodes.append(helper.make_node("Cast", [name], [other], name=other, to=kind))
            self._made.add(other)
        return other

    def _constant(self, name: str) -> str:
        other = f"{name}_half"
        if other not in self._made:
            values = numpy_helper.to_array(self._constants[name])
            largest = float(np.abs(values).max(initial=0))
            if not largest <= LARGEST_HALF:
                raise ModelError(
                    f"model: {name} goes up to {largest:.3g}; expected at most {LARGEST_HALF:.0f} for float16. Try:"
                    " --precision fp32"
                )
            self._graph.initializer.append(numpy_helper.from_array(values.astype(np.float16), other))
            self._made.add(other)
        return other

    def _drop_unread_constants(self) -> None:
        read = {name for node in self._graph.node for name in node.input}
        kept = [constant for constant in self._graph.initializer if constant.name in read]
        copies = [onnx.TensorProto.FromString(constant.SerializeToString()) for constant in kept]
        del self._graph.initializer[:]
        self._graph.initializer.extend(copies)


def _last_convolutions(graph: Any) -> set[str]:
    """Outputs of those convolutions that no other convolution comes after."""
    before_another: set[str] = set()
    for node in reversed(graph.node):
        leads_on = node.op_type == "Conv" or any(name in before_another for name in node.output)
        if leads_on:
            before_another.update(node.input)
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    return {node.output[0] for node in convolutions if node.output[0] not in before_another}
