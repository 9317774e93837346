"""What all processes of a run hold at one moment: memory, handles, threads, sockets, shared memory.

Read from the system, of this process (the supervisor) and its children. Separate from the soak, so that it can be
tested on a process whose holdings the test knows. Linux.
"""

from dataclasses import dataclass, field
from pathlib import Path

import psutil

_MIB = 1 << 20
_WORKER = "endostream.pipeline.worker"


@dataclass(frozen=True, slots=True)
class Holdings:
    """Of one process; memory in MiB. ``memfds`` counts rings and board, ``sockets`` those of ZeroMQ and ours.

    ``own_mib`` is what it allocated itself (anonymous pages); ``rss_mib`` has rings and libraries in it too.
    ``uss_mib`` (unshared pages) falls by 40 MiB when any other program loads the same libraries, so nothing is judged
    by it.
    """

    own_mib: float
    rss_mib: float
    uss_mib: float
    handles: int
    threads: int
    memfds: int
    sockets: int


@dataclass(frozen=True, slots=True)
class Sample:
    """All processes at ``at_s``, by stage; ``quiet``: long after a fault; ``shared_names``: in /dev/shm, of all."""

    at_s: float
    quiet: bool
    processes: dict[str, Holdings] = field(default_factory=dict)
    shared_names: int = 0


def take_sample(at_s: float, quiet: bool) -> Sample:
    """Look at this process and its stages now; one that is just dying is left out."""
    found = {}
    me = psutil.Process()
    for process in (me, *me.children()):
        try:
            stage = "supervisor" if process.pid == me.pid else _stage_of(process)
            if stage:
                found[stage] = holdings(process)
        except (psutil.Error, OSError):
            continue
    return Sample(round(at_s, 1), quiet, found, _shared_names())


def _stage_of(process: psutil.Process) -> str:
    command = process.cmdline()
    return command[command.index(_WORKER) + 1] if _WORKER in command else ""


def holdings(process: psutil.Process) -> Holdings:
    """What one process holds."""
    memory = process.memory_full_info()
    targets = _handles(process.pid)
    return Holdings(
        round((memory.rss - memory.shared) / _MIB, 2),
        round(memory.rss / _MIB, 2),
        round(memory.uss / _MIB, 2),
        len(targets),
        process.num_threads(),
        len({target for target in targets if target.startswith("/memfd:")}),
        sum(1 for target in targets if target.startswith("socket:")),
    )


def _handles(pid: int) -> list[str]:
    """What the file descriptors of a process stand for."""
    targets = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            targets.append(str(link.readlink()))
        except FileNotFoundError:  # the one that lists them
            continue
    return targets


def _shared_names() -> int:
    folder = Path("/dev/shm")
    return sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0
