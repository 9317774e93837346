"""What the tests of live sources share: the V4L2 emulator, senders, a run of ``endostream live``, and the test pattern.

The emulator is built with gcc on first use; without it the tests that need it are skipped and say so. Senders are real
programs of their own, so that a test can kill them. Every wait is bounded; it holds no test.
"""

import atexit
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
import psutil
import pytest

from endostream.pipeline.frame import ImageBgr

PATIENCE_S = 60.0
DEVICE = "/dev/video42"
HERE = Path(__file__).resolve().parent
EMULATOR_SOURCE = HERE.parents[1] / "v4l2_emulator" / "v4l2_emulator.c"
COMMAND = (sys.executable, "-c", "from endostream.pipeline.cli import main; main()")
PLAIN = tuple(
    word
    for key in ("hud=false", "contour=false", "box=false", "fill_alpha=0")
    for word in ("--set", f"overlay.{key}")
)
"""Options that leave the recorded picture as it was captured, so that the pattern in it can be read."""
BLOCK = 16


@cache
def emulator_library() -> Path:
    """The built emulator; the calling test is skipped where there is no compiler or no Linux."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler for the V4L2 emulator")
    folder = Path(tempfile.mkdtemp(prefix="v4l2-emulator-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    library = folder / "v4l2_emulator.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror"]
    command += ["-o", str(library), str(EMULATOR_SOURCE), "-ldl", "-lpthread"]
    subprocess.run(command, check=True, timeout=60)
    return library


class Emulator:
    """An emulated device: ``environment`` for the process that is to see it, ``set`` for faults while it runs."""

    def __init__(
        self, folder: Path, modes: str = "YUYV:320x240@30", jpeg: Path | None = None, **settings: object
    ) -> None:
        self._control = folder / "control"
        self._settings: dict[str, object] = {}
        self.set(**settings)
        self.environment = {
            "LD_PRELOAD": str(emulator_library()),
            "V4L2_EMULATOR_DEVICE": DEVICE,
            "V4L2_EMULATOR_MODES": modes,
            "V4L2_EMULATOR_CONTROL": str(self._control),
        }
        if jpeg is not None:
            self.environment["V4L2_EMULATOR_JPEG"] = str(jpeg)

    def set(self, **settings: object) -> None:
        """Change settings; the device notices within a frame."""
        self._settings |= settings
        beside = self._control.with_suffix(".new")
        beside.write_text("".join(f"{key}={value}\n" for key, value in self._settings.items()))
        beside.replace(self._control)

    def ask(self, code: str, *arguments: str) -> Any:
        """Run Python code that sees the device; what it prints is read as JSON."""
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


# The pattern


def paint(number: int, milliseconds: int, size_hw: tuple[int, int] = (240, 320)) -> ImageBgr:
    """The emulator's picture: two numbers of 32 bits in blocks of 16 pixels on grey."""
    image = np.full((*size_hw, 3), 128, np.uint8)
    for row, value in ((0, number), (2, milliseconds)):
        for bit in range(32):
            y, x = (row + bit // 16) * BLOCK, bit % 16 * BLOCK
            image[y : y + BLOCK, x : x + BLOCK] = 255 * (value >> (31 - bit) & 1)
    return image


def read_pattern(image: ImageBgr) -> tuple[int, int]:
    """Number and milliseconds that a picture shows."""
    centres = image[BLOCK // 2 : 4 * BLOCK : BLOCK, BLOCK // 2 : 16 * BLOCK : BLOCK].mean(axis=2) > 127
    bits = "".join("01"[int(bit)] for bit in centres.ravel())
    return int(bits[:32], 2), int(bits[32:], 2)


def patterns_of(video: Path) -> list[tuple[int, int]]:
    """Number and milliseconds of every picture of a recording that shows the pattern; cards of ours show none."""
    with av.open(str(video)) as container:
        images = [picture.to_ndarray(format="bgr24") for picture in container.decode(video=0)]
    return [read_pattern(image) for image in images if _is_pattern(image)]


def _is_pattern(image: ImageBgr) -> bool:
    return bool(abs(float(image[5 * BLOCK :].mean()) - 128) < 8 and image[5 * BLOCK :].std() < 8)


# Senders


def free_port() -> int:
    """A UDP port that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Sender:
    """A program that sends the pattern, 25 pictures a second, until it is killed: ``pattern_sender.py``."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen([sys.executable, str(HERE / "pattern_sender.py"), *arguments])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """SIGKILL, as a cable that is pulled."""
        self.process.kill()
        self.process.wait(PATIENCE_S)


# A run


class LiveRun:
    """``endostream live`` in ``folder``, writing ``o.mkv`` (lossless), ``o.jsonl`` and ``r.json``."""

    def __init__(self, folder: Path, address: str, *arguments: str, **environment: str) -> None:
        self.folder = folder
        self._runtime = tempfile.TemporaryDirectory(prefix="eo")
        outputs = ["--sink", f"video:{folder / 'o.mkv'}", "--sink", f"jsonl:{folder / 'o.jsonl'}"]
        outputs += ["--report", str(folder / "r.json")]
        self._stderr = (folder / ".stderr").open("w+")
        self.process = subprocess.Popen(
            [*COMMAND, "live", address, "--quiet", *PLAIN, *outputs, *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            start_new_session=True,
            env={**os.environ, "XDG_RUNTIME_DIR": self._runtime.name, **environment},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes():
            process.kill()
        self.process.kill()
        self.process.wait(PATIENCE_S)
        self._stderr.close()
        self._runtime.cleanup()

    @property
    def stderr(self) -> str:
        """What it said so far."""
        return (self.folder / ".stderr").read_text(errors="replace")

    def lines(self) -> list[dict[str, Any]]:
        """The log so far."""
        path = self.folder / "o.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def wait_for(self, condition: Callable[[], Any], what: str) -> Any:
        """What ``condition`` says as soon as that is true."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if value := condition():
                return value
            try:
                self.process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
            if value := condition():
                return value
            break
        raise AssertionError(f"{what} did not happen: exit code {self.process.returncode}\n{self.stderr}")

    def wait_for_pictures(self, count: int) -> None:
        """Wait for so many more captured pictures in the log."""
        begun = len(self.lines())
        self.wait_for(
            lambda: sum(not line["synthetic"] for line in self.lines()[begun:]) >= count, f"{count} pictures"
        )

    def wait_for_cards(self, count: int = 1) -> None:
        """Wait for so many more "no signal" pictures in the log."""
        begun = len(self.lines())
        self.wait_for(lambda: sum(line["synthetic"] for line in self.lines()[begun:]) >= count, "a card")

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def end(self) -> dict[str, Any]:
        """Wait for the end; its report, with what it said as ``stderr``. No process of it may be left."""
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running\n{self.stderr}") from None
        assert self.processes() == []
        report: dict[str, Any] = json.loads((self.folder / "r.json").read_text())
        assert report["exit_code"] == self.process.returncode, self.stderr
        assert report["frames"]["ledger_closed"], self.stderr
        return {**report, "stderr": self.stderr}

    def processes(self) -> list[psutil.Process]:
        """All processes of the run that are alive, its own aside."""
        return list(self._alive())

    def _alive(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            try:
                if process.pid == self.process.pid or os.getsid(process.pid) != self.process.pid:
                    continue
                if process.status() != psutil.STATUS_ZOMBIE:
                    yield process
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue

    def pid(self, stage: str) -> int:
        """The process of ``stage``."""

        def find() -> int:
            for process in self.processes():
                try:
                    words = process.cmdline()
                except psutil.NoSuchProcess:
                    continue
                if "endostream.pipeline.worker" in words and stage in words:
                    return process.pid
            return 0

        found: int = self.wait_for(find, f"a process for {stage}")
        return found
