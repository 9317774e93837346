"""Write a network of ``models/resunet.py`` as an ONNX graph, straight from its layers, batch norms folded in.

Why not a converter: the network has seven kinds of layer, and what comes out is one node for each, static
shapes, channels first and the layers' own names, which quantisation and TensorRT build on; tf2onnx adds 33
shape nodes for the upsampling alone and needs TensorFlow. The gate in ``export.py`` proves that it computes
the same.
"""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import onnx
from keras import layers
from onnx import TensorProto, helper, numpy_helper

from endostream.configs.errors import ModelError

OPSET = 17
IR_VERSION = 9

Array = npt.NDArray[np.float32]


def onnx_from_network(network: Any) -> onnx.ModelProto:
    """The network as ONNX: ``image`` (uint8, 1 × H × W × 3) to ``logits`` (float32, 1 × H × W × 1).

    Raises:
        ModelError: a layer this does not know.
    """
    writer = _Writer(network)
    for layer in network.layers:
        writer.add(layer)
    return writer.model()


class _Writer:
    """Nodes and constants so far, and under which name each layer's output goes."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._names: dict[int, str] = {}
        self._folded = _folded_batch_norms(network)

    def add(self, layer: Any) -> None:
        """Append the node of one layer; layers come in the order they are computed."""
        if isinstance(layer, layers.InputLayer):
            self._node("Transpose", ["image"], "image_chw", perm=[0, 3, 1, 2])
            self._names[id(layer.output)] = "image_chw"
            return
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        sources = [self._names[id(tensor)] for tensor in inputs]
        self._names[id(layer.output)] = self._computed(layer, sources)

    def _computed(self, layer: Any, sources: list[str]) -> str:
        """Name of the layer's output, its nodes appended."""
        name = layer.name
        match layer:
            case layers.Rescaling():
                self._node("Cast", sources, f"{name}_float", to=TensorProto.FLOAT)
                self._node(
                    "Mul", [f"{name}_float", self._number(f"{name}_by", layer.scale)], f"{name}_scaled"
                )
                return self._node(
                    "Add", [f"{name}_scaled", self._number(f"{name}_offset", layer.offset)], name
                )
            case layers.Conv2D():
                return self._convolution(layer, sources[0])
            case layers.BatchNormalization():
                return (
                    sources[0] if layer.name in self._folded.values() else self._batch_norm(layer, sources[0])
                )
            case layers.ReLU():
                return self._node("Relu", sources, name)
            case layers.Add():
                return self._node("Add", sources, name)
            case layers.Concatenate():
                return self._node("Concat", sources, name, axis=1)
            case layers.UpSampling2D():
                return self._upsampling(layer, sources[0])
        raise ModelError(
            f"export: layer {name} is a {type(layer).__name__}; expected one of models/resunet.py's"
        )

    def _convolution(self, layer: Any, source: str) -> str:
        kernel = _array(layer.kernel)
        bias = _array(layer.bias) if layer.use_bias else np.zeros(kernel.shape[-1], np.float32)
        folded = self._folded.get(layer.name)
        if folded is not None:
            scale, shift = _affine(self._network.get_layer(folded))
            kernel, bias = kernel * scale, bias * scale + shift
        weights = [
            self._constant(f"{layer.name}_kernel", kernel.transpose(3, 2, 0, 1)),
            self._constant(f"{layer.name}_bias", bias),
        ]
        size, stride, rate = layer.kernel_size, layer.strides, layer.dilation_rate
        pads = [_same_pads(layer.input.shape[1 + i], size[i], stride[i], rate[i]) for i in range(2)]
        return self._node(
            "Conv",
            [source, *weights],
            layer.name,
            kernel_shape=list(size),
            strides=list(stride),
            dilations=list(rate),
            pads=[pads[0][0], pads[1][0], pads[0][1], pads[1][1]],
        )

    def _batch_norm(self, layer: Any, source: str) -> str:
        """One that follows no convolution: a scale and a shift of each channel."""
        scale, shift = _affine(layer)
        by = self._constant(f"{layer.name}_scale", scale[:, None, None])
        offset = self._constant(f"{layer.name}_shift", shift[:, None, None])
        scaled = self._node("Mul", [source, by], f"{layer.name}_scaled")
        return self._node("Add", [scaled, offset], layer.name)

    def _upsampling(self, layer: Any, source: str) -> str:
        factors = self._constant(f"{layer.name}_factors", np.array([1, 1, *layer.size], np.float32))
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        if layer.interpolation == "bilinear":
            how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        return self._node("Resize", [source, "", factors], layer.name, **how)

    def model(self) -> onnx.ModelProto:
        """The whole graph, checked."""
        _, height, width, _ = self._network.input.shape
        self._node("Transpose", [self._names[id(self._network.output)]], "logits_out", perm=[0, 2, 3, 1])
        self._nodes[-1].output[0] = "logits"
        graph = helper.make_graph(
            _without_clash(self._nodes),
            self._network.name,
            [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, height, width, 3])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, height, width, 1])],
            self._constants,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        model.producer_name = "endostream"
        onnx.checker.check_model(model, full_check=True)
        return model

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def _number(self, name: str, value: float) -> str:
        return self._constant(name, np.array(value, np.float32))

    def _constant(self, name: str, value: Array) -> str:
        array = np.ascontiguousarray(value, np.float32) if value.ndim else value
        self._constants.append(numpy_helper.from_array(array, name))
        return name


def _without_clash(nodes: list[Any]) -> list[Any]:
    """Rename the layer ``logits``'s own output: that name belongs to the graph's output, laid out anew."""
    for node in nodes[:-1]:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == "logits":
                    names[i] = "logits_chw"
    last = nodes[-1]
    if last.input[0] == "logits":
        last.input[0] = "logits_chw"
    return nodes


def _folded_batch_norms(network: Any) -> dict[str, str]:
    """Of each convolution whose output goes to a batch norm and nowhere else: that batch norm's name."""
    readers: dict[int, list[Any]] = {}
    for layer in network.layers:
        if isinstance(layer, layers.InputLayer):
            continue
        for tensor in layer.input if isinstance(layer.input, list) else [layer.input]:
            readers.setdefault(id(tensor), []).append(layer)
    folded = {}
    for layer in network.layers:
        after = readers.get(id(layer.output), [])
        if isinstance(layer, layers.Conv2D) and len(after) == 1:
            (reader,) = after
            if isinstance(reader, layers.BatchNormalization):
                folded[layer.name] = reader.name
    return folded


def _affine(layer: Any) -> tuple[Array, Array]:
    """Scale and shift that a batch norm comes to, in float64 until the end."""
    gamma, beta, mean, variance = (
        _array(each).astype(np.float64)
        for each in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
    )
    scale = gamma / np.sqrt(variance + layer.epsilon)
    return scale.astype(np.float32), (beta - mean * scale).astype(np.float32)


def _array(variable: Any) -> Array:
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float32)


def _same_pads(side: int, size: int, stride: int, rate: int) -> tuple[int, int]:
    """Keras's ``same``: what is needed for ceil(side / stride) outputs, the odd pixel at the end."""
    outputs = -(-side // stride)
    total = max((outputs - 1) * stride + (size - 1) * rate + 1 - side, 0)
    return total // 2, total - total // 2
