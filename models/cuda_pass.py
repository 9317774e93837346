"""One picture through the GPU: upload, compute, download, wait; call by call, or as a CUDA graph recorded once.

A network of two milliseconds is bound by the time it takes to ask for some eighty kernels; a graph asks once.
Separate from TensorRT, so that the same order, copies and graph run with anything that computes: an engine, or a
kernel of a few lines on a GPU that no engine can be built for. It owns no memory.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from .cuda_device import Cuda, CudaFailed
from .cuda_memory import Buffers

Compute = Callable[[int], None]
"""Enqueues the computation into the stream of this handle; raises CudaFailed."""


class GpuPass:
    """A fixed way through the GPU.

    Args:
        cuda: the device.
        stream: where everything is enqueued, in order.
        event: what is waited for.
        upload: copied to the device before ``compute``.
        compute: enqueues the computation.
        downloads: copied back after it.
    """

    def __init__(
        self,
        cuda: Cuda,
        stream: Any,
        event: Any,
        upload: Buffers,
        compute: Compute,
        downloads: Sequence[Buffers],
    ) -> None:
        self._cuda = cuda
        self._stream = stream
        self._event = event
        self._upload = upload
        self._compute = compute
        self._downloads = tuple(downloads)
        self._graph: Any = None
        kinds = cuda.bindings.cudaMemcpyKind
        self._to_device, self._to_host = kinds.cudaMemcpyHostToDevice, kinds.cudaMemcpyDeviceToHost

    @property
    def is_graph(self) -> bool:
        """Whether a recorded graph is launched."""
        return self._graph is not None

    def run(self) -> None:
        """Once through; when it returns the downloads' host memory holds the answer. Raises CudaFailed."""
        if self._graph is not None:
            self._cuda.call("cudaGraphLaunch", self._graph, self._stream)
        else:
            self._enqueue()
        self._wait()

    def fetch(self, more: Buffers) -> None:
        """Copy back what ``compute`` left in the device memory of ``more``, and wait. Raises CudaFailed."""
        self._download(more)
        self._wait()

    def record_graph(self, stack: ExitStack) -> str:
        """Record the pass as a graph, owned by ``stack``; call it after a first ``run``.

        Returns:
            "" or, where that cannot be done, why; the pass then goes on call by call.

        Raises:
            CudaFailed: the device is not usable any more, graph or not.
        """
        try:
            self._graph = self._recorded(stack)
        except CudaFailed as error:
            self._cuda.bindings.cudaGetLastError()  # what failed a capture must not fail the next call
            self.run()
            return str(error)
        self.run()
        return ""

    def _recorded(self, stack: ExitStack) -> Any:
        cuda = self._cuda
        # Of this thread only: what keeps the GPU warm from another thread does not break it.
        mode = cuda.bindings.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        cuda.call("cudaStreamBeginCapture", self._stream, mode)
        try:
            self._enqueue()
        except CudaFailed:
            cuda.release("cudaStreamEndCapture", self._stream)
            raise
        recorded = cuda.call("cudaStreamEndCapture", self._stream)
        try:
            graph = cuda.call("cudaGraphInstantiate", recorded, 0)
        finally:
            cuda.release("cudaGraphDestroy", recorded)
        stack.callback(cuda.release, "cudaGraphExecDestroy", graph)
        cuda.call("cudaGraphUpload", graph, self._stream)
        return graph

    def _enqueue(self) -> None:
        cuda, stream = self._cuda, self._stream
        up = self._upload
        cuda.call(
            "cudaMemcpyAsync", up.device_address, up.host_address, up.size_bytes, self._to_device, stream
        )
        self._compute(int(stream))
        for down in self._downloads:
            self._download(down)

    def _download(self, down: Buffers) -> None:
        self._cuda.call(
            "cudaMemcpyAsync",
            down.host_address,
            down.device_address,
            down.size_bytes,
            self._to_host,
            self._stream,
        )

    def _wait(self) -> None:
        self._cuda.call("cudaEventRecord", self._event, self._stream)
        self._cuda.call("cudaEventSynchronize", self._event)
