"""An NVIDIA GPU from Python: whether one is there, what it is, and CUDA calls whose every answer is looked at.

Separate because all GPU code goes through it, whatever computes: TensorRT, or in its tests a kernel of a few lines.
``no_gpu_reason`` asks the driver alone, so that a machine without a GPU finds out at once and imports nothing. It
allocates nothing (``cuda_memory.py``) and runs nothing (``cuda_pass.py``).
"""

import ctypes
import importlib
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

from endostream.configs.errors import ModelError

from .segmenter import SegmenterLost

DRIVER_LIBRARY = "libcuda.so.1"
NOT_READY = 600
"""cudaErrorNotReady: what was asked about is still under way; no error."""


class CudaFailed(SegmenterLost):
    """A CUDA call failed; the message has the call and CUDA's own name and text.

    Most of its errors stay for good: every later call of the process gives the same again.
    """


@dataclass(frozen=True, slots=True)
class GpuClocks:
    """The highest clocks a GPU claims, in MHz; None where the driver does not say."""

    multiprocessors_mhz: float | None
    memory_mhz: float | None


def no_gpu_reason() -> str:
    """Why no NVIDIA GPU can be used here, or "" where one can."""
    try:
        driver = ctypes.CDLL(DRIVER_LIBRARY)
    except OSError:
        return f"no NVIDIA driver ({DRIVER_LIBRARY} cannot be loaded)"
    status = driver.cuInit(0)
    if status:
        name = ctypes.c_char_p()
        known = driver.cuGetErrorName(status, ctypes.byref(name)) == 0 and name.value is not None
        said = (name.value or b"").decode() if known else f"error {status}"
        return f"NVIDIA's driver cannot be used ({said})"
    count = ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    return "" if count.value else "no NVIDIA GPU is visible (CUDA_VISIBLE_DEVICES?)"


def load_cuda_bindings() -> ModuleType:
    """NVIDIA's ``cuda.bindings.runtime``. Raises ModelError where it is not installed."""
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise ModelError(
            f"cuda-bindings: cannot be loaded here ({error}). Try: pip install cuda-bindings"
        ) from error


class Cuda:
    """CUDA's runtime on one device, each call checked.

    Args:
        device: number of the GPU, in the order of CUDA_VISIBLE_DEVICES.
        bindings: ``cuda.bindings.runtime`` or what stands in for it.
    """

    def __init__(self, device: int = 0, bindings: Any = None) -> None:
        self.bindings = bindings if bindings is not None else load_cuda_bindings()
        self.device = device

    def call(self, name: str, *arguments: Any) -> Any:
        """Call ``name``; returns its answer: nothing, a value, or a tuple. Raises CudaFailed."""
        status, *values = getattr(self.bindings, name)(*arguments)
        if int(status):
            raise CudaFailed(f"{name}: {self._error_text(status)}")
        return values[0] if len(values) == 1 else tuple(values) or None

    def release(self, name: str, *arguments: Any) -> None:
        """Call ``name`` to give something back. What is broken by then has told so before, and nothing is raised."""
        getattr(self.bindings, name)(*arguments)

    def is_done(self, stream: Any) -> bool:
        """Whether nothing is under way in ``stream``; raises CudaFailed."""
        (status,) = self.bindings.cudaStreamQuery(stream)
        if int(status) == NOT_READY:
            return False
        if int(status):
            raise CudaFailed(f"cudaStreamQuery: {self._error_text(status)}")
        return True

    def use_device(self) -> None:
        """Make the device that of the calling thread; raises ModelError if there is none of this number."""
        status, count = self.bindings.cudaGetDeviceCount()
        if int(status):
            raise ModelError(f"GPU {self.device}: {self._error_text(status)}. Try: endostream doctor")
        if not 0 <= self.device < count:
            raise ModelError(f"GPU {self.device}; expected 0 to {count - 1}. Try: infer.options.device=0")
        self.call("cudaSetDevice", self.device)

    def clocks(self) -> GpuClocks:
        """Highest clocks of the device; what else it is says ``trt_gpu.read_gpu``."""
        attributes = self.bindings.cudaDeviceAttr
        return GpuClocks(
            self._clock_mhz(attributes.cudaDevAttrClockRate),
            self._clock_mhz(attributes.cudaDevAttrMemoryClockRate),
        )

    def pci_bus_id(self) -> str:
        """Where the device sits, by which NVML knows it too. Raises CudaFailed."""
        return _text(self.call("cudaDeviceGetPCIBusId", 32, self.device))

    def _clock_mhz(self, attribute: Any) -> float | None:
        status, khz = self.bindings.cudaDeviceGetAttribute(attribute, self.device)
        return None if int(status) or not khz else khz / 1000

    def _error_text(self, status: Any) -> str:
        _, name = self.bindings.cudaGetErrorName(status)
        _, text = self.bindings.cudaGetErrorString(status)
        return f"{_text(name)} ({_text(text)})"


def driver_version() -> str | None:
    """Version of NVIDIA's driver by its own library (the package nvidia-ml-py), None where that is missing."""
    nvml = _nvml()
    return None if nvml is None else _text(nvml.nvmlSystemGetDriverVersion())


def sm_clock_now_mhz(pci_bus_id: str) -> int | None:
    """Clock that the multiprocessors of a GPU run at now, None where nvidia-ml-py is missing or cannot tell."""
    nvml = _nvml()
    if nvml is None:
        return None
    try:
        handle = nvml.nvmlDeviceGetHandleByPciBusId(pci_bus_id.encode())
        return int(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
    except nvml.NVMLError:
        return None


@cache
def _nvml() -> Any:
    """The package nvidia-ml-py, initialised once for the process; None where it cannot be used."""
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception:  # not installed, no driver, or a driver that it does not know
        return None
    return nvml


def _text(raw: Any) -> str:
    return raw.decode(errors="replace").rstrip("\0") if isinstance(raw, bytes) else str(raw)
