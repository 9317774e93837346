"""The network on ONNX Runtime: where OpenVINO is not at home, as the extra ``endostream[onnxruntime]``.

Separate because only this file imports it. It takes the same files as ``openvino_segmenter.py``.
"""

from typing import Any

import onnxruntime

from endostream.configs.errors import ConfigError, ModelError

from .logits_segmenter import Logits, LogitsSegmenter, default_threads, require_signature
from .postprocess import SURE_PROB
from .segmenter import ImageRgb, SegmenterInfo
from .weights_files import model_file


class OnnxruntimeSegmenter(LogitsSegmenter):
    """A preset's ONNX file on ONNX Runtime."""

    def __init__(
        self,
        preset: str = "resunet-small",
        *,
        name: str = "onnxruntime",
        precision: str = "fp32",
        model: str = "",
        threads: int = 0,
        provider: str = "CPUExecutionProvider",
        input_hw: tuple[int, int] | None = None,
        sure_prob: float = SURE_PROB,
    ) -> None:
        """Open; the options are those of OpenvinoSegmenter, ``provider`` is ONNX Runtime's name of a device.

        float32 by default: on a CPU it is no slower here than INT8 (18.6 and 21 ms on one thread).

        Raises:
            ConfigError: a provider that is not installed.
            ModelError: the file is missing, damaged or of another shape.
        """
        super().__init__(sure_prob)
        if provider not in onnxruntime.get_available_providers():
            known = ", ".join(onnxruntime.get_available_providers())
            raise ConfigError(f"onnxruntime provider: {provider!r}; expected one of {known}")
        path, digest = model_file(preset, precision, model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or default_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=[provider])
        except Exception as error:  # its errors share no class that is public
            raise ModelError(
                f"model: {path}; not an ONNX file ONNX Runtime can read ({error!s:.160})"
            ) from error
        inputs = [_port(port) for port in self._session.get_inputs()]
        outputs = [_port(port) for port in self._session.get_outputs()]
        hw = require_signature(path, inputs, outputs, input_hw)
        self._input = inputs[0][0]
        self.info = SegmenterInfo(name, hw, f"onnxruntime {onnxruntime.__version__} {precision}", digest)

    def logits(self, image_rgb: ImageRgb) -> Logits:
        """Run the network on one picture; see LogitsSegmenter."""
        logits: Logits = self._session.run(None, {self._input: image_rgb[None]})[0][0, :, :, 0]
        return logits

    def close(self) -> None:
        """Let the session go."""
        self._session = None


def _port(port: Any) -> tuple[str, list[int], str]:
    kinds = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
    sides = [side if isinstance(side, int) else -1 for side in port.shape]
    return port.name, sides, kinds.get(port.type, port.type)
