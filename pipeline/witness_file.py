"""The witness's eye on a recording: reads the code of every frame of a video file.

A file has no delay, but it shows what was lost, repeated, torn or put out of order on the way into it. Separate from
the screen's eye, which needs X and a clock.
"""

from pathlib import Path

import av
import numpy as np

from endostream.configs.errors import SourceMissing

from .witness_code import CodeReader
from .witness_verdict import Seen


def seen_in_file(path: Path, drawn_wh: tuple[int, int]) -> tuple[list[Seen], int]:
    """A sighting for each frame that can be read, times being its pts, and how many cannot.

    Raises:
        SourceMissing: no such file, or none with video in it.
    """
    try:
        container = av.open(str(path))
        stream = container.streams.video[0]
    except (OSError, IndexError, av.FFmpegError) as error:
        raise SourceMissing(f"witness: {path}; expected a video file ({error})") from error
    seen: list[Seen] = []
    unreadable = 0
    reader = CodeReader(drawn_wh)
    with container:
        for count, frame in enumerate(container.decode(stream)):
            sighting = reader.read(np.ascontiguousarray(frame.to_ndarray(format="gray")))
            if sighting.code is None:
                unreadable += 1
                continue
            other = sighting.bottom if sighting.code == sighting.top else sighting.top
            torn = other.number if sighting.torn and other is not None else None
            at_ns = round(frame.time * 1e9) if frame.time is not None else count
            seen.append(Seen(sighting.code.number, at_ns, at_ns, sighting.code.time_us, torn))
    return seen, unreadable
