"""What engine is wanted, what it would be made of, and under which name it lies.

The key of an engine is the sum of all it is made of (``trt_record.MATERIAL``): the ONNX file, our conversion of it,
TensorRT's flavour and full version, the GPUs it is for, precision and flags. Separate from finding and building it
(``trt_engine.py``): it needs no TensorRT but the flavour's version and its list of targets.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from endostream.configs.errors import ConfigError, ModelError

from .trt_flavour import Flavour
from .trt_gpu import GpuTraits, read_gpu
from .trt_record import key_of
from .weights_files import model_file, sha256_of

ONNX_OF = {"fp32": "fp32", "fp16": "fp32", "int8": "int8_signed"}
"""Which of a preset's files an engine of each precision is made from (kinds of ``weights_files.py``)."""
CONVERSION_FILES = ("trt_graph.py", "trt_precision.py", "trt_builder.py")


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """An engine that is wanted.

    Attributes:
        onnx: the network's file: float32 for fp32 and fp16, signed Q/DQ for int8.
        preset: its name, for file names and messages.
        flavour: which TensorRT.
        precision: ``"fp32"``, ``"fp16"`` or ``"int8"``.
        targets: GPUs to build for without having them (``("sm86", "sm89")``, RTX only); empty: the GPU of this
            machine.
        tf32: let float32 convolutions round to TF32, on the GPUs that have it.
        folder: for engines; None: XDG_CACHE_HOME/endostream/engines.
        device: number of this machine's GPU, where there are several.
        gpu: its traits where they are known already; else they are read.
    """

    onnx: Path
    preset: str
    flavour: Flavour
    precision: str = "fp16"
    targets: tuple[str, ...] = ()
    tf32: bool = False
    folder: Path | None = None
    device: int = 0
    gpu: GpuTraits | None = None


def request_for(
    preset: str, flavour: Flavour, precision: str = "fp16", model: str | Path = "", **others: Any
) -> EngineRequest:
    """Ask for a preset's engine, from its own file or from ``model``; ``others`` are EngineRequest's.

    Raises:
        ConfigError: no such precision.
        ModelError: the file is missing or not what its card says.
    """
    if precision not in ONNX_OF:
        raise ConfigError(f"precision: {precision!r}; expected one of {', '.join(ONNX_OF)}")
    path, _ = model_file(preset, ONNX_OF[precision], model)
    return EngineRequest(path, preset, flavour, precision, **others)


def engines_folder() -> Path:
    """Where engines are kept unless another folder is given."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "endostream" / "engines"


def material_of(request: EngineRequest) -> dict[str, Any]:
    """All that an engine's key is made of."""
    targets, gpu = _targets(request)
    if not request.onnx.is_file():
        raise ModelError(f"model: {request.onnx}; no such file. Try: endostream export, or --model FILE.onnx")
    if request.precision not in ONNX_OF:
        raise ConfigError(f"precision: {request.precision!r}; expected one of {', '.join(ONNX_OF)}")
    return {
        "onnx_sha256": sha256_of(request.onnx),
        "conversion": _conversion_sum(),
        "flavour": request.flavour.name,
        "version": request.flavour.version,
        "targets": list(targets),
        "gpu": gpu.as_json() if gpu is not None else None,
        "precision": request.precision,
        "flags": {"strongly_typed": True, "tf32": request.tf32},
    }


def _targets(request: EngineRequest) -> tuple[tuple[str, ...], GpuTraits | None]:
    """What to build for, and the GPU where it is this machine's."""
    ahead = request.flavour.ahead_targets()
    if request.targets and not ahead:
        raise ConfigError(
            f"--target: {','.join(request.targets)}; {request.flavour.name} builds only for the GPU that is there."
            " Try: without --target on that machine, or --runtime rtx"
        )
    gpu = None if request.targets else request.gpu or read_gpu(request.device)
    targets = request.targets or ((gpu.target,) if gpu is not None else ())
    missing = [target for target in targets if ahead and target not in ahead]
    if missing:
        raise ModelError(
            f"target: {','.join(missing)}; {request.flavour.label} builds for {', '.join(ahead)}. Try: --runtime"
            " tensorrt on that machine, or --runtime onnxruntime-cuda"
        )
    return tuple(sorted(set(targets), key=lambda target: int(target[2:]))), gpu


def engine_path(request: EngineRequest, material: Mapping[str, Any]) -> Path:
    """File of the engine: what a person asks for, and of the key enough to tell engines apart."""
    name = f"{request.preset}-{request.precision}-{request.flavour.name}{request.flavour.version}-{_slug(material)}"
    return (request.folder or engines_folder()) / f"{name}-{key_of(material)[:12]}.engine"


def timings_path(request: EngineRequest, material: Mapping[str, Any]) -> Path:
    """File of kernel timings for this flavour, version and GPU, beside the engines."""
    name = f"timings-{request.flavour.name}{request.flavour.version}-{_slug(material)}.cache"
    return (request.folder or engines_folder()) / name


def _slug(material: Mapping[str, Any]) -> str:
    """Targets, and the GPU's name where there is one, for a file name."""
    gpu = material["gpu"]
    words = [*material["targets"], *(gpu["name"].split() if gpu else [])]
    return "-".join("".join(c for c in word if c.isalnum()) for word in words)


@cache
def _conversion_sum() -> str:
    """Sum of the code that makes TensorRT's input from the ONNX: an engine of another such code is another engine."""
    here = Path(__file__).parent
    text = b"".join((here / name).read_bytes() for name in CONVERSION_FILES)
    return hashlib.sha256(text).hexdigest()[:16]
