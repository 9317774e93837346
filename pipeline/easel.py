"""Where the display process draws: a slot of the ring that the record process reads, or an array of its own.

Separate from the loop that presents, so that it only asks for a canvas. The picture is copied once, from the
captured ring straight onto a canvas. What a canvas needs (ring, pages, font) is made ready as soon as the size of
the pictures to come is known, so that no first frame pays for it.
"""

from dataclasses import dataclass

import numpy as np

from .frame import ImageBgr, SizeHW
from .host import CAPTURED, PRESENTED, RingLease, StageHost
from .hud import warm_up_hud
from .ring import SlotPool


@dataclass(slots=True)
class Canvas:
    """Where a frame is drawn: an array, and the slot of the presented ring it is, if it is one."""

    image_bgr: ImageBgr
    lease: RingLease | None = None
    slot: int = 0


class Easel:
    """Gives out canvases and takes them back.

    Args:
        host: the display process's surroundings.
        shared: whether another process reads the pictures, so that they must lie in a ring.

    Attributes:
        coming_size: of the pictures to come, until ``prepare`` has made ready for them.
    """

    def __init__(self, host: StageHost, shared: bool) -> None:
        self._host = host
        self._shared = shared
        self._lease: RingLease | None = None
        self._pool = SlotPool(0)
        self._private: ImageBgr = np.empty((0, 0, 3), np.uint8)
        self.coming_size: SizeHW | None = None
        host.on_ring = self._expect

    def share(self) -> None:
        """From now on another process reads the pictures."""
        self._shared = True

    def _expect(self, role: str, size_hw: SizeHW) -> None:
        if role == CAPTURED:
            self.coming_size = size_hw

    def prepare(self) -> SizeHW | None:
        """Make ready what the pictures to come need; returns their size, None if there was nothing to do."""
        size_hw, self.coming_size = self.coming_size, None
        if size_hw is not None:
            self._fit(size_hw)
        return size_hw

    def _fit(self, size_hw: SizeHW) -> bool:
        """Make ready for pictures of ``size_hw``; False if every-frame mode has to wait for it."""
        if not self._shared:
            if self._private.shape[:2] != size_hw:
                self._private = np.full((*size_hw, 3), 1, np.uint8)  # of zeros no page would be there yet
                warm_up_hud(size_hw)
            return True
        lease = self._lease
        if lease is not None and lease.ring.shape.size_hw == size_hw:
            return True
        if self._host.spec.every_frame and lease is not None and len(self._pool) < lease.ring.shape.slots:
            return False
        self._lease = self._host.lease(PRESENTED, size_hw)
        if self._lease is None:
            return False
        self._pool = SlotPool(self._lease.ring.shape.slots)
        warm_up_hud(size_hw)
        return True

    def take(self, size_hw: SizeHW) -> Canvas | None:
        """A canvas for a picture of ``size_hw``; None if every-frame mode has to wait for one."""
        if not self._fit(size_hw):
            return None
        if self._lease is None:
            return Canvas(self._private)
        if not len(self._pool):
            return None
        slot = self._pool.take()
        return Canvas(self._lease.ring.begin(slot), self._lease, slot)

    def give_back(self, canvas: Canvas) -> None:
        """Take back a canvas that was committed; of an older ring there is nothing to take back."""
        if canvas.lease is not None and canvas.lease is self._lease:
            self._pool.give(canvas.slot)

    def discard(self, canvas: Canvas) -> None:
        """Take back a canvas that nothing was drawn on."""
        if canvas.lease is not None:
            canvas.lease.ring.commit(canvas.slot)
            self.give_back(canvas)
