"""Which runtime computes a preset: the one asked for, or the best that works on this machine.

Separate from the registry in ``segmenter.py``, which maps names to classes: a preset is one name and several
classes. Whether a package is installed and a GPU is there is found out without importing anything; a runtime is
imported only when it is opened, so that a machine without a GPU never pays for TensorRT.
"""

import importlib
import inspect
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from endostream.configs.errors import ConfigError, ModelError

from .cuda_device import no_gpu_reason
from .segmenter import Progress, Segmenter


@dataclass(frozen=True, slots=True)
class Runtime:
    """What a runtime needs.

    Attributes:
        packages: modules that must be there.
        where: its segmenter, ``"module:Class"``.
        package: that pip is to install.
        on_gpu: whether it needs an NVIDIA GPU.
        holds: a file under the first package's folder that only the right build of it has, "" for any build.
    """

    packages: tuple[str, ...]
    where: str
    package: str
    on_gpu: bool = False
    holds: str = ""

    @property
    def install_line(self) -> str:
        """What installs it."""
        return f"pip install '{self.package}'" if "[" in self.package else f"pip install {self.package}"


DRIVER_LINE = "sudo ubuntu-drivers install (docs/gpu.md)"
"""What installs NVIDIA's driver on the system most have."""
_HERE = "endostream.models"
RUNTIMES: dict[str, Runtime] = {
    "tensorrt": Runtime(
        ("tensorrt", "cuda.bindings"),
        f"{_HERE}.trt_segmenter:TensorrtSegmenter",
        "endostream[tensorrt]",
        on_gpu=True,
    ),
    "rtx": Runtime(
        ("tensorrt_rtx", "cuda.bindings"),
        f"{_HERE}.trt_segmenter:RtxSegmenter",
        "endostream[tensorrt-rtx]",
        on_gpu=True,
    ),
    "onnxruntime-cuda": Runtime(
        ("onnxruntime",),
        f"{_HERE}.onnxruntime_segmenter:OnnxruntimeCudaSegmenter",
        "endostream[onnxruntime-cuda]",
        on_gpu=True,
        holds="capi/*onnxruntime_providers_cuda*",
    ),
    "openvino": Runtime(("openvino",), f"{_HERE}.openvino_segmenter:OpenvinoSegmenter", "openvino"),
    "onnxruntime": Runtime(
        ("onnxruntime",), f"{_HERE}.onnxruntime_segmenter:OnnxruntimeSegmenter", "endostream[onnxruntime]"
    ),
    "keras": Runtime(("keras",), f"{_HERE}.keras_segmenter:KerasSegmenter", "endostream[tensorflow]"),
}
"""By name, best first."""


def check_runtime_name(name: str) -> None:
    """Raise ConfigError, naming those there are, unless ``name`` is auto or one of RUNTIMES."""
    if name != "auto" and name not in RUNTIMES:
        raise ConfigError(f"runtime: {name!r}; expected auto, {', '.join(RUNTIMES)}")


def why_not(name: str) -> str:
    """Why the runtime ``name`` cannot be used here and what would mend that, or "" where nothing speaks against it.

    Looks for packages and asks the driver for a GPU; imports none of them.
    """
    runtime = RUNTIMES[name]
    for package in runtime.packages:
        if not _is_installed(package):
            return f"{package} is not installed. Try: {runtime.install_line}"
    first = runtime.packages[0]
    if runtime.holds and not _holds(first, runtime.holds):
        return f"{first} is installed without CUDA. Try: pip uninstall {first}; {runtime.install_line}"
    reason = no_gpu_reason() if runtime.on_gpu else ""
    return f"{reason}. Try: {DRIVER_LINE}, or --runtime openvino" if reason else ""


def is_installed(name: str) -> bool:
    """Whether all packages that the runtime ``name`` needs are there."""
    return all(_is_installed(package) for package in RUNTIMES[name].packages)


def runtime_version(name: str) -> str:
    """Import the runtime ``name``; package and version. Raises ModelError where it does not load."""
    package = RUNTIMES[name].packages[0]
    try:
        module = importlib.import_module(package)
    except Exception as error:  # those packages load libraries by hand and raise what they like
        raise ModelError(f"{package} cannot be loaded here ({' '.join(str(error).split())[:160]})") from error
    return f"{package} {module.__version__.partition('-')[0]}"


def open_preset(
    preset: str, runtime: str = "auto", *, progress: Progress | None = None, **options: Any
) -> Segmenter:
    """Open a preset on ``runtime``, or with ``auto`` on the first of RUNTIMES that works here.

    ``auto`` passes over what is not installed, has no GPU, does not take the options or, on a GPU, cannot open the
    model; ``info.passed_over`` has the reasons. The first runtime for the CPU that is installed is the last
    tried: what it says is said to the user.

    Raises:
        ConfigError: no such runtime, or an option it does not take.
        ModelError: its package is not installed, there is no GPU for it, or the model cannot be opened.
    """
    check_runtime_name(runtime)
    if runtime != "auto":
        if reason := why_not(runtime):
            raise ModelError(f"runtime {runtime}: {reason}")
        return _open(preset, runtime, progress, options)
    passed_over: dict[str, str] = {}
    for name in RUNTIMES:
        passed_over[name] = why_not(name)
        if passed_over[name]:
            continue
        try:
            segmenter = _open(preset, name, progress, options)
        except (ModelError, ConfigError) as error:
            if not RUNTIMES[name].on_gpu:
                raise
            passed_over[name] = str(error)
            continue
        del passed_over[name]
        segmenter.info = replace(segmenter.info, passed_over=passed_over)
        return segmenter
    raise ModelError(f"runtime auto: none is installed. Try: {RUNTIMES['openvino'].install_line}")


def _open(preset: str, name: str, progress: Progress | None, options: dict[str, Any]) -> Segmenter:
    module_name, class_name = RUNTIMES[name].where.split(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, OSError) as error:  # a library of theirs that cannot be loaded is an OSError
        raise ModelError(f"runtime {name}: cannot be loaded here ({error})") from error
    make = getattr(module, class_name)
    takes = inspect.signature(make)
    given = {"progress": progress, **options} if "progress" in takes.parameters else options
    try:
        takes.bind(preset, name=preset, **given)
    except TypeError as error:
        raise ConfigError(f"infer.options: {options}; runtime {name} says: {error}") from error
    segmenter: Segmenter = make(preset, name=preset, **given)
    return segmenter


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


def _holds(package: str, pattern: str) -> bool:
    """Whether a file of this pattern lies in a package's folder."""
    spec = find_spec(package)
    folders = spec.submodule_search_locations if spec is not None else None
    return any(next(Path(folder).glob(pattern), None) is not None for folder in folders or ())


resunet_small = partial(open_preset, "resunet-small")
resunet_base = partial(open_preset, "resunet-base")
resunet_paper = partial(open_preset, "resunet-paper")
