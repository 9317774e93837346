"""The record process's loop as a thread: what sinks cannot take is counted, and every output is finished."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar

import pytest

from endostream.configs.errors import SinkError
from endostream.configs.schema import Config
from endostream.pipeline.frame import Annotation, FrameKey, Presented
from endostream.pipeline.handover import NO_RING
from endostream.pipeline.link import LinkWriter, unaccounted
from endostream.pipeline.record import Record
from endostream.pipeline.ring import FrameRing
from endostream.pipeline.sink import SINKS, SinkContext, SinkSpec
from endostream.pipeline.wire import Kind, PresentedHeader

from .core_fixtures import HostRig, clock_of, config_of, header, host_rig, ring_of, until, write, zmq_context

LINK = "overlay-record"


class FakeSink:
    """Keeps what it was given; waits or fails where the test says so."""

    made: ClassVar[dict[str, list["FakeSink"]]] = {}
    gates: ClassVar[dict[str, threading.Event]] = {}
    fails_at: ClassVar[dict[str, int]] = {}

    def __init__(self, spec: SinkSpec, context: SinkContext) -> None:
        self.context = context
        self.path = spec.path
        self.seqs: list[int] = []
        self.values: list[int] = []
        self.closed = 0
        self.entered = threading.Event()
        self.made.setdefault(spec.path, []).append(self)

    @staticmethod
    def check(spec: SinkSpec) -> None: ...

    def write(self, presented: Presented) -> None:
        self.entered.set()
        gate = self.gates.get(self.path)
        if gate is not None:
            gate.wait(10)
        if self.fails_at.get(self.path) == presented.frame.key.seq:
            raise SinkError("disk full")
        self.seqs.append(presented.frame.key.seq)
        image = presented.frame.image_bgr
        self.values.append(int(image[0, 0, 0]) if image.size else -1)

    def close(self) -> None:
        self.closed += 1


class TextSink(FakeSink):
    """A sink that takes no pixels."""

    needs_picture = False


@pytest.fixture(autouse=True)
def sinks(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeSink]]:
    monkeypatch.setitem(SINKS, "fake", f"{__name__}:FakeSink")
    monkeypatch.setitem(SINKS, "text", f"{__name__}:TextSink")
    FakeSink.made, FakeSink.gates, FakeSink.fails_at = {}, {}, {}
    yield FakeSink
    for gate in FakeSink.gates.values():
        gate.set()


@dataclass
class RecordRig:
    rig: HostRig
    record: Record
    feed: LinkWriter
    ring: FrameRing
    thread: threading.Thread
    done: list[Any] = field(default_factory=list)

    def service(self) -> None:
        self.done += self.feed.service()

    def send(self, seq: int, slot: int | None = None, value: int = 0) -> None:
        ring, generation = NO_RING, 0
        if slot is not None:
            ring, generation = 0, write(self.ring, slot, value)
        frame = header(seq, ring=ring, slot=slot or 0, generation=generation)
        self.service()
        assert self.feed.send(
            Kind.PRESENTED, PresentedHeader(frame, Annotation(), 0, None, False).pack(), token=seq
        )

    def end(self) -> None:
        self.feed.send_end()
        until(lambda: self.service() or self.rig.said("recorded_all"), (self.feed.socket,))

    def stop(self) -> None:
        self.rig.ours.send({"t": "stop"})
        self.thread.join(10)
        assert not self.thread.is_alive()

    def wait_for(self, cell: str, value: int) -> None:
        def there() -> bool:
            self.service()
            return self.rig.host.board.value(cell) == value

        until(there, (self.feed.socket,), f"{cell} = {value}")

    def cells(self, number: int = 0) -> dict[str, int]:
        return {
            name: value
            for name, value in self.rig.host.board.group(f"sink{number}").items()
            if value and not name.startswith("next")
        }


@contextmanager
def record_rig(
    *labels: str, mode: str = "live", config: Config | None = None, incarnation: int = 0
) -> Iterator[RecordRig]:
    with (
        zmq_context() as context,
        host_rig("record", context, mode, config, labels) as rig,
        ring_of(16) as ring,
    ):
        host = rig.host
        host.incarnation = incarnation
        rig.give_ring("presented", ring)
        record = Record(host)
        feed = LinkWriter(context, host.endpoint(LINK), LINK, 32, host.board, host.clock)
        clock_of(host).advance_ns(100_000_000)

        def run() -> None:
            host.own_control()
            record.run()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        made = RecordRig(rig, record, feed, ring, thread)
        try:
            until(lambda: made.service() or feed.connected, (feed.socket,))
            yield made
        finally:
            for gate in FakeSink.gates.values():
                gate.set()
            rig.ours.close()
            thread.join(10)
            feed.close()
            assert not thread.is_alive()


def one(path: str) -> FakeSink:
    (sink,) = FakeSink.made[path]
    return sink


def test_every_sink_gets_every_picture_and_is_finished_at_the_end() -> None:
    with record_rig("fake:a", "fake:b") as rig:
        for seq in range(4):
            rig.send(seq, slot=seq, value=10 + seq)
        rig.end()
        for path in "ab":
            assert one(path).seqs == [0, 1, 2, 3]
            assert one(path).values == [10, 11, 12, 13]
            assert one(path).closed == 1
        assert rig.cells(0) == rig.cells(1) == {"written": 4}
        rig.wait_for(f"{LINK}.acknowledged", 4)


def test_a_sink_that_takes_no_pixels_needs_no_picture() -> None:
    with record_rig("text:a") as rig:
        rig.send(0)
        rig.end()
        assert (one("a").seqs, one("a").values) == ([0], [-1])


def test_live_a_sink_that_lags_drops_what_it_has_no_room_for_and_no_other_sink_does() -> None:
    FakeSink.gates["slow"] = threading.Event()
    with record_rig("fake:slow", "text:quick", config=config_of(record={"queue_frames": 2})) as rig:
        rig.send(0)
        until(lambda: "slow" in FakeSink.made and one("slow").entered.is_set())
        for seq in range(1, 6):
            rig.send(seq)
            rig.wait_for("sink1.written", seq + 1)
        assert rig.cells(0) == {"dropped.sink_full": 3}
        FakeSink.gates["slow"].set()
        rig.end()
        assert one("slow").seqs == [0, 1, 2]
        assert one("quick").seqs == [0, 1, 2, 3, 4, 5]
        assert rig.cells(0) == {"written": 3, "dropped.sink_full": 3}


def test_live_logs_alone_may_lag_far_since_a_frame_without_picture_costs_next_to_nothing() -> None:
    FakeSink.gates["slow"] = threading.Event()
    with record_rig("text:slow", config=config_of(record={"queue_frames": 2})) as rig:
        for seq in range(50):
            rig.send(seq)
            rig.wait_for(f"{LINK}.acknowledged", seq + 1)
        FakeSink.gates["slow"].set()
        rig.end()
        assert rig.cells(0) == {"written": 50}


def test_live_a_picture_is_copied_so_that_its_slot_may_be_overwritten_at_once() -> None:
    FakeSink.gates["a"] = threading.Event()
    with record_rig("fake:a") as rig:
        rig.send(0, slot=0, value=50)
        rig.wait_for("record.processed", 1)
        write(rig.ring, 0, 99)
        FakeSink.gates["a"].set()
        rig.end()
        assert one("a").values == [50]


def test_live_a_picture_overwritten_before_it_was_copied_is_counted() -> None:
    with record_rig("fake:a") as rig:
        write(rig.ring, 0, 1)
        frame = header(0, ring=0, slot=0, generation=99998)
        rig.feed.send(Kind.PRESENTED, PresentedHeader(frame, Annotation(), 0, None, False).pack())
        rig.wait_for(f"{LINK}.dropped.overwritten", 1)
        assert unaccounted(rig.rig.host.board, LINK) == 0


def test_every_frame_pushes_back_until_all_sinks_have_written() -> None:
    FakeSink.gates["slow"] = threading.Event()
    with record_rig("text:slow", "text:quick", mode="every-frame") as rig:
        for seq in range(4):
            rig.send(seq)
        rig.wait_for("sink1.written", 4)
        assert rig.done == []
        assert rig.rig.host.board.value(f"{LINK}.acknowledged") == 0
        FakeSink.gates["slow"].set()
        rig.end()
        rig.wait_for(f"{LINK}.acknowledged", 4)
        until(lambda: rig.service() or len(rig.done) == 4, (rig.feed.socket,))
        assert one("slow").seqs == one("quick").seqs == [0, 1, 2, 3]


def test_a_sink_that_fails_is_closed_reported_once_and_counted_and_the_others_go_on() -> None:
    FakeSink.fails_at["bad"] = 1
    with record_rig("text:bad", "text:good", mode="every-frame") as rig:
        for seq in range(4):
            rig.send(seq)
        rig.end()
        assert one("bad").seqs == [0]
        assert one("bad").closed == 1
        assert one("good").seqs == [0, 1, 2, 3]
        assert rig.cells(0) == {"written": 1, "failed": 1, "dropped.sink_failed": 3}
        assert [(m["sink"], m["message"]) for m in rig.rig.said("sink_failed")] == [("text:bad", "disk full")]
        rig.wait_for(f"{LINK}.acknowledged", 4)


def test_a_frame_this_sink_wrote_before_a_restart_is_not_written_again() -> None:
    with record_rig("text:a", mode="every-frame", incarnation=1) as rig:
        rig.rig.host.board.cell("sink0.next_seq").value = 2
        for seq in range(4):
            rig.send(seq)
        rig.end()
        assert one("a").seqs == [2, 3]
        assert one("a").context.part == 1
        rig.wait_for(f"{LINK}.acknowledged", 4)


def test_sinks_know_the_rate_of_the_source_that_is_playing() -> None:
    with record_rig("text:a") as rig:
        rig.rig.ours.send({"t": "source_info", "fps": "30000/1001"})
        until(lambda: rig.record._fps is not None)
        rig.send(0)
        rig.end()
        assert one("a").context.fps == Fraction(30000, 1001)


def test_a_sink_without_a_frame_is_never_opened_and_the_run_ends_all_the_same() -> None:
    with record_rig("fake:a") as rig:
        rig.end()
        assert FakeSink.made == {}


def test_a_run_cut_short_finishes_what_is_being_written_and_counts_what_is_queued() -> None:
    FakeSink.gates["a"] = threading.Event()
    with record_rig("text:a", config=config_of(record={"queue_frames": 8})) as rig:
        for seq in range(5):
            rig.send(seq)
        rig.wait_for("record.processed", 5)
        until(lambda: "a" in FakeSink.made and one("a").entered.is_set())
        rig.rig.ours.send({"t": "stop"})
        until(lambda: rig.record._sinks[0].give_up)
        FakeSink.gates["a"].set()
        rig.stop()
        assert one("a").seqs == [0]
        assert one("a").closed == 1
        assert rig.cells() == {"written": 1, "dropped.end_of_run": 4}


@pytest.mark.parametrize("body", [b"", header().pack(), b"x" * 300])
def test_a_message_that_cannot_be_read_is_dropped_as_invalid(body: bytes) -> None:
    with record_rig("text:a") as rig:
        rig.feed.send(Kind.PRESENTED, body)
        rig.wait_for(f"{LINK}.dropped.invalid", 1)
        rig.send(1)
        rig.end()
        assert one("a").seqs == [1]


def test_a_later_loop_of_the_same_seq_is_not_taken_for_written() -> None:
    with record_rig("text:a", mode="every-frame") as rig:
        for key in (FrameKey(0, 0, 5), FrameKey(1, 0, 0), FrameKey(0, 1, 0)):
            frame = header(0, key=key, ring=NO_RING)
            rig.feed.send(Kind.PRESENTED, PresentedHeader(frame, Annotation(), 0, None, False).pack())
        rig.end()
        assert one("a").seqs == [5, 0, 0]
