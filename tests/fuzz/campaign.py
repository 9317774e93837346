"""Plays many damaged streams in player processes, and says what became of each: none may crash, hang or get lost.

Separate from the command (``fuzz_sources.py``) so that tests run the same with fewer streams. It holds no test.
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from .corpus import FILES, KINDS, Sample, samples
from .mutation import mutated

HANG_S = 60.0
"""No stream may take longer; the slowest takes four seconds on an idle machine."""
WARM_SHARE = 0.2
"""Of a player's streams, until its memory is looked at: decoders and caches fill first."""
LONG_ENOUGH = 200
"""Streams that a player must have played for its memory to say anything."""
GROWTH_BYTES = 4 << 20
"""What its own memory may differ by afterwards; a leak of one 96 × 64 picture a stream would be 7 MiB in 400."""
BAD = ("crash", "hang", "unexpected")
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Verdict:
    """What became of one stream.

    ``outcome``: ``played`` (to its end), the class of error that a user would get in one line, ``unexpected`` (an
    exception that is none of ours), ``crash`` (the process died) or ``hang``. ``harmless``: a file's pictures
    are all as they were. ``silent``: its pictures are not, and nothing was counted or said.
    """

    kind: str
    number: int
    damage: tuple[str, ...]
    outcome: str
    answer: dict[str, Any] = field(default_factory=dict)
    harmless: bool = False
    silent: bool = False


class Player:
    """A player process, started anew when it dies or has to be killed."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._environment = {**os.environ, **environment, "V4L2_EMULATOR_JPEG": str(folder / "pictures.jpg")}
        self._stderr = (folder / "stderr").open("w+b")
        self._process = self._start()
        self.memory: list[list[int]] = [[]]
        self.last: dict[str, Any] = {}

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "tests.fuzz.player"]
        environment = {**self._environment, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment,
        )

    def play(self, kind: str, path: Path) -> dict[str, Any]:
        """How playing ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"kind": kind, "path": str(path)}).encode() + b"\n")
        self._process.stdin.flush()
        readable, _, _ = select.select([self._process.stdout], [], [], HANG_S)
        line = self._process.stdout.readline() if readable else b""
        if line:
            self.last = json.loads(line)
            self.memory[-1].append(self.last["own_bytes"])
            return self.last
        outcome = "crash" if readable else "hang"
        self._process.kill()
        code = self._process.wait(HANG_S)
        self._close_pipes()
        self._process = self._start()
        self.memory.append([])
        words = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return {"outcome": outcome, "message": words if readable else f"nothing for {HANG_S:g} s"}

    def close(self) -> bytes:
        """End it; what it wrote on stderr."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(HANG_S)
        self._close_pipes()
        self._stderr.seek(0)
        said = self._stderr.read()
        self._stderr.close()
        return said

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


@dataclass
class Campaign:
    """Verdicts over all streams, and what the player processes were left with."""

    verdicts: list[Verdict]
    memory: list[list[int]]
    threads: list[int]
    said: bytes

    def counts(self) -> dict[str, Counter[str]]:
        """Outcomes by kind."""
        table: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
        for verdict in self.verdicts:
            table[verdict.kind][verdict.outcome] += 1
            table[verdict.kind]["pictures"] += verdict.answer.get("pictures", 0)
            table[verdict.kind]["harmless"] += verdict.harmless
            table[verdict.kind]["silent"] += verdict.silent
        return table

    def growth_bytes(self) -> list[tuple[int, int, int]]:
        """For each player that lived long enough: streams, its own memory when warm, and at its end (medians)."""
        found = []
        for series in self.memory:
            if len(series) >= LONG_ENOUGH:
                warm, fifth = int(len(series) * WARM_SHARE), max(1, len(series) // 5)
                found.append((len(series), _median(series[warm : warm + fifth]), _median(series[-fifth:])))
        return found

    def failures(self) -> list[str]:
        """What must not be, a line each."""
        bad = [v for v in self.verdicts if v.outcome in BAD]
        lines = [
            f"{v.kind} {v.number} ({', '.join(v.damage)}): {v.outcome}, {v.answer['message']}" for v in bad
        ]
        lines += [
            f"memory grew from {warm >> 20} to {end >> 20} MiB over {count} streams"
            for count, warm, end in self.growth_bytes()
            if end - warm > GROWTH_BYTES
        ]
        lines += [f"the players said: {self.said[:500]!r}"] if self.said else []
        return lines


def _median(values: list[int]) -> int:
    return sorted(values)[len(values) // 2]


def run(
    folder: Path, environment: dict[str, str], streams: int, seed: int, players: int, kinds: tuple[str, ...]
) -> Campaign:
    """Play ``streams`` damaged streams; those that must not be as they were are kept in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    made = samples(folder)
    jobs: Queue[tuple[str, int]] = Queue()
    for number in range(streams):
        jobs.put((kinds[number % len(kinds)], seed * 1_000_000 + number // len(kinds)))
    crews = [_Crew(folder / f"player{index}", environment, made, jobs) for index in range(players)]
    for crew in crews:
        crew.start()
    for crew in crews:
        crew.join()
    verdicts = sorted((v for crew in crews for v in crew.verdicts), key=lambda v: (v.kind, v.number))
    memory = [series for crew in crews for series in crew.player.memory]
    threads = [crew.player.last.get("threads", 0) for crew in crews]
    return Campaign(verdicts, memory, threads, b"".join(crew.said for crew in crews))


class _Crew(threading.Thread):
    """Feeds one player."""

    def __init__(
        self,
        folder: Path,
        environment: dict[str, str],
        made: dict[str, Sample],
        jobs: "Queue[tuple[str, int]]",
    ) -> None:
        super().__init__(daemon=True)
        folder.mkdir(exist_ok=True)
        self._folder, self._made, self._jobs = folder, made, jobs
        self.player = Player(folder, environment)
        self.verdicts: list[Verdict] = []
        self.said = b""

    def run(self) -> None:
        whole = {kind: self._play(kind, self._made[kind].data) for kind in FILES}
        for kind, number in self._next():
            data, damage = mutated(self._made[kind], number)
            answer = self._play(kind, data)
            verdict = Verdict(kind, number, damage, answer["outcome"], answer)
            if kind in FILES and verdict.outcome not in BAD:
                same = all(answer[key] == whole[kind][key] for key in ("pictures", "crc32"))
                verdict.harmless = same
                verdict.silent = not (same or answer["faults"] or answer["message"])
            if verdict.outcome in BAD or verdict.silent:
                self._folder.with_name(f"{kind}-{number}.{kind}").write_bytes(data)
            self.verdicts.append(verdict)
        self.said = self.player.close()

    def _next(self) -> Iterator[tuple[str, int]]:
        while True:
            try:
                yield self._jobs.get_nowait()
            except Empty:
                return

    def _play(self, kind: str, data: bytes) -> dict[str, Any]:
        path = self._folder / f"stream.{kind}"
        path.write_bytes(data)
        return self.player.play(kind, path)
