"""Segmenters that a run must survive, each given on the command line as ``nasty_segmenters:CLASS``.

Frames are counted by the process that segments them, from 0, so a restarted one counts again.
"""

import os
import signal
import threading
from pathlib import Path

import numpy as np

from endostream.configs.errors import ModelError
from endostream.models.segmenter import (
    ImageRgb,
    Output,
    Progress,
    Segmentation,
    SegmenterInfo,
    SegmenterLost,
)


class Quick:
    """Marks the same square in every picture; ``nasty`` is what the others add to it.

    Args:
        at: the first frame that it happens on.
        every: it happens on that one and each that lies so many further; 0 for once in a process.
        once: a file: it happens in the first process only, which leaves that file behind.
    """

    def __init__(
        self, input_hw: tuple[int, int] = (320, 320), at: int = 0, every: int = 1, once: str = ""
    ) -> None:
        self.info = SegmenterInfo("quick", (input_hw[0], input_hw[1]), "numpy")
        self._at, self._every, self._once = at, every, once
        self._count = 0

    def warm_up(self) -> None: ...

    def segment(self, image_rgb: ImageRgb, output: Output = "mask") -> Segmentation:
        past = self._count - self._at
        self._count += 1
        if (past == 0 or (past > 0 and self._every and past % self._every == 0)) and self._first():
            return self.nasty(image_rgb)
        return self.square(image_rgb)

    def _first(self) -> bool:
        if not self._once:
            return True
        try:
            os.close(os.open(self._once, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def square(self, image_rgb: ImageRgb) -> Segmentation:
        mask = np.zeros(image_rgb.shape[:2], np.bool_)
        mask[100:140, 100:140] = True
        return Segmentation(mask)

    def nasty(self, image_rgb: ImageRgb) -> Segmentation:
        return self.square(image_rgb)

    def close(self) -> None: ...


class Raising(Quick):
    """Raises."""

    def nasty(self, image_rgb: ImageRgb) -> Segmentation:
        raise RuntimeError("out of memory: 12 GiB wanted")


class Lost(Quick):
    """Cannot go on in this process, as after an error of a GPU."""

    def nasty(self, image_rgb: ImageRgb) -> Segmentation:
        raise SegmenterLost("cudaGraphLaunch: cudaErrorIllegalAddress")


class Exiting(Quick):
    """Ends its process, as a runtime with a fatal error does."""

    def nasty(self, image_rgb: ImageRgb) -> Segmentation:
        os._exit(3)


class Crashing(Quick):
    """Is killed by the system, as by a fault in a driver."""

    def nasty(self, image_rgb: ImageRgb) -> Segmentation:
        os.kill(os.getpid(), signal.SIGSEGV)
        raise AssertionError


class Hanging(Quick):
    """Never answers."""

    def nasty(self, image_rgb: ImageRgb) -> Segmentation:
        threading.Event().wait()
        raise AssertionError


class WrongShape(Quick):
    """Answers with a mask of another shape."""

    def nasty(self, image_rgb: ImageRgb) -> Segmentation:
        return Segmentation(np.ones((7, 5), np.bool_))


class WrongType(Quick):
    """Answers with probabilities where a mask was asked for."""

    def nasty(self, image_rgb: ImageRgb) -> Segmentation:
        return Segmentation(np.ones(image_rgb.shape[:2], np.float32))  # type: ignore[arg-type]


class NotANumber(Quick):
    """Answers with probabilities that are none."""

    def nasty(self, image_rgb: ImageRgb) -> Segmentation:
        shape = image_rgb.shape[:2]
        return Segmentation(np.ones(shape, np.bool_), np.full(shape, np.nan, np.float32))


class Nothing(Quick):
    """Answers with None."""

    def nasty(self, image_rgb: ImageRgb) -> Segmentation:
        return None  # type: ignore[return-value]


class FailingToOpen(Quick):
    """Cannot be opened."""

    def warm_up(self) -> None:
        raise RuntimeError("no such device")


class MissingLate(Quick):
    """Finds, once the log has a line, that its weights are not there."""

    def warm_up(self) -> None:
        while not Path("o.jsonl").is_file() or not Path("o.jsonl").stat().st_size:
            threading.Event().wait(0.02)
        raise ModelError("weights: late.bin; no such file")


class HangingToOpen(Quick):
    """Never gets ready."""

    def warm_up(self) -> None:
        threading.Event().wait()


class Building(Quick):
    """Builds for five seconds before it can work, as an engine is built for minutes, and tells how far it is."""

    def __init__(self, progress: Progress, input_hw: tuple[int, int] = (320, 320)) -> None:
        super().__init__(input_hw, at=-1, every=0)
        for percent in range(0, 100, 2):
            progress("building engine", percent)
            threading.Event().wait(0.1)
