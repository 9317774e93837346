"""A program that sends the test pattern in real time: as MPEG-TS to an address, or as YUV4MPEG2 to stdout.

Run by path: ``pattern_sender.py udp://127.0.0.1:PORT`` or ``pattern_sender.py y4m [COUNT]``. A program of its own
so that a test can kill it; no test.
"""

import itertools
import sys
import time
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np

BLOCK, SIZE_HW, FPS = 16, (240, 320), 25


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


def send_stream(address: str) -> None:
    """H.264 in MPEG-TS, a key frame each second."""
    height, width = SIZE_HW
    with av.open(address, "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "20", "g": str(FPS)}
        for number, luma in enumerate(pictures()):
            planes = np.vstack([luma, np.full((height // 2, width), 128, np.uint8)])
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            for packet in stream.encode(frame):
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
        send_stream(sys.argv[1])
