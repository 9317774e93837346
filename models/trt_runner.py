"""A TensorRT engine on the GPU: its context, its memory and the way of a picture through it.

Separate from ``trt_segmenter.py``, which chooses, builds and judges the engine, and from ``cuda_pass.py``, which knows
no TensorRT. The engine takes ``image`` (uint8, 1 × H × W × 3, RGB) and gives ``mask`` (a byte a pixel, not 0 where the
probability is above one half) and ``prob`` (float32, sigmoid and all on the device).
"""

import contextlib
import os
from collections.abc import Sequence
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .cuda_device import Cuda, CudaFailed
from .cuda_memory import Buffers, open_buffers, open_event, open_stream
from .cuda_pass import GpuPass
from .segmenter import ImageRgb, Prob

_WARM_UP_RUNS = 3
"""The first compiles and allocates; a graph is recorded only of what has run before."""


class EngineMisfit(ValueError):
    """An engine whose tensors are not those of our networks, or that TensorRT cannot run."""


class TrtRunner:
    """An engine ready to run, with all it needs allocated.

    Args:
        cuda: the device; in use by the calling thread.
        engine: an ``ICudaEngine`` of either TensorRT; ours from now on.
        size_hw: height and width of its input, in pixels.
        use_graph: launch a CUDA graph instead of kernel after kernel.
        spin: wait for the GPU with a busy core instead of asleep: some microseconds less for a core.
        cache_file: where TensorRT-RTX keeps the kernels it compiles at first use, None for nowhere.
        said: what TensorRT has logged as errors, for messages; grows as it logs.

    Raises:
        EngineMisfit: not our tensors.
        CudaFailed: the GPU failed, or has too little memory.
    """

    def __init__(
        self,
        cuda: Cuda,
        engine: Any,
        size_hw: tuple[int, int],
        *,
        use_graph: bool = True,
        spin: bool = False,
        cache_file: Path | None = None,
        said: Sequence[str] = (),
    ) -> None:
        self._engine = engine
        self._said = said
        self._context: Any = None
        self.graph_problem = "" if use_graph else "not asked for"
        with ExitStack() as stack:
            stack.callback(self._let_go, "_engine")
            stream = open_stream(cuda, stack, urgent=True)
            event = open_event(cuda, stack, spin)
            self._image = open_buffers(cuda, stack, (*size_hw, 3), np.uint8)
            self._mask = open_buffers(cuda, stack, size_hw, np.uint8)
            self._prob = open_buffers(cuda, stack, size_hw, np.float32)
            stack.callback(self._let_go, "_context")
            kernels = KernelCache(engine, cache_file)
            self._context = kernels.open_context()
            self._bind({"image": self._image, "mask": self._mask, "prob": self._prob})
            graphs = stack.enter_context(ExitStack())
            stack.callback(cuda.release, "cudaStreamSynchronize", stream)  # first of all at the end
            self._pass = GpuPass(cuda, stream, event, self._image, self._enqueue, (self._mask,))
            for _ in range(_WARM_UP_RUNS):
                self._pass.run()
            if use_graph:
                self.graph_problem = self._recorded(stream, graphs)
            kernels.keep()
            self._owned = stack.pop_all()

    @property
    def is_graph(self) -> bool:
        """Whether a CUDA graph is launched."""
        return self._pass.is_graph

    def run(self, image_rgb: ImageRgb) -> npt.NDArray[np.uint8]:
        """The mask of one picture, H × W, not 0 where polyp; good until the next call. Raises CudaFailed."""
        np.copyto(self._image.host, image_rgb)
        self._pass.run()
        return self._mask.host

    def prob(self) -> Prob:
        """The probabilities of the picture that ran last, good until the next call. Raises CudaFailed."""
        self._pass.fetch(self._prob)
        return self._prob.host

    def close(self) -> None:
        """Wait for the device, then give everything back; may be called twice."""
        self._owned.close()

    def _bind(self, buffers: dict[str, Buffers]) -> None:
        engine, context = self._engine, self._context
        names = {engine.get_tensor_name(number) for number in range(engine.num_io_tensors)}
        if names != set(buffers):
            raise EngineMisfit(f"engine: tensors {sorted(names)}; expected image, mask and prob")
        for name, of in buffers.items():
            shape = tuple(engine.get_tensor_shape(name))
            size_bytes = prod(shape) * engine.get_tensor_dtype(name).itemsize
            if size_bytes != of.size_bytes:
                raise EngineMisfit(
                    f"engine: {name} is {shape}, {size_bytes} bytes; expected {of.size_bytes} bytes"
                )
            if not context.set_tensor_address(name, of.device_address):
                raise EngineMisfit(f"engine: TensorRT does not take an address for {name}")

    def _enqueue(self, stream: int) -> None:
        if not self._context.execute_async_v3(stream):
            raise CudaFailed(f"execute_async_v3: TensorRT could not enqueue; {last_said(self._said)}")

    def _recorded(self, stream: Any, graphs: ExitStack) -> str:
        """Record the graph; "" or why the pass goes on without."""
        capturable = getattr(self._context, "is_stream_capturable", None)  # TensorRT-RTX only
        if capturable is not None and not capturable(int(stream)):
            return "TensorRT says that this engine cannot be captured"
        return self._pass.record_graph(graphs)

    def _let_go(self, name: str) -> None:
        setattr(self, name, None)


def last_said(said: Sequence[str]) -> str:
    """TensorRT's last error in a line."""
    return f"it says: {' '.join(said[-1].split())[:300]}" if said else "it says nothing more"


class KernelCache:
    """The kernels that TensorRT-RTX compiles on the GPU it runs on, kept in a file from one start to the next.

    TensorRT itself has none: its engines hold their kernels. A file of another version, driver or GPU is refused by
    TensorRT-RTX itself, and written anew.
    """

    def __init__(self, engine: Any, file: Path | None) -> None:
        self._engine = engine
        self._file = file
        self._cache: Any = None

    def open_context(self) -> Any:
        """A context of the engine that uses the cache, where there is such a thing; raises EngineMisfit."""
        make_config = getattr(self._engine, "create_runtime_config", None)
        config = make_config() if make_config is not None and self._file is not None else None
        if config is not None and hasattr(config, "create_runtime_cache"):
            self._cache = config.create_runtime_cache()
            with contextlib.suppress(OSError):
                self._cache.deserialize(self._file.read_bytes() if self._file else b"")
            config.set_runtime_cache(self._cache)
            context = self._engine.create_execution_context(config)
        else:
            context = self._engine.create_execution_context()
        if context is None:
            raise EngineMisfit("engine: TensorRT cannot make a context of it; it has logged why")
        return context

    def keep(self) -> None:
        """Write the cache, whole or not at all; that it cannot be written costs time at the next start, no more."""
        if self._cache is None or self._file is None:
            return
        part = self._file.with_name(f"{self._file.name}.{os.getpid()}.part")
        try:
            part.write_bytes(bytes(self._cache.serialize()))
            part.replace(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
