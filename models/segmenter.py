"""What a segmenter is, and the registry of those there are.

A segmenter takes one RGB picture at its own input size and answers with a mask or with probabilities. It
knows nothing of frames, links or video. The registry maps a name to ``"module:Class"`` and imports on use
only, so that listing segmenters costs no TensorFlow, OpenVINO or Numba; one that cannot load stays listed
with the reason. A ``"module:Class"`` may also be given in place of a name: a segmenter of one's own needs no
line here.
"""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from endostream.configs.errors import ConfigError, ModelError

ImageRgb = npt.NDArray[np.uint8]
"""H × W × 3, RGB, 0 to 255."""
ImageGray = npt.NDArray[np.uint8]
"""H × W, 0 to 255."""
Mask = npt.NDArray[np.bool_]
"""H × W, True where the finding is."""
Prob = npt.NDArray[np.float32]
"""H × W in [0, 1]."""
Output = Literal["mask", "prob"]


Progress = Callable[[str, int], None]
"""Told what an opening that takes long is at, in a few words, and how far it is, in per cent."""


class SegmenterLost(RuntimeError):
    """A segmenter that cannot go on in this process, whatever it is shown: a fresh process may."""


@dataclass(frozen=True, slots=True)
class SegmenterInfo:
    """What a segmenter says of itself.

    Attributes:
        name: registry name.
        input_hw: height and width it eats, in pixels.
        runtime: what computes it, with its version, e.g. ``"numba 0.61.0"``.
        weights_sha256: of the model file, or None where there is none.
        passed_over: runtimes that would have been better, by name, and why they were not taken.
    """

    name: str
    input_hw: tuple[int, int]
    runtime: str
    weights_sha256: str | None = None
    passed_over: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Segmentation:
    """One answer: ``mask`` (bool, H × W), and ``prob`` (float32, H × W) if it was asked for."""

    mask: Mask
    prob: Prob | None = None


@runtime_checkable
class Segmenter(Protocol):
    """A segmenter; opened by its constructor, which raises ModelError if it cannot work here."""

    info: SegmenterInfo

    def warm_up(self) -> None:
        """Pay every first-call cost (compilation, allocation) now."""

    def segment(self, image_rgb: ImageRgb, output: Output = "mask") -> Segmentation:
        """Segment one picture of ``info.input_hw``; raises ValueError for another shape or dtype."""

    def close(self) -> None:
        """Give back what it holds; may be called twice."""


SEGMENTERS: dict[str, str] = {
    "fcm": "endostream.models.fcm:FcmSegmenter",
    "fcm-plain": "endostream.models.fcm:PlainFcmSegmenter",
    "resunet-small": "endostream.models.runtimes:resunet_small",
    "resunet-base": "endostream.models.runtimes:resunet_base",
    "resunet-paper": "endostream.models.runtimes:resunet_paper",
    "openvino": "endostream.models.openvino_segmenter:OpenvinoSegmenter",
    "onnxruntime": "endostream.models.onnxruntime_segmenter:OnnxruntimeSegmenter",
    "keras": "endostream.models.keras_segmenter:KerasSegmenter",
}

INPUT_HW: dict[str, tuple[int, int]] = {"resunet-base": (352, 352)}
"""Input sizes (height, width) of those that do not eat 320 × 320."""


def check_segmenter_name(name: str) -> None:
    """Raise ConfigError, naming those there are, unless ``name`` is registered or reads as ``module:Class``."""
    if name not in SEGMENTERS and _class_path(name) is None:
        registered = ", ".join(sorted(SEGMENTERS))
        raise ConfigError(f"segmenter: {name!r}; expected one of {registered}, or your own module:Class")


def _class_path(name: str) -> tuple[str, str] | None:
    """``package.module:Class`` taken apart, None for anything that does not read so."""
    module, mark, attribute = name.partition(":")
    if mark and all(part.isidentifier() for part in (*module.split("."), attribute)):
        return module, attribute
    return None


def segmenter_input_hw(name: str, options: dict[str, Any] | None = None) -> tuple[int, int]:
    """Height and width the segmenter ``name`` eats with these options, without opening it.

    A segmenter with another input than 320 × 320 says so in the option ``input_hw`` or in INPUT_HW.
    """
    check_segmenter_name(name)
    height, width = (options or {}).get("input_hw", INPUT_HW.get(name, (320, 320)))
    return int(height), int(width)


def load_segmenter(
    name: str, options: dict[str, Any] | None = None, runtime: str = "auto", progress: Progress | None = None
) -> Segmenter:
    """Import and open the segmenter ``name``.

    Args:
        name: registered, or ``module:Class``.
        options: its constructor's keyword arguments.
        runtime: what is to compute it, where it has the choice.
        progress: handed to a constructor that takes ``progress``, as one does that may build for minutes.

    Raises:
        ConfigError: no such name, or the constructor does not take these options.
        ModelError: its package is not installed, its model file is missing or damaged, it is no segmenter,
            or it eats another input than ``segmenter_input_hw`` says.
    """
    make = _segmenter_class(name)
    given = _arguments(name, make, options or {}, runtime, progress)
    segmenter = make(**given)
    if not isinstance(segmenter, Segmenter):
        raise ModelError(
            f"segmenter {name}: {type(segmenter).__name__}; expected info, warm_up, segment, close"
        )
    eats, fed = tuple(segmenter.info.input_hw), segmenter_input_hw(name, given)
    if eats != fed:
        segmenter.close()
        raise ModelError(
            f"segmenter {name}: eats {eats[0]} × {eats[1]}, is given {fed[0]} × {fed[1]}. "
            f"Try: --set infer.options.input_hw=[{eats[0]},{eats[1]}]"
        )
    return segmenter


def _arguments(
    name: str,
    make: Callable[..., Segmenter],
    options: dict[str, Any],
    runtime: str,
    progress: Progress | None,
) -> dict[str, Any]:
    """The constructor's keyword arguments; raises ConfigError for what it does not take."""
    given = dict(options)
    try:
        takes = inspect.signature(make)
        if progress is not None and "progress" in takes.parameters:
            given["progress"] = progress
        takes.bind(**given)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"infer.options: {options}; segmenter {name} says: {error}") from error
    if runtime != "auto":
        if "runtime" not in takes.parameters:
            raise ConfigError(
                f"runtime: {runtime}; segmenter {name} has no runtime to choose, expected none. "
                "Try: without --runtime, or --segmenter resunet-small"
            )
        if given.setdefault("runtime", runtime) != runtime:
            raise ConfigError(
                f"runtime: {runtime}, and {given['runtime']} in infer.options; expected only one"
            )
    return given


def _segmenter_class(name: str) -> Callable[..., Segmenter]:
    check_segmenter_name(name)
    module_name, _, class_name = SEGMENTERS.get(name, name).partition(":")
    try:
        found: Callable[..., Segmenter] = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        hint = "" if name in SEGMENTERS else ". Try: PYTHONPATH=FOLDER, with the folder that holds it"
        raise ModelError(f"segmenter {name}: cannot be loaded here ({error}){hint}") from error
    return found
