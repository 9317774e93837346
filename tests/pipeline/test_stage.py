"""The stage loop between two real links: live keeps the newest, every-frame keeps all, and no failure is silent."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from endostream.configs.errors import ModelError
from endostream.configs.schema import Config
from endostream.pipeline.frame import Stamp
from endostream.pipeline.link import LinkReader, LinkWriter, Received, unaccounted
from endostream.pipeline.stage import Drop, Output, StageBroken, StageLoop, frame_of, header_of, stamped
from endostream.pipeline.wire import (
    FrameHeader,
    Kind,
    MaskHeader,
    TensorHeader,
    WireError,
    pack_fail,
    unpack_fail,
    unpack_frame,
)

from .core_fixtures import HostRig, clock_of, config_of, header, host_rig, until, zmq_context

READS, WRITES = "capture-preprocess", "preprocess-infer"


class FakeStage:
    """Answers frames with frames, or does what it is told for a seq."""

    name = "preprocess"
    takes = Kind.FRAME
    sends_again = True

    def __init__(
        self, actions: dict[int, Exception] | None = None, open_error: Exception | None = None
    ) -> None:
        self.actions = actions or {}
        self.open_error = open_error
        self.seen: list[int] = []
        self.closed = 0

    def open(self) -> None:
        if self.open_error is not None:
            raise self.open_error

    def process(self, message: Received, header: FrameHeader) -> Output:
        self.seen.append(header.key.seq)
        if header.key.seq in self.actions:
            raise self.actions[header.key.seq]
        return Output(Kind.FRAME, header, b"payload")

    def close(self) -> None:
        self.closed += 1


@dataclass
class LoopRig:
    """A stage loop with its neighbours: the writer that feeds it, and the reader that takes what it makes."""

    rig: HostRig
    stage: FakeStage
    loop: StageLoop
    feed: LinkWriter
    takes: LinkReader
    out: list[Received] = field(default_factory=list)

    @property
    def board(self) -> Any:
        return self.rig.host.board

    def connect(self) -> None:
        def met() -> bool:
            self.loop._inbox.extend(self.loop.reader.receive())
            self.loop.writer.service()
            self.feed.service()
            self.out += self.takes.receive()
            return self.feed.connected and self.loop.writer.connected

        until(met, self.sockets)

    @property
    def sockets(self) -> tuple[Any, ...]:
        return (self.feed.socket, self.takes.socket, self.loop.reader.socket, self.loop.writer.socket)

    def send(self, *seqs: int) -> None:
        for seq in seqs:
            assert self.feed.send(Kind.FRAME, header(seq).pack(), token=seq)
        self.arrive(len(seqs))

    def arrive(self, count: int) -> None:
        """Let what was sent reach the loop's inbox, so that it is all there at its next step."""
        before = len(self.loop._inbox)

        def there() -> bool:
            self.loop._inbox.extend(self.loop.reader.receive())
            return len(self.loop._inbox) >= before + count

        until(there, (self.loop.reader.socket,))

    def step_until_idle(self) -> None:
        while self.loop.step():
            pass

    def collect(self, count: int) -> list[Received]:
        def there() -> bool:
            self.loop.writer.service()
            self.out += self.takes.receive()
            return len(self.out) >= count

        until(there, self.sockets, f"{count} outputs")
        return self.out

    def kinds(self, count: int) -> list[str]:
        return [message.kind.name for message in self.collect(count)]

    def acknowledge(self) -> None:
        for message in self.out:
            self.takes.done(message)
        self.out = []

    def counts(self, link: str = READS) -> dict[str, int]:
        return {cell: count for cell, count in self.board.group(link).items() if count}


@contextmanager
def loop_rig(
    mode: str, stage: FakeStage | None = None, window: int = 8, config: Config | None = None
) -> Iterator[LoopRig]:
    config = config or config_of(links={"window_frames": window}, capture={"lookahead_frames": 1})
    stage = stage or FakeStage()
    with zmq_context() as context, host_rig("preprocess", context, mode, config) as rig:
        host = rig.host
        loop = StageLoop(host, stage, READS, WRITES)
        feed = LinkWriter(context, host.endpoint(READS), READS, 20, host.board, host.clock)
        takes = LinkReader(context, host.endpoint(WRITES), WRITES, host.board, host.clock)
        made = LoopRig(rig, stage, loop, feed, takes)
        try:
            # SYNs are sent fifty milliseconds apart, by a clock that stands still.
            clock_of(host).advance_ns(100_000_000)
            made.connect()
            yield made
        finally:
            for end in (loop.reader, loop.writer, feed, made.takes):
                end.close()


def test_live_processes_only_the_newest_and_counts_the_rest_as_superseded() -> None:
    with loop_rig("live") as rig:
        rig.send(0, 1, 2, 3)
        rig.step_until_idle()
        assert rig.stage.seen == [3]
        assert unpack_frame(rig.collect(1)[0].body).key.seq == 3
        assert rig.counts() == {"sent": 4, "acknowledged": 1, "dropped.superseded": 3}


def test_live_keeps_the_end_behind_the_newest() -> None:
    with loop_rig("live") as rig:
        rig.send(0, 1)
        rig.feed.send_end()
        rig.arrive(1)
        rig.step_until_idle()
        assert rig.kinds(2) == ["FRAME", "EOS"]
        assert rig.stage.seen == [1]


def test_live_drops_output_that_finds_no_credit() -> None:
    with loop_rig("live", window=2) as rig:
        for seq in range(4):
            rig.send(seq)
            rig.step_until_idle()
        assert rig.stage.seen == [0, 1, 2, 3]
        assert rig.counts(WRITES) == {"sent": 4, "dropped.link_full": 2}
        assert rig.counts() == {"sent": 4, "acknowledged": 4}


def test_every_frame_processes_all_in_order() -> None:
    with loop_rig("every-frame") as rig:
        rig.send(0, 1, 2, 3)
        rig.step_until_idle()
        assert rig.stage.seen == [0, 1, 2, 3]
        assert [unpack_frame(message.body).key.seq for message in rig.collect(4)] == [0, 1, 2, 3]
        assert rig.counts() == {"sent": 4, "acknowledged": 4}


def test_every_frame_holds_output_until_there_is_credit() -> None:
    with loop_rig("every-frame", window=2) as rig:
        rig.send(0, 1, 2, 3, 4)
        rig.step_until_idle()
        assert rig.stage.seen == [0, 1, 2]
        assert len(rig.collect(2)) == 2
        rig.acknowledge()

        def all_out() -> bool:
            rig.loop.step()
            rig.out += rig.takes.receive()
            rig.acknowledge()
            return rig.board.value(f"{WRITES}.acknowledged") == 5

        until(all_out, rig.sockets)
        assert rig.stage.seen == [0, 1, 2, 3, 4]
        assert rig.counts(WRITES) == {"sent": 5, "acknowledged": 5}


def test_input_is_read_while_output_waits_so_that_waiting_costs_no_processor() -> None:
    # It used to stay in the socket, whose being readable ended every poll at once: a core spun while infer loaded.
    with loop_rig("every-frame", window=2) as rig:
        rig.send(0, 1, 2)
        rig.step_until_idle()
        assert rig.loop._waiting is not None
        rig.feed.send(Kind.FRAME, header(3).pack())
        until(lambda: rig.loop.reader.socket.poll(0), (rig.loop.reader.socket,))
        assert not rig.loop.step()
        assert rig.loop.reader.socket.poll(0) == 0
        assert rig.stage.seen == [0, 1, 2]
        assert len(rig.loop._inbox) == 1


@pytest.mark.parametrize("mode", ["live", "every-frame"])
def test_an_exception_becomes_a_failure_with_its_cause(mode: str) -> None:
    with loop_rig(mode, FakeStage({0: ValueError("bad picture")})) as rig:
        rig.send(0)
        rig.step_until_idle()
        (message,) = rig.collect(1)
        assert message.kind is Kind.FAIL
        frame, cause = unpack_fail(message.body)
        assert (frame.key.seq, cause) == (0, "preprocess: ValueError: bad picture")
        assert rig.counts() == {"sent": 1, "dropped.stage_error": 1}
        assert rig.board.value("preprocess.errors") == 1
        assert [line["message"] for line in rig.rig.said("log")] == ["preprocess: ValueError: bad picture"]


def test_three_failures_in_a_row_end_the_stage_and_each_is_answered() -> None:
    with loop_rig("every-frame", FakeStage({seq: MemoryError("none left") for seq in range(9)})) as rig:
        rig.send(0, 1, 2, 3)
        with pytest.raises(StageBroken, match=r"MemoryError: none left \(3 in a row\)"):
            rig.step_until_idle()
        assert rig.kinds(3) == ["FAIL", "FAIL", "FAIL"]
        assert rig.counts() == {"sent": 4, "dropped.stage_error": 3}
        assert unaccounted(rig.board, READS) == 1


@pytest.mark.parametrize("mode", ["live", "every-frame"])
def test_a_stage_that_says_it_is_broken_ends_at_once_and_its_frame_is_left_to_be_sent_again(
    mode: str,
) -> None:
    with loop_rig(mode, FakeStage({0: StageBroken("infer: cudaErrorIllegalAddress")})) as rig:
        rig.send(0)
        with pytest.raises(StageBroken, match="infer: cudaErrorIllegalAddress"):
            rig.step_until_idle()
        assert rig.counts() == {"sent": 1}
        assert unaccounted(rig.board, READS) == 1


def test_a_success_in_between_forgives_failures() -> None:
    failing = {seq: ValueError("odd") for seq in (0, 1, 3, 4)}
    with loop_rig("every-frame", FakeStage(failing)) as rig:
        rig.send(0, 1, 2, 3, 4, 5)
        rig.step_until_idle()
        assert rig.kinds(6) == ["FAIL", "FAIL", "FRAME", "FAIL", "FAIL", "FRAME"]
        assert rig.counts() == {"sent": 6, "acknowledged": 2, "dropped.stage_error": 4}


def test_a_drop_is_counted_by_its_cause_and_answered_only_where_each_frame_needs_an_answer() -> None:
    for mode, kinds in (("live", []), ("every-frame", ["FAIL"])):
        with loop_rig(mode, FakeStage({0: Drop("overwritten")})) as rig:
            rig.send(0)
            rig.step_until_idle()
            assert rig.kinds(len(kinds)) == kinds
            assert rig.counts() == {"sent": 1, "dropped.overwritten": 1}
            assert rig.board.value("preprocess.errors") == 0


def test_drops_never_end_a_stage() -> None:
    with loop_rig("every-frame", FakeStage({seq: Drop("overwritten") for seq in range(8)})) as rig:
        rig.send(*range(8))
        rig.step_until_idle()
        assert rig.kinds(8) == ["FAIL"] * 8


def test_an_error_of_ours_ends_the_stage_at_once() -> None:
    with loop_rig("live", FakeStage({0: ModelError("engine: for another machine")})) as rig:
        rig.send(0)
        with pytest.raises(ModelError, match="for another machine"):
            rig.step_until_idle()
        assert unaccounted(rig.board, READS) == 1


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Kind.FRAME, b""),
        (Kind.FRAME, header().pack() + b"more"),
        (Kind.TENSOR, TensorHeader(header(), (), (2, 2)).pack()),
        (Kind.MASK, MaskHeader(header(), (), (2, 2), 0).pack()),
        (Kind.FAIL, header().pack()),
    ],
)
def test_a_message_that_is_not_for_this_stage_is_dropped_as_invalid(kind: Kind, body: bytes) -> None:
    with loop_rig("every-frame") as rig:
        rig.feed.send(kind, body)
        rig.arrive(1)
        rig.step_until_idle()
        assert rig.stage.seen == []
        assert rig.counts() == {"sent": 1, "dropped.invalid": 1}
        assert len(rig.rig.said("log")) == 1


def test_a_failure_from_upstream_is_passed_on_without_being_processed() -> None:
    with loop_rig("every-frame") as rig:
        rig.feed.send(Kind.FAIL, pack_fail(header(7), "sent 3 times"))
        rig.arrive(1)
        rig.step_until_idle()
        frame, cause = unpack_fail(rig.collect(1)[0].body)
        assert (frame.key.seq, cause) == (7, "sent 3 times")
        assert rig.stage.seen == []
        assert rig.counts() == {"sent": 1, "acknowledged": 1}


def test_the_stage_is_stamped_with_when_its_work_began_and_ended() -> None:
    with loop_rig("live") as rig:
        rig.send(0)
        rig.step_until_idle()
        (stamp,) = unpack_frame(rig.collect(1)[0].body).stamps
        now_ns = rig.rig.host.clock.now_ns()
        assert stamp == ("preprocess", now_ns, now_ns)
        assert rig.board.value("preprocess.processed") == 1


def test_the_board_shows_work_only_while_there_is_some() -> None:
    busy: list[int] = []
    stage = FakeStage()
    with loop_rig("live", stage) as rig:
        process = stage.process

        def look(message: Received, header: FrameHeader) -> Output:
            busy.append(rig.board.value("preprocess.busy_since_ns"))
            return process(message, header)

        stage.process = look  # type: ignore[method-assign]
        rig.send(0)
        rig.step_until_idle()
        assert busy == [rig.rig.host.clock.now_ns()]
        assert rig.board.value("preprocess.busy_since_ns") == 0


@pytest.mark.parametrize(("mode", "again"), [("every-frame", True), ("every-frame", False), ("live", True)])
def test_output_that_died_with_its_reader_goes_to_its_successor_where_that_is_right(
    mode: str, again: bool
) -> None:
    # A mask on its way to a display that was restarted was computed, lost, and never asked for again.
    stage = FakeStage()
    stage.sends_again = again
    with loop_rig(mode, stage) as rig:
        rig.send(*((0, 1) if mode == "every-frame" else (1,)))
        rig.step_until_idle()
        rig.collect(1)
        rig.takes.close()
        host = rig.rig.host
        rig.takes = LinkReader(host.context, host.endpoint(WRITES), WRITES, host.board, host.clock)
        rig.out = []

        def met() -> bool:
            clock_of(host).advance_ns(200_000_000)
            rig.loop.step()
            rig.out += rig.takes.receive()
            return rig.loop.writer._reader_epoch == rig.takes.epoch

        until(met, rig.sockets)
        sent_again = mode == "every-frame" and again
        if sent_again:
            rig.step_until_idle()
            assert [unpack_frame(message.body).key.seq for message in rig.collect(2)] == [0, 1]
        assert rig.board.value(f"{WRITES}.resent") == (2 if sent_again else 0)
        assert unaccounted(rig.board, WRITES) == rig.loop.writer.under_way == (2 if sent_again else 0)


def test_run_opens_says_ready_works_and_closes_when_told_to_stop() -> None:
    with loop_rig("every-frame") as rig:
        rig.send(0)
        opened: list[str] = []
        rig.rig.ours.send({"t": "stop"})
        rig.loop.run(lambda: opened.append("opened"))
        assert opened == ["opened"]
        assert [message["t"] for message in rig.rig.listen()] == ["ready"]
        assert rig.stage.closed == 1
        assert rig.loop.reader.socket.closed and rig.loop.writer.socket.closed


def test_a_stage_that_cannot_open_is_closed_and_never_says_ready() -> None:
    with loop_rig("live", FakeStage(open_error=ModelError("weights: missing"))) as rig:
        with pytest.raises(ModelError):
            rig.loop.run()
        assert rig.rig.said("ready") == []
        assert rig.stage.closed == 1


def test_a_stage_ends_when_the_supervisor_is_gone() -> None:
    with loop_rig("live") as rig:
        rig.rig.ours.close()
        rig.loop.run()
        assert rig.rig.host.stopping


def test_headers_are_read_by_the_kind_of_their_message() -> None:
    def message(kind: Kind, body: bytes) -> Received:
        return Received(kind, body, None, 0, 1, 1, b"")

    tensor = TensorHeader(header(4), (1,), (2, 2))
    assert header_of(message(Kind.FRAME, header(3).pack())) == header(3)
    assert header_of(message(Kind.TENSOR, tensor.pack())) == tensor
    assert frame_of(tensor) == header(4) == frame_of(header(4))
    with pytest.raises(WireError, match="kind: MASK; not for this stage"):
        header_of(message(Kind.MASK, b""))


def test_a_stamp_is_put_on_the_frame_inside_a_header() -> None:
    stamp = Stamp("infer", 1, 2)
    assert stamped(header(1), stamp).stamps == (stamp,)
    assert stamped(TensorHeader(header(1), (), (2, 2)), stamp).frame.stamps == (stamp,)
