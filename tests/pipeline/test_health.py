"""When a stage counts as hung or too large, by the board alone."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from endostream.pipeline import health
from endostream.pipeline.health import Health, machine_memory_mib, own_memory_mib, starving

from .core_fixtures import config_of, new_board, until

SECOND_NS = 1_000_000_000
MS_NS = 1_000_000


def reason_after(busy_s: float, usual_ms: int, *, live: bool = True, samples: int = 100) -> str:
    """What is said of infer at work on one frame for ``busy_s``, when a frame usually takes ``usual_ms``."""
    board = new_board()
    for _ in range(samples):
        board.histogram("infer.service").record(usual_ms * MS_NS)
    board.cell("infer.busy_since_ns").value = SECOND_NS
    return Health(board, config_of(), live).hung("infer", 0, 5.0, 0, SECOND_NS + int(busy_s * SECOND_NS))


def reason_in_state(
    monkeypatch: pytest.MonkeyPatch, starves: bool, stage: str, silent_s: float, busy_s: float = 0.0
) -> str:
    """What is said of a stage whose process waits for a core (or does not), silent or at a frame for so long."""
    monkeypatch.setattr(health, "starving", lambda pid: starves)
    board = new_board()
    for _ in range(100):
        board.histogram(f"{stage}.service").record(30 * MS_NS)
    now_ns = 100 * SECOND_NS
    board.cell(f"{stage}.heartbeat_ns").value = now_ns - int(silent_s * SECOND_NS)
    if busy_s:
        board.cell(f"{stage}.busy_since_ns").value = now_ns - int(busy_s * SECOND_NS)
    return Health(board, config_of(), live=True).hung(stage, 1, 5.0, 0, now_ns)


@pytest.mark.parametrize(
    ("busy_s", "usual_ms", "reason"),
    [
        (1.0, 30, ""),
        (1.01, 30, "hung for 1 s: killed"),
        (3.9, 200, ""),
        (4.1, 200, "hung for 4 s: killed"),
        (4.9, 2000, ""),
        (5.01, 2000, "hung for 5 s: killed"),
    ],
)
def test_live_a_frame_may_take_twenty_times_the_usual_within_bounds(
    busy_s: float, usual_ms: int, reason: str
) -> None:
    assert reason_after(busy_s, usual_ms) == reason


def test_before_anything_was_measured_only_the_plain_limit_counts() -> None:
    assert reason_after(4.9, 0, samples=0) == ""
    assert reason_after(5.1, 0, samples=0) == "hung for 5 s: killed"


def test_in_every_frame_mode_only_the_plain_limit_counts() -> None:
    assert reason_after(4.9, 30, live=False) == ""
    assert reason_after(5.1, 30, live=False) == "hung for 5 s: killed"


@pytest.mark.parametrize(
    ("stage", "silent_s", "reason"),
    [
        ("infer", 4.9, ""),
        ("infer", 5.1, "no sign of life for 5 s: killed"),
        ("record", 4.9, ""),
        ("overlay", 1.9, ""),
        ("overlay", 2.1, "no sign of life for 2 s: killed"),
    ],
)
def test_a_stage_that_waits_for_a_core_is_given_more_time(
    monkeypatch: pytest.MonkeyPatch, stage: str, silent_s: float, reason: str
) -> None:
    # On a crowded machine preprocess was killed for its silence again and again, and each start cost more still.
    assert reason_in_state(monkeypatch, True, stage, silent_s) == reason
    assert reason_in_state(monkeypatch, False, stage, silent_s) != ""


def test_a_frame_at_which_a_stage_waits_for_a_core_may_take_the_plain_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert reason_in_state(monkeypatch, True, "infer", 4.9, busy_s=4.9) == ""
    assert reason_in_state(monkeypatch, True, "infer", 5.1, busy_s=5.1) == "hung for 5 s: killed"
    assert reason_in_state(monkeypatch, False, "infer", 1.1, busy_s=1.1) == "hung for 1 s: killed"


def test_a_running_process_may_starve_and_a_stopped_or_sleeping_one_does_not() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE
    ) as spins:
        assert spins.stdout is not None
        spins.stdout.readline()
        assert starving(spins.pid)
        os.kill(spins.pid, signal.SIGSTOP)
        os.waitpid(spins.pid, os.WUNTRACED)
        assert not starving(spins.pid)
        spins.kill()
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as waits:
        assert waits.stdout is not None
        waits.stdout.readline()
        until(lambda: not starving(waits.pid), what="a process that waits for input sleeps")
        waits.communicate(b"\n", timeout=10)
    assert not starving(2**22 + 1)  # no such process


def test_memory_is_what_a_process_shares_with_nobody() -> None:
    before_mib = own_memory_mib(os.getpid())
    block = bytearray(64 << 20)
    block[::4096] = b"1" * (len(block) // 4096)
    assert 60 <= own_memory_mib(os.getpid()) - before_mib <= 80
    assert own_memory_mib(2**22 + 1) == 0  # no such process


def test_a_control_group_can_leave_us_less_than_the_machine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_mib = machine_memory_mib()
    for text, expected in (("max\n", whole_mib), (f"{64 << 20}\n", 64)):
        (tmp_path / "limit").write_text(text)
        monkeypatch.setattr(health, "_CGROUP_LIMITS", (str(tmp_path / "limit"),))
        assert machine_memory_mib() == expected


def test_stages_in_threads_share_one_memory_and_are_not_judged_by_it() -> None:
    config = config_of(supervisor={"launcher": "threads", "memory_limit_mib": 64})
    assert Health(new_board(), config, True).too_large("infer", os.getpid(), SECOND_NS) == ""
