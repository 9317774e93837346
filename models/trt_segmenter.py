"""The network as a TensorRT engine on an NVIDIA GPU: data-centre TensorRT, or TensorRT-RTX for RTX cards.

The engine for this GPU is found or built (minutes, told as it goes), loaded, and shown a stored picture before it may
work: one that TensorRT refuses or whose mask is wrong is built once more, and refused for good if that mends nothing.
Live, the uint8 picture goes up and the mask comes back, a byte a pixel; the probabilities follow only where there
is a mark to be judged (``postprocess.py``), or if asked for. No PyTorch, no PyCUDA. An error of the GPU ends the
segmenter, since most stay for good; a fresh process may do better.

Separate from the engine files (``trt_engine.py``) and from how one runs (``trt_runner.py``).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from endostream.configs.errors import ConfigError, ModelError

from .cuda_device import Cuda, CudaFailed
from .keep_warm import KeepWarm
from .logits_segmenter import require_image
from .postprocess import SURE_PROB, sure_logit, sure_marks
from .segmenter import ImageRgb, Output, Prob, Progress, Segmentation, SegmenterInfo, SegmenterLost
from .self_test import reference_mask, reference_picture, require_mask
from .trt_builder import BuildLog, make_logger
from .trt_engine import EngineFile, EngineRefused, EngineRequest, engine_for, load_engine, request_for
from .trt_flavour import Flavour, load_flavour
from .trt_gpu import GpuTraits, read_gpu
from .trt_runner import EngineMisfit, TrtRunner, last_said
from .weights_files import sha256_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How an engine is run; see TrtSegmenter."""

    cuda_graph: bool = True
    spin: bool = False


class TrtSegmenter:
    """A preset's network on TensorRT; a subclass says which flavour."""

    flavour: ClassVar[str]
    info: SegmenterInfo

    def __init__(
        self,
        preset: str = "resunet-small",
        *,
        name: str = "",
        precision: str = "fp16",
        model: str = "",
        device: int = 0,
        tf32: bool = False,
        cuda_graph: bool = True,
        spin: bool = False,
        keep_warm_ms: float = 0.0,
        input_hw: tuple[int, int] | None = None,
        sure_prob: float = SURE_PROB,
        progress: Progress | None = None,
    ) -> None:
        """Find or build the engine, load and test it.

        Args:
            preset: whose file.
            name: as the registry calls it.
            precision: ``"fp32"``, ``"fp16"`` or ``"int8"``.
            model: path of an ONNX file instead of the packaged one.
            device: number of the GPU.
            tf32: let float32 convolutions round to TF32.
            cuda_graph: launch one graph instead of kernel after kernel.
            spin: wait with a busy core instead of asleep.
            keep_warm_ms: give the GPU a trifle to do so often, that it does not clock down; 0: never.
            input_hw: size the network must have, None for any.
            sure_prob: see ``postprocess.py``.
            progress: told how far a build is.

        Raises:
            ConfigError: a value outside its range.
            ModelError: no GPU, no TensorRT, no model file, or no engine of it that gives the right mask.
        """
        if not 0.0 <= keep_warm_ms <= 1000.0:
            raise ConfigError(f"keep_warm_ms: {keep_warm_ms}; expected 0 (off) to 1000")
        sure_logit(sure_prob)  # raises for one that cannot be
        self._sure_prob = np.float32(sure_prob)
        self._lost = ""
        self._runner: TrtRunner | None = None
        self._keep_warm: KeepWarm | None = None
        flavour, gpu = load_flavour(self.flavour), read_gpu(device)
        request = request_for(preset, flavour, precision, model, device=device, gpu=gpu, tf32=tf32)
        opening = _Opening(request, flavour, gpu, RunSettings(cuda_graph, spin), progress)
        try:
            cuda = Cuda(device)
            cuda.use_device()
            self._runner = opening.runner(cuda)
            self._require_size(opening.input_hw, input_hw)
            if keep_warm_ms:
                self._keep_warm = KeepWarm(cuda, keep_warm_ms / 1e3)
        except CudaFailed as error:
            self.close()
            raise ModelError(f"GPU {device} ({gpu.name}): {error}. Try: endostream doctor") from error
        except BaseException:
            self.close()
            raise
        graph = "CUDA graph" if self._runner.is_graph else f"no CUDA graph: {self._runner.graph_problem}"
        runtime = f"{flavour.label} {precision} on {gpu.name}, {graph}"
        self.info = SegmenterInfo(name or self.flavour, opening.input_hw, runtime, opening.sha256)

    def warm_up(self) -> None:
        """Nothing is left to pay: opening has run the engine."""

    def segment(self, image_rgb: ImageRgb, output: Output = "mask") -> Segmentation:
        """Segment one picture (uint8, ``info.input_hw`` × 3, RGB).

        Raises:
            ValueError: another shape or type.
            SegmenterLost: the GPU failed, now or before.
        """
        require_image(image_rgb, self.info.input_hw)
        if self._runner is None:
            raise SegmenterLost(self._lost or "segmenter: closed")
        if self._keep_warm is not None:
            self._keep_warm.busy = True
        try:
            return self._segmented(self._runner, image_rgb, output)
        except CudaFailed as error:
            self._lost = f"{self.info.name}: the GPU failed: {error}"
            self.close()
            raise SegmenterLost(self._lost) from error
        finally:
            if self._keep_warm is not None:
                self._keep_warm.busy = False

    def close(self) -> None:
        """Give back all of the GPU; may be called twice."""
        if self._keep_warm is not None:
            self._keep_warm.close()
            self._keep_warm = None
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    def _segmented(self, runner: TrtRunner, image_rgb: ImageRgb, output: Output) -> Segmentation:
        every = runner.run(image_rgb) != 0
        if output == "mask" and not every.any():
            return Segmentation(every)
        prob = runner.prob()
        mask = sure_marks(every, prob >= self._sure_prob)
        return Segmentation(mask, _kept(prob, every & ~mask) if output == "prob" else None)

    @staticmethod
    def _require_size(has_hw: tuple[int, int], wanted_hw: tuple[int, int] | None) -> None:
        if wanted_hw is not None and tuple(wanted_hw) != has_hw:
            raise ModelError(f"input_hw: {tuple(wanted_hw)}; expected {has_hw} for this engine")


class TensorrtSegmenter(TrtSegmenter):
    """On data-centre TensorRT, 10 or newer."""

    flavour = "tensorrt"


class RtxSegmenter(TrtSegmenter):
    """On TensorRT-RTX."""

    flavour = "rtx"


@dataclass(slots=True)
class _Opening:
    """The way from a request to an engine that runs and gives the right mask."""

    request: EngineRequest
    flavour: Flavour
    gpu: GpuTraits
    settings: RunSettings
    progress: Progress | None
    input_hw: tuple[int, int] = (0, 0)
    sha256: str = ""

    def runner(self, cuda: Cuda) -> TrtRunner:
        """The engine, ready; one that is refused is built once more.

        Raises:
            ModelError: refused again.
            CudaFailed: the GPU failed.
        """
        self.sha256 = sha256_of(self.request.onnx)
        engine_file = engine_for(self.request, _per_cent(self.progress))
        try:
            return self._tested(cuda, engine_file)
        except EngineRefused as error:
            logger.warning("%s; it is built again", error)
        return self._tested(cuda, engine_for(self.request, _per_cent(self.progress), rebuild=True))

    def _tested(self, cuda: Cuda, engine_file: EngineFile) -> TrtRunner:
        log = BuildLog()
        path = engine_file.path
        try:
            engine = load_engine(engine_file, self.flavour, make_logger(self.flavour.module, log), self.gpu)
        except EngineRefused as error:
            raise EngineRefused(f"{error}; {last_said(log.errors)}") from error
        height, width = tuple(engine.get_tensor_shape("image"))[1:3]
        self.input_hw = (int(height), int(width))
        try:
            runner = TrtRunner(
                cuda,
                engine,
                self.input_hw,
                use_graph=self.settings.cuda_graph,
                spin=self.settings.spin,
                cache_file=path.with_suffix(".kernels"),
                said=log.errors,
            )
        except EngineMisfit as error:
            raise EngineRefused(f"engine: {path}; {error}; {last_said(log.errors)}") from error
        try:
            self._self_test(runner, path.name)
        except BaseException:
            runner.close()
            raise
        return runner

    def _self_test(self, runner: TrtRunner, what: str) -> None:
        expected = reference_mask(self.request.onnx, self.sha256, self.input_hw)
        mask = runner.run(reference_picture(self.input_hw)) != 0
        try:
            require_mask(mask, expected, self.request.precision, f"engine: {what}")
        except ModelError as error:
            raise EngineRefused(str(error)) from error


def _per_cent(progress: Progress | None) -> Callable[[str, float], None] | None:
    """The builder's progress as ours: its phases have names for TensorRT's authors only."""
    return None if progress is None else lambda _, share: progress("building engine", round(100 * share))


def _kept(prob: Prob, not_sure: np.ndarray) -> Prob:
    """A copy of the probabilities in which a mark that does not count is none."""
    kept = prob.copy()
    kept[not_sure] = 0.5
    return kept
