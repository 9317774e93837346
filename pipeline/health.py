"""When a stage counts as hung, as silent, or as too large. Separate from the supervisor, which does something about it.

A hang is told by what the stage itself shows on the board: since when it has been at work on a frame, and when it last
gave a sign of life. In live mode the limits follow from what matters: the display process holds the picture, so half
a second of silence is enough; a stage that usually takes 30 ms for a frame is hung after a second, one that usually
takes 200 ms is not. A stage that waits for a core is not hung: restarting it would only cost a crowded machine more,
so as long as a thread of it could run, the plain limits count. In every-frame mode nobody waits: there too.
"""

import os
from pathlib import Path

from endostream.configs.schema import Config

from .board import Board

_QUICK = ("capture", "preprocess", "infer")
"""Stages that get ``supervisor.live_hang_s`` in live mode; record may lag, and nothing waits for it."""
_USUAL_FACTOR = 20
"""A frame may take so many times the 99th percentile of all before."""
_STARVING_S = 5.0
"""Silence of a stage of the ordinary class that waits for a core: with 36 programs on two cores it took 3 s."""
_ORDINARY = ("preprocess", "infer", "record")
_MEMORY_INTERVAL_NS = 500_000_000
_MIB = 1 << 20
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class Health:
    """Judges stages by the board and by the system's account of their memory; each answer is "" or why it is ill."""

    def __init__(self, board: Board, config: Config, live: bool) -> None:
        settings = config.supervisor
        quick_s = min(settings.live_hang_s, settings.heartbeat_timeout_s)
        self._board = board
        self._quick_ns = int(quick_s * 1e9) if live else 0
        self._silence_s = {"overlay": config.overlay.hang_timeout_s, **dict.fromkeys(_QUICK, quick_s)}
        self._silence_s = self._silence_s if live else {}
        self._plain_silence_s = settings.heartbeat_timeout_s
        limit_mib = settings.memory_limit_mib or machine_memory_mib() // 2
        self._limit_mib = limit_mib if settings.launcher == "processes" else 0
        self._looked_ns: dict[str, int] = {}

    def hung(self, stage: str, pid: int, hang_timeout_s: float, alive_ns: int, now_ns: int) -> str:
        """Why ``stage``, which is running, counts as hung.

        Args:
            stage: its name.
            pid: its process.
            hang_timeout_s: most time for one frame, whatever is usual.
            alive_ns: the last sign of life that is not on the board, such as being ready.
            now_ns: monotonic.
        """
        busy_ns = self._board.value(f"{stage}.busy_since_ns")
        if busy_ns:
            for_ns, words = now_ns - busy_ns, "hung"
            quick_s, plain_s = self._frame_limit_s(stage, hang_timeout_s, for_ns), hang_timeout_s
        else:
            for_ns = now_ns - max(self._board.value(f"{stage}.heartbeat_ns"), alive_ns)
            words = "no sign of life"
            quick_s, plain_s = self._silence_s.get(stage, self._plain_silence_s), self._plain_silence_s
        if for_ns <= quick_s * 1e9:
            return ""
        if starving(pid):
            quick_s = max(plain_s, _STARVING_S) if stage in _ORDINARY else plain_s
        return f"{words} for {quick_s:.3g} s: killed" if for_ns > quick_s * 1e9 else ""

    def _frame_limit_s(self, stage: str, hang_timeout_s: float, busy_for_ns: int) -> float:
        if not self._quick_ns or busy_for_ns <= self._quick_ns:
            return hang_timeout_s
        usual_ns = self._board.histogram(f"{stage}.service").percentile_ns(99)
        if usual_ns is None:
            return hang_timeout_s
        return min(hang_timeout_s, max(self._quick_ns, _USUAL_FACTOR * usual_ns) / 1e9)

    def too_large(self, stage: str, pid: int, now_ns: int) -> str:
        """Why the memory of ``stage`` is too much; looked at twice a second."""
        if not self._limit_mib or now_ns - self._looked_ns.get(stage, 0) < _MEMORY_INTERVAL_NS:
            return ""
        self._looked_ns[stage] = now_ns
        used_mib = own_memory_mib(pid)
        if used_mib <= self._limit_mib:
            return ""
        return f"memory: {used_mib} MiB, more than {self._limit_mib} (supervisor.memory_limit_mib): killed"


def starving(pid: int) -> bool:
    """Whether a thread of the process runs or waits for a core; a stopped one does not, nor one that waits for else."""
    try:
        return any(_state(task) == "R" for task in Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return False


def _state(task: Path) -> str:
    return (task / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]


def own_memory_mib(pid: int) -> int:
    """Memory of a process that it shares with nobody (rings are shared), in MiB; 0 where the system does not tell."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE") // _MIB


def machine_memory_mib() -> int:
    """Memory of this machine, or what its control group leaves us of it, in MiB."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in _CGROUP_LIMITS:
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        limits += [int(text)] if text.isdigit() else []
    return min(limits) // _MIB
