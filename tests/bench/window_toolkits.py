"""How long a window takes for a picture: OpenCV's highgui, SDL's frame buffers, and our window's own process.

On a virtual X server (Xvfb) of its own, so without a graphics card: median, p99 and maximum of the call.
highgui's call returns before the server has drawn; SDL's and ours after.

Usage: python tests/bench/window_toolkits.py [--quick]
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction

import numpy as np

SIZES = ((576, 720), (1080, 1920))
WAYS = ("highgui", "sdl plain", "sdl accelerated", "window sink")
PAUSE_S = 0.01
SCREEN = "1920x1080x24"
Show = Callable[[np.ndarray, int], None]


def highgui(height: int, width: int) -> Show:
    import cv2

    cv2.setNumThreads(1)
    cv2.namedWindow("bench", cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
    cv2.resizeWindow("bench", width, height)

    def show(image: np.ndarray, _: int) -> None:
        cv2.imshow("bench", image)
        cv2.pollKey()

    return show


def sdl(height: int, width: int) -> Show:
    from endostream.pipeline.window.sdl_screen import SdlScreen
    from endostream.pipeline.window.window_picture import WindowContent, WindowPicture, WindowView

    screen, picture = SdlScreen(), WindowPicture()
    screen.fit((height, width))

    def show(image: np.ndarray, _: int) -> None:
        with screen.pixels() as pixels:
            picture.draw(pixels, WindowContent(image), WindowView())
        screen.flip()
        screen.events()

    return show


def window_sink(height: int, width: int) -> Show:
    from endostream.pipeline.frame import Frame, FrameKey, Presented
    from endostream.pipeline.sink import SinkContext, parse_sink
    from endostream.pipeline.window.window_sink import WindowSink

    sink = WindowSink(parse_sink("window"), SinkContext())
    sink.wait_until_open()
    sink.patience_ns = 1_000_000_000

    def show(image: np.ndarray, seq: int) -> None:
        sink.write(Presented(Frame(FrameKey(0, 0, seq), seq, Fraction(1, 60), 0, image)))
        assert sink.shown, sink.lost_because

    return show


def measure(way: str, height: int, width: int, count: int) -> None:
    """Print one line; runs in a process of its own."""
    if way.startswith("sdl"):
        os.environ["SDL_FRAMEBUFFER_ACCELERATION"] = "1" if way == "sdl accelerated" else "0"
    show = {"highgui": highgui, "window sink": window_sink}.get(way, sdl)(height, width)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(4)]
    taken_ms = []
    for seq in range(count + 10):
        begun = time.perf_counter_ns()
        show(images[seq % 4], seq)
        taken_ms.append((time.perf_counter_ns() - begun) / 1e6)
        time.sleep(PAUSE_S)
    median, p99 = np.percentile(taken_ms[10:], [50, 99])
    print(f"{way:16} {width:5} × {height:<5} {median:7.2f} {p99:7.2f} {max(taken_ms[10:]):7.2f}", flush=True)


def main() -> None:
    """Start an X server and measure every way in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="30 pictures instead of 600")
    parser.add_argument("--one", nargs=3, metavar=("WAY", "HEIGHT", "WIDTH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    count = 30 if options.quick else 600
    if options.one:
        measure(options.one[0], int(options.one[1]), int(options.one[2]), count)
        os._exit(0)  # toolkits may have threads that do not end
    read_fd, write_fd = os.pipe()
    command = ["Xvfb", "-displayfd", str(write_fd), "-screen", "0", SCREEN, "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=(write_fd,), stderr=subprocess.DEVNULL) as server:
        os.close(write_fd)
        with os.fdopen(read_fd) as answer:
            environment = {**os.environ, "DISPLAY": f":{answer.readline().strip()}"}
        print(
            f"ms a picture; load {os.getloadavg()[0]:.2f} before\n{'':32} median     p99     max", flush=True
        )
        for height, width in SIZES:
            for way in WAYS:
                again = [sys.executable, __file__, "--one", way, str(height), str(width)]
                again += ["--quick"] if options.quick else []
                subprocess.run(again, env=environment, check=True, timeout=120)
        server.terminate()


if __name__ == "__main__":
    main()
