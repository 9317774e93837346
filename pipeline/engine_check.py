"""The numeric gate of ``endostream build-engine --check``: does the engine still compute the network that was trained?

Step by step on real pictures: the Keras network against its ONNX file, that file against the graph that TensorRT was
given, and the ONNX file against the engine where a GPU is there to run it. What cannot be run here is said, with the
reason, and never counts as passed. Separate from the command (``cli_engine.py``), which reads and prints.
"""

import glob
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from endostream.configs.errors import ConfigError, EndostreamError, ModelError, SourceMissing
from endostream.models.metrics import count
from endostream.models.segmenter import ImageRgb, Mask
from endostream.models.transform import Transform
from endostream.models.trt_engine import EngineFile, EngineRequest, graph_for, load_engine
from endostream.models.weights_files import FILE_OF

PICTURES = 50
SUFFIXES = (".jpg", ".jpeg", ".png")
MASK_LEVEL = 127

MaskOf = Callable[[ImageRgb], Mask]
"""A network: from a picture at its input size to the mask, logit above 0."""


class Limits(NamedTuple):
    """The most a step may change: share of pixels, and Dice (see ``Step``)."""

    flipped_share: float
    dice_difference: float


LIMITS = {"fp32": Limits(2e-5, 0.0005), "fp16": Limits(5e-4, 0.002), "int8": Limits(1e-2, 0.01)}
"""Resunet-small flips no pixel of 50 pictures from Keras to ONNX; of 100, 2.5e-5 to float16, 2.6e-3 to INT8."""


class Picture(NamedTuple):
    """One to check on: at the network's input size, with the true mask where the data has one."""

    name: str
    image_rgb: ImageRgb
    truth: Mask | None


@dataclass(frozen=True, slots=True)
class Step:
    """One network against the next, over all pictures.

    Attributes:
        name: e.g. ``"keras to onnx"``.
        not_run: why it was not, or "".
        flipped_pixels: whose mask differs, of ``pixels``.
        dice_difference: of the Dice per image against the true masks, the means' absolute difference; where the data
            has no masks, 1 less the mean Dice between the two networks' masks.
        dice_against: ``"truth"`` or ``"each other"``, accordingly.
        worst_picture: with the most flipped pixels.
        worst_flipped_pixels: how many.
        worst_dice: between the two networks' masks on that picture.
        passed: inside both limits; None if it was not run.
    """

    name: str
    not_run: str = ""
    flipped_pixels: int = 0
    pixels: int = 0
    flipped_share: float = 0.0
    dice_difference: float = 0.0
    dice_against: str = ""
    worst_picture: str = ""
    worst_flipped_pixels: int = 0
    worst_dice: float = 1.0
    max_flipped_share: float = 0.0
    max_dice_difference: float = 0.0
    passed: bool | None = None


def read_pictures(data: Path, input_hw: tuple[int, int], most: int = PICTURES) -> list[Picture]:
    """Up to ``most`` pictures, evenly spread over a folder of them, or over its ``images/`` with ``masks/`` beside.

    Raises:
        SourceMissing: no such folder, no picture in it, or one that cannot be decoded.
    """
    images = data / "images" if (data / "images").is_dir() else data
    if not images.is_dir():
        raise SourceMissing(
            f"data: {data}; no such folder. Try: --data DIR with pictures, or images/ and masks/"
        )
    paths = sorted(path for path in images.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise SourceMissing(f"data: {images}; no pictures in it, expected {', '.join(SUFFIXES)}")
    chosen = np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int)
    return [_picture(paths[i], data / "masks", input_hw) for i in chosen]


def _picture(path: Path, masks: Path, input_hw: tuple[int, int]) -> Picture:
    image_bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image_bgr is None:
        raise SourceMissing(f"picture: {path}; cannot be decoded")
    transform = Transform.of_picture((image_bgr.shape[0], image_bgr.shape[1]), input_hw)
    image_rgb = transform.forward(np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), np.uint8))
    named = masks.glob(f"{glob.escape(path.stem)}.*")
    beside = next((file for file in sorted(named) if file.suffix.lower() in SUFFIXES), None)
    grey = cv2.imread(str(beside), cv2.IMREAD_GRAYSCALE) if beside is not None else None
    if grey is None:
        return Picture(path.stem, image_rgb, None)
    if grey.shape != image_bgr.shape[:2]:
        raise SourceMissing(f"mask: {beside}; {grey.shape}, expected the picture's {image_bgr.shape[:2]}")
    return Picture(path.stem, image_rgb, transform.forward_mask(np.asarray(grey > MASK_LEVEL, np.bool_)))


def compare(
    name: str, pictures: Sequence[Picture], ours: Sequence[Mask], theirs: Sequence[Mask], limits: Limits
) -> Step:
    """Hold the masks ``theirs`` against ``ours``, picture by picture."""
    flipped = [int(np.count_nonzero(a != b)) for a, b in zip(ours, theirs, strict=True)]
    between = [count(b, a).dice for a, b in zip(ours, theirs, strict=True)]
    judged = [(i, each.truth) for i, each in enumerate(pictures) if each.truth is not None]
    if judged:
        means = [
            float(np.mean([count(masks[i], truth).dice for i, truth in judged])) for masks in (ours, theirs)
        ]
        difference, against = abs(means[0] - means[1]), "truth"
    else:
        difference, against = 1.0 - float(np.mean(between)), "each other"
    worst = int(np.argmax(flipped))
    pixels = sum(mask.size for mask in ours)
    share = sum(flipped) / pixels
    return Step(
        name,
        flipped_pixels=sum(flipped),
        pixels=pixels,
        flipped_share=share,
        dice_difference=difference,
        dice_against=against,
        worst_picture=pictures[worst].name,
        worst_flipped_pixels=flipped[worst],
        worst_dice=between[worst],
        max_flipped_share=limits.flipped_share,
        max_dice_difference=limits.dice_difference,
        passed=share <= limits.flipped_share and difference <= limits.dice_difference,
    )


def check(request: EngineRequest, engine: EngineFile, data: Path, most: int = PICTURES) -> dict[str, Any]:
    """Run every step that can be run here; ready for JSON. ``passed`` is False if one of them did not pass.

    Raises:
        SourceMissing: no pictures.
        ModelError: ONNX Runtime is not installed, which every step needs.
    """
    graph = OrtNetwork(graph_for(request.onnx, request.precision))
    pictures = read_pictures(data, graph.input_hw, most)
    floats = request.onnx if request.precision != "int8" else request.onnx.with_name(FILE_OF["fp32"])
    of_graph = [graph(each.image_rgb) for each in pictures]
    of_onnx = _masks(OrtNetwork(graph_for(floats, "fp32")), pictures) if floats.is_file() else None
    steps = [
        _keras_step(request, floats, pictures, of_onnx),
        Step(f"onnx to {request.precision} graph", f"no {floats.name} beside {request.onnx.name}")
        if of_onnx is None
        else compare(
            f"onnx to {request.precision} graph", pictures, of_onnx, of_graph, LIMITS[request.precision]
        ),
        _engine_step(request, engine, pictures, of_onnx or of_graph),
    ]
    ran = [step for step in steps if step.passed is not None]
    return {
        "data": str(data),
        "pictures": len(pictures),
        "with_true_masks": sum(each.truth is not None for each in pictures),
        "steps": [asdict(step) for step in steps],
        "engine_was_run": steps[-1].passed is not None,
        "passed": bool(ran) and all(step.passed for step in ran),
    }


def _keras_step(
    request: EngineRequest, floats: Path, pictures: Sequence[Picture], of_onnx: list[Mask] | None
) -> Step:
    name, weights = "keras to onnx", floats.with_name(FILE_OF["keras"])
    if of_onnx is None or not weights.is_file():
        return Step(name, f"no {weights.name} and {floats.name} beside {request.onnx.name}")
    try:
        importlib.import_module("endostream.train.commands").choose_backend()
        module = importlib.import_module("endostream.models.keras_segmenter")
        segmenter = module.KerasSegmenter(request.preset, model=str(weights))
    except (ImportError, EndostreamError) as error:
        return Step(name, " ".join(str(error).split()))
    of_keras = [segmenter.logits(each.image_rgb) > 0 for each in pictures]
    segmenter.close()
    return compare(name, pictures, of_keras, of_onnx, LIMITS["fp32"])


def _engine_step(
    request: EngineRequest, engine: EngineFile, pictures: Sequence[Picture], reference: list[Mask]
) -> Step:
    """The engine itself on this machine's GPU, where it is built for that one."""
    name = f"onnx to {request.flavour.name} engine"
    from endostream.models.cuda_device import no_gpu_reason
    from endostream.models.trt_gpu import read_gpu

    reason = no_gpu_reason()
    if reason:
        return Step(name, reason)
    gpu = request.gpu or read_gpu(request.device)
    if gpu.target not in engine.record["targets"]:
        built = ", ".join(engine.record["targets"])
        return Step(name, f"built for {built}; the GPU here is {gpu.target} ({gpu.name})")
    from endostream.models.cuda_device import Cuda
    from endostream.models.trt_runner import TrtRunner

    cuda = Cuda(request.device)
    cuda.use_device()
    loaded = load_engine(engine, request.flavour, gpu=gpu)
    height, width = pictures[0].image_rgb.shape[:2]
    runner = TrtRunner(cuda, loaded, (height, width))
    try:
        masks = [runner.run(each.image_rgb) != 0 for each in pictures]
    finally:
        runner.close()
    return compare(name, pictures, reference, masks, LIMITS[request.precision])


class OrtNetwork:
    """A graph with an engine's inputs and outputs, on ONNX Runtime."""

    def __init__(self, graph: bytes) -> None:
        try:
            onnxruntime: Any = importlib.import_module("onnxruntime")
        except ImportError as error:
            raise ModelError(
                "check: ONNX Runtime is not installed. Try: pip install 'endostream[onnxruntime]'"
            ) from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        _, height, width, _ = self._session.get_inputs()[0].shape
        self.input_hw = (int(height), int(width))

    def __call__(self, image_rgb: ImageRgb) -> Mask:
        """The mask of a picture at the network's input size."""
        (mask,) = self._session.run(["mask"], {"image": image_rgb[None]})
        return np.asarray(mask != 0, np.bool_)


def _masks(network: MaskOf, pictures: Sequence[Picture]) -> list[Mask]:
    return [network(each.image_rgb) for each in pictures]


def check_lines(found: dict[str, Any]) -> list[str]:
    """What ``check`` found, a line for each step."""
    lines = [
        f"checked on {found['pictures']} pictures of {found['data']}, {found['with_true_masks']} with true masks"
    ]
    for step in found["steps"]:
        if step["not_run"]:
            lines.append(f"  {step['name']:<24} NOT RUN: {step['not_run']}")
            continue
        verdict = "ok" if step["passed"] else "FAILED"
        lines.append(
            f"  {step['name']:<24} {verdict}: {step['flipped_pixels']} of {step['pixels']} pixels flipped"
            f" ({step['flipped_share']:.2e}, limit {step['max_flipped_share']:.0e}), Dice difference"
            f" {step['dice_difference']:.5f} (limit {step['max_dice_difference']}), worst {step['worst_picture']}:"
            f" {step['worst_flipped_pixels']} pixels, Dice {step['worst_dice']:.4f}"
        )
    if not found["engine_was_run"]:
        lines.append("  the engine itself was not run; what TensorRT makes of the graph is not checked here")
    return lines


def data_folder(given: Path | None, environment: Mapping[str, str]) -> Path:
    """The pictures to check on: as given, or Kvasir-SEG under ENDOSTREAM_DATA (../shared/data). Raises ConfigError."""
    if given is not None:
        return given
    folder = Path(environment.get("ENDOSTREAM_DATA") or "../shared/data") / "kvasir-seg"
    if not folder.is_dir():
        raise ConfigError(
            f"--check: no pictures in {folder}; expected --data DIR, or ENDOSTREAM_DATA. Try: --data DIR"
        )
    return folder
