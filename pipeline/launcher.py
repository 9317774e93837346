"""How a stage is brought to life: as a process of its own, or as a thread of this one.

Both run the same code with the same control channel, rings and board. Processes are spawned, never forked from a
process with threads, and inherit nothing but their end of the control channel. Threads cannot be killed; they exist
for tests and to measure what processes cost.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any, Protocol

import zmq

from . import log_lines
from .board import Board
from .control import ControlChannel, PeerGone
from .host import RunSpec, StageHost
from .ring import Block
from .worker import BROKEN, GROUP_SIGNALS, run_stage

_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "PYDANTIC_DISABLE_PLUGINS": "__all__",  # looking for them reads every package's metadata: 10 ms in each process
    "PYTHONUNBUFFERED": "1",
}


class Handle(Protocol):
    """A running stage."""

    pid: int

    def exit_code(self) -> int | None:
        """None while it runs; negative for the signal that killed it."""

    def kill(self) -> None:
        """End it at once, if that is possible."""

    def join(self, timeout_s: float) -> bool:
        """Wait for its end; whether it has ended."""


class Launcher(Protocol):
    """Starts stages."""

    endpoints: str

    def start(
        self, stage: str, spec: RunSpec, board_block: Block, incarnation: int, nice: int
    ) -> tuple[Handle, ControlChannel]:
        """Start ``stage``; returns it and the supervisor's end of its control channel."""

    def close(self) -> None:
        """Give back what all stages shared."""


class ProcessHandle:
    """A stage in a process."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self.pid = process.pid

    def exit_code(self) -> int | None:
        """As ``Popen.poll``."""
        return self._process.poll()

    def kill(self) -> None:
        """SIGKILL; works on a stopped process too."""
        self._process.kill()

    def join(self, timeout_s: float) -> bool:
        """Wait."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True


class ProcessLauncher:
    """Stages as processes, linked by sockets under ``endpoints`` (``ipc://…/``)."""

    def __init__(self, endpoints: str) -> None:
        self.endpoints = endpoints

    def start(
        self, stage: str, spec: RunSpec, board_block: Block, incarnation: int, nice: int
    ) -> tuple[Handle, ControlChannel]:
        """Spawn a fresh interpreter; ``-P`` keeps the working directory out of its path."""
        ours, theirs = ControlChannel.pair()
        fd = theirs.fileno()
        command = [sys.executable, "-P", "-m", "endostream.pipeline.worker", stage, str(fd)]
        environment = os.environ | _ENVIRONMENT
        piped = subprocess.PIPE if log_lines.is_json() else None
        with _group_signals_held():
            process = subprocess.Popen(
                command, pass_fds=[fd], stdin=subprocess.DEVNULL, stderr=piped, env=environment
            )
        theirs.close()
        if stage in ("capture", "overlay") and not spec.every_frame and spec.config["supervisor"]["realtime"]:
            _run_in_realtime_class(process.pid)
        if process.stderr is not None:
            log_lines.log_what_is_said(stage, process.stderr)
        message = {"t": "run", "spec": spec.to_json(), "incarnation": incarnation, "nice": nice}
        with contextlib.suppress(PeerGone):  # dead already: who watches it learns from its exit code of what
            ours.send(message, (board_block.fd,))
        return ProcessHandle(process), ours

    def close(self) -> None:
        """Nothing is shared."""


@contextlib.contextmanager
def _group_signals_held() -> Iterator[None]:
    """What is spawned here is born with the signals of a terminal held back, until it ignores them itself: its first
    imports take a tenth of a second, in which a Ctrl-C would end it. Ours wait a millisecond."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run_in_realtime_class(pid: int) -> None:
    """Let a stage run before everything of the ordinary class, if the system permits, from its first import on.

    The stages concerned work about a millisecond a frame and sleep in between; what may run for long (the decoder)
    leaves the class again. The kernel keeps a share of each core for the others whatever happens. Set from here, it
    brings a restarted display process back in 0.3 s however busy the machine is.
    """
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))


class ThreadHandle:
    """A stage in a thread."""

    def __init__(self, target: Any, name: str) -> None:
        self.pid = os.getpid()
        self._problem = ""
        self._thread = threading.Thread(target=self._run, args=(target,), name=name, daemon=True)
        self._thread.start()

    def _run(self, target: Any) -> None:
        self._problem = target()

    def exit_code(self) -> int | None:
        """0, or BROKEN if the stage ended by an error."""
        if self._thread.is_alive():
            return None
        return BROKEN if self._problem else 0

    def kill(self) -> None:
        """A thread cannot be killed; it ends when its control channel closes."""

    def join(self, timeout_s: float) -> bool:
        """Wait."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()


class ThreadLauncher:
    """Stages as threads of this process, linked over ``inproc://``."""

    def __init__(self, endpoints: str) -> None:
        self.endpoints = endpoints
        self._context: zmq.Context[Any] = zmq.Context()

    def start(
        self, stage: str, spec: RunSpec, board_block: Block, incarnation: int, nice: int
    ) -> tuple[Handle, ControlChannel]:
        """Start a thread; ``nice`` has no meaning for it."""
        ours, theirs = ControlChannel.pair()
        board = Board(board_block, spec.topology)

        def run() -> str:
            host = StageHost(stage, spec, board, theirs, self._context, incarnation=incarnation)
            problem = run_stage(host)
            host.close()
            return problem

        return ThreadHandle(run, stage), ours

    def close(self) -> None:
        """End the shared context."""
        self._context.destroy(linger=0)
