"""The network on ONNX Runtime: on a CPU where OpenVINO is not at home, on an NVIDIA GPU where TensorRT is not.

The extras are ``endostream[onnxruntime]`` and, in its place, ``endostream[onnxruntime-cuda]``. Separate because only
this file imports it. It takes the same files as ``openvino_segmenter.py``.
"""

import contextlib
import sys
from typing import Any

import onnxruntime

from endostream.configs.errors import ConfigError, ModelError

from .logits_segmenter import Logits, LogitsSegmenter, default_threads, require_signature
from .postprocess import SURE_PROB
from .segmenter import ImageRgb, SegmenterInfo, SegmenterLost
from .weights_files import model_file

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


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
        provider: str = CPU,
        provider_options: dict[str, str] | None = None,
        input_hw: tuple[int, int] | None = None,
        sure_prob: float = SURE_PROB,
    ) -> None:
        """Open; the options are those of OpenvinoSegmenter, ``provider`` is ONNX Runtime's name of a device.

        float32 by default: on a CPU it is no slower here than INT8 (18.6 and 21 ms on one thread).

        Raises:
            ConfigError: a provider that is not installed.
            ModelError: the file is missing, damaged or of another shape, or the provider does not work here.
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
            self._session: Any = onnxruntime.InferenceSession(
                str(path), options, providers=[(provider, provider_options or {})]
            )
        except Exception as error:  # its errors share no class that is public
            raise ModelError(
                f"model: {path}; not an ONNX file ONNX Runtime can read ({error!s:.160})"
            ) from error
        if self._session.get_providers()[0] != provider:  # it takes the CPU without a word
            self._session = None
            raise ModelError(
                f"onnxruntime: {provider} is installed but does not work here; a library of CUDA or cuDNN, or the GPU,"
                " is missing: ONNX Runtime says above which. Try: pip install 'endostream[onnxruntime-cuda]'"
            )
        inputs = [_port(port) for port in self._session.get_inputs()]
        outputs = [_port(port) for port in self._session.get_outputs()]
        hw = require_signature(path, inputs, outputs, input_hw)
        self._input = inputs[0][0]
        device = "" if provider == CPU else f" {provider.removesuffix('ExecutionProvider')}"
        runtime = f"onnxruntime {onnxruntime.__version__}{device} {precision}"
        self.info = SegmenterInfo(name, hw, runtime, digest)

    def logits(self, image_rgb: ImageRgb) -> Logits:
        """Run the network on one picture; see LogitsSegmenter."""
        logits: Logits = self._session.run(None, {self._input: image_rgb[None]})[0][0, :, :, 0]
        return logits

    def close(self) -> None:
        """Let the session go."""
        self._session = None


class OnnxruntimeCudaSegmenter(OnnxruntimeSegmenter):
    """The same on an NVIDIA GPU, and never on the CPU instead.

    float32 without TF32, so that masks are those of the CPU. An error of the GPU ends it: most stay for good.
    """

    def __init__(
        self,
        preset: str = "resunet-small",
        *,
        name: str = "onnxruntime-cuda",
        precision: str = "fp32",
        model: str = "",
        device: int = 0,
        input_hw: tuple[int, int] | None = None,
        sure_prob: float = SURE_PROB,
    ) -> None:
        """Open on the GPU ``device``; see OnnxruntimeSegmenter.

        Raises:
            ModelError: the CUDA provider is not installed or does not work here, or the file is no good.
        """
        if CUDA not in onnxruntime.get_available_providers():
            raise ModelError(
                "onnxruntime: installed without CUDA. Try: pip uninstall onnxruntime;"
                " pip install 'endostream[onnxruntime-cuda]'"
            )
        preload = getattr(onnxruntime, "preload_dlls", None)
        if preload is not None:  # CUDA and cuDNN from pip's packages; it prints what it does not find
            with contextlib.redirect_stdout(sys.stderr):
                preload()
        super().__init__(
            preset,
            name=name,
            precision=precision,
            model=model,
            provider=CUDA,
            provider_options={"device_id": str(device), "use_tf32": "0"},
            input_hw=input_hw,
            sure_prob=sure_prob,
        )

    def logits(self, image_rgb: ImageRgb) -> Logits:
        """Run the network on one picture. Raises SegmenterLost where the GPU fails."""
        try:
            return super().logits(image_rgb)
        except Exception as error:  # see above
            raise SegmenterLost(f"onnxruntime on CUDA: {' '.join(str(error).split())[:300]}") from error


def _port(port: Any) -> tuple[str, list[int], str]:
    kinds = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
    sides = [side if isinstance(side, int) else -1 for side in port.shape]
    return port.name, sides, kinds.get(port.type, port.type)
