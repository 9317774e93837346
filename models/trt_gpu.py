"""What of a GPU an engine depends on, read by ``cuda.bindings``.

An engine of data-centre TensorRT is tuned to one model of GPU; another with the same compute capability but fewer
multiprocessors, a narrower bus or a smaller cache runs it worse or not at all. So these are part of an engine's key.
Separate because an engine built ahead of time needs none of it. It runs nothing on the GPU.
"""

import importlib
from dataclasses import asdict, dataclass
from typing import Any

from endostream.configs.errors import ModelError

from .cuda_device import no_gpu_reason

INSTALL_LINE = "pip install cuda-bindings"
WITHOUT = (
    "Try: endostream build-engine --runtime rtx --target sm89, which needs no GPU, or --runtime openvino"
)


@dataclass(frozen=True, slots=True)
class GpuTraits:
    """A GPU as far as engines care; bytes and bits as CUDA counts them."""

    name: str
    compute_capability: str
    multiprocessors: int
    memory_bus_bits: int
    l2_cache_bytes: int
    shared_memory_per_multiprocessor_bytes: int
    shared_memory_per_block_bytes: int
    registers_per_multiprocessor: int
    texture_alignment_bytes: int
    integrated: bool

    @property
    def target(self) -> str:
        """As build-engine's ``--target`` has it: ``sm89``."""
        return f"sm{self.compute_capability.replace('.', '')}"

    def as_json(self) -> dict[str, Any]:
        """For the record beside an engine."""
        return asdict(self)


def read_gpu(device: int = 0, bindings: Any = None) -> GpuTraits:
    """Traits of GPU ``device``; ``bindings`` is ``cuda.bindings.runtime`` or what stands in for it.

    Raises:
        ModelError: cuda-bindings is not installed, or there is no such GPU or no driver.
    """
    if bindings is None and (reason := no_gpu_reason()):
        raise ModelError(f"GPU: {reason}. {WITHOUT}")
    cuda = bindings if bindings is not None else _bindings()
    status, count = cuda.cudaGetDeviceCount()
    if int(status):
        _, text = cuda.cudaGetErrorString(status)
        raise ModelError(f"GPU: none can be used here ({_text(text)}). {WITHOUT}")
    if not 0 <= device < count:
        raise ModelError(f"GPU {device}: no such device; expected 0 to {count - 1}. Try: endostream doctor")
    status, properties = cuda.cudaGetDeviceProperties(device)
    if int(status):
        _, text = cuda.cudaGetErrorString(status)
        raise ModelError(f"GPU {device}: cannot be read ({_text(text)}). Try: endostream doctor")
    return GpuTraits(
        name=_text(properties.name),
        compute_capability=f"{properties.major}.{properties.minor}",
        multiprocessors=int(properties.multiProcessorCount),
        memory_bus_bits=int(properties.memoryBusWidth),
        l2_cache_bytes=int(properties.l2CacheSize),
        shared_memory_per_multiprocessor_bytes=int(properties.sharedMemPerMultiprocessor),
        shared_memory_per_block_bytes=int(properties.sharedMemPerBlockOptin),
        registers_per_multiprocessor=int(properties.regsPerMultiprocessor),
        texture_alignment_bytes=int(properties.textureAlignment),
        integrated=bool(properties.integrated),
    )


def _bindings() -> Any:
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise ModelError(f"cuda-bindings: cannot be loaded here ({error}). Try: {INSTALL_LINE}") from error


def _text(raw: Any) -> str:
    return raw.decode(errors="replace").rstrip("\0") if isinstance(raw, bytes) else str(raw)
