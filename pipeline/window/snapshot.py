"""Snapshots: one presented picture and the same as captured, kept as PNG files by a thread of their own.

Separate from presenting, which only copies two pictures into memory that is there already (3 ms at 1080p, after the
picture is shown) and never waits for a disk. A file appears under its name only when it is whole, and replaces none.
"""

import contextlib
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np

from ..frame import ImageBgr, SizeHW

_PAIRS = 2
_CLOSE_TIMEOUT_S = 2.0
_NICE = 10


@dataclass(slots=True)
class SnapshotPair:
    """Memory for one snapshot: the finished picture and the one as captured, and when it was taken."""

    overlay_bgr: ImageBgr
    raw_bgr: ImageBgr
    has_raw: bool = False
    taken: datetime = datetime.min


class SnapshotWriter:
    """Keeps pictures in ``folder``, which it makes when the first one is kept.

    Args:
        folder: where they go.
        now: local time, for the names.
    """

    def __init__(self, folder: Path, now: Callable[[], datetime] = datetime.now) -> None:
        self._folder = folder
        self._now = now
        self._size_hw: SizeHW | None = None
        self._free: queue.SimpleQueue[SnapshotPair] = queue.SimpleQueue()
        self._work: queue.SimpleQueue[SnapshotPair | SizeHW | None] = queue.SimpleQueue()
        self._said: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)
        self._thread.start()

    def expect(self, size_hw: SizeHW) -> None:
        """Have memory made ready for pictures of ``size_hw``; it is done by the thread."""
        if size_hw != self._size_hw:
            self._size_hw = size_hw
            self._work.put(size_hw)

    def take(self) -> SnapshotPair | None:
        """Memory to copy a snapshot of the expected size into, None while earlier ones are being written."""
        while True:
            try:
                pair = self._free.get_nowait()
            except queue.Empty:
                return None
            if pair.overlay_bgr.shape[:2] == self._size_hw:
                pair.taken = self._now()
                return pair

    def write(self, pair: SnapshotPair) -> None:
        """Have it written."""
        self._work.put(pair)

    def take_said(self) -> list[tuple[str, str]]:
        """Level and text of what became of the snapshots since the last call."""
        said = []
        with contextlib.suppress(queue.Empty):
            while True:
                said.append(self._said.get_nowait())
        return said

    def close(self) -> None:
        """Write what is waiting, for a few seconds at most."""
        self._work.put(None)
        self._thread.join(_CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        _stand_back()
        while (work := self._work.get()) is not None:
            if isinstance(work, SnapshotPair):
                self._keep(work)
                self._free.put(work)
            else:
                for _ in range(_PAIRS):  # of zeros no page would be there yet
                    self._free.put(
                        SnapshotPair(np.full((*work, 3), 1, np.uint8), np.full((*work, 3), 1, np.uint8))
                    )

    def _keep(self, pair: SnapshotPair) -> None:
        name = f"{pair.taken:%Y%m%d-%H%M%S}-{pair.taken.microsecond // 1000:03d}"
        pictures = {"overlay": pair.overlay_bgr} | ({"raw": pair.raw_bgr} if pair.has_raw else {})
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for kind, image in pictures.items():
                write_png(self._folder / f"{name}-{kind}.png", image)
        except OSError as error:
            self._said.put(("error", f"snapshot: {self._folder}; cannot be written ({error.strerror})"))
            return
        beside = "" if pair.has_raw else ", without the picture as captured: it was gone"
        self._said.put(("info", f"snapshot: {self._folder / name}-overlay.png{beside}"))


def write_png(path: Path, image_bgr: ImageBgr) -> None:
    """Write a PNG that is there whole or not at all; raises OSError, FileExistsError rather than replace one."""
    # Level 1: half the time of the default for a tenth more bytes on real frames.
    _, png = cv2.imencode(".png", image_bgr, (cv2.IMWRITE_PNG_COMPRESSION, 1))
    unfinished = path.with_suffix(".png.part")
    try:
        unfinished.write_bytes(png.tobytes())
        os.link(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _stand_back() -> None:
    """The display process may run in the real-time class; this thread of it must not."""
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
