"""The network on OpenVINO: the default on a CPU, in INT8.

Settings, and why: one stream with the latency hint, as there is never more than one picture to work on; a
fixed small number of threads, since the display side needs the other cores more than infer needs speed; a
cache of the compiled model, so that a restarted infer is back in a fraction of the time. Separate because
only this file imports OpenVINO.
"""

import os
from pathlib import Path
from typing import Any

import openvino

from endostream.configs.errors import ConfigError, ModelError

from .logits_segmenter import Logits, LogitsSegmenter, default_threads, require_signature
from .postprocess import SURE_PROB
from .segmenter import ImageRgb, SegmenterInfo
from .weights_files import model_file

MAX_THREADS = 64


class OpenvinoSegmenter(LogitsSegmenter):
    """A preset's ONNX file on OpenVINO's CPU plugin."""

    def __init__(
        self,
        preset: str = "resunet-small",
        *,
        name: str = "openvino",
        precision: str = "int8",
        model: str = "",
        threads: int = 0,
        cache: bool = True,
        input_hw: tuple[int, int] | None = None,
        sure_prob: float = SURE_PROB,
    ) -> None:
        """Open and compile.

        Args:
            preset: whose file.
            name: as the registry calls it.
            precision: ``"int8"`` or ``"fp32"``.
            model: path of an ONNX file instead of the packaged one.
            threads: of the CPU; 0 leaves one core in two to the display, at most 4 for us.
            cache: keep the compiled model under XDG_CACHE_HOME (~/.cache/endostream).
            input_hw: size the file must have, None for any.
            sure_prob: keep marks of which some pixel reaches this probability; 0.5 keeps all.

        Raises:
            ConfigError: a bad number of threads, or a ``sure_prob`` that is none.
            ModelError: the file is missing, damaged or of another shape.
        """
        super().__init__(sure_prob)
        if not 0 <= threads <= MAX_THREADS:
            raise ConfigError(f"openvino threads: {threads}; expected 0 (choose) to {MAX_THREADS}")
        path, digest = model_file(preset, precision, model)
        try:
            network = openvino.Core().read_model(path)
            signature = ([_port(port) for port in network.inputs], [_port(port) for port in network.outputs])
        except RuntimeError as error:
            raise ModelError(
                f"model: {path}; not an ONNX file OpenVINO can read ({_short(error)})"
            ) from error
        hw = require_signature(path, *signature, input_hw)
        self._compiled: Any = _compile(network, threads or default_threads(), cache, path)
        self._request: Any = self._compiled.create_infer_request()
        runtime = f"openvino {openvino.__version__.partition('-')[0]} {precision}"
        self.info = SegmenterInfo(name, hw, runtime, digest)

    def logits(self, image_rgb: ImageRgb) -> Logits:
        """Run the network on one picture; the array is good until the next call."""
        self._request.infer([image_rgb[None]], share_inputs=True)
        logits: Logits = self._request.get_output_tensor(0).data[0, :, :, 0]
        return logits

    def close(self) -> None:
        """Let the compiled model go."""
        self._request = self._compiled = None


def _compile(network: Any, threads: int, cache: bool, path: Path) -> Any:
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        "INFERENCE_PRECISION_HINT": "f32",  # never bfloat16 behind one's back, where a CPU has it
    }
    folder = _cache_folder() if cache else None
    if folder is not None:
        settings["CACHE_DIR"] = str(folder)
    try:
        return openvino.Core().compile_model(network, "CPU", settings)
    except RuntimeError as error:
        raise ModelError(f"model: {path}; OpenVINO cannot compile it ({_short(error)})") from error


def _cache_folder() -> Path | None:
    """Where compiled models are kept; None where nothing can be written."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "endostream" / "openvino"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def _port(port: Any) -> tuple[str, list[int], str]:
    shape = port.get_partial_shape()
    sides = [int(side.get_length()) if side.is_static else -1 for side in shape]
    kinds = {"u8": "uint8", "f32": "float32"}
    kind = port.get_element_type().get_type_name()
    return port.get_any_name(), sides, kinds.get(kind, kind)


def _short(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:160] if lines else type(error).__name__
