"""Damaged streams through the whole command: many files in one replay, and live sources that turn to nonsense and back.

Separate from ``campaign.py``, which plays them through the sources alone. Each function makes one run, checks what
every run must keep, and returns its report. It holds no test.
"""

import shlex
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..pipeline.end_to_end import Run
from ..pipeline.sources.live_rig import HERE, LiveRun, Sender, free_port
from .corpus import FILES, Sample
from .mutation import mutated

_DATAGRAM = 7 * 188
SHORT = ("--set", "live.silence_s=0.5", "--set", "live.open_timeout_s=2", "--set", "live.backoff_max_s=0.1")


def replay_damaged_files(folder: Path, made: dict[str, Sample], number: int, seed: int) -> dict[str, Any]:
    """``number`` files in one run, every frame; one source each in the report, none of which was passed over."""
    paths = []
    for index in range(number):
        kind = FILES[index % len(FILES)]
        paths.append(folder / f"{index:04d}.{kind}")
        paths[-1].write_bytes(mutated(made[kind], seed + index)[0])
    with Run(folder, *paths, "--speed", "fastest", log=False) as run:
        ended = run.end(patience_s=60 + 2.0 * number)
    report = ended.report
    # 0, or 3 if a file holds nothing that can be played.
    assert ended.code in (0, 3), ended.stderr
    assert report["frames"]["ledger_closed"]
    assert report["frames"]["captured"] == report["frames"]["presented"]
    assert {stage["restarts"] for stage in report["stages"].values()} == {0}, ended.stderr
    assert {source["status"] for source in report["sources"]} <= {"done", "missing", "lost"}
    for source in report["sources"]:
        assert source["status"] != "done" or source["captured"] > 0
    return report


def watch_damaged_pipes(folder: Path, sample: Sample, number: int, seed: int) -> dict[str, Any]:
    """A command that gives another damaged stream each time it is started, and a sound one in the end."""
    streams = folder / "streams"
    streams.mkdir()
    (streams / "0").write_bytes(sample.data)  # what is wrong at the very start ends a run
    for index in range(1, number + 1):
        (streams / str(index)).write_bytes(mutated(sample, seed + index)[0])
    sender = f"{shlex.quote(sys.executable)} {shlex.quote(str(HERE / 'pattern_sender.py'))} y4m"
    command = (
        f"n=$(cat {folder}/n 2>/dev/null || echo 0); echo $((n + 1)) > {folder}/n; "
        f"if [ -e {streams}/$n ]; then cat {streams}/$n; else exec {sender}; fi"
    )
    with LiveRun(folder, f"pipe:{command}", *SHORT) as run:
        run.wait_for(lambda: int("0" + _text(folder / "n")) > number + 1, "the sound stream")
        run.wait_for_pictures(10)
        run.interrupt()
        report = run.end()
    assert report["exit_code"] == 130
    assert report["stages"]["capture"]["restarts"] == 0, report["stderr"]
    # Every stream ends, and each end is counted; those that never began a picture are one loss with the one before.
    faults = report["sources"][0]["faults"]
    assert 1 <= faults["signal_lost"] <= number + 1
    assert faults["signal_lost"] == faults["reconnects"], (faults, report["stderr"])
    return report


def watch_damaged_datagrams(folder: Path, sample: Sample, number: int, seed: int) -> dict[str, Any]:
    """One UDP feed that carries one damaged stream after another, and a sound one in the end."""
    port = free_port()
    with LiveRun(folder, f"udp://127.0.0.1:{port}", *SHORT) as run:
        with Sender(f"udp://127.0.0.1:{port}?pkt_size=1316"):
            run.wait_for_pictures(5)
        _send([mutated(sample, seed + index)[0] for index in range(number)], port)
        with Sender(f"udp://127.0.0.1:{port}?pkt_size=1316"):
            run.wait_for_pictures(20)
            run.interrupt()
            report = run.end()
    assert report["exit_code"] == 130
    assert report["stages"]["capture"]["restarts"] == 0, report["stderr"]
    return report


def _send(streams: Sequence[bytes], port: int) -> None:
    pause = threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for data in streams:
            for begin in range(0, len(data), _DATAGRAM):
                sender.sendto(data[begin : begin + _DATAGRAM], ("127.0.0.1", port))
                pause.wait(0.002)


def _text(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""
