"""A process that plays damaged streams one after another through the real sources, as the capture process would.

Jobs come as JSON lines on stdin ({"kind", "path"}), answers go to stdout. A process of its own, because a crash of
FFmpeg takes the process along, a hang has to be ended from outside, and memory that grows has to be seen. The
picture of every frame is converted, as capture does. It holds no test. Run: ``python -m tests.fuzz.player``.
"""

import contextlib
import ctypes
import gc
import json
import os
import sys
import time
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from endostream.configs.errors import EndostreamError
from endostream.pipeline.source import Source, SourceOptions
from endostream.pipeline.sources.stream_source import StreamSource
from endostream.replay.avi import AviSource

from .senders import RtspSender, UdpSender

LONGEST_S = 3.0
"""A live source plays no longer; a file plays to its end."""
MOST_PICTURES = 500
LIVE = {
    "silence_s": 0.5,
    "open_timeout_s": 1.0,
    "pixel_format": "mjpeg",
    "width": 96,
    "height": 64,
    "fps": 200,
}


def opened(kind: str, path: Path, options: SourceOptions, stack: ExitStack) -> Source:
    """The source of that kind for the stream in ``path``."""
    if kind == "udp":
        return StreamSource(stack.enter_context(UdpSender(path.read_bytes())).address, options)
    if kind == "rtsp":
        return StreamSource(stack.enter_context(RtspSender(path.read_bytes())).address, options)
    if kind == "y4m":
        from endostream.pipeline.sources.pipe_source import PipeSource

        return PipeSource(f"pipe:cat '{path}'", options)
    if kind == "v4l2":
        from endostream.pipeline.sources.v4l2_source import V4l2Source

        Path(os.environ["V4L2_EMULATOR_JPEG"]).write_bytes(path.read_bytes())
        return V4l2Source(os.environ["V4L2_EMULATOR_DEVICE"], options)
    return AviSource(str(path), options)


def play(kind: str, path: Path) -> dict[str, Any]:
    """Play one stream; how it ended, what was wrong, and a checksum over all pictures."""
    deadline = time.monotonic() + LONGEST_S
    live = {"live": LIVE, "stopping": lambda: time.monotonic() > deadline}
    options = SourceOptions() if kind in ("ts", "avi", "mkv", "mp4") else SourceOptions(extra=live)
    found: dict[str, Any] = {"outcome": "played", "pictures": 0, "crc32": 0, "faults": {}, "message": ""}
    source: Source | None = None
    last_seq = -1
    with ExitStack() as stack:
        try:
            source = stack.enter_context(opened(kind, path, options, stack))
            for picture in source:
                image = np.empty((*picture.size_hw, 3), np.uint8)
                picture.fill(image)
                assert picture.seq > last_seq, f"seq {picture.seq} after {last_seq}"
                last_seq = picture.seq
                found["crc32"] = zlib.crc32(image, found["crc32"])
                found["pictures"] += 1
                if found["pictures"] == MOST_PICTURES:
                    break
        except EndostreamError as error:
            found |= {"outcome": type(error).__name__, "message": str(error)}
        except Exception as error:
            found |= {"outcome": "unexpected", "message": f"{type(error).__name__}: {error}"}
        found["faults"] = dict(source.faults) if source is not None else {}
    return found


def own_bytes(process: psutil.Process) -> int:
    """Memory that is in use and shared with nobody: what was freed and only kept for later is given back before."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # another C library than GNU's
        ctypes.CDLL(None).malloc_trim(0)
    return int(process.memory_full_info().uss)


def main() -> None:
    """Answer until stdin ends."""
    process = psutil.Process()
    for line in sys.stdin:
        job = json.loads(line)
        begun = time.monotonic()
        answer = play(job["kind"], Path(job["path"]))
        answer |= {
            "seconds": round(time.monotonic() - begun, 3),
            "own_bytes": own_bytes(process),
            "open_files": process.num_fds(),
            "threads": process.num_threads(),
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
