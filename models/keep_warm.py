"""Keeps a GPU from clocking down between two frames, by giving it a trifle to do every few milliseconds.

A GPU that idles 30 ms between frames lowers its clocks, and the next frame waits for them (7.2 became 19.2 ms at
25 fps with another project). Off by default: it costs power, and what it gains hangs on the card.

It never delays a frame: the trifle is one memset of a megabyte, some microseconds, in a stream of its own of the
lowest priority; the frame's stream has the highest and waits for nothing of it. While a frame is under way none is
enqueued, and never a second before the first is done, so at most one can be in a frame's way. No lock is shared
with the frame's thread.
"""

import logging
import threading
from contextlib import ExitStack

from .cuda_device import Cuda, CudaFailed
from .cuda_memory import open_device_memory, open_stream

logger = logging.getLogger(__name__)

_TRIFLE_BYTES = 1 << 20
_JOIN_S = 2.0


class KeepWarm:
    """A thread that touches the GPU every ``interval_s`` unless ``busy`` says that a frame is under way."""

    def __init__(self, cuda: Cuda, interval_s: float) -> None:
        """Allocate and begin; raises CudaFailed."""
        self.busy = False
        self.touches = 0
        self._cuda = cuda
        self._interval_s = interval_s
        self._stop = threading.Event()
        with ExitStack() as stack:
            self._address = open_device_memory(cuda, stack, _TRIFLE_BYTES)
            self._stream = open_stream(cuda, stack, urgent=False)
            self._owned = stack.pop_all()
        self._thread = threading.Thread(target=self._run, name="keep-warm", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, wait for what it enqueued, give back what it had; may be called twice."""
        self._stop.set()
        self._thread.join(_JOIN_S)
        if not self._thread.is_alive():  # what a thread that hangs in the driver uses stays
            self._owned.close()

    def touch(self) -> None:
        """Enqueue one trifle, unless a frame or the one before is under way. Raises CudaFailed."""
        if not self.busy and self._cuda.is_done(self._stream):
            self._cuda.call("cudaMemsetAsync", self._address, 0, _TRIFLE_BYTES, self._stream)
            self.touches += 1

    def _run(self) -> None:
        try:
            self._cuda.use_device()
            while not self._stop.wait(self._interval_s):
                self.touch()
            self._cuda.call("cudaStreamSynchronize", self._stream)
        except (
            CudaFailed,
            RuntimeError,
        ) as error:  # the frame's own calls tell it too, and end the segmenter
            logger.warning("keep-warm: %s", error)
