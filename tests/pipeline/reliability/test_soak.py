"""The soak: what is sampled, what counts as growth, which faults are in the turn, and a short one for real."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from endostream.configs.errors import ConfigError
from endostream.pipeline.reliability import soak as soak_module
from endostream.pipeline.reliability import soak_plot
from endostream.pipeline.reliability.faults import FaultsRequest, faults_command
from endostream.pipeline.reliability.soak import Soak, cells_in_turn, judge
from endostream.pipeline.reliability.soak_growth import Growth, grown, growths, slope
from endostream.pipeline.reliability.soak_plot import check_plot, plot_soak
from endostream.pipeline.reliability.soak_sample import Holdings, Sample, holdings, take_sample
from endostream.pipeline.report import FrameCounts, Report

from ..end_to_end import HERE, QUICK, small_video


def held(own_mib: float = 100.0, handles: int = 20) -> Holdings:
    return Holdings(own_mib, 200.0, 120.0, handles, 4, 2, 3)


def sample(at_s: float, infer: Holdings, quiet: bool = True) -> Sample:
    return Sample(at_s, quiet, {"supervisor": held(), "infer": infer}, 5)


def test_a_straight_line_has_its_slope_and_one_wild_value_does_not_matter() -> None:
    times = [5.0 * number for number in range(20)]
    assert slope(times, [2.0 * at_s for at_s in times]) == pytest.approx(2.0)
    assert slope(times, [*(2.0 * at_s for at_s in times[:-1]), 10_000.0]) == pytest.approx(2.0)
    assert slope(times, [7.0] * 20) == 0.0


def test_more_samples_than_can_be_compared_are_thinned() -> None:
    times = [float(number) for number in range(5000)]
    assert slope(times, times) == pytest.approx(1.0)


def test_steady_memory_and_handles_do_not_grow() -> None:
    noisy = [sample(5.0 * number, held(100 + number % 3)) for number in range(100)]
    assert grown(growths(noisy)) == []


def test_a_leak_of_one_stage_shows_in_it_and_in_the_whole() -> None:
    leaking = [sample(5.0 * number, held(100 + 0.4 * number, 20)) for number in range(100)]
    assert [growth.what for growth in grown(growths(leaking))] == [
        "own memory, MiB",
        "own memory of infer, MiB",
    ]
    growth = grown(growths(leaking))[1]
    assert (growth.rise, growth.allowed) == (pytest.approx(39.6), 16.0)


def test_handles_that_are_left_open_show() -> None:
    leaking = [sample(5.0 * number, held(handles=20 + number // 30)) for number in range(100)]
    assert [growth.what for growth in grown(growths(leaking))] == ["file handles"]


def test_samples_without_all_processes_are_left_out_and_too_few_give_no_verdict() -> None:
    samples = [sample(5.0 * number, held()) for number in range(10)]
    half = [Sample(2.0, True, {"supervisor": held(5000.0)}, 5)]
    assert growths([*samples, *half]) == growths(samples)
    assert growths(samples[:2]) == []
    assert growths([]) == []


def test_a_process_is_read_as_the_system_sees_it() -> None:
    code = "import os, sys, socket, mmap; b = b'1' * (50 << 20); s = socket.socket(); m = os.memfd_create('ring'); "
    code += "print('ready', flush=True); sys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        found = holdings(psutil.Process(process.pid))
        assert 50 <= found.own_mib <= 70
        assert found.rss_mib >= found.own_mib
        assert (found.memfds, found.sockets, found.threads) == (1, 1, 1)
        assert found.handles == len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
    finally:
        process.kill()
        process.communicate(timeout=10)


def test_a_sample_is_of_this_process_and_of_stages_only() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        found = take_sample(1.23, quiet=True)
        other.communicate(b"\n", timeout=10)
    assert (found.at_s, found.quiet, list(found.processes)) == (1.2, True, ["supervisor"])


def test_faults_take_turns_and_none_ends_a_recording_for_good() -> None:
    names = [cell.name for cell in cells_in_turn()]
    assert names[:7] == [
        "preprocess kill",
        "infer kill",
        "overlay kill",
        "source kill",
        "recorder kill",
        "preprocess stop",
        "infer stop",
    ]
    assert not {"recorder exception", "recorder memory", "recorder disk-full"} & set(names)
    assert len(names) == len(set(names)) == 36


def report(**more: object) -> Report:
    fields: dict[str, object] = {
        "status": "done",
        "exit_code": 0,
        "mode": "live",
        "segmenter": "quick",
        "runtime": "numpy",
        "presenting_sink": "null",
        "duration_s": 60.0,
        "frames": FrameCounts(captured=10, presented=10),
    }
    return Report(**{**fields, **more})  # type: ignore[arg-type]


def test_only_quiet_samples_are_judged() -> None:
    soak = Soak("phantom:", 30, "endostream faults --soak 30", {})
    soak.samples = [sample(5.0 * number, held()) for number in range(20)]
    soak.samples += [sample(100 + 5.0 * number, held(9000.0 + number), quiet=False) for number in range(20)]
    judge(soak, report())
    assert soak.broken == []
    assert soak.run["captured"] == 10


def test_growth_an_open_ledger_and_a_short_soak_are_told() -> None:
    soak = Soak("phantom:", 30, "", {})
    soak.samples = [sample(5.0 * number, held(100 + 10 * number)) for number in range(20)]
    frames = FrameCounts(captured=10, presented=9, ledger_closed=False)
    judge(soak, report(frames=frames, exit_code=5))
    assert soak.broken == [
        "own memory, MiB grew by 190.0",
        "own memory of infer, MiB grew by 190.0",
        "ledger not closed",
        "exit code 5 instead of 0",
    ]
    short = Soak("phantom:", 1, "", {})
    judge(short, report())
    assert short.broken == ["too short for a verdict: no quiet samples after two minutes"]


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    soak = Soak("phantom:", 30, "", {}, faults=[(60.0, "infer kill")])
    soak.samples = [sample(5.0 * number, held()) for number in range(20)]
    soak.growth = [Growth("x", 1, 1, 1, 0, 1)]
    plot_soak(soak, tmp_path / "soak.png")
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_without_matplotlib_is_refused_before_the_soak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak_plot, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="matplotlib is not installed"):
        check_plot(Path("soak.png"))


def test_a_short_soak_with_real_faults_ends_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    for name, value_s in (("SAMPLE_NS", 0.5), ("FAULT_NS", 2.0), ("WARM_UP_NS", 0.1), ("_SETTLING_NS", 0.1)):
        monkeypatch.setattr(soak_module, name, int(value_s * 1e9))
    request = FaultsRequest(
        source=str(small_video(tmp_path)),
        settings=(f"infer.segmenter={QUICK}",),
        soak_minutes=7 / 60,
        report=tmp_path / "soak.json",
        json=True,
    )
    faults_command(request)
    said = json.loads((tmp_path / "soak.json").read_text())
    assert said == json.loads(capsys.readouterr().out)
    assert [name for _, name in said["faults"]] == ["preprocess kill", "infer kill", "overlay kill"]
    assert said["run"]["ledger_closed"] is True
    assert said["run"]["exit_code"] == 0
    assert {name for name, count in said["run"]["restarts"].items() if count} <= {
        "preprocess",
        "infer",
        "overlay",
    }
    assert {"supervisor", "capture", "infer", "overlay", "preprocess", "record"} in [
        set(one["processes"]) for one in said["samples"]
    ]
