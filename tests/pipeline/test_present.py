"""The display loop, stepped by hand between real links: video first, masks when there is time, every frame counted."""

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest

from endostream.configs.schema import Config
from endostream.models.transform import Transform
from endostream.pipeline.board import Board
from endostream.pipeline.frame import FrameKey, ImageBgr, MaskState, Presented, SizeHW
from endostream.pipeline.host import RingLease
from endostream.pipeline.link import LinkReader, LinkWriter, Received, unaccounted
from endostream.pipeline.overlay import OverlayStage
from endostream.pipeline.present import Presenter
from endostream.pipeline.ring import FrameRing
from endostream.pipeline.sink import SINKS, SinkContext, SinkSpec
from endostream.pipeline.supervision import StageState
from endostream.pipeline.wire import FrameHeader, Kind, MaskHeader, pack_fail, unpack_presented

from .core_fixtures import (
    PERIOD_NS,
    HostRig,
    clock_of,
    config_of,
    header,
    host_rig,
    ring_of,
    until,
    write,
    zmq_context,
)

FRAMES, MASKS, RECORD = "capture-overlay", "infer-overlay", "overlay-record"
SIZE, INPUT = (40, 60), (32, 32)
SECOND_NS = 1_000_000_000
NO_HUD = config_of(overlay={"hud": False})


class FakeWindow:
    """Presents by keeping a copy."""

    shown: ClassVar[list[tuple[int, MaskState, bytes, bool]]] = []
    causes: ClassVar[list[str]] = []

    def __init__(self, spec: SinkSpec, context: SinkContext) -> None:
        self.wants_stop = False

    def write(self, presented: Presented) -> None:
        seq, note = presented.frame.key.seq, presented.annotation
        self.shown.append((seq, note.state, presented.frame.image_bgr.tobytes(), presented.synthetic))
        self.causes.append(note.cause)

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, MaskState, bytes, bool]]:
    monkeypatch.setitem(SINKS, "null", f"{__name__}:FakeWindow")
    monkeypatch.setattr("endostream.pipeline.present.gc.freeze", lambda: None)
    FakeWindow.shown, FakeWindow.causes = [], []
    return FakeWindow.shown


@dataclass
class PresentRig:
    rig: HostRig
    presenter: Presenter
    ring: FrameRing
    frames: LinkWriter
    masks: LinkWriter
    record: LinkReader | None
    recorded: list[Received] = field(default_factory=list)
    credit: list[object] = field(default_factory=list)

    @property
    def board(self) -> Board:
        return self.rig.host.board

    @property
    def states(self) -> list[tuple[int, str]]:
        return [(seq, state.label) for seq, state, _, _ in FakeWindow.shown]

    def counts(self, link: str = FRAMES) -> dict[str, int]:
        return {cell: count for cell, count in self.board.group(link).items() if count}

    def frame(self, seq: int, **more: Any) -> FrameHeader:
        slot = seq % self.ring.shape.slots
        generation = write(self.ring, slot, 100 + seq)
        fields = {"size_hw": SIZE, "slot": slot, "generation": generation, "capture_ns": seq * PERIOD_NS}
        return header(seq, **{**fields, **more})

    def send_frame(self, made: FrameHeader) -> None:
        assert self.frames.send(Kind.FRAME, made.pack(), token=made.key.seq)
        self._wait(self.presenter._frames_link)

    def send_mask(self, made: FrameHeader, packed: bytes | None = None, **change: Any) -> None:
        square = np.zeros(INPUT, np.bool_)
        square[10:20, 10:20] = True
        packed = np.packbits(square).tobytes() if packed is None else packed
        fields = {"transform": Transform.of_picture(SIZE, INPUT).to_ints(), "size_hw": INPUT, **change}
        made_header = MaskHeader(frame=made, crc32=zlib.crc32(packed), **fields)
        assert self.masks.send(Kind.MASK, made_header.pack(), packed)
        self._wait(self.presenter._masks_link)

    def send_fail(self, made: FrameHeader, cause: str) -> None:
        assert self.masks.send(Kind.FAIL, pack_fail(made, cause))
        self._wait(self.presenter._masks_link)

    def end(self, *links: LinkWriter) -> None:
        for link in links or (self.frames, self.masks):
            link.send_end()
            self._wait(self.presenter._frames_link if link is self.frames else self.presenter._masks_link)

    @staticmethod
    def _wait(reader: LinkReader) -> None:
        until(lambda: reader.socket.poll(0), (reader.socket,))

    def go_on(self) -> None:
        """Step until there is nothing to do but to wait, and read the credit that came back."""
        while self.presenter.step():
            self.rig.host.read_control()
        self.credit += [token for token in self.frames.service() if token is not None]
        self.masks.service()

    def run_to(self, condition: Any) -> None:
        def step() -> bool:
            self.go_on()
            if self.record is not None:
                self.recorded += self.record.receive()
            return bool(condition())

        until(step, (self.frames.socket, self.masks.socket))


@contextmanager
def present_rig(
    mode: str = "live", config: Config | None = None, sinks: tuple[str, ...] = (), sources: int = 1
) -> Iterator[PresentRig]:
    names = tuple(f"{number}.avi" for number in range(sources))
    with (
        zmq_context() as context,
        host_rig("overlay", context, mode, config or NO_HUD, sinks, names) as rig,
        ring_of(16, SIZE) as ring,
        ring_of(10, SIZE, 7) as presented,
    ):
        host = rig.host
        rig.give_ring("captured", ring)
        host.read_control()
        board = host.board
        for stage in ("preprocess", "infer"):
            board.cell(f"{stage}.state").value = StageState.RUNNING
        presenter = Presenter(host)
        host.lease = lambda role, size_hw: RingLease(presented, 1, 2)  # type: ignore[method-assign]
        frames = LinkWriter(context, host.endpoint(FRAMES), FRAMES, 16, board, host.clock)
        masks = LinkWriter(context, host.endpoint(MASKS), MASKS, 16, board, host.clock)
        record = LinkReader(context, host.endpoint(RECORD), RECORD, board, host.clock) if sinks else None
        clock_of(host).advance_ns(100_000_000)
        made = PresentRig(rig, presenter, ring, frames, masks, record)
        writers = [writer for writer in (frames, masks, presenter._handover._writer) if writer is not None]
        try:
            made.run_to(lambda: all(writer.connected for writer in writers))
            yield made
        finally:
            for end in (
                presenter._frames_link,
                presenter._masks_link,
                presenter._handover,
                frames,
                masks,
                record,
            ):
                if end is not None:
                    end.close()


def test_live_every_frame_is_presented_at_once_without_a_mask() -> None:
    with present_rig() as rig:
        for seq in range(3):
            rig.send_frame(rig.frame(seq))
            rig.go_on()
        assert rig.states == [(0, "absent"), (1, "absent"), (2, "absent")]
        assert [set(picture) for _, _, picture, _ in FakeWindow.shown] == [{100}, {101}, {102}]
        rig.run_to(lambda: rig.counts() == {"sent": 3, "acknowledged": 3})
        assert rig.board.value("overlay.presented") == 3


def test_live_the_newest_mask_is_drawn_and_its_delay_counted_once() -> None:
    with present_rig() as rig:
        made = [rig.frame(seq) for seq in range(4)]
        for frame in made:
            rig.send_frame(frame)
            rig.go_on()
            if frame is made[1]:
                rig.send_mask(frame)
                rig.go_on()
        assert rig.states == [(0, "absent"), (1, "absent"), (2, "fresh"), (3, "held")]
        assert [len(set(picture)) > 1 for _, _, picture, _ in FakeWindow.shown] == [False, False, True, True]
        assert rig.board.histogram("annotation_delay").n == 1
        assert rig.board.value("overlay.masks_presented") == 1


def test_a_delay_put_in_on_purpose_is_in_the_measured_delay_of_every_frame() -> None:
    config = config_of(overlay={"hud": False, "added_delay_ms": 250.0})
    with present_rig(config=config) as rig:
        clock = clock_of(rig.rig.host)
        for seq in range(2):
            captured_ns = clock.now_ns()
            rig.send_frame(rig.frame(seq, capture_ns=captured_ns))
            rig.go_on()
            assert clock.now_ns() == captured_ns + 250_000_000
        delay = rig.board.histogram("video_delay")
        assert (delay.min_ns, delay.max_ns) == (250_000_000, 250_000_000)
        assert rig.board.value("overlay.presented") == 2


def test_live_frames_go_before_masks() -> None:
    with present_rig() as rig:
        made = [rig.frame(seq) for seq in range(2)]
        rig.send_mask(made[0])
        rig.send_frame(made[1])
        rig.go_on()
        assert rig.states == [(1, "absent")]


def test_live_a_mask_is_taken_between_frames_even_if_one_always_waits() -> None:
    with present_rig() as rig:
        made = [rig.frame(seq) for seq in range(3)]
        rig.send_mask(made[0])
        for one in made:
            rig.send_frame(one)
        rig.go_on()
        assert rig.states == [(0, "absent"), (1, "fresh"), (2, "held")]


@pytest.mark.parametrize("stage", ["infer", "preprocess"])
def test_live_a_dead_annotation_path_shows_as_failed_and_the_video_goes_on(stage: str) -> None:
    with present_rig() as rig:
        cell = rig.board.cell(f"{stage}.state")
        made = rig.frame(0)
        rig.send_frame(made)
        rig.send_mask(made)
        rig.go_on()
        for seq, state in enumerate((StageState.DOWN, StageState.GIVEN_UP, StageState.RUNNING), 1):
            cell.value = state
            rig.send_frame(rig.frame(seq))
            rig.go_on()
        assert rig.states == [(0, "absent"), (1, "failed"), (2, "failed"), (3, "held")]


def test_live_a_stage_that_starts_is_down_only_if_it_has_been_up() -> None:
    with present_rig() as rig:
        rig.board.cell("infer.state").value = StageState.STARTING
        rig.send_frame(rig.frame(0))
        rig.go_on()
        rig.board.cell("infer.restarts").value = 1
        rig.send_frame(rig.frame(1))
        rig.go_on()
        assert rig.states == [(0, "absent"), (1, "failed")]


def test_live_an_engine_that_is_being_built_is_said_with_every_frame() -> None:
    with present_rig() as rig:
        rig.board.cell("infer.state").value = StageState.STARTING
        rig.board.cell("infer.building_percent").value = 40
        rig.send_frame(rig.frame(0))
        rig.go_on()
        rig.board.cell("infer.restarts").value = 1
        rig.send_frame(rig.frame(1))
        rig.go_on()
        rig.board.cell("infer.state").value = StageState.RUNNING
        rig.board.cell("infer.building_percent").value = 0
        rig.send_frame(rig.frame(2))
        rig.go_on()
        assert rig.states == [(0, "absent"), (1, "failed"), (2, "absent")]
        assert FakeWindow.causes == ["building engine 40 %", "building engine 40 %", ""]


def test_live_a_failed_answer_shows_as_failed_until_there_is_a_mask_again() -> None:
    with present_rig() as rig:
        made = [rig.frame(seq) for seq in range(3)]
        rig.send_frame(made[0])
        rig.go_on()
        rig.send_fail(made[0], "out of memory")
        rig.go_on()
        rig.send_frame(made[1])
        rig.go_on()
        rig.send_mask(made[1])
        rig.go_on()
        rig.send_frame(made[2])
        rig.go_on()
        assert rig.states == [(0, "absent"), (1, "failed"), (2, "fresh")]


def test_live_what_lags_too_far_is_dropped_oldest_first() -> None:
    with present_rig(config=config_of(overlay={"hud": False, "max_backlog_frames": 2})) as rig:
        for seq in range(5):
            rig.frames.send(Kind.FRAME, rig.frame(seq).pack())
        until(lambda: rig.presenter._frames_link.socket.poll(0))
        rig.run_to(lambda: sum(rig.counts().get(c, 0) for c in ("acknowledged", "dropped.superseded")) == 5)
        presented = [seq for seq, _ in rig.states]
        assert presented == sorted(presented)
        assert presented[-2:] == [3, 4]
        assert len(presented) + rig.counts().get("dropped.superseded", 0) == 5


def test_live_an_overwritten_picture_is_dropped_and_never_shown() -> None:
    with present_rig() as rig:
        old = rig.frame(0)
        write(rig.ring, old.slot, 1)
        rig.send_frame(old)
        rig.go_on()
        assert rig.states == []
        rig.run_to(lambda: rig.counts() == {"sent": 1, "dropped.overwritten": 1})


def test_a_frame_that_was_presented_is_not_presented_again() -> None:
    with present_rig() as rig:
        made = rig.frame(3)
        for _ in range(2):
            rig.send_frame(made)
            rig.go_on()
        assert rig.states == [(3, "absent")]
        rig.run_to(lambda: rig.counts() == {"sent": 2, "acknowledged": 1, "dropped.duplicate": 1})


def test_the_next_source_and_the_next_loop_start_counting_anew() -> None:
    with present_rig(sources=2) as rig:
        keys = [FrameKey(0, 0, 5), FrameKey(1, 0, 0), FrameKey(0, 1, 0)]
        for number, key in enumerate(keys):
            rig.send_frame(rig.frame(number, key=key))
            rig.go_on()
        assert [seq for seq, _ in rig.states] == [5, 0, 0]


def test_live_a_mask_of_the_source_before_is_discarded() -> None:
    with present_rig(sources=2) as rig:
        rig.send_frame(rig.frame(0, key=FrameKey(1, 0, 0)))
        rig.go_on()
        rig.send_mask(rig.frame(9))
        rig.go_on()
        rig.send_frame(rig.frame(1, key=FrameKey(1, 0, 1)))
        rig.go_on()
        assert rig.states == [(0, "absent"), (1, "absent")]
        assert rig.counts(MASKS) == {"sent": 1, "dropped.source_changed": 1}


@pytest.mark.parametrize(
    ("kind", "body"),
    [(Kind.FRAME, b"x"), (Kind.MASK, b""), (Kind.FRAME, header(key=FrameKey(5, 0, 0)).pack())],
)
def test_a_frame_message_that_cannot_be_read_is_dropped_as_invalid(kind: Kind, body: bytes) -> None:
    with present_rig() as rig:
        rig.frames.send(kind, body)
        rig.run_to(lambda: rig.counts() == {"sent": 1, "dropped.invalid": 1})
        rig.send_frame(rig.frame(0))
        rig.go_on()
        assert rig.states == [(0, "absent")]


def test_a_mask_that_does_not_fit_is_dropped_as_invalid() -> None:
    with present_rig() as rig:
        rig.send_mask(rig.frame(0), b"short")
        rig.go_on()
        rig.send_mask(rig.frame(0), transform=(1, 2, 3))
        rig.go_on()
        assert rig.counts(MASKS) == {"sent": 2, "dropped.invalid": 2}


def test_where_drawing_fails_the_raw_picture_is_shown_and_said_to_be_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def spoil(self: OverlayStage, image_bgr: np.ndarray, *_: Any) -> None:
        image_bgr[:20] = 0
        raise RuntimeError("no ink")

    monkeypatch.setattr(OverlayStage, "draw", spoil)
    with present_rig() as rig:
        rig.send_frame(rig.frame(0))
        rig.go_on()
        assert rig.states == [(0, "failed")]
        assert set(FakeWindow.shown[0][2]) == {100}
        assert rig.board.value("overlay.draw_errors") == 1


def test_live_a_silent_source_shows_as_no_signal_and_is_counted_apart() -> None:
    with present_rig() as rig:
        rig.send_frame(rig.frame(0))
        rig.go_on()
        clock = clock_of(rig.rig.host)
        clock.advance_ns(SECOND_NS // 2 - 1)
        rig.go_on()
        assert rig.board.value("overlay.synthetic") == 0
        for cards in (1, 2):
            clock.advance_ns(SECOND_NS // 4)
            rig.go_on()
            rig.go_on()
            assert rig.board.value("overlay.synthetic") == cards
        assert [synthetic for *_, synthetic in FakeWindow.shown] == [False, True, True]
        assert rig.board.value("overlay.presented") == 1


def test_live_the_end_waits_a_moment_for_the_last_masks_and_no_longer() -> None:
    with present_rig() as rig:
        rig.send_frame(rig.frame(0))
        rig.go_on()
        rig.end(rig.frames)
        rig.go_on()
        assert rig.rig.said("presented_all") == []
        clock_of(rig.rig.host).advance_ns(SECOND_NS // 2 + 1)
        rig.go_on()
        rig.go_on()
        assert len(rig.rig.said("presented_all")) == 1


def test_the_end_of_both_paths_is_the_end() -> None:
    with present_rig() as rig:
        rig.send_frame(rig.frame(0))
        rig.end()
        rig.go_on()
        assert len(rig.rig.said("presented_all")) == 1
        assert rig.states == [(0, "absent")]


def test_every_frame_waits_for_its_own_answer_and_is_presented_in_order() -> None:
    with present_rig("every-frame") as rig:
        made = [rig.frame(seq) for seq in range(3)]
        for frame in made:
            rig.send_frame(frame)
        rig.go_on()
        assert rig.states == []
        rig.send_mask(made[1])
        rig.go_on()
        assert rig.states == []
        rig.send_mask(made[0])
        rig.go_on()
        assert rig.states == [(0, "fresh"), (1, "fresh")]
        rig.send_fail(made[2], "sent 3 times")
        rig.go_on()
        assert rig.states[2] == (2, "failed")
        rig.run_to(lambda: rig.credit == [0, 1, 2])
        assert rig.counts(MASKS) == {"sent": 3, "acknowledged": 3}


def test_every_frame_answers_may_come_before_their_frames() -> None:
    with present_rig("every-frame") as rig:
        made = rig.frame(0)
        rig.send_mask(made)
        rig.go_on()
        rig.send_frame(made)
        rig.go_on()
        assert rig.states == [(0, "fresh")]


def test_every_frame_a_second_answer_is_a_duplicate_but_a_mask_beats_a_failure() -> None:
    with present_rig("every-frame") as rig:
        made = rig.frame(0)
        rig.send_fail(made, "infer: died")
        rig.go_on()
        rig.send_mask(made)
        rig.go_on()
        rig.send_mask(made)
        rig.go_on()
        rig.send_frame(made)
        rig.go_on()
        assert rig.states == [(0, "fresh")]
        rig.send_mask(made)
        rig.go_on()
        assert rig.counts(MASKS) == {"sent": 4, "acknowledged": 2, "dropped.duplicate": 2}


def test_every_frame_credit_returns_only_when_the_record_process_is_done() -> None:
    with present_rig("every-frame", sinks=("jsonl:o", "png:o")) as rig:
        assert rig.record is not None
        for seq in range(2):
            made = rig.frame(seq)
            rig.send_frame(made)
            rig.send_mask(made)
        rig.run_to(lambda: len(rig.recorded) == 2)
        assert rig.states == [(0, "fresh"), (1, "fresh")]
        assert rig.credit == []
        for message in rig.recorded:
            sent = unpack_presented(message.body)
            assert (sent.frame.ring, sent.annotation.state) == (7, MaskState.FRESH)
        rig.record.done(rig.recorded[1])
        rig.run_to(lambda: rig.credit == [1])
        rig.end()
        rig.go_on()
        assert rig.rig.said("presented_all") == []
        rig.record.done(rig.recorded[0])
        rig.run_to(lambda: rig.rig.said("presented_all"))
        assert rig.credit == [1, 0]
        rig.run_to(lambda: [m.kind for m in rig.recorded[2:]] == [Kind.EOS])


def test_live_credit_returns_at_once_and_the_record_process_gets_what_it_can_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("endostream.pipeline.handover.LOG_WINDOW", 2)
    config = config_of(overlay={"hud": False}, links={"window_frames": 2}, capture={"lookahead_frames": 1})
    with present_rig(config=config, sinks=("jsonl:o",)) as rig:
        for seq in range(5):
            rig.send_frame(rig.frame(seq))
            rig.go_on()
        rig.run_to(lambda: rig.credit == [0, 1, 2, 3, 4])
        assert rig.counts(RECORD) == {"sent": 5, "dropped.link_full": 3}
        assert unaccounted(rig.board, RECORD) == 2


def test_live_frames_for_logs_alone_go_on_past_the_window_of_pictures() -> None:
    config = config_of(overlay={"hud": False}, links={"window_frames": 2}, capture={"lookahead_frames": 1})
    with present_rig(config=config, sinks=("jsonl:o",)) as rig:
        for seq in range(5):
            rig.send_frame(rig.frame(seq))
            rig.go_on()
        rig.run_to(lambda: rig.credit == [0, 1, 2, 3, 4])
        assert rig.counts(RECORD) == {"sent": 5}


def test_every_frame_a_frame_nobody_will_answer_is_given_up_in_mid_stream_too() -> None:
    # Waiting for the end of the stream to give it up was a deadlock: capture waited for this frame's credit.
    with present_rig("every-frame") as rig:
        clock = clock_of(rig.rig.host)
        clock.advance_ns(100 * SECOND_NS)
        rig.send_frame(rig.frame(0))
        rig.go_on()
        clock.advance_ns(10 * SECOND_NS - 1)
        rig.go_on()
        assert rig.states == []
        clock.advance_ns(1)
        rig.go_on()
        assert rig.states == [(0, "failed")]
        rig.run_to(lambda: rig.credit == [0])


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("infer.state", StageState.STARTING),
        ("infer.state", StageState.DOWN),
        ("preprocess.state", StageState.STARTING),
        ("infer.busy_since_ns", 1),
        ("preprocess.busy_since_ns", 1),
    ],
)
def test_every_frame_a_frame_is_not_given_up_while_an_answer_may_still_come(cell: str, value: int) -> None:
    # A network that took half a minute to load lost all frames of a short recording.
    with present_rig("every-frame") as rig:
        rig.board.cell(cell).value = value
        made = rig.frame(0)
        rig.send_frame(made)
        rig.end(rig.frames)
        for _ in range(20):
            clock_of(rig.rig.host).advance_ns(5 * SECOND_NS)
            rig.go_on()
        assert rig.states == []
        rig.send_mask(made)
        rig.go_on()
        assert rig.states == [(0, "fresh")]


class FakeOperator:
    """Keeps every picture it is offered, as a snapshot would be."""

    def __init__(self) -> None:
        self.kept: list[tuple[bytes, bytes]] = []

    def service(self) -> None: ...

    def expect(self, size_hw: SizeHW) -> None: ...

    def keep_picture(self, image_bgr: ImageBgr, copy_raw: Callable[[ImageBgr], bool]) -> None:
        raw = np.empty_like(image_bgr)
        assert copy_raw(raw)
        self.kept.append((image_bgr.tobytes(), raw.tobytes()))

    def close(self) -> None: ...


@pytest.mark.parametrize("blank", [False, True])
def test_a_snapshot_is_blanked_as_recordings_are(blank: bool) -> None:
    """Names may be burnt in beside the view; as long as that is unknown, everything is black."""
    config = config_of(overlay={"hud": False}, record={"blank_outside_view": blank})
    with present_rig(config=config) as rig:
        operator: Any = FakeOperator()
        rig.presenter._operator = operator
        rig.send_frame(rig.frame(0))
        rig.go_on()
        captured, black = np.full((*SIZE, 3), 100, np.uint8).tobytes(), bytes(3 * SIZE[0] * SIZE[1])
        assert operator.kept == [(black, black) if blank else (captured, captured)]
        assert FakeWindow.shown[0][2] == captured  # the screen is not blanked
