"""Stands in for ``cuda.bindings.runtime`` and for a TensorRT engine: a device of which every call is recorded.

What is enqueued runs only when somebody waits for it, so an answer read too early is wrong; memory that was freed is
never given out again, so each use after that is caught. ``violations`` lists what a real device would punish late or
never. Its functions take exactly the arguments of the real ones: ``test_cuda_names.py`` compares them.
"""
# ruff: noqa: N801, N802, N803, N815 (the names are NVIDIA's)

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

HEIGHT, WIDTH = 4, 6


class cudaMemcpyKind(IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class cudaStreamCaptureMode(IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


class cudaDeviceAttr(IntEnum):
    cudaDevAttrClockRate = 13
    cudaDevAttrMemoryClockRate = 36


OK = 0
NAMES = {
    2: b"cudaErrorMemoryAllocation",
    700: b"cudaErrorIllegalAddress",
    901: b"cudaErrorStreamCaptureInvalidated",
}
TEXTS = {2: b"out of memory", 700: b"an illegal memory access was encountered", 901: b"capture invalidated"}
STICKY = 700


@dataclass
class Stream:
    """Work that was enqueued and has not run; while it is captured, where that goes instead."""

    handle: int
    priority: int
    work: list[Callable[[], None]] = field(default_factory=list)
    recording: list[Callable[[], None]] | None = None

    def __int__(self) -> int:
        return self.handle

    def add(self, job: Callable[[], None]) -> None:
        (self.work if self.recording is None else self.recording).append(job)

    def drain(self) -> None:
        work, self.work = self.work, []
        for job in work:
            job()


class StandIn:
    """A device in memory."""

    cudaHostAllocDefault = 0
    cudaStreamNonBlocking = 1
    cudaEventBlockingSync = 1
    cudaEventDisableTiming = 2
    cudaMemcpyKind = cudaMemcpyKind
    cudaStreamCaptureMode = cudaStreamCaptureMode
    cudaDeviceAttr = cudaDeviceAttr

    def __init__(self, devices: int = 1) -> None:
        self.devices = devices
        self.calls: list[str] = []
        self.violations: list[str] = []
        self.fails: dict[str, tuple[int, int]] = {}
        """By call: at which of its calls from now on (1: the next), and with which error."""
        self.stuck = 0
        self.alive: dict[int, Any] = {}
        self.kinds: dict[int, str] = {}
        self.freed: list[str] = []
        self.event_flags: list[int] = []
        self._next = 0x1000

    # What the tests look at

    @property
    def allocations(self) -> int:
        """Calls that allocate or create."""
        makers = ("Alloc", "Malloc", "Create", "Instantiate", "BeginCapture")
        return sum(any(word in name for word in makers) for name in self.calls)

    def done(self, name: str) -> int:
        """How often ``name`` was called."""
        return self.calls.count(name)

    def forget(self) -> None:
        """Begin to record afresh."""
        self.calls.clear()

    def fail(self, name: str, error: int, at: int = 1) -> None:
        """Let the ``at``-th call of ``name`` from now on fail."""
        self.fails[name] = (at, error)

    # Helpers

    def _note(self, name: str) -> int:
        """Record a call; the error it fails with, 0 for none. A sticky one stays."""
        self.calls.append(name)
        if self.stuck:
            return self.stuck
        if name in self.fails:
            left, error = self.fails.pop(name)
            if left > 1:
                self.fails[name] = (left - 1, error)
            else:
                self.stuck = error if error == STICKY else 0
                return error
        return OK

    def _new(self, kind: str, thing: Any, address: int = 0) -> int:
        self._next += 0x1000
        handle = address or self._next
        self.alive[handle], self.kinds[handle] = thing, kind
        return handle

    def _free(self, kind: str, handle: int) -> None:
        if self.kinds.get(handle) != kind:
            self.violations.append(f"free of {kind} {handle:#x}, which is {self.kinds.get(handle)}")
        elif handle not in self.alive:
            self.violations.append(f"{kind} freed twice")
        else:
            if any(stream.work for stream in self._streams()):
                self.violations.append(f"{kind} freed while work is under way")
            del self.alive[handle]
            self.freed.append(kind)

    def _streams(self) -> list[Stream]:
        return [thing for thing in self.alive.values() if isinstance(thing, Stream)]

    def bytes_at(self, address: int, size: int, what: str) -> Any:
        """Memory that is alive and large enough, as an array; a violation otherwise."""
        memory = self.alive.get(address)
        if not isinstance(memory, np.ndarray) or memory.size < size:
            self.violations.append(f"{what} uses {self.kinds.get(address, 'unknown')} memory after its end")
            return np.zeros(size, np.uint8)
        return memory[:size]

    def stream(self, stream: Any) -> Stream:
        """The stream, by itself or by its handle."""
        found = self.alive.get(int(stream))
        if not isinstance(found, Stream):
            self.violations.append("a stream is used after its end")
            return Stream(0, 0)
        return found

    # cuda.bindings.runtime

    def cudaGetDeviceCount(self) -> tuple[int, int]:
        return self._note("cudaGetDeviceCount"), self.devices

    def cudaSetDevice(self, device: int) -> tuple[int]:
        return (self._note("cudaSetDevice"),)

    def cudaGetDeviceProperties(self, device: int) -> tuple[int, Any]:
        properties = SimpleNamespace(
            name=b"Stand-in 4090",
            major=8,
            minor=9,
            multiProcessorCount=128,
            totalGlobalMem=24 << 30,
            memoryBusWidth=384,
        )
        return self._note("cudaGetDeviceProperties"), properties

    def cudaDeviceGetAttribute(self, attr: int, device: int) -> tuple[int, int]:
        return self._note("cudaDeviceGetAttribute"), 2_520_000

    def cudaDeviceGetPCIBusId(self, length: int, device: int) -> tuple[int, bytes]:
        return self._note("cudaDeviceGetPCIBusId"), b"0000:01:00.0\0"[:length]

    def cudaDriverGetVersion(self) -> tuple[int, int]:
        return self._note("cudaDriverGetVersion"), 13_010

    def cudaDeviceGetStreamPriorityRange(self) -> tuple[int, int, int]:
        return self._note("cudaDeviceGetStreamPriorityRange"), 0, -5

    def cudaGetErrorName(self, error: int) -> tuple[int, bytes]:
        return OK, NAMES.get(error, b"cudaErrorUnknown")

    def cudaGetErrorString(self, error: int) -> tuple[int, bytes]:
        return OK, TEXTS.get(error, b"unknown error")

    def cudaGetLastError(self) -> tuple[int]:
        return (self._note("cudaGetLastError"),)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[int, int | None]:
        return self._memory("cudaHostAlloc", "pinned", size)

    def cudaMalloc(self, size: int) -> tuple[int, int | None]:
        return self._memory("cudaMalloc", "device", size)

    def _memory(self, name: str, kind: str, size: int) -> tuple[int, int | None]:
        if error := self._note(name):
            return error, None
        memory = np.full(size, 0xEE, np.uint8)
        return OK, self._new(kind, memory, memory.ctypes.data)

    def cudaFreeHost(self, ptr: int) -> tuple[int]:
        error = self._note("cudaFreeHost")
        self._free("pinned", ptr)
        return (error,)

    def cudaFree(self, devPtr: int) -> tuple[int]:
        error = self._note("cudaFree")
        self._free("device", devPtr)
        return (error,)

    def cudaStreamCreateWithPriority(self, flags: int, priority: int) -> tuple[int, Stream | None]:
        if error := self._note("cudaStreamCreateWithPriority"):
            return error, None
        stream = Stream(0, priority)
        stream.handle = self._new("stream", stream)
        return OK, stream

    def cudaStreamDestroy(self, stream: Any) -> tuple[int]:
        error = self._note("cudaStreamDestroy")
        self._free("stream", int(stream))
        return (error,)

    def cudaStreamSynchronize(self, stream: Any) -> tuple[int]:
        error = self._note("cudaStreamSynchronize")
        found = self.stream(stream)
        if found.recording is not None:
            self.violations.append("waiting for a stream that is being captured")
        if error:
            found.work.clear()
        found.drain()
        return (error,)

    def cudaStreamQuery(self, stream: Any) -> tuple[int]:
        if error := self._note("cudaStreamQuery"):
            return (error,)
        return (600 if self.stream(stream).work else OK,)

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[int, int | None]:
        if error := self._note("cudaEventCreateWithFlags"):
            return error, None
        self.event_flags.append(flags)
        return OK, self._new("event", {"stream": None})

    def cudaEventDestroy(self, event: int) -> tuple[int]:
        error = self._note("cudaEventDestroy")
        self._free("event", event)
        return (error,)

    def cudaEventRecord(self, event: int, stream: Any) -> tuple[int]:
        if error := self._note("cudaEventRecord"):
            return (error,)
        self.alive[event]["stream"] = self.stream(stream)
        return (OK,)

    def cudaEventSynchronize(self, event: int) -> tuple[int]:
        error = self._note("cudaEventSynchronize")
        stream = self.alive[event]["stream"]
        if stream is None:
            self.violations.append("waiting for an event that was not recorded")
        elif error:
            stream.work.clear()
        else:
            stream.drain()
        return (error,)

    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: int, stream: Any) -> tuple[int]:
        upload = kind == cudaMemcpyKind.cudaMemcpyHostToDevice
        if error := self._note("upload" if upload else "download"):
            return (error,)
        ends = ("device", "pinned") if upload else ("pinned", "device")
        if (self.kinds.get(dst), self.kinds.get(src)) != ends:
            self.violations.append(f"copy {kind} from {self.kinds.get(src)} to {self.kinds.get(dst)}")

        def copy() -> None:
            self.bytes_at(dst, count, "a copy")[:] = self.bytes_at(src, count, "a copy")

        self.stream(stream).add(copy)
        return (OK,)

    def cudaMemsetAsync(self, devPtr: int, value: int, count: int, stream: Any) -> tuple[int]:
        if error := self._note("cudaMemsetAsync"):
            return (error,)
        self.stream(stream).add(lambda: self.bytes_at(devPtr, count, "a memset").fill(value))
        return (OK,)

    def cudaStreamBeginCapture(self, stream: Any, mode: int) -> tuple[int]:
        if error := self._note("cudaStreamBeginCapture"):
            return (error,)
        found = self.stream(stream)
        if found.work:
            self.violations.append("capture begun while work is under way")
        found.recording = []
        return (OK,)

    def cudaStreamEndCapture(self, stream: Any) -> tuple[int, int | None]:
        error = self._note("cudaStreamEndCapture")
        found = self.stream(stream)
        recording, found.recording = found.recording, None
        return (error, None) if error else (OK, self._new("graph", list(recording or ())))

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[int, int | None]:
        if error := self._note("cudaGraphInstantiate"):
            return error, None
        return OK, self._new("graph exec", list(self.alive[graph]))

    def cudaGraphDestroy(self, graph: int) -> tuple[int]:
        error = self._note("cudaGraphDestroy")
        self._free("graph", graph)
        return (error,)

    def cudaGraphExecDestroy(self, graphExec: int) -> tuple[int]:
        error = self._note("cudaGraphExecDestroy")
        self._free("graph exec", graphExec)
        return (error,)

    def cudaGraphUpload(self, graphExec: int, stream: Any) -> tuple[int]:
        return (self._note("cudaGraphUpload"),)

    def cudaGraphLaunch(self, graphExec: int, stream: Any) -> tuple[int]:
        if error := self._note("cudaGraphLaunch"):
            return (error,)
        found = self.stream(stream)
        for job in self.alive[graphExec]:
            found.add(job)
        return (OK,)


class StandInContext:
    """An ``IExecutionContext``: marks what is bright in red, surely where it is very bright."""

    def __init__(self, cuda: StandIn, capturable: bool | None) -> None:
        self._cuda = cuda
        self.addresses: dict[str, int] = {}
        self.broken = False
        if capturable is not None:
            self.is_stream_capturable = lambda stream: capturable

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        self._cuda.calls.append("execute_async_v3")
        if self.broken:
            return False
        self._cuda.stream(stream_handle).add(self._compute)
        return True

    def _compute(self) -> None:
        at = self.addresses
        pixels = HEIGHT * WIDTH
        image = self._cuda.bytes_at(at["image"], pixels * 3, "the engine").reshape(HEIGHT, WIDTH, 3)
        prob = self._cuda.bytes_at(at["prob"], pixels * 4, "the engine").view(np.float32)
        prob[:] = (image[..., 0] / np.float32(255)).ravel()
        self._cuda.bytes_at(at["mask"], pixels, "the engine")[:] = prob > 0.5


class StandInEngine:
    """An ``ICudaEngine`` of ours for pictures of 4 × 6."""

    shapes: ClassVar = {"image": (1, HEIGHT, WIDTH, 3), "mask": (HEIGHT, WIDTH), "prob": (HEIGHT, WIDTH)}
    sizes: ClassVar = {"image": 1, "mask": 1, "prob": 4}

    def __init__(self, cuda: StandIn, capturable: bool | None = None, broken: bool = False) -> None:
        self.cuda = cuda
        self.capturable = capturable
        self.broken = broken
        self.contexts: list[StandInContext] = []

    @property
    def num_io_tensors(self) -> int:
        return len(self.shapes)

    def get_tensor_name(self, index: int) -> str:
        return list(self.shapes)[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(itemsize=self.sizes[name])

    def create_execution_context(self) -> StandInContext:
        context = StandInContext(self.cuda, self.capturable)
        context.broken = self.broken
        self.contexts.append(context)
        return context
