"""Which runtime computes a preset: the one asked for, or the best that is installed.

Separate from the registry in ``segmenter.py``, which maps names to classes: a preset is one name and several
classes. A runtime is imported only when it is tried.
"""

import importlib
import inspect
from functools import partial
from importlib.util import find_spec
from typing import Any

from endostream.configs.errors import ConfigError, ModelError

from .segmenter import Segmenter

RUNTIMES: dict[str, tuple[str, str]] = {
    "openvino": ("openvino", "endostream.models.openvino_segmenter:OpenvinoSegmenter"),
    "onnxruntime": ("onnxruntime", "endostream.models.onnxruntime_segmenter:OnnxruntimeSegmenter"),
    "keras": ("keras", "endostream.models.keras_segmenter:KerasSegmenter"),
}
"""By name, best first for a CPU: the package it needs, and its class."""


def open_preset(preset: str, runtime: str = "auto", **options: Any) -> Segmenter:
    """Open a preset on ``runtime``; ``auto`` takes the first of RUNTIMES whose package is installed.

    Raises:
        ConfigError: no such runtime, or an option it does not take.
        ModelError: its package is not installed, or the model cannot be opened.
    """
    if runtime == "auto":
        runtime = next((name for name, (package, _) in RUNTIMES.items() if find_spec(package)), "openvino")
    if runtime not in RUNTIMES:
        raise ConfigError(f"runtime: {runtime!r}; expected auto, {', '.join(RUNTIMES)}")
    package, where = RUNTIMES[runtime]
    if find_spec(package) is None:
        raise ModelError(f"runtime {runtime}: not installed. Try: pip install endostream[{runtime}]")
    module_name, class_name = where.split(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ModelError(f"runtime {runtime}: cannot be loaded here ({error})") from error
    make = getattr(module, class_name)
    try:
        inspect.signature(make).bind(preset, name=preset, **options)
    except TypeError as error:
        raise ConfigError(f"infer.options: {options}; runtime {runtime} says: {error}") from error
    segmenter: Segmenter = make(preset, name=preset, **options)
    return segmenter


resunet_small = partial(open_preset, "resunet-small")
resunet_base = partial(open_preset, "resunet-base")
resunet_paper = partial(open_preset, "resunet-paper")
