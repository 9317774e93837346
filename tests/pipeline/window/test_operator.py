"""What comes of the requests from the window: what the supervisor is told, what is logged, which pictures are kept."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from endostream.pipeline.frame import SizeHW
from endostream.pipeline.handover import RecordingState
from endostream.pipeline.window.operator import Operator
from endostream.pipeline.window.window_sink import WindowRequest

from ..core_fixtures import HostRig, clock_of, config_of, host_rig, solid, zmq_context
from .x_display import wait_until


class FakeWindow:
    """Hands out what a test puts in, and keeps what it is told."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.asked: list[WindowRequest] = []
        self.noted: list[tuple[str, str]] = []
        self.told: list[tuple[bool, str]] = []
        self.said: list[str] = []
        self.sizes: list[SizeHW] = []
        self.missed = 0
        self.lost_because = ""

    def fileno(self) -> int:
        return self._fd

    def service(self) -> None: ...

    def take_requests(self) -> list[WindowRequest]:
        taken, self.asked = self.asked, []
        return taken

    def take_notes(self) -> list[tuple[str, str]]:
        taken, self.noted = self.noted, []
        return taken

    def tell_recording(self, on: bool, reason: str) -> None:
        self.told.append((on, reason))

    def say(self, text: str) -> None:
        self.said.append(text)

    def expect(self, size_hw: SizeHW) -> None:
        self.sizes.append(size_hw)


class OperatorRig:
    """An operator at work, with all that is around it."""

    def __init__(self, rig: HostRig) -> None:
        self.rig = rig
        self.window = FakeWindow(rig.ours.fileno())
        self.recording = RecordingState()
        self.wanted: list[bool] = []
        window: Any = self.window
        self.operator = Operator(rig.host, window, self.wanted.append, lambda: self.recording)

    def ask(self, what: str, key: str, words: str = "") -> None:
        self.window.asked.append(WindowRequest(what, key, words or what))
        self.operator.service()

    @property
    def logged(self) -> list[tuple[str, str]]:
        return [(message["level"], message["message"]) for message in self.rig.said("log")]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[OperatorRig]:
    config = config_of(window={"snapshot_folder": str(tmp_path / "shots")})
    with zmq_context() as context, host_rig("overlay", context, config=config) as host:
        rig = OperatorRig(host)
        yield rig
        rig.operator.close()


def keep(rig: OperatorRig, overlay: int, raw: int | None) -> None:
    def copy_raw(out: Any) -> bool:
        out[:] = raw or 0
        return raw is not None

    rig.operator.keep_picture(solid(overlay), copy_raw)


def test_quit_is_told_to_the_supervisor_and_logged(rig: OperatorRig) -> None:
    rig.ask("quit", "escape")
    assert rig.rig.said("quit") == [{"t": "quit"}]
    assert rig.logged == [("info", "window: quit (key escape)")]


def test_another_view_is_logged_and_changes_nothing(rig: OperatorRig) -> None:
    rig.ask("view", "o", "marks off")
    assert rig.logged == [("info", "window: marks off (key o)")]
    assert rig.rig.said("quit") == [] and rig.wanted == []


def test_the_record_key_asks_for_the_opposite_of_what_is(rig: OperatorRig) -> None:
    rig.ask("record", "r")
    rig.recording = RecordingState(True, "recordings/x")
    rig.ask("record", "r")
    assert rig.wanted == [True, False]
    assert [text for _, text in rig.logged] == [
        "window: recording on (key r)",
        "window: recording off (key r)",
    ]


def test_what_becomes_of_the_recording_is_shown_once(rig: OperatorRig) -> None:
    for state in (
        RecordingState(True, "x"),
        RecordingState(True, "x"),
        RecordingState(False, "x", "disk full"),
    ):
        rig.recording = state
        rig.operator.service()
    assert rig.window.told == [(True, ""), (False, "disk full")]


def test_a_snapshot_is_of_the_next_picture_and_of_that_alone(rig: OperatorRig, tmp_path: Path) -> None:
    rig.operator.expect((4, 6))
    wait_until(lambda: not rig.operator._snapshots._free.empty(), "memory")
    keep(rig, 1, 2)
    rig.ask("snapshot", "s")
    keep(rig, 3, 4)
    keep(rig, 5, 6)
    wait_until(lambda: (rig.operator.service(), bool(rig.window.said))[1], "what became of it")
    kept = {path.name.rpartition("-")[2]: cv2.imread(str(path)) for path in (tmp_path / "shots").iterdir()}
    assert set(kept) == {"overlay.png", "raw.png"}
    np.testing.assert_array_equal(kept["overlay.png"], solid(3))
    np.testing.assert_array_equal(kept["raw.png"], solid(4))
    assert rig.window.said[0].startswith(f"snapshot: {tmp_path}/shots/")
    assert rig.window.sizes == [(4, 6)]


def test_a_snapshot_waits_for_a_picture_a_second_and_says_that_none_came(
    rig: OperatorRig, tmp_path: Path
) -> None:
    rig.ask("snapshot", "s")
    clock_of(rig.rig.host).advance_ns(1_000_000_001)
    rig.operator.service()
    keep(rig, 1, 2)
    assert rig.window.said == ["no snapshot: no picture came"]
    assert not (tmp_path / "shots").exists()


def test_notes_of_the_window_are_logged_at_their_level(rig: OperatorRig) -> None:
    rig.window.noted = [("error", "window: gone"), ("info", "window: is back after 3.0 s")]
    rig.operator.service()
    assert rig.logged == [("error", "window: gone"), ("info", "window: is back after 3.0 s")]


def test_a_window_that_is_away_at_the_end_is_a_failed_sink(rig: OperatorRig) -> None:
    rig.window.missed, rig.window.lost_because = 40, "the display is gone"
    rig.operator.close()
    message = "window: not there at the end of the run: the display is gone"
    assert rig.rig.said("sink_failed") == [{"t": "sink_failed", "sink": "window", "message": message}]
    assert rig.logged == [("info", "window: 40 pictures were not shown")]
