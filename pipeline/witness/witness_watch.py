"""The witness's eye on a screen: looks at the X display some hundred times a second and writes down what changed.

A process of its own, told by its arguments and ended by the end of its stdin, so that it neither shares an interpreter
with anything measured nor trusts it. Looking is a shared-memory copy of the picture's place (mss, 0.1 ms at 720 × 576),
reading the code 0.1 ms; it rests in between, for a core that only looks would slow down what it looks at. A screen
here is what the X server holds: when light leaves a monitor, it cannot know.
"""

import argparse
import json
import os
import select
import sys
import time
from dataclasses import asdict
from typing import Any

import numpy as np

from .witness_code import CodeReader
from .witness_verdict import Seen

_LOST_AFTER_LOOKS = 40
"""Unreadable looks in a row after which the whole screen is searched again."""
_SEARCH_REST_S = 0.02


class ScreenWatch:
    """Looks at one display.

    Args:
        display: as in DISPLAY; None for the environment's.
        drawn_wh: width and height in which the code was drawn.
    """

    def __init__(self, display: str | None, drawn_wh: tuple[int, int]) -> None:
        import mss

        self._eye: Any = mss.MSS(display=display) if display else mss.MSS()
        self._reader = CodeReader(drawn_wh)
        self._drawn_wh = drawn_wh
        self._place: dict[str, int] | None = None
        self._unreadable = 0
        self.unreadable = 0
        self.looks = 0

    def look(self) -> tuple[int, int, Any]:
        """Begin and end of the look in monotonic ns, and the sighting."""
        begun_ns = time.monotonic_ns()
        place = self._place or self._eye.monitors[0]
        shot = self._eye.grab(place)
        ended_ns = time.monotonic_ns()
        picture = np.frombuffer(shot.raw, np.uint8).reshape(shot.height, shot.width, 4)
        sighting = self._reader.read(np.ascontiguousarray(picture[:, :, 1]))
        self.looks += 1
        self._mind_the_place(sighting.code is not None, place)
        return begun_ns, ended_ns, sighting

    @property
    def found(self) -> bool:
        """Whether the picture's place is known."""
        return self._place is not None

    def _mind_the_place(self, readable: bool, place: dict[str, int]) -> None:
        """Look only where the picture is once it was found; search again when it is not there any more."""
        bounds = self._reader.bounds()
        if readable and self._place is None and bounds is not None:
            left, top, right, bottom = bounds
            self._place = {
                "left": place["left"] + left,
                "top": place["top"] + top,
                "width": right - left,
                "height": bottom - top,
            }
            self._reader.move(-top, -left, (bottom - top, right - left))
        self._unreadable = 0 if readable else self._unreadable + 1
        self.unreadable += self.found and not readable
        if self._unreadable > _LOST_AFTER_LOOKS and self.found:
            self._place, self._reader, self._unreadable = None, CodeReader(self._drawn_wh), 0

    def close(self) -> None:
        """Let the display go."""
        self._eye.close()


def watch(eye: ScreenWatch, rest_s: float, stop: Any) -> list[Seen]:
    """Look until ``stop()``; every change of what is in sight, in order."""
    seen: list[Seen] = []
    last: Any = None
    before_ns = time.monotonic_ns()
    while not stop():
        begun_ns, ended_ns, sighting = eye.look()
        if sighting.code is not None and sighting != last:
            other = sighting.bottom if sighting.code == sighting.top else sighting.top
            torn = other.number if sighting.torn and other is not None else None
            seen.append(Seen(sighting.code.number, before_ns, ended_ns, sighting.code.time_us, torn))
            last = sighting
        before_ns = begun_ns
        time.sleep(rest_s if eye.found else _SEARCH_REST_S)
    return seen


def main() -> None:
    """Entry point of the process: prints ``ready``, then JSON lines when stdin ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--display", default=None)
    parser.add_argument("--drawn", type=int, nargs=2, required=True, metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--rest-ms", type=float, default=1.0)
    asked = parser.parse_args()
    eye = ScreenWatch(asked.display, tuple(asked.drawn))
    print("ready", flush=True)
    seen = watch(eye, asked.rest_ms / 1000, _stdin_ended)
    for each in seen:
        print(json.dumps(asdict(each)))
    print(json.dumps({"looks": eye.looks, "unreadable": eye.unreadable}), flush=True)
    eye.close()


def _stdin_ended() -> bool:
    readable, _, _ = select.select([sys.stdin], [], [], 0)
    return bool(readable) and not os.read(sys.stdin.fileno(), 1)


if __name__ == "__main__":
    main()
