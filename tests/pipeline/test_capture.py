"""The capture stage with generated sources and a clock that stands still: releases, slots, resends, restarts."""

import contextlib
import itertools
import queue
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from types import TracebackType
from typing import Any, ClassVar, Self

import pytest

from endostream.configs.errors import SourceLost, SourceMissing
from endostream.configs.schema import Config
from endostream.pipeline.board import Board, Topology, packed_size
from endostream.pipeline.capture import Capture
from endostream.pipeline.control import PeerGone
from endostream.pipeline.frame import FrameKey, ImageBgr, SourcePicture
from endostream.pipeline.link import LinkReader, Received
from endostream.pipeline.ring import FrameRing
from endostream.pipeline.source import SOURCES, SourceInfo, SourceOptions
from endostream.pipeline.wire import FrameHeader, Kind, unpack_fail, unpack_frame

from .core_fixtures import HostRig, clock_of, config_of, host_rig, ring_of, until, zmq_context

VIDEO, NOTES = "capture-overlay", "capture-preprocess"
FASTEST = config_of(replay={"speed": "fastest"})


@dataclass(frozen=True)
class Plan:
    """What a generated source does."""

    seqs: Iterable[int] = (0, 1, 2)
    error: Exception | None = None
    size_hw: tuple[int, int] = (4, 6)


class FakeSource:
    """``fake:NAME`` plays PLANS[NAME]: each picture is one grey, its seq."""

    plans: ClassVar[dict[str, Plan]] = {}
    opened: ClassVar[list[str]] = []

    def __init__(self, address: str, options: SourceOptions) -> None:
        self.plan = self.plans[address.partition(":")[2]]
        self.opened.append(address)
        if isinstance(self.plan.error, SourceMissing):
            raise self.plan.error
        rate = Fraction(25)
        self.info = SourceInfo(address, "fake", self.plan.size_hw, rate, 1 / rate)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[SourcePicture]:
        for seq in self.plan.seqs:

            def fill(image_bgr: ImageBgr, value: int = seq) -> None:
                image_bgr[:] = value

            yield SourcePicture(seq, seq, Fraction(1, 25), self.plan.size_hw, fill)
        if self.plan.error is not None:
            raise self.plan.error

    @property
    def faults(self) -> dict[str, int]:
        return {"corrupt_packet": 1}

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def plans(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Plan]]:
    monkeypatch.setitem(SOURCES, "fake", f"{__name__}:FakeSource")
    monkeypatch.setattr("endostream.pipeline.capture.gc.freeze", lambda: None)
    FakeSource.plans, FakeSource.opened = {}, []
    interval = sys.getswitchinterval()
    yield FakeSource.plans
    sys.setswitchinterval(interval)


@dataclass
class CaptureRig:
    """Capture in a thread, and both its readers."""

    rig: HostRig
    ring: FrameRing
    video: LinkReader
    notes: LinkReader
    thread: threading.Thread
    frames: list[tuple[FrameHeader, Received]] = field(default_factory=list)
    noted: list[tuple[Any, Received]] = field(default_factory=list)
    ends: int = 0
    note_ends: int = 0

    @property
    def board(self) -> Board:
        return self.rig.host.board

    def read(self) -> None:
        for message in self.video.receive():
            if message.kind is Kind.EOS:
                self.ends += 1
            else:
                self.frames.append((unpack_frame(message.body), message))
        for message in self.notes.receive():
            if message.kind is Kind.EOS:
                self.note_ends += 1
            else:
                unpack = unpack_fail if message.kind is Kind.FAIL else unpack_frame
                self.noted.append((unpack(message.body), message))

    def until(self, condition: Any, what: str = "") -> None:
        def step() -> bool:
            self.read()
            return bool(condition())

        until(step, (self.video.socket, self.notes.socket), what)

    def use(self, count: int | None = None) -> None:
        """Be done with the oldest ``count`` frames on both paths, all if None."""
        for kept, reader in ((self.frames, self.video), (self.noted, self.notes)):
            for _, message in kept[:count]:
                reader.done(message)
            del kept[:count]

    @property
    def keys(self) -> list[tuple[int, int, int]]:
        return [tuple(frame.key) for frame, _ in self.frames]

    def value(self, cell: str) -> int:
        return self.board.value(f"capture.{cell}")

    def play_all(self) -> list[tuple[int, int, int]]:
        """Use every frame as it comes, to the end; returns their keys."""
        seen: list[tuple[int, int, int]] = []

        def step() -> bool:
            seen.extend(self.keys)
            self.use()
            return self.ends > 0

        self.until(step, "the end")
        return seen


@contextmanager
def capture_rig(
    *names: str,
    mode: str = "every-frame",
    config: Config = FASTEST,
    board: Board | None = None,
    incarnation: int = 0,
    slots: int = 16,
    window: int = 8,
    go: bool = True,
) -> Iterator[CaptureRig]:
    sources = tuple(f"fake:{name}" for name in names)
    with (
        zmq_context() as context,
        host_rig("capture", context, mode, config, sources=sources, board=board) as rig,
        ring_of(slots) as ring,
    ):
        host = rig.host
        host.incarnation = incarnation
        host.board.cell("overlay.prepared_size").value = packed_size((4, 6))
        video = LinkReader(context, host.endpoint(VIDEO), VIDEO, host.board, host.clock)
        notes = LinkReader(context, host.endpoint(NOTES), NOTES, host.board, host.clock)
        capture = Capture(host)
        made = CaptureRig(rig, ring, video, notes, threading.Thread(target=lambda: run(), daemon=True))
        problems: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

        def run() -> None:
            host.own_control()
            try:
                capture.run()
            except BaseException as error:
                problems.put(error)

        def connected() -> bool:
            clock_of(host).advance_ns(60_000_000)
            capture.video.service()
            capture.notes.service()
            return capture.video.connected and capture.notes.connected

        made.until(connected)
        rig.give_ring("captured", ring, lookahead=2, window=window)
        if go:
            rig.ours.send({"t": "go"})
        made.thread.start()
        given = threading.Thread(target=_give_rings, args=(made, window), daemon=True)
        given.start()
        try:
            yield made
        finally:
            rig.ours.close()
            for thread in (made.thread, given, capture._decoder):
                if thread.ident is not None:
                    thread.join(10)
                    assert not thread.is_alive()
            for end in (video, notes, capture.video, capture.notes):
                end.close()
        if not problems.empty():
            raise problems.get()


def _give_rings(rig: CaptureRig, window: int) -> None:
    """Answer every request for a ring, as the supervisor does."""
    answered = 0
    while rig.thread.is_alive():
        asked = rig.rig.said("need_ring")
        if len(asked) > answered and asked[answered]["size_hw"] == list(rig.ring.shape.size_hw):
            with contextlib.suppress(PeerGone):  # the test is over
                rig.rig.give_ring("captured", rig.ring, lookahead=2, window=window)
            answered += 1
        rig.thread.join(0.002)


def test_every_picture_of_every_source_and_loop_is_sent_on_both_paths_in_order(
    plans: dict[str, Plan],
) -> None:
    plans["a"], plans["b"] = Plan((0, 1)), Plan((0,))
    config = config_of(replay={"speed": "fastest", "loop": 2})
    with capture_rig("a", "b", config=config) as rig:
        assert rig.play_all() == [(0, 0, 0), (0, 0, 1), (1, 0, 0), (0, 1, 0), (0, 1, 1), (1, 1, 0)]
        assert rig.value("captured") == 6
        assert [rig.board.value(f"source{n}.captured") for n in (0, 1)] == [4, 2]
        rig.until(lambda: rig.value("held") == 0)
        assert rig.rig.said("captured_all")


def test_a_descriptor_names_the_picture_it_was_made_for(plans: dict[str, Plan]) -> None:
    plans["a"] = Plan((3, 7, 9))
    with capture_rig("a") as rig:
        rig.until(lambda: len(rig.frames) == 3)
        for frame, _ in rig.frames:
            assert rig.ring.is_current(frame.slot, frame.generation)
            assert (rig.ring.view(frame.slot) == frame.key.seq).all()


def test_a_gap_in_the_sources_count_is_a_loss_at_the_source(plans: dict[str, Plan]) -> None:
    plans["a"] = Plan((0, 1, 4, 5, 9))
    with capture_rig("a") as rig:
        rig.play_all()
        assert rig.value("source_gaps") == 5
        assert rig.board.value("source0.gaps") == 5


def test_every_frame_no_more_are_under_way_than_the_window(plans: dict[str, Plan]) -> None:
    plans["a"] = Plan(tuple(range(20)))
    with capture_rig("a", window=3) as rig:
        rig.until(lambda: len(rig.frames) == 3)
        rig.until(lambda: rig.value("held") == 3)
        assert rig.value("captured") == 3
        rig.use(1)
        rig.until(lambda: len(rig.frames) == 3)
        assert rig.keys == [(0, 0, 1), (0, 0, 2), (0, 0, 3)]
        assert rig.play_all()[-1] == (0, 0, 19)
        assert rig.value("captured") == 20


def test_every_frame_a_slot_is_not_written_again_before_its_frame_is_done_with(
    plans: dict[str, Plan],
) -> None:
    plans["a"] = Plan(tuple(range(60)))
    with capture_rig("a", slots=6, window=3) as rig:
        seen = []

        def step() -> bool:
            for frame, _ in rig.frames:
                assert rig.ring.is_current(frame.slot, frame.generation)
                assert (rig.ring.view(frame.slot) == frame.key.seq).all()
                seen.append(frame.key.seq)
            rig.use()
            return rig.ends > 0

        rig.until(step)
        assert seen == list(range(60))


def test_live_never_waits_for_anybody(plans: dict[str, Plan]) -> None:
    plans["a"] = Plan(tuple(range(50)))
    config = config_of(replay={"speed": "100x"})
    with capture_rig("a", mode="live", config=config) as rig:
        rig.until(lambda: rig.ends and rig.note_ends)
        assert rig.value("captured") == 50
        for link in (VIDEO, NOTES):
            counts = rig.board.group(link)
            assert counts["sent"] == 50
            assert counts["dropped.link_full"] == 42
        assert rig.keys == [(0, 0, seq) for seq in range(8)]


def test_the_first_frame_waits_until_the_display_has_made_ready_for_its_size(plans: dict[str, Plan]) -> None:
    plans["a"] = Plan((0, 1))
    with capture_rig("a", mode="live", config=config_of(replay={"speed": "100x"}), go=False) as rig:
        prepared = rig.board.cell("overlay.prepared_size")
        prepared.value = 0
        rig.rig.ours.send({"t": "go"})
        looked = iter(range(3))
        rig.until(lambda: next(looked, None) is None)
        assert not rig.frames
        prepared.value = packed_size((4, 6))
        rig.until(lambda: rig.ends > 0)
        assert [key[2] for key in rig.keys] == [0, 1]


def test_live_frames_are_released_when_they_are_due(plans: dict[str, Plan]) -> None:
    plans["a"] = Plan((0, 1, 2, 5))
    with capture_rig("a", mode="live", config=Config()) as rig:
        clock = clock_of(rig.rig.host)

        def step() -> bool:
            clock.advance_ns(1_000_000)
            return rig.ends > 0

        rig.until(step)
        released = [frame.capture_ns for frame, _ in rig.frames]
        steps = [later - earlier for earlier, later in itertools.pairwise(released)]
        # The clock is moved by a millisecond at a time, and by capture itself to the very due time.
        assert [round(step / 40e6) for step in steps] == [1, 1, 3]
        assert all(
            frame.stamps == (("capture", ns, ns),)
            for (frame, _), ns in zip(rig.frames, released, strict=True)
        )


def test_a_missing_source_is_reported_and_the_next_is_played(plans: dict[str, Plan]) -> None:
    plans["gone"] = Plan(error=SourceMissing("source: gone; no video"))
    plans["b"] = Plan((0,))
    with capture_rig("gone", "b") as rig:
        assert rig.play_all() == [(1, 0, 0)]
        ends = [(m["source_id"], m["status"], m["message"]) for m in rig.rig.said("source_end")]
        assert ends == [(0, "missing", "source: gone; no video"), (1, "done", "")]


def test_a_source_that_breaks_off_is_lost_and_what_it_gave_is_played(plans: dict[str, Plan]) -> None:
    plans["a"] = Plan((0, 1), SourceLost("source: a; cut off"))
    with capture_rig("a") as rig:
        assert rig.play_all() == [(0, 0, 0), (0, 0, 1)]
        (end,) = rig.rig.said("source_end")
        assert (end["status"], end["faults"]) == ("lost", {"corrupt_packet": 1})


def test_sources_that_give_nothing_end_even_an_endless_loop(plans: dict[str, Plan]) -> None:
    plans["gone"] = Plan(error=SourceMissing("source: gone"))
    with capture_rig("gone", config=config_of(replay={"speed": "fastest", "loop": 0})) as rig:
        assert rig.play_all() == []
        assert FakeSource.opened == ["fake:gone"]


def test_before_it_is_let_go_nothing_is_released(plans: dict[str, Plan]) -> None:
    plans["a"] = Plan()
    with capture_rig("a", go=False) as rig:
        rig.until(lambda: rig.rig.said("source"))
        rig.read()
        assert rig.frames == []
        rig.rig.ours.send({"t": "go"})
        assert len(rig.play_all()) == 3


def test_finishing_releases_nothing_more_and_tells_the_end(plans: dict[str, Plan]) -> None:
    plans["a"] = Plan(tuple(range(200)))
    with capture_rig("a", window=3) as rig:
        rig.until(lambda: len(rig.frames) == 3)
        rig.rig.ours.send({"t": "finish"})
        until(lambda: rig.rig.host.finishing)
        played = rig.play_all()
        assert len(played) <= 5
        assert rig.value("captured") == len(played)
        rig.until(lambda: rig.value("held") == 0)


def test_a_source_that_never_pauses_leaves_capture_time_to_show_life_and_to_listen(
    plans: dict[str, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that floods its pipe always had a next picture ready: capture was killed as silent, over and over."""
    monkeypatch.setattr("endostream.pipeline.capture._NOTHING_NEW_MS", 5000.0)  # one is there before that
    plans["flood"] = Plan(itertools.count())
    with capture_rig("flood", mode="live") as rig:
        rig.until(lambda: rig.value("captured") > 20)
        clock_of(rig.rig.host).advance_ns(1_000_000_000)
        now_ns = rig.rig.host.clock.now_ns()
        rig.until(lambda: rig.value("heartbeat_ns") >= now_ns, "a sign of life")
        rig.rig.ours.send({"t": "finish"})
        rig.until(lambda: rig.ends == 1, "the end")


def test_what_was_in_flight_is_sent_again_when_told_and_given_up_after_two_times(
    plans: dict[str, Plan],
) -> None:
    plans["a"] = Plan((0, 1))
    with capture_rig("a") as rig:
        rig.until(lambda: len(rig.noted) == 2)
        for attempt in (1, 2):
            rig.rig.ours.send({"t": "resend"})
            rig.until(lambda attempt=attempt: len(rig.noted) == 2 + 2 * attempt)
            assert [(frame.key.seq, frame.attempt) for frame, _ in rig.noted[-2:]] == [
                (0, attempt),
                (1, attempt),
            ]
        rig.rig.ours.send({"t": "resend"})
        rig.until(lambda: len(rig.noted) == 8)
        for (frame, cause), message in rig.noted[-2:]:
            assert message.kind is Kind.FAIL
            assert frame.attempt == 3
            assert cause == "sent 3 times, and the annotation path failed each time"
        assert rig.board.value(f"{NOTES}.resent") == 6
        assert len(rig.frames) == 2
        assert rig.value("captured") == 2


def test_what_is_done_with_is_not_sent_again(plans: dict[str, Plan]) -> None:
    plans["a"] = Plan((0, 1, 2))
    with capture_rig("a") as rig:
        rig.until(lambda: len(rig.frames) == len(rig.noted) == 3)
        rig.use(2)
        rig.until(lambda: rig.value("held") == 1)
        rig.rig.ours.send({"t": "resend"})
        rig.until(lambda: len(rig.noted) == 2)
        assert [frame.key.seq for frame, _ in rig.noted] == [2, 2]


def restarted(
    plans: dict[str, Plan], mode: str, board_cells: dict[str, int], *names: str, **more: Any
) -> Any:
    board = Board.create(Topology(len(names), 0))[0]
    for name, value in board_cells.items():
        board.cell(f"capture.{name}").value = value
    return capture_rig(*names, mode=mode, board=board, incarnation=1, **more)


def test_every_frame_a_restarted_capture_goes_on_with_the_oldest_frame_in_flight(
    plans: dict[str, Plan],
) -> None:
    plans["a"] = Plan(tuple(range(6)))
    cells = {"captured": 4, "next_seq": 4, "safe_next_seq": 2}
    with restarted(plans, "every-frame", cells, "a") as rig:
        assert rig.play_all() == [(0, 0, 2), (0, 0, 3), (0, 0, 4), (0, 0, 5)]
        assert rig.value("captured") == 6
        assert rig.board.value(f"{VIDEO}.resent") == 2


def test_live_a_restarted_capture_goes_on_with_the_next_frame(plans: dict[str, Plan]) -> None:
    plans["a"] = Plan(tuple(range(6)))
    cells = {"captured": 4, "next_seq": 4}
    with restarted(plans, "live", cells, "a", config=config_of(replay={"speed": "100x"})) as rig:
        assert rig.play_all() == [(0, 0, 4), (0, 0, 5)]
        assert rig.value("captured") == 6
        assert rig.value("source_gaps") == 0


def test_a_restarted_capture_does_not_play_sources_that_are_over(plans: dict[str, Plan]) -> None:
    plans["a"], plans["b"] = Plan((0, 1)), Plan((0, 1, 2))
    cells = {"captured": 3, "source_id": 1, "next_seq": 1, "safe_source_id": 1, "safe_next_seq": 1}
    with restarted(plans, "every-frame", cells, "a", "b") as rig:
        assert rig.play_all() == [(1, 0, 1), (1, 0, 2)]
        assert FakeSource.opened == ["fake:b"]


def test_a_capture_restarted_at_the_end_of_a_loop_goes_on_with_the_next_loop(plans: dict[str, Plan]) -> None:
    # It found no frame left in the loop it was killed in, and took that for a source that gives nothing.
    plans["a"] = Plan((0, 1))
    cells = {"captured": 2, "next_seq": 2, "safe_next_seq": 2}
    config = config_of(replay={"speed": "fastest", "loop": 2})
    with restarted(plans, "every-frame", cells, "a", config=config) as rig:
        assert rig.play_all() == [(0, 1, 0), (0, 1, 1)]


def test_a_crash_of_the_decoder_ends_the_stage(plans: dict[str, Plan]) -> None:
    plans["a"] = Plan((0,), ValueError("decoder bug"))
    with pytest.raises(RuntimeError, match="decoder: decoder bug"), capture_rig("a") as rig:
        rig.until(lambda: not rig.thread.is_alive())


def test_keys_of_a_later_loop_come_after_all_sources_of_the_one_before() -> None:
    keys = [FrameKey(0, 0, 9), FrameKey(1, 0, 0), FrameKey(0, 1, 0), FrameKey(1, 1, 0)]
    assert sorted(keys, key=lambda key: (key.loop, key.source_id, key.seq)) == keys
