"""``endostream live`` to recorded files: an emulated grabber, a screen, streams and commands, with faults injected."""

import os
import re
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import psutil
import pytest

from .live_rig import DEVICE, HERE, PATIENCE_S, Emulator, LiveRun, Sender, free_port, patterns_of
from .rtsp_server import PASSWORD, RtspServer

SENDER = f"{sys.executable} {HERE / 'pattern_sender.py'}"


def sound(run: dict[str, Any], folder: Path) -> list[int]:
    """Check what every run must show, and return the numbers in the recorded pictures."""
    frames, source = run["frames"], run["sources"][0]
    assert run["exit_code"] == 0, run["stderr"]
    assert frames["captured"] == frames["presented"] + sum(frames["dropped"].values())
    assert source["live"]
    assert all(sink["offered"] == frames["presented"] for sink in run["sinks"].values())
    written = run["sinks"][f"video:{folder / 'o.mkv'}"]
    numbers = [number for number, _ in patterns_of(folder / "o.mkv")]
    assert len(numbers) == written["written"]
    return numbers


def grows(numbers: list[int]) -> bool:
    return all(later > earlier for earlier, later in pairwise(numbers))


def events(run: dict[str, Any]) -> list[str]:
    """What was logged of the source, without the numbers that differ from run to run."""
    name = f"source: {run['sources'][0]['address']}; "
    said = [fault["what"].removeprefix(name) for fault in run["faults"] if fault["what"].startswith(name)]
    return [
        re.sub(r" after \d.*", "", word)
        for word in said
        if not word.startswith(("no picture came for", "its first picture"))
    ]


def test_a_grabber_is_recorded_in_order_with_the_drivers_times_until_its_duration_is_over(
    tmp_path: Path,
) -> None:
    device = Emulator(tmp_path)
    with LiveRun(tmp_path, DEVICE, "--duration", "2", **device.environment) as run:
        report = run.end()
        assert grows(sound(report, tmp_path))
        lines = [line for line in run.lines() if not line["synthetic"]]
    assert report["sources"][0]["status"] == "done"
    assert report["sources"][0]["pixel_format"] == "yuyv422"
    recorded = dict(patterns_of(tmp_path / "o.mkv"))
    captured_ms = {line["capture_ns"] // 1_000_000 & 0xFFFF_FFFF for line in lines}
    assert set(recorded.values()) <= captured_ms  # the driver's stamp is the time that the picture shows


def test_ffmpegs_reader_captures_from_the_same_grabber(tmp_path: Path) -> None:
    device = Emulator(tmp_path)
    options = ("--duration", "2", "--set", "live.reader=ffmpeg")
    with LiveRun(tmp_path, DEVICE, *options, **device.environment) as run:
        report = run.end()
    assert grows(sound(report, tmp_path))
    assert report["sources"][0]["codec"] == "rawvideo"


def test_an_unplugged_grabber_shows_no_signal_and_is_back_by_itself(tmp_path: Path) -> None:
    device = Emulator(tmp_path)
    with LiveRun(tmp_path, DEVICE, **device.environment) as run:
        run.wait_for_pictures(10)
        device.set(unplugged=1)
        run.wait_for_cards(3)
        device.set(unplugged=0)
        run.wait_for_pictures(10)
        run.interrupt()
        report = run.end()
    assert report["exit_code"] == 130
    assert grows([number for number, _ in patterns_of(tmp_path / "o.mkv")])
    assert events(report) == [
        "lost: the device is gone. It is tried again until it is back",
        "still lost: the device is not connected",
        "is back",
    ]
    faults = report["sources"][0]["faults"]
    assert (faults["signal_lost"], faults["reconnects"]) == (1, 1)
    assert faults["lost_at_source"] > 0
    assert all(sink["synthetic"] >= 3 for sink in report["sinks"].values())


def test_a_stuck_driver_is_opened_again_and_a_changed_signal_is_recorded_in_its_new_size(
    tmp_path: Path,
) -> None:
    device = Emulator(tmp_path, "YUYV:320x240@30,YUYV:640x480@30")
    with LiveRun(tmp_path, DEVICE, "--set", "live.silence_s=0.8", **device.environment) as run:
        run.wait_for_pictures(5)
        device.set(stalled=1)
        run.wait_for(lambda: "lost: no picture for 0.8 s" in run.stderr, "the loss")
        device.set(stalled=0)
        run.wait_for_pictures(5)
        device.set(size="640x480")
        run.wait_for(lambda: (tmp_path / "o.size2.mkv").exists(), "a recording of the new size")
        run.wait_for_pictures(5)
        run.interrupt()
        report = run.end()
    assert "lost: the signal has changed" in report["stderr"]
    assert report["sources"][0]["size_hw"] == [480, 640]
    assert report["sources"][0]["faults"]["size_change"] == 1
    assert grows([n for name in ("o.mkv", "o.size2.mkv") for n, _ in patterns_of(tmp_path / name)])


def test_a_grabber_without_a_signal_at_the_start_shows_so_and_begins_when_there_is_one(
    tmp_path: Path,
) -> None:
    device = Emulator(tmp_path, nosignal=1)
    with LiveRun(tmp_path, DEVICE, "--duration", "1", **device.environment) as run:
        run.wait_for(lambda: "lost: no signal at its input" in run.stderr, "the word of it")
        device.set(nosignal=0)
        report = run.end()
    assert sound(report, tmp_path)


def test_nothing_ever_coming_is_shown_as_such_and_ends_with_code_3(tmp_path: Path) -> None:
    address = f"udp://127.0.0.1:{free_port()}"
    options = ("--duration", "1", "--set", "live.open_timeout_s=5")
    with LiveRun(tmp_path, address, *options) as run:
        report = run.end()
    assert report["exit_code"] == 3
    assert report["frames"]["captured"] == 0
    assert report["frames"]["synthetic"] > 0
    assert "not one picture came in" in report["stderr"]


def test_a_source_that_stays_away_longer_than_allowed_ends_the_run_with_its_files_finished(
    tmp_path: Path,
) -> None:
    device = Emulator(tmp_path)
    with LiveRun(tmp_path, DEVICE, "--set", "live.give_up_s=1", **device.environment) as run:
        run.wait_for_pictures(5)
        device.set(unplugged=1)
        report = run.end()
    assert report["exit_code"] == 3
    assert report["sources"][0]["status"] == "lost"
    assert "given up after" in report["stderr"]
    assert len(patterns_of(tmp_path / "o.mkv")) >= 5


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"busy": 1}, "in use by another program"),
        ({"denied": 1}, "no permission to use it"),
        ({"output": 1}, "is not a capture device"),
        ({"unplugged": 1}, "the device is not connected"),
    ],
)
def test_a_device_that_cannot_be_used_is_one_line_and_code_3(
    tmp_path: Path, settings: dict[str, int], line: str
) -> None:
    device = Emulator(tmp_path, **settings)
    with LiveRun(tmp_path, DEVICE, **device.environment) as run:
        report = run.end()
    assert report["exit_code"] == 3
    assert line in report["stderr"]
    assert report["stderr"].count("\n") == 1


def test_a_killed_capture_goes_on_with_the_device_where_it_was(tmp_path: Path) -> None:
    device = Emulator(tmp_path)
    with LiveRun(tmp_path, DEVICE, **device.environment) as run:
        run.wait_for_pictures(10)
        os.kill(run.pid("capture"), signal.SIGKILL)
        run.wait_for(lambda: "is back after" in run.stderr, "its return")
        run.wait_for_pictures(10)
        run.interrupt()
        report = run.end()
        seqs = [line["seq"] for line in run.lines() if not line["synthetic"]]
        times = [line["time_s"] for line in run.lines() if not line["synthetic"]]
    assert report["stages"]["capture"]["restarts"] == 1
    assert grows(seqs)
    assert all(later > earlier for earlier, later in pairwise(times))


def test_a_stream_whose_sender_is_killed_is_back_with_the_next_one(tmp_path: Path) -> None:
    address = f"udp://127.0.0.1:{free_port()}"
    with LiveRun(tmp_path, address, "--set", "live.silence_s=1") as run:
        with Sender(f"{address}?pkt_size=1316") as sender:
            run.wait_for_pictures(20)
            sender.kill()
            run.wait_for_cards(2)
            run.wait_for(lambda: "; lost: " in run.stderr, "the loss")
        with Sender(f"{address}?pkt_size=1316"):
            run.wait_for_pictures(20)
            run.interrupt()
            report = run.end()
    assert report["exit_code"] == 130
    lost, back = events(report)[-2:]
    assert lost.startswith(("lost: no picture for 1 s", "lost: nothing came in time"))
    assert back == "is back"
    assert report["sources"][0]["codec"] == "h264"
    assert report["sources"][0]["faults"]["reconnects"] == 1
    assert len(patterns_of(tmp_path / "o.mkv")) >= 40


def test_an_rtsp_stream_behind_a_password_survives_a_lost_connection_and_tells_no_secret(
    tmp_path: Path,
) -> None:
    with RtspServer() as server, LiveRun(tmp_path, server.address, "--set", "live.silence_s=1") as run:
        run.wait_for_pictures(20)
        server.drop()
        run.wait_for(lambda: "is back after" in run.stderr, "its return")
        run.wait_for_pictures(20)
        run.interrupt()
        report = run.end()
        said = run.stderr + (tmp_path / "r.json").read_text()
    assert report["sources"][0]["address"] == f"rtsp://***@127.0.0.1:{server.port}/tower"
    assert events(report)[-1] == "is back"
    assert report["sources"][0]["faults"]["reconnects"] == 1
    assert len(patterns_of(tmp_path / "o.mkv")) >= 40
    assert PASSWORD not in said


def test_a_command_that_dies_is_started_again_and_none_is_left_at_the_end(tmp_path: Path) -> None:
    command = f"echo the tool says hello >&2; echo $$ >> {tmp_path}/pids; exec {SENDER} y4m"
    with LiveRun(tmp_path, f"pipe:{command}", "--set", "live.silence_s=1") as run:
        run.wait_for_pictures(10)
        os.kill(int((tmp_path / "pids").read_text()), signal.SIGKILL)
        run.wait_for(lambda: "is back after" in run.stderr, "its return")
        run.wait_for_pictures(10)
        run.interrupt()
        report = run.end()
    first, second = map(int, (tmp_path / "pids").read_text().split())
    assert report["exit_code"] == 130
    assert events(report)[-2:] == [
        "lost: the command was ended by signal 9. It is tried again until it is back",
        "is back",
    ]
    assert report["stderr"].splitlines().count("pipe: the tool says hello") == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in (first, second))


def test_a_command_ends_with_the_run_even_if_everything_is_killed(tmp_path: Path) -> None:
    stubborn = f"trap '' TERM INT HUP; sleep 1000 & echo $! > {tmp_path}/pid; {SENDER} y4m"
    with LiveRun(tmp_path, f"pipe:{stubborn}") as run:
        run.wait_for_pictures(5)
        pid = int((tmp_path / "pid").read_text())
        os.killpg(run.process.pid, signal.SIGKILL)
        run.process.wait(PATIENCE_S)
        if psutil.pid_exists(pid):
            psutil.Process(pid).wait(PATIENCE_S)


def test_a_screen_is_recorded(tmp_path: Path) -> None:
    server = shutil.which("Xvfb")
    if server is None:
        pytest.skip("no Xvfb for a screen to record")
    reading, writing = os.pipe()
    xvfb = subprocess.Popen(
        [server, "-displayfd", str(writing), "-screen", "0", "320x240x24", "-nolisten", "tcp"],
        pass_fds=[writing],
        stderr=subprocess.DEVNULL,
    )
    try:
        os.close(writing)
        display = os.read(reading, 16).decode().strip()
        options = ("--duration", "3", "--set", "live.fps=25")  # it may take a second to open
        with LiveRun(tmp_path, f"x11grab::{display}", *options) as run:
            run.wait_for_pictures(5)
            xvfb.kill()
            run.wait_for(lambda: "lost:" in run.stderr or run.process.poll() is not None, "the loss")
            report = run.end()
    finally:
        os.close(reading)
        xvfb.kill()
        xvfb.wait(PATIENCE_S)
    assert report["sources"][0]["size_hw"] == [240, 320]
    with av.open(str(tmp_path / "o.mkv")) as container:
        assert (
            next(container.decode(video=0)).to_ndarray(format="bgr24").max() == 0
        )  # an empty screen is black


def test_credentials_stand_in_no_output(tmp_path: Path) -> None:
    address = "rtsp://doctor:hunter2@127.0.0.1:9/tower?token=opensesame"
    with LiveRun(tmp_path, address, "--duration", "1") as run:
        report = run.end()
    said = run.stderr + (tmp_path / "r.json").read_text()
    assert report["exit_code"] == 3
    assert "rtsp://***@127.0.0.1:9/tower?token=***" in report["stderr"]
    assert not [
        secret
        for secret in ("doctor", "hunter2", "opensesame")
        if secret in said.replace("endostream doctor", "")
    ]
