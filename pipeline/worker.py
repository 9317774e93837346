"""Where a stage's process begins: ``python -m endostream.pipeline.worker STAGE FD``.

It takes the control channel it inherited, is told the run, runs the stage's loop, and ends by itself within two
seconds when the supervisor's end of the channel closes, even if the stage hangs. Nothing is decided here.
"""

import contextlib
import ctypes
import importlib
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import zmq

from .board import Board
from .control import ControlChannel
from .host import RunSpec, StageHost, StageMain
from .ring import Block

STAGE_MAINS = {
    "capture": "endostream.pipeline.capture:run_capture",
    "preprocess": "endostream.pipeline.annotate:run_preprocess",
    "infer": "endostream.pipeline.annotate:run_infer",
    "overlay": "endostream.pipeline.present:run_overlay",
    "record": "endostream.pipeline.record:run_record",
}
GROUP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What a terminal or a service manager sends to the whole group; the supervisor alone ends its stages, in order."""
_ORPHAN_GRACE_S = 1.5
_PR_SET_PDEATHSIG = 1
_OOM_SCORES = {"infer": 500, "preprocess": 400, "record": 300}
BROKEN = 75
"""Exit code of a stage that ended because of an error: the supervisor starts it again."""


def stage_main(stage: str) -> StageMain:
    """The function that runs ``stage``, imported on use."""
    module_name, name = STAGE_MAINS[stage].split(":")
    main: StageMain = getattr(importlib.import_module(module_name), name)
    return main


def first_message(control: ControlChannel) -> tuple[dict[str, Any], list[int]]:
    """Wait for the first control message: the run and the board."""
    while True:
        select.select([control.fileno()], [], [])
        message = control.receive()
        if message is not None:
            return message


def run_stage(host: StageHost) -> str:
    """Run the stage of ``host`` to its end; returns what went wrong, or ""."""
    from endostream.configs.errors import EndostreamError

    from .stage import StageBroken

    host.own_control()
    problem = ""
    try:
        stage_main(host.stage)(host)
    except EndostreamError as error:
        problem = str(error)
        host.fail(problem, int(error.exit_code))
    except StageBroken as error:
        problem = _told(host, str(error))
    except Exception as error:
        problem = _told(host, f"{type(error).__name__}: {error}")
        if os.environ.get("ENDOSTREAM_DEBUG"):
            raise
    return problem


def _told(host: StageHost, problem: str) -> str:
    if not host.stopping:
        host.log(problem)
    return problem


def _end_with_supervisor(fd: int) -> None:
    """Watch for the supervisor's death from a thread: however busy the stage, the process ends soon after."""
    poller = select.poll()
    poller.register(fd, select.POLLHUP)
    poller.poll()
    time.sleep(_ORPHAN_GRACE_S)
    os._exit(1)


def _die_with_supervisor(stage: str, fd: int) -> None:
    """Have the system kill what has no file to finish: a runtime that is loading may hold the interpreter for seconds,
    and then no thread of ours could end it. A supervisor that is gone already kills nobody: ``fd`` tells."""
    if stage in ("preprocess", "infer"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        poller = select.poll()
        poller.register(fd, select.POLLHUP)
        if poller.poll(0):
            os._exit(1)


def _set_priority(stage: str, nice: int) -> None:
    """Who gets a core first, and whom the system ends first when it runs out of memory: never the display side."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORES.get(stage, 0)), encoding="ascii")


def main() -> None:
    """Entry point of the process."""
    stage, fd = sys.argv[1], int(sys.argv[2])
    for number in GROUP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, GROUP_SIGNALS)  # the launcher has held them back until here
    _die_with_supervisor(stage, fd)
    control = ControlChannel.from_fd(fd)
    threading.Thread(target=_end_with_supervisor, args=(fd,), daemon=True).start()
    message, fds = first_message(control)
    _set_priority(stage, message["nice"])
    spec = RunSpec.from_json(message["spec"])
    board = Board(Block(fds[0], Board.size_bytes(spec.topology), populate=False), spec.topology)
    context: zmq.Context[Any] = zmq.Context()
    host = StageHost(stage, spec, board, control, context, incarnation=message["incarnation"])
    problem = run_stage(host)
    context.destroy(linger=500)
    # Threads of decoders and runtimes may still be busy; what had to be finished is finished.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(BROKEN if problem else 0)


if __name__ == "__main__":
    main()
