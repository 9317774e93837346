"""A program that sends the test pattern in real time: as MPEG-TS to an address, or as YUV4MPEG2 to stdout.

Run by path: ``pattern_sender.py udp://127.0.0.1:PORT [copy=FILE]`` or ``pattern_sender.py y4m [COUNT]``. A program of
its own so that a test can kill it; no test.
"""

import itertools
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction

import av
import numpy as np

BLOCK, SIZE_HW, FPS = 16, (240, 320), 25
FLUSHED = {"flush_packets": "1"}


def pictures() -> Iterator[np.ndarray]:
    """Luma of pictures when they are due: number and milliseconds, as the V4L2 emulator paints them."""
    begun = time.monotonic()
    for number in itertools.count():
        left = begun + number / FPS - time.monotonic()
        if left > 0:
            time.sleep(left)
        luma = np.full(SIZE_HW, 126, np.uint8)
        for row, value in ((0, number), (2, int(time.monotonic() * 1000) & 0xFFFF_FFFF)):
            for bit in range(32):
                y, x = (row + bit // 16) * BLOCK, bit % 16 * BLOCK
                luma[y : y + BLOCK, x : x + BLOCK] = 235 if value >> (31 - bit) & 1 else 16
        yield luma


def send_stream(address: str, copy: str) -> None:
    """H.264 in MPEG-TS, a key frame each second; the same packets into the file ``copy`` if one is named."""
    height, width = SIZE_HW
    with ExitStack() as stack:
        container = stack.enter_context(av.open(address, "w", format="mpegts"))
        kept = stack.enter_context(av.open(copy, "w", format="mpegts", options=FLUSHED)) if copy else None
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "20", "g": str(FPS)}
        for number, luma in enumerate(pictures()):
            planes = np.vstack([luma, np.full((height // 2, width), 128, np.uint8)])
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            for packet in stream.encode(frame):
                if kept is not None:
                    same = av.Packet(bytes(packet))
                    same.pts, same.dts, same.time_base = packet.pts, packet.dts, packet.time_base
                    if not kept.streams:
                        kept.add_stream_from_template(stream)
                    same.stream = kept.streams[0]
                    kept.mux(same)
                container.mux(packet)


def write_y4m(count: int | None) -> None:
    """YUV4MPEG2 on stdout, for ever or ``count`` pictures."""
    height, width = SIZE_HW
    out = sys.stdout.buffer
    out.write(f"YUV4MPEG2 W{width} H{height} F{FPS}:1 Ip A1:1 C420jpeg\n".encode())
    grey = bytes([128]) * (height * width // 2)
    for luma in itertools.islice(pictures(), count):
        out.write(b"FRAME\n" + luma.tobytes() + grey)
        out.flush()


if __name__ == "__main__":
    if sys.argv[1] == "y4m":
        write_y4m(int(sys.argv[2]) if len(sys.argv) > 2 else None)
    else:
        send_stream(sys.argv[1], sys.argv[2].removeprefix("copy=") if len(sys.argv) > 2 else "")
