"""Where a stage begins and what it has around it: its host, its process, and the whole pipeline as threads."""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
import pytest

from endostream.configs.errors import ExitCode, ModelError, SourceLost
from endostream.configs.load import LoadedConfig
from endostream.configs.schema import Config
from endostream.models.segmenter import ImageRgb, Segmentation, SegmenterInfo
from endostream.pipeline import app, worker
from endostream.pipeline.board import Board, Topology
from endostream.pipeline.control import ControlChannel, PeerGone
from endostream.pipeline.frame import ImageBgr, SourcePicture
from endostream.pipeline.host import RunSpec, StageHost
from endostream.pipeline.request import checked_request
from endostream.pipeline.source import SOURCES, SourceInfo, SourceOptions
from endostream.pipeline.stage import StageBroken
from endostream.pipeline.worker import BROKEN, STAGE_MAINS, run_stage, stage_main

from .core_fixtures import config_of, host_rig, ring_of, until, write, zmq_context

# The host


def test_a_spec_survives_the_control_channel() -> None:
    spec = RunSpec("ipc:///x/", "every-frame", Config().model_dump(), ("a", "b"), "null", ("jsonl:o",))
    again = RunSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert (again.sources, again.sinks, again.topology) == (("a", "b"), ("jsonl:o",), Topology(2, 1))
    assert Config.model_validate(again.config) == Config()
    assert again.every_frame


def test_a_ring_is_known_by_the_time_a_descriptor_names_it() -> None:
    with zmq_context() as context, host_rig("overlay", context) as rig, ring_of() as ring:
        assert rig.host.ring(0) is None
        generation = write(ring, 2, 42)
        rig.give_ring("captured", ring)
        attached = rig.host.ring(0)
        assert attached is not None
        assert attached.is_current(2, generation)
        assert (attached.view(2) == 42).all()


def test_a_retired_ring_is_let_go() -> None:
    with (
        zmq_context() as context,
        host_rig("overlay", context) as rig,
        ring_of() as ring,
        ring_of(ring_id=1) as new,
    ):
        rig.give_ring("captured", ring)
        rig.host.read_control()
        shape = new.shape
        message = {
            "t": "ring",
            "role": "captured",
            "id": 1,
            "size_hw": list(shape.size_hw),
            "slots": shape.slots,
        }
        rig.ours.send({**message, "lookahead": 1, "window": 1, "retired": [0]}, (new.block.fd,))
        rig.host.read_control()
        assert rig.host.ring(0) is None
        assert rig.host.ring(1) is not None


def test_a_lease_is_asked_for_and_waited_for_and_may_be_of_another_thread() -> None:
    with zmq_context() as context, host_rig("capture", context) as rig, ring_of() as ring:
        got: list[Any] = []
        asking = threading.Thread(target=lambda: got.append(rig.host.lease("captured", (4, 6))), daemon=True)
        asking.start()
        until(lambda: rig.said("need_ring"))
        rig.give_ring("captured", ring, lookahead=3, window=5)

        def answered() -> bool:
            rig.host.read_control()
            return bool(got)

        until(answered)
        asking.join(10)
        assert not asking.is_alive()
        assert (got[0].ring.shape, got[0].lookahead_frames, got[0].window_frames) == (ring.shape, 3, 5)


def test_waiting_for_a_lease_ends_when_the_stage_is_to_stop() -> None:
    with zmq_context() as context, host_rig("capture", context) as rig:
        got: list[Any] = []
        asking = threading.Thread(target=lambda: got.append(rig.host.lease("captured", (4, 6))), daemon=True)
        asking.start()
        until(lambda: rig.said("need_ring"))
        rig.ours.send({"t": "stop"})
        rig.host.read_control()
        asking.join(10)
        assert got == [None]


def test_control_messages_set_what_they_are_about_and_others_wait_in_the_inbox() -> None:
    with zmq_context() as context, host_rig("capture", context) as rig:
        for kind in ("go", "finish", "resend", "stop"):
            rig.ours.send({"t": kind})
        rig.host.poll(0)
        host = rig.host
        assert (host.go, host.finishing, host.stopping, host.inbox) == (True, True, True, [{"t": "resend"}])


def test_a_line_for_the_log_may_be_of_any_length() -> None:
    # An exception with a whole picture in its message filled the channel, and the stage took that for its end.
    with zmq_context() as context, host_rig("infer", context) as rig:
        rig.host.log("x" * 5_000_000)
        rig.host.fail("y" * 5_000_000, 4)
        assert [len(message["message"]) for message in rig.listen()] == [2000, 2000]
        assert not rig.host.stopping


def test_a_supervisor_that_is_gone_stops_the_stage() -> None:
    with zmq_context() as context, host_rig("infer", context) as rig:
        rig.ours.close()
        rig.host.say("ready")
        assert rig.host.stopping


def test_the_board_shows_a_beat_with_every_poll() -> None:
    with zmq_context() as context, host_rig("infer", context) as rig:
        rig.host.clock.advance_ns(5)  # type: ignore[attr-defined]
        rig.host.poll(0)
        assert rig.host.board.value("infer.heartbeat_ns") == rig.host.clock.now_ns()


# The beginning of a stage


@pytest.mark.parametrize("stage", STAGE_MAINS)
def test_every_stage_has_a_main(stage: str) -> None:
    assert callable(stage_main(stage))


@pytest.mark.parametrize(
    ("error", "problem", "told"),
    [
        (ModelError("weights: missing"), "weights: missing", [("weights: missing", 4)]),
        (StageBroken("3 in a row"), "3 in a row", []),
        (ValueError("odd"), "ValueError: odd", []),
        (None, "", []),
    ],
)
def test_how_a_stage_ends_is_told_by_what_it_raised(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, problem: str, told: list[tuple[str, int]]
) -> None:
    def main(host: StageHost) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(worker, "stage_main", lambda stage: main)
    with zmq_context() as context, host_rig("infer", context) as rig:
        assert run_stage(rig.host) == problem
        assert [(m["message"], m["exit_code"]) for m in rig.said("error")] == told


@pytest.fixture
def process() -> Iterator[tuple["subprocess.Popen[bytes]", ControlChannel, Board]]:
    """A real preprocess stage, started as the supervisor does, that has said it is ready."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fd = theirs.fileno()
    command = [sys.executable, "-P", "-m", "endostream.pipeline.worker", "preprocess", str(fd)]
    child = subprocess.Popen(command, pass_fds=[fd], stdin=subprocess.DEVNULL)
    theirs.close()
    control = ControlChannel(ours)
    spec = RunSpec("ipc:///tmp/endostream-test-no-such-folder/", "live", Config().model_dump(), ("a.avi",))
    board, block = Board.create(spec.topology)
    try:
        yield child, control, board
    finally:
        control.close()
        child.kill()
        child.wait(10)
        block.close()


@pytest.fixture
def running(
    process: tuple["subprocess.Popen[bytes]", ControlChannel, Board], tmp_path: Path
) -> tuple["subprocess.Popen[bytes]", ControlChannel]:
    child, control, _ = process
    folder = Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp")
    spec = RunSpec(f"ipc://{folder}/es-{child.pid}-", "live", Config().model_dump(), ("a.avi",))
    block_fd = os.memfd_create("board")
    os.ftruncate(block_fd, Board.size_bytes(spec.topology))
    control.send({"t": "run", "spec": spec.to_json(), "incarnation": 0, "nice": 0}, (block_fd,))
    os.close(block_fd)
    said: list[str] = []

    def ready() -> bool:
        while (received := control.receive()) is not None:
            said.append(received[0]["t"])
        return "ready" in said

    until(ready)
    for path in folder.glob(f"es-{child.pid}-*"):
        path.unlink()
    return child, control


def test_a_stage_ignores_the_terminals_signals_and_ends_when_told(
    running: tuple["subprocess.Popen[bytes]", ControlChannel],
) -> None:
    child, control = running
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        child.send_signal(number)
    control.send({"t": "stop"})
    assert child.wait(10) == 0


def test_a_stage_ends_by_itself_when_the_supervisor_is_gone(
    running: tuple["subprocess.Popen[bytes]", ControlChannel],
) -> None:
    child, control = running
    control.close()
    assert child.wait(10) == 0


def test_a_stage_that_is_told_nothing_ends_when_the_supervisor_dies(
    process: tuple["subprocess.Popen[bytes]", ControlChannel, Board],
) -> None:
    child, control, _ = process
    control.close()
    assert child.wait(10) != 0


# The whole pipeline as threads


@dataclass(frozen=True)
class Plan:
    """What a generated source plays: ``frames`` pictures of one grey with a bright square."""

    frames: int = 20
    sizes: tuple[tuple[int, int], ...] = ((48, 64),)
    error_at: int | None = None


class GeneratedSource:
    """``made:NAME`` plays PLANS[NAME]."""

    plans: ClassVar[dict[str, Plan]] = {}

    def __init__(self, address: str, options: SourceOptions) -> None:
        self.plan = self.plans[address.partition(":")[2]]
        rate = Fraction(25)
        self.info = SourceInfo(address, "made", self.plan.sizes[0], rate, 1 / rate, self.plan.frames)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __iter__(self) -> Iterator[SourcePicture]:
        for seq in range(self.plan.frames):
            if seq == self.plan.error_at:
                raise SourceLost(f"source: broke off at {seq}")
            size_hw = self.plan.sizes[seq * len(self.plan.sizes) // self.plan.frames]

            def fill(image_bgr: ImageBgr, value: int = 60 + seq) -> None:
                image_bgr[:] = value
                image_bgr[10:20, 10:20] = 200

            yield SourcePicture(seq, seq, Fraction(1, 25), size_hw, fill)

    @property
    def faults(self) -> dict[str, int]:
        return {}

    def close(self) -> None: ...


class Bright:
    """Marks what is bright; raises in the frames it is told to."""

    def __init__(self, raise_at: tuple[int, ...] = (), input_hw: tuple[int, int] = (32, 32)) -> None:
        self.info = SegmenterInfo("bright", (input_hw[0], input_hw[1]), "numpy")
        self._raise_at = set(raise_at)
        self._count = 0

    def warm_up(self) -> None: ...

    def segment(self, image_rgb: ImageRgb, output: str = "mask") -> Segmentation:
        self._count += 1
        if self._count - 1 in self._raise_at:
            raise MemoryError("none left")
        return Segmentation(np.asarray(image_rgb[..., 0] > 150))

    def close(self) -> None: ...


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Plan]]:
    monkeypatch.setitem(SOURCES, "made", f"{__name__}:GeneratedSource")
    monkeypatch.setattr(
        "endostream.pipeline.infer.load_segmenter", lambda name, options, **_: Bright(**options)
    )
    monkeypatch.setattr("gc.freeze", lambda: None)
    GeneratedSource.plans = {"a": Plan(), "b": Plan(7)}
    interval = sys.getswitchinterval()
    yield GeneratedSource.plans
    sys.setswitchinterval(interval)


def play(
    folder: Path, *sources: str, speed: str = "fastest", sinks: tuple[str, ...] = ("jsonl",), **sections: Any
) -> tuple[int, dict[str, Any], list[dict[str, Any]]]:
    """Run ``sources`` through all stages as threads: exit code, report, and the lines of the log."""
    options = {"input_hw": [32, 32], **sections.pop("options", {})}
    config = config_of(
        replay={"speed": speed, **sections.pop("replay", {})},
        supervisor={"launcher": "threads", **sections.pop("supervisor", {})},
        infer={"options": options},
        **sections,
    )
    places = [f"{kind}:{folder / kind}" if kind != "video" else f"video:{folder / 'o.mkv'}" for kind in sinks]
    request = checked_request(
        [f"made:{name}" for name in sources], places, folder / "r.json", LoadedConfig(config, {}), quiet=True
    )
    code = app.run(request)
    log = folder / "jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return code, json.loads((folder / "r.json").read_text()), lines


def closed(report: dict[str, Any]) -> bool:
    frames = report["frames"]
    balance = frames["captured"] - frames["presented"] - sum(frames["dropped"].values()) - frames["in_flight"]
    return bool(frames["ledger_closed"]) and balance == 0


def test_every_frame_of_every_source_carries_its_own_mask(plans: dict[str, Plan], tmp_path: Path) -> None:
    code, report, lines = play(tmp_path, "a", "b")
    assert (code, report["status"]) == (0, "done")
    frames = report["frames"]
    assert (frames["captured"], frames["presented"], frames["annotated"]) == (27, 27, 27)
    assert (frames["dropped"], frames["in_flight"], closed(report)) == ({}, 0, True)
    assert [(line["source"], line["seq"]) for line in lines] == [(0, n) for n in range(20)] + [
        (1, n) for n in range(7)
    ]
    assert all(line["mask_seq"] == line["seq"] and line["state"] == "fresh" for line in lines)
    assert all(line["boxes"] == [[10, 10, 10, 10]] for line in lines)


def test_the_same_run_twice_gives_the_same_masks(plans: dict[str, Plan], tmp_path: Path) -> None:
    sums = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        sums.append([line["mask_crc32"] for line in play(tmp_path / name, "a")[2]])
    assert sums[0] == sums[1]
    assert len(sums[0]) == 20


def test_live_presents_every_frame_and_its_ledger_closes(plans: dict[str, Plan], tmp_path: Path) -> None:
    code, report, lines = play(tmp_path, "a", speed="4x", overlay={"max_backlog_frames": 64})
    assert code == 0
    assert closed(report)
    assert report["frames"]["captured"] == 20
    written = report["sinks"][f"jsonl:{tmp_path / 'jsonl'}"]
    assert written["written"] == len(lines) == report["frames"]["presented"] - written["dropped"]
    assert sum(report["mask_state"].values()) == report["frames"]["presented"]


@pytest.mark.parametrize("speed", ["fastest", "10x"])
def test_several_sinks_loops_and_sizes_close_their_ledgers(
    plans: dict[str, Plan], tmp_path: Path, speed: str
) -> None:
    plans["a"] = Plan(12, ((48, 64), (64, 48), (48, 64), (30, 40)))
    code, report, _ = play(
        tmp_path, "a", "b", speed=speed, sinks=("jsonl", "png", "video"), replay={"loop": 2}
    )
    assert closed(report)
    assert report["frames"]["captured"] == 2 * 19
    if speed == "fastest":
        assert (code, report["frames"]["presented"]) == (0, 38)
        assert all(sink["written"] == 38 for sink in report["sinks"].values())


def test_a_failing_frame_costs_its_own_mask_and_no_more(plans: dict[str, Plan], tmp_path: Path) -> None:
    code, report, lines = play(tmp_path, "a", options={"raise_at": [4, 9]})
    assert (code, report["mask_state"]) == (5, {"absent": 0, "fresh": 18, "held": 0, "stale": 0, "failed": 2})
    assert closed(report)
    assert report["frames"]["presented"] == 20
    failed = [(line["seq"], line["cause"]) for line in lines if line["state"] == "failed"]
    assert failed == [(4, "infer: MemoryError: none left"), (9, "infer: MemoryError: none left")]


def test_an_infer_that_breaks_down_is_restarted_and_the_ledger_closes(
    plans: dict[str, Plan], tmp_path: Path
) -> None:
    plans["a"] = Plan(30)
    code, report, lines = play(tmp_path, "a", options={"raise_at": [3, 4, 5]})
    assert report["stages"]["infer"]["restarts"] >= 1
    assert closed(report)
    assert [line["seq"] for line in lines] == list(range(30))
    assert code == 5  # frames went without a mask


def test_a_source_that_breaks_off_is_played_as_far_as_it_goes(plans: dict[str, Plan], tmp_path: Path) -> None:
    plans["a"] = Plan(20, error_at=8)
    code, report, lines = play(tmp_path, "a", "b")
    assert code == 3
    assert closed(report)
    assert [source["status"] for source in report["sources"]] == ["lost", "done"]
    assert len(lines) == 8 + 7


def test_a_run_leaves_no_descriptor_no_thread_and_no_shared_memory(
    plans: dict[str, Plan], tmp_path: Path
) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("no /proc on this system")
    play(tmp_path, "b", sinks=("jsonl", "png"))  # what is opened once, stays open
    gc.collect()
    before, threads = _open_files(), set(threading.enumerate())
    for _ in range(3):
        play(tmp_path, "b", sinks=("jsonl", "png"))

    def all_closed() -> bool:
        gc.collect()  # what arrays still viewed is unmapped with the last of them
        return _open_files() <= before and set(threading.enumerate()) <= threads

    until(all_closed)


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_the_exit_code_of_a_broken_stage_is_no_code_of_the_command() -> None:
    assert BROKEN not in set(ExitCode)


def test_a_peer_that_is_gone_is_an_end_of_file() -> None:
    assert issubclass(PeerGone, EOFError)
