"""Runs commands as their users do, as processes of their own, and watches what the stages cost meanwhile.

Separate because four benchmarks run the whole pipeline. Times are taken from outside, on the machine's monotonic clock,
which is the one that endostream stamps frames with.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ENDOSTREAM = Path(sys.executable).with_name("endostream")
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


CORES = 2


def hold_to_cores(count: int = CORES) -> None:
    """Hold this process, and all that it starts, to so many cores, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


@dataclass(slots=True)
class Run:
    """What a command took.

    Attributes:
        wall_s: from just before it was started to its end.
        cpu_s: user and system time of it and of all processes it waited for.
        output: what it wrote to stdout.
        report: of endostream, where one was asked for.
        frames: lines of the JSON-lines sink, where one was asked for.
        started_ns: monotonic, just before it was started.
    """

    wall_s: float
    cpu_s: float
    output: str
    started_ns: int
    report: dict[str, Any] = field(default_factory=dict)
    frames: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process of the pipeline has used at ``at_s`` (monotonic seconds): CPU seconds, memory in MiB."""

    at_s: float
    cpu_s: float
    uss_mib: float
    pss_mib: float
    rss_mib: float


Watch = Callable[[int], None]
"""Called again and again while a command runs, with its process id."""


def run(
    command: Sequence[str | Path], watch: Watch | None = None, interval_s: float = 0.5, code: int = 0
) -> Run:
    """Run ``command`` to its end; RuntimeError unless it ends with ``code``."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        started_ns = time.monotonic_ns()
        process = subprocess.Popen([str(part) for part in command], stdout=output, stderr=errors)
        try:
            status, usage = _wait(process.pid, watch, interval_s)
        except BaseException:
            process.kill()
            raise
        ended_ns = time.monotonic_ns()
        process.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not wait for it again
        output.seek(0)
        errors.seek(0)
        if process.returncode != code:
            words = " ".join(str(part) for part in command)
            raise RuntimeError(
                f"{words}: ended with {process.returncode}; expected {code}\n{errors.read()[-2000:]}"
            )
        cpu_s = usage.ru_utime + usage.ru_stime
        return Run((ended_ns - started_ns) / 1e9, cpu_s, output.read(), started_ns)


def _wait(pid: int, watch: Watch | None, interval_s: float) -> tuple[int, Any]:
    while watch is not None:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            return status, usage
        watch(pid)
        time.sleep(interval_s)
    _, status, usage = os.wait4(pid, 0)
    return status, usage


def endostream(
    *arguments: str, jsonl: bool = False, watch: Watch | None = None, interval_s: float = 0.5, code: int = 0
) -> Run:
    """Run ``endostream`` with these arguments, quietly and with a report."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        report, lines = Path(folder, "report.json"), Path(folder, "frames.jsonl")
        command = [ENDOSTREAM, *arguments, "--quiet", "--report", report]
        if jsonl:
            command += ["--sink", f"jsonl:{lines}"]
        done = run(command, watch, interval_s, code)
        done.report = json.loads(report.read_text(encoding="utf-8"))
        if jsonl:
            done.frames = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
        return done


class CostWatch:
    """Notes what each process of a running pipeline has used, by stage; the supervisor's own is ``supervisor``.

    Reading memory walks a process's page tables, a millisecond or two, and is left out unless asked for.
    """

    def __init__(self, memory: bool = False) -> None:
        self.costs: dict[str, list[Cost]] = {}
        self._memory = memory
        self._processes: dict[int, tuple[str, psutil.Process]] = {}

    def __call__(self, pid: int) -> None:
        """Take one sample of all processes."""
        for stage, process in self._stages(pid):
            try:
                self.costs.setdefault(stage, []).append(_cost(process, self._memory))
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue

    def _stages(self, pid: int) -> Iterator[tuple[str, psutil.Process]]:
        try:
            supervisor = psutil.Process(pid)
            children = supervisor.children()
        except psutil.NoSuchProcess:
            return
        yield "supervisor", supervisor
        for child in children:
            if child.pid not in self._processes:
                try:
                    command = child.cmdline()
                except psutil.NoSuchProcess:
                    continue
                if "endostream.pipeline.worker" not in command:
                    continue
                stage = command[command.index("endostream.pipeline.worker") + 1]
                self._processes[child.pid] = (stage, child)
            yield self._processes[child.pid]


def _cost(process: psutil.Process, memory: bool) -> Cost:
    times = process.cpu_times()
    at_s, cpu_s = time.monotonic(), times.user + times.system
    if not memory:
        return Cost(at_s, cpu_s, 0.0, 0.0, 0.0)
    full = process.memory_full_info()
    return Cost(at_s, cpu_s, full.uss / 2**20, full.pss / 2**20, full.rss / 2**20)


def cpu_share(costs: Sequence[Cost], begin_s: float, end_s: float) -> float:
    """Of one core, used between two moments (monotonic seconds), 0 to the number of cores."""
    inside = [cost for cost in costs if begin_s <= cost.at_s <= end_s]
    if len(inside) < 2:
        raise ValueError(
            f"samples: {len(inside)} in {end_s - begin_s:.1f} s; expected 2 or more. Try: a longer run"
        )
    return (inside[-1].cpu_s - inside[0].cpu_s) / (inside[-1].at_s - inside[0].at_s)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for output files that nobody keeps."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        yield Path(folder)
