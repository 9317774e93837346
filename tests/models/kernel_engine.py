"""An engine that is one small kernel: for GPUs that no TensorRT here can build for (SM90), and to break things with.

It has of ``ICudaEngine`` and ``IExecutionContext`` what the runner uses. The kernel does what an engine ends in: from
the mean of a pixel's channels, less 150, over 10, the sigmoid and whether it is above one half. Compiled by NVRTC,
which needs no GPU; launched through the driver.
"""

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np

from endostream.models.segmenter import ImageRgb, Mask, Prob

SOURCE = b"""
extern "C" __global__ void segment(const unsigned char* image, unsigned char* mask, float* prob, int pixels) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= pixels) return;
    float mean = (image[3 * i] + image[3 * i + 1] + image[3 * i + 2]) / 3.0f;
    float logit = (mean - 150.0f) / 10.0f;
    mask[i] = logit > 0.0f;
    prob[i] = 1.0f / (1.0f + expf(-logit));
}
"""
THREADS = 256


def expected(image_rgb: ImageRgb) -> tuple[Mask, Prob]:
    """What the kernel makes of a picture, by NumPy."""
    mean = image_rgb.sum(axis=2).astype(np.float32) / np.float32(3)
    logits = (mean - np.float32(150)) / np.float32(10)
    return logits > 0, (1 / (1 + np.exp(-logits))).astype(np.float32)


def compiled(compute_capability: str) -> bytes:
    """The kernel's machine code for a GPU, e.g. of ``"9.0"``."""
    from cuda.bindings import nvrtc

    def call(name: str, *arguments: Any) -> Any:
        status, *values = getattr(nvrtc, name)(*arguments)
        if int(status):
            raise RuntimeError(f"{name}: {nvrtc.nvrtcGetErrorString(status)[1].decode()}")
        return values[0] if values else None

    program = call("nvrtcCreateProgram", SOURCE, b"segment.cu", 0, None, None)
    architecture = f"--gpu-architecture=sm_{compute_capability.replace('.', '')}".encode()
    call("nvrtcCompileProgram", program, 1, [architecture])
    code = b" " * call("nvrtcGetCUBINSize", program)
    call("nvrtcGetCUBIN", program, code)
    call("nvrtcDestroyProgram", program)
    return code


class KernelEngine:
    """The kernel as an engine for pictures of ``size_hw``; a GPU must be in use.

    Args:
        size_hw: height and width in pixels.
        compute_capability: of the GPU.
        launches: kernels in a row, as a network has many.
    """

    def __init__(self, size_hw: tuple[int, int], compute_capability: str, launches: int = 1) -> None:
        from cuda.bindings import driver

        self.size_hw = size_hw
        self.launches = launches
        self.shapes = {"image": (1, *size_hw, 3), "mask": size_hw, "prob": size_hw}
        self._module = _drive("cuModuleLoadData", compiled(compute_capability))
        self.function = _drive("cuModuleGetFunction", self._module, b"segment")
        self.driver = driver

    @property
    def num_io_tensors(self) -> int:
        """Image, mask and probabilities."""
        return 3

    def get_tensor_name(self, index: int) -> str:
        """As ``ICudaEngine``."""
        return list(self.shapes)[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """As ``ICudaEngine``."""
        return self.shapes[name]

    def get_tensor_dtype(self, name: str) -> Any:
        """As ``ICudaEngine``."""
        return SimpleNamespace(itemsize=4 if name == "prob" else 1)

    def create_execution_context(self) -> "KernelContext":
        """As ``ICudaEngine``."""
        return KernelContext(self)


class KernelContext:
    """Launches the kernel. ``spoil`` makes it write to address 0; ``before`` is called ahead of each launch."""

    def __init__(self, engine: KernelEngine) -> None:
        self._engine = engine
        self._addresses: dict[str, int] = {}
        self.spoil = False

    def set_tensor_address(self, name: str, memory: int) -> bool:
        """As ``IExecutionContext``."""
        self._addresses[name] = memory
        return True

    def before(self) -> None:
        """Nothing, unless a test says otherwise."""

    def execute_async_v3(self, stream_handle: int) -> bool:
        """As ``IExecutionContext``."""
        self.before()
        pixels = self._engine.size_hw[0] * self._engine.size_hw[1]
        at = dict.fromkeys(self._addresses, 0) if self.spoil else self._addresses
        values = (at["image"], at["mask"], at["prob"], pixels)
        kinds = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
        blocks = -(-pixels // THREADS)
        stream = self._engine.driver.CUstream(stream_handle)
        for _ in range(self._engine.launches):
            status = self._engine.driver.cuLaunchKernel(
                self._engine.function, blocks, 1, 1, THREADS, 1, 1, 0, stream, (values, kinds), 0
            )[0]
            if int(status):
                return False
        return True


def _drive(name: str, *arguments: Any) -> Any:
    from cuda.bindings import driver

    status, *values = getattr(driver, name)(*arguments)
    if int(status):
        raise RuntimeError(f"{name}: {driver.cuGetErrorName(status)[1].decode()}")
    return values[0] if values else None
