"""Memory that a picture passes through on its way to the GPU and back, and the streams and events on that way.

Each thing is allocated once, registered with an ``ExitStack`` in the same breath and given back by it, last first,
however far the opening came. Separate from ``cuda_pass.py``, which uses them. Nothing is allocated a frame.
"""

import ctypes
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from .cuda_device import Cuda


@dataclass(frozen=True, slots=True)
class Buffers:
    """A tensor twice: pinned memory of the host, which a copy reaches without a detour, and memory of the device.

    ``host`` is a view of the pinned memory at ``host_address``: it must not outlive the stack that owns that.
    """

    host: npt.NDArray[Any]
    host_address: int
    device_address: int
    size_bytes: int


def open_buffers(cuda: Cuda, stack: ExitStack, shape: tuple[int, ...], dtype: Any) -> Buffers:
    """Buffers for a tensor, owned by ``stack``. Raises CudaFailed, e.g. out of memory."""
    size_bytes = prod(shape) * np.dtype(dtype).itemsize
    host_address = int(cuda.call("cudaHostAlloc", size_bytes, cuda.bindings.cudaHostAllocDefault))
    stack.callback(cuda.release, "cudaFreeHost", host_address)
    memory = (ctypes.c_uint8 * size_bytes).from_address(host_address)
    host = np.frombuffer(memory, dtype).reshape(shape)
    host.fill(0)
    device_address = open_device_memory(cuda, stack, size_bytes)
    return Buffers(host, host_address, device_address, size_bytes)


def open_device_memory(cuda: Cuda, stack: ExitStack, size_bytes: int) -> int:
    """Address of ``size_bytes`` of the device, owned by ``stack``. Raises CudaFailed."""
    address = int(cuda.call("cudaMalloc", size_bytes))
    stack.callback(cuda.release, "cudaFree", address)
    return address


def open_stream(cuda: Cuda, stack: ExitStack, urgent: bool) -> Any:
    """A stream, owned by ``stack``, that goes before (``urgent``) or behind all others. Raises CudaFailed."""
    least, greatest = cuda.call("cudaDeviceGetStreamPriorityRange")
    priority = greatest if urgent else least
    stream = cuda.call("cudaStreamCreateWithPriority", cuda.bindings.cudaStreamNonBlocking, priority)
    stack.callback(cuda.release, "cudaStreamDestroy", stream)
    return stream


def open_event(cuda: Cuda, stack: ExitStack, spin: bool) -> Any:
    """An event, owned by ``stack``; waiting for it sleeps, or with ``spin`` keeps a core busy. Raises CudaFailed."""
    flags = cuda.bindings.cudaEventDisableTiming
    if not spin:
        flags |= cuda.bindings.cudaEventBlockingSync
    event = cuda.call("cudaEventCreateWithFlags", flags)
    stack.callback(cuda.release, "cudaEventDestroy", event)
    return event
