"""Runs the command ``endostream`` for real: its own processes, its own session and run directory, every wait bounded.

A test starts a ``Run``, waits for something it can see from outside (a line of the log, a stage's process), does
something nasty to it, and looks at exit code, outputs, report and at what was left behind.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import psutil

from ..replay.make_video import VideoSpec, make_video

COMMAND = (sys.executable, "-c", "from endostream.pipeline.cli import main; main()")
HERE = Path(__file__).resolve().parent
STAGES = ("capture", "preprocess", "infer", "overlay", "record")
FRAMES = 50
"""Of ``small_video``: two seconds."""
QUICK = "nasty_segmenters:Quick"
"""A segmenter that opens at once and marks the same square in every picture."""
PATIENCE_S = 60.0
"""For anything that has to happen; a machine under load may take most of it."""
PATIENT = ("--set", "replay.ready_wait_s=60")
"""A replay as if live waits for infer a second only: whether it is there by then is the machine's business."""


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int
    stdout: str
    stderr: str
    report: dict[str, Any]
    log: list[dict[str, Any]] = field(default_factory=list)

    @property
    def states(self) -> list[str]:
        """Mask states in the order of presentation, without repetition."""
        states = [line["state"] for line in self.log if not line["synthetic"]]
        return [state for at, state in enumerate(states) if at == 0 or states[at - 1] != state]

    @property
    def keys(self) -> list[tuple[int, int, int]]:
        """Source, loop and seq of every line of the log that is no picture of our own."""
        return [(line["source"], line["loop"], line["seq"]) for line in self.log if not line["synthetic"]]


class Run:
    """One run of ``endostream replay`` in ``folder``, with a report and a log; a context manager that ends it.

    Args:
        folder: for outputs; the log is ``o.jsonl``, the report ``r.json``, unless ``log`` or ``report`` is False.
        arguments: of ``replay``.
        segmenter: name.
        under: a command to run it under, such as ``setpriv``.
        environment: on top of this process's own.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str | Path,
        segmenter: str | None = QUICK,
        log: bool = True,
        report: bool = True,
        under: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self._runtime = tempfile.TemporaryDirectory(prefix="eo")
        self.runtime = Path(self._runtime.name)
        self.runtime.chmod(0o777)
        self._shared_before = shared_memory()
        command = [*under, *COMMAND, "replay", "--quiet", *PATIENT, *map(str, arguments)]
        command += ["--segmenter", segmenter] if segmenter else []
        command += ["--sink", f"jsonl:{folder / 'o.jsonl'}"] if log else []
        command += ["--report", str(folder / "r.json")] if report else []
        self._stdout, self._stderr = (folder / ".stdout").open("w+"), (folder / ".stderr").open("w+")
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=self._stdout,
            stderr=self._stderr,
            start_new_session=True,
            env={
                **os.environ,
                "XDG_RUNTIME_DIR": str(self.runtime),
                "PYTHONPATH": os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH")))),
                **(environment or {}),
            },
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
        self._stdout.close()
        self._stderr.close()
        self._runtime.cleanup()

    # Waiting

    def wait_for(self, condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
        """What ``condition`` says as soon as that is true; fails when the run ends or patience does."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            ended = self._poll()
            if value := condition():
                return value
            if ended:
                break
        raise AssertionError(f"{what} did not happen: exit code {self.process.returncode}\n{self.stderr}")

    def _poll(self) -> bool:
        """Wait a moment; whether the run has ended."""
        try:
            self.process.wait(0.02)
        except subprocess.TimeoutExpired:
            return False
        return True

    def wait_for_frames(self, count: int, state: str | None = None) -> None:
        """Wait until ``count`` more frames (of ``state``) stand in the log than do now."""
        begun = len(self.log())

        def enough() -> bool:
            lines = self.log()[begun:]
            return sum(1 for line in lines if state in (None, line["state"])) >= count

        self.wait_for(enough, f"{count} frames {state or ''}")

    def wait_for_return_of(self, stage: str, gone: int) -> int:
        """Wait until a process other than ``gone`` runs ``stage``; its pid."""
        pid: int = self.wait_for(lambda: (now := self.pid(stage)) != gone and now, f"the return of {stage}")
        return pid

    def end(self, patience_s: float = PATIENCE_S) -> Ended:
        """Wait for the end of the run and read what it wrote; nothing of it may be left."""
        try:
            code = self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {patience_s:g} s\n{self.stderr}") from None
        self.assert_nothing_is_left()
        file = self.folder / "r.json"
        report = json.loads(file.read_text()) if file.is_file() else {}
        return Ended(code, self._text(self._stdout.name), self.stderr, report, self.log())

    def wait_until_gone(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until none of its processes is alive."""
        psutil.wait_procs(self.processes(), timeout=patience_s)
        assert self.processes() == []

    def assert_nothing_is_left(self) -> None:
        """No process, no folder of the run, no shared memory."""
        assert self.processes() == []
        assert list(self.runtime.glob("endostream/run-*")) == []
        assert shared_memory() - self._shared_before == set()

    # Looking

    @property
    def stderr(self) -> str:
        """What it said so far."""
        return self._text(self._stderr.name)

    @staticmethod
    def _text(path: str) -> str:
        return Path(path).read_text(errors="replace")

    def log(self) -> list[dict[str, Any]]:
        """The whole lines of the log so far."""
        path = self.folder / "o.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

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
        """The process of ``stage``, 0 if there is none."""
        for process in self.processes():
            try:
                command = process.cmdline()
            except psutil.NoSuchProcess:
                continue
            if "endostream.pipeline.worker" in command and stage in command:
                return process.pid
        return 0

    # Doing

    def send(self, number: int) -> None:
        """Send a signal to the supervisor alone."""
        self.process.send_signal(number)

    def kill(self, stage: str, number: int = signal.SIGKILL) -> int:
        """Signal the process of ``stage``; its pid."""
        pid: int = self.wait_for(lambda: self.pid(stage), f"a process for {stage}")
        os.kill(pid, number)
        return pid

    def kill_all(self) -> None:
        """SIGKILL to the whole process group."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE_S)


def shared_memory() -> set[str]:
    """Names in the system's shared memory."""
    folder = Path("/dev/shm")
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return {name for name in names if not name.startswith("sem.")}  # other programs have semaphores there


def small_video(folder: Path, frames: int = FRAMES) -> Path:
    """A video of 160 × 120 at 25 fps that costs next to nothing to play."""
    spec = VideoSpec(
        frames=frames, size_hw=(120, 160), options={"g": "10", "qmin": "5", "qmax": "5"}, texture=True
    )
    return make_video(folder / "small.avi", spec)


def play(folder: Path, *arguments: str | Path, patience_s: float = PATIENCE_S, **options: Any) -> Ended:
    """Run to the end."""
    with Run(folder, *arguments, **options) as run:
        return run.end(patience_s)


def times_of(video: Path) -> list[Fraction]:
    """Presentation times in seconds of all pictures that can be decoded."""
    with av.open(str(video)) as container:
        pictures = list(container.decode(video=0))
    return [picture.pts * picture.time_base for picture in pictures]


def sizes_of(video: Path) -> set[tuple[int, int]]:
    """Width and height of its pictures."""
    with av.open(str(video)) as container:
        return {(picture.width, picture.height) for picture in container.decode(video=0)}


def drop_privileges() -> tuple[str, ...]:
    """A command that runs another as a user whom permissions bind; root without capabilities is one."""
    return () if os.getuid() else ("setpriv", "--inh-caps=-all", "--bounding-set=-all")


def with_small_disk(folder: Path, size: str) -> tuple[str, ...]:
    """A command that runs another with a disk of ``size`` at ``folder``, which nobody else sees."""
    unshare = ("unshare", "-m") if os.getuid() == 0 else ("unshare", "-r", "-m")
    script = f'mount -t tmpfs -o size={size} tmpfs "$0" && "$@"'
    return (*unshare, "sh", "-c", script, str(folder))
