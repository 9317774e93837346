"""The display process: every captured frame is copied, drawn on and presented as it comes, with or without a mask.

Its loop serves frames first, and a mask when no frame waits or after a frame, so the video path never waits for the
annotation path (making a mask ready takes a fraction of a millisecond); if drawing itself fails, the raw picture is
shown. The picture is copied once, straight into the slot of the ring that the record process reads, and drawn on there.
One sink presents here; all others live in the record process. In every-frame mode a frame waits for its answer, and its
credit goes back when the record process is done with it.
"""

import gc
import zlib
from collections import deque
from dataclasses import dataclass, replace
from fractions import Fraction

import cv2

from .board import packed_size
from .easel import Canvas, Easel
from .frame import Annotation, Box, Frame, FrameKey, ImageBgr, MaskState, Presented, SizeHW, Stamp
from .handover import Handover, RecordingState, needs_picture
from .host import StageHost
from .hud import no_signal_picture
from .link import LinkReader, Received
from .losses import LossLog
from .overlay import Answer, Blanker, OverlayStage, answer_from_mask, answer_from_recorded, failure
from .sink import SinkContext, open_sink, parse_sink
from .source import is_live
from .supervision import StageState
from .tally import PresentTally
from .window.operator import Operator
from .window.window_sink import WindowSink
from .wire import (
    FrameHeader,
    Kind,
    Place,
    PresentedHeader,
    WireError,
    unpack_fail,
    unpack_frame,
    unpack_mask,
    unpack_presented,
)

_SILENCE_NS = 500_000_000
_SILENCE_PERIODS = 4
_FIRST_PICTURE_NS = 2_000_000_000
"""What a live source may take for its first picture until "no signal" is shown."""
_CARD_INTERVAL_NS = 200_000_000
_EXPECTED_SIZE_HW = (576, 720)
_FIRST_LINK_NS, _REPLAY_LINK_NS = 3_000_000_000, 15_000_000_000
"""For the record process at the start: a recording can wait, and a crowded machine needs it."""
_LAST_MASKS_NS = 500_000_000
_UNANSWERED_NS = 10_000_000_000
_WINDOW_PATIENCE_NS = 2_500_000_000
"""In every-frame mode every frame is shown: what a window may take for one until it counts as lost."""


@dataclass(slots=True)
class Waiting:
    """A frame that came and was not presented yet."""

    message: Received
    header: FrameHeader


class Presenter:
    """The loop of the display process."""

    def __init__(self, host: StageHost, overlay: OverlayStage | None = None) -> None:
        self.host = host
        config, board = host.config, host.board
        cv2.setNumThreads(1)
        # First, so that a window comes up while the rest is made ready.
        self._sink = open_sink(
            parse_sink(host.spec.presenting), SinkContext(None, config.window.model_dump(), host.incarnation)
        )
        self._every_frame = host.spec.every_frame
        self._max_backlog = config.overlay.max_backlog_frames
        self._added_delay_ns = int(config.overlay.added_delay_ms * 1e6)
        self._overlay = overlay or OverlayStage(config.overlay, config.infer.segmenter)
        self._frames_link = LinkReader(
            host.context, host.endpoint("capture-overlay"), "capture-overlay", board, host.clock
        )
        self._masks_link = LinkReader(
            host.context, host.endpoint("infer-overlay"), "infer-overlay", board, host.clock
        )
        host.watch(self._frames_link.socket)
        host.watch(self._masks_link.socket)
        shared = host.spec.record_at_start or any(needs_picture(parse_sink(text)) for text in host.spec.sinks)
        self._blanker = Blanker() if config.record.blank_outside_view else None
        # Where a key may start a recording, the ring is there before: making it would cost the video some frames.
        self._easel = Easel(host, shared or bool(host.spec.session and host.spec.presenting == "window"))
        self._frame_was_last = False
        self._getting_ready: SizeHW | None = None
        self._prepared_size = board.cell("overlay.prepared_size")
        self._prepared_size.value = 0
        self._handover = Handover(host, self._settle, self._easel.share)
        self._tally = PresentTally(board)
        self._losses = LossLog(self._tally.next_key())
        self._frames: deque[Waiting] = deque()
        self._masks: deque[Received] = deque()
        self._answers: dict[FrameKey, Answer] = {}
        self._ended_ns = 0
        self._annotations_ended = False
        self._end_told = False
        self._drawing_fails = False
        self._last_frame_ns = 0
        self._last_card_ns = 0
        self._last_answer_ns = host.clock.now_ns()
        self._last_header: FrameHeader | None = None
        self._header_to_come = self._expected_header()
        self._cells = {name: board.cell(f"overlay.{name}") for name in board.group("overlay")}
        self._up = {stage: board.cell(f"{stage}.state") for stage in ("preprocess", "infer")}
        self._building = board.cell("infer.building_percent")
        self._restarts = {stage: board.cell(f"{stage}.restarts") for stage in ("preprocess", "infer")}
        self._service = board.histogram("overlay.service")
        self._wait = board.histogram("overlay.wait")
        self._operator: Operator | None = None
        if isinstance(self._sink, WindowSink):
            self._sink.patience_ns = _WINDOW_PATIENCE_NS if self._every_frame else self._sink.patience_ns
            self._operator = Operator(host, self._sink, self.set_recording, lambda: self.recording)

    @property
    def recording(self) -> RecordingState:
        """What is known of the recording of the session."""
        return self._handover.recording

    def set_recording(self, on: bool) -> None:
        """Have the recording of the session started or stopped."""
        self._handover.set_recording(on)

    def run(self) -> None:
        """Present until told to stop."""
        gc.freeze()  # what is there by now stays; a collection in mid-run then has little to look at
        self._wait_for_record()
        if isinstance(self._sink, WindowSink) and not self.host.incarnation:
            self._sink.wait_until_open()
        self._prepare()
        self.host.say("ready")
        try:
            while not self.host.stopping:
                if self.step():
                    self.host.beat()
                    self.host.read_control()
                else:
                    self.host.poll(self._patience_ms())
        finally:
            if self._operator is not None:
                self._operator.close()
            self._sink.close()
            self._frames_link.close()
            self._masks_link.close()
            self._handover.close()

    def _wait_for_record(self) -> None:
        """At the start of a run: so that the first frame is recorded too; not for long, and not when restarted."""
        live = any(is_live(address) for address in self.host.spec.sources)
        until_ns = self.host.clock.now_ns() + (_FIRST_LINK_NS if live else _REPLAY_LINK_NS)
        while not (self.host.incarnation or self.host.stopping or self._handover.is_linked()):
            if self.host.clock.now_ns() > until_ns:
                return
            self._prepare()
            self.host.poll(20.0)

    def _prepare(self) -> bool:
        """Make ready for pictures of the size to come, and say so once it is done; whether there was anything to do."""
        size_hw = self._easel.prepare()
        if size_hw is not None:
            self._getting_ready = size_hw
            if self._operator is not None:
                self._operator.expect(size_hw)
        waits_for = self._getting_ready
        if waits_for is None or (isinstance(self._sink, WindowSink) and not self._sink.fits(waits_for)):
            return size_hw is not None
        self._prepared_size.value, self._getting_ready = packed_size(waits_for), None
        return True

    def _patience_ms(self) -> float:
        return 20.0 if self._ended_ns or self._every_frame else 100.0

    def step(self) -> bool:
        """Do the most urgent thing that can be done; False if there is nothing but to wait."""
        self._handover.service()
        if self._operator is not None:
            self._operator.service()
        for message in self._frames_link.receive():
            self._take_frame(message)
        self._masks.extend(self._masks_link.receive())
        if not self._every_frame:
            self._drop_backlog()
        # After each frame a mask may come first: where showing takes a whole period there is always a frame that waits.
        masks_turn = bool(self._masks) and self._frame_was_last and not self._every_frame
        if self._frames and not masks_turn and self._present_next():
            self._frame_was_last = True
            return True
        self._frame_was_last = False
        if self._masks:
            self._take_mask()
            return True
        if self._prepare():
            return True
        self._mind_the_end()
        self._mind_the_silence()
        return False

    # Frames

    def _take_frame(self, message: Received) -> None:
        if message.kind is Kind.EOS:
            self._ended_ns = self._ended_ns or self.host.clock.now_ns()
            return
        try:
            if message.kind is not Kind.FRAME:
                raise WireError(f"kind: {message.kind.name}; expected FRAME")
            header = unpack_frame(message.body)
            if header.key.source_id >= len(self.host.spec.sources):
                raise WireError(
                    f"source: {header.key.source_id}; expected below {len(self.host.spec.sources)}"
                )
            ring = self.host.ring(header.ring)
            if ring is not None and ring.shape.size_hw != header.size_hw:
                raise WireError(f"size: {header.size_hw}; expected that of its ring, {ring.shape.size_hw}")
        except WireError as error:
            self.host.log_refusal(f"overlay: {error}")
            self._frames_link.drop(message, "invalid")
            return
        waiting = next((frame for frame in self._frames if frame.header.key == header.key), None)
        if waiting is not None and waiting.message.writer_epoch != message.writer_epoch:
            # From a restarted capture, which does not know its predecessor's slots and may reuse them.
            self._frames_link.drop(waiting.message, "duplicate")
            waiting.message, waiting.header = message, header
            return
        if waiting is not None or self._is_done(header.key):
            self._frames_link.drop(message, "duplicate")
            return
        self._ended_ns = 0
        self._annotations_ended = self._end_told = False
        self._losses.received(header)
        self._frames.append(Waiting(message, header))

    def _is_done(self, key: FrameKey) -> bool:
        """Whether a frame was presented already, and handed to the record process if there is one.

        What an overlay that was killed had presented may have died with it on the way to record. In every-frame mode
        capture sends it again; it is presented again and counted once.
        """
        if not (self._every_frame and self.host.incarnation and self.host.spec.records_at_start):
            return self._tally.presented_before(key)
        last = None if self._last_header is None else self._last_header.key
        return last is not None and (key.loop, key.source_id, key.seq) <= (
            last.loop,
            last.source_id,
            last.seq,
        )

    def _drop_backlog(self) -> None:
        while len(self._frames) > self._max_backlog:
            waiting = self._frames.popleft()
            self._losses.lost(waiting.header.key, "superseded")
            self._frames_link.drop(waiting.message, "superseded")

    def _present_next(self) -> bool:
        """Present the oldest frame that waits; False if it has to go on waiting."""
        waiting = self._frames[0]
        header = waiting.header
        if self._every_frame:
            answer = self._answers.get(header.key) or self._give_up(waiting)
            if answer is None:
                return False
        ring = self.host.ring(header.ring)
        is_there = ring is not None and ring.is_current(header.slot, header.generation)
        canvas = self._easel.take(header.size_hw) if is_there else None
        if is_there and canvas is None:
            return False
        begun_ns = self.host.clock.now_ns()
        whole = (
            ring is not None
            and canvas is not None
            and ring.copy(header.slot, header.generation, canvas.image_bgr)
        )
        if canvas is not None and not whole:
            self._easel.discard(canvas)
        if not whole and self._every_frame and not self._ended_ns:
            return False  # capture was restarted and will send it again
        self._wait.record(begun_ns - header.capture_ns)
        self._frames.popleft()
        if canvas is None or not whole:
            self._answers.pop(header.key, None)
            self._losses.lost(header.key, "overwritten")
            self._frames_link.drop(waiting.message, "overwritten")
            return True
        if self._every_frame:
            del self._answers[header.key]
            down = ""
        else:
            answer, down = self._overlay.current(header), self._down()
        note, hud = self._draw(canvas.image_bgr, header, answer, down)
        self._present(waiting, canvas, note, answer, begun_ns, hud)
        return True

    def _draw(
        self, image_bgr: ImageBgr, header: FrameHeader, answer: Answer | None, down: str
    ) -> tuple[Annotation, Box | None]:
        note = self._overlay.annotate(header, answer, down, self._waits_for())
        try:
            hud = self._overlay.draw(image_bgr, note, answer, float(header.pts * header.time_base))
        except Exception as error:
            self._tally.draw_errors.add()
            if not self._drawing_fails:  # thirty lines a second would only hide what else is said
                self.host.log(
                    f"overlay: drawing failed: {type(error).__name__}: {error}; the raw picture is shown"
                )
            self._drawing_fails = True
            ring = self.host.ring(header.ring)
            if ring is not None:
                ring.copy(header.slot, header.generation, image_bgr)
            return Annotation(MaskState.FAILED, cause="drawing failed"), None
        self._drawing_fails = False
        return note, hud

    def _present(
        self,
        waiting: Waiting,
        canvas: Canvas,
        note: Annotation,
        answer: Answer | None,
        begun_ns: int,
        hud: Box | None,
    ) -> None:
        header = waiting.header
        frame = Frame(
            header.key, header.pts, header.time_base, header.capture_ns, canvas.image_bgr, header.stamps
        )
        if self._added_delay_ns:
            self.host.clock.sleep_until_ns(header.capture_ns + self._added_delay_ns)
        self._sink.write(Presented(frame, note, hud=hud, copy_raw=lambda out: self._copy_raw(header, out)))
        present_ns = self.host.clock.now_ns()
        drawn = self._sink.shown if isinstance(self._sink, WindowSink) else True
        first = drawn and answer is not None and not answer.presented and note.state.drawn
        delay_ns = present_ns - answer.capture_ns if first and answer is not None else None
        if answer is not None and first:
            answer.presented = True
        if not self._tally.presented_before(header.key):
            self._tally.count(header, note, present_ns, delay_ns, drawn)
        self._last_frame_ns = present_ns
        self._service.record(present_ns - begun_ns)
        self._blank(canvas.image_bgr, header, answer, hud)
        if self._operator is not None:
            self._operator.keep_picture(
                canvas.image_bgr, lambda out: self._copy_raw(header, out) and self._blank(out, header, answer)
            )
        stamps = (*header.stamps, Stamp("overlay", begun_ns, present_ns))
        way = answer.stamps if answer is not None and note.mask_seq is not None else ()
        shown = answer if answer is not None and note.mask_crc32 is not None else None
        header_done, lost = replace(header, stamps=stamps), self._losses.pending
        sent = PresentedHeader(header_done, note, present_ns, delay_ns, False, way, hud, lost)
        sent = replace(
            sent,
            raw=Place(header.ring, header.slot, header.generation),
            mask=None if shown is None else shown.shape,
            blank_view=() if self._blanker is None else self._blanker.view,
        )
        mask = b"" if shown is None else shown.packed
        if self._handover.pass_on(waiting.message, canvas, sent, mask):
            self._losses.told()
        else:
            self._losses.lost(header.key, "not_logged")
        self._last_header = header

    def _copy_raw(self, header: FrameHeader, out: ImageBgr) -> bool:
        ring = self.host.ring(header.ring)
        return ring is not None and ring.copy(header.slot, header.generation, out)

    def _blank(
        self, image_bgr: ImageBgr, header: FrameHeader, answer: Answer | None, hud: Box | None = None
    ) -> bool:
        """Make a picture fit to be kept; True, so that it can stand at the end of a condition."""
        if self._blanker is not None:
            self._blanker.blank(image_bgr, header, answer, hud)
        return True

    def _settle(self, message: Received, canvas: Canvas) -> None:
        """Nobody needs this frame any more."""
        self._easel.give_back(canvas)
        self._frames_link.done(message)

    # Masks

    def _take_mask(self) -> None:
        """Make one mask ready: in live mode the newest, in every-frame mode the next."""
        if not self._every_frame:
            while len(self._masks) > 1:
                self._drop_mask(self._masks.popleft())
        message = self._masks.popleft()
        if message.kind is Kind.EOS:
            self._annotations_ended = True
            return
        try:
            answer = self._answer(message)
        except Exception as error:  # whatever it is: the video goes on
            self.host.log_refusal(f"overlay: {error}")
            self._masks_link.drop(message, "invalid")
            return
        self._last_answer_ns = self.host.clock.now_ns()
        if self._every_frame:
            self._take_answer(message, answer)
            return
        if self._last_header is not None and answer.key[:2] != self._last_header.key[:2]:
            self._tally.masks_discarded.add()
            self._masks_link.drop(message, "source_changed")
            return
        replaced = self._overlay.take(answer)
        if replaced is not None and replaced.crc32 is not None:
            self._tally.masks_superseded.add()
        self._masks_link.done(message)

    def _drop_mask(self, message: Received) -> None:
        if message.kind is Kind.EOS:
            self._annotations_ended = True
        else:
            self._tally.masks_superseded.add()
            self._masks_link.drop(message, "superseded")

    def _answer(self, message: Received) -> Answer:
        if message.kind is Kind.FAIL:
            return failure(*unpack_fail(message.body))
        least, begun_ns = self.host.config.overlay.min_area_share, self.host.clock.now_ns()
        packed = message.payload or b""
        if message.kind is Kind.RECORDED:
            recorded = unpack_presented(message.body)
            self._check_size(recorded.frame.size_hw)
            return answer_from_recorded(recorded, packed, least)
        if message.kind is not Kind.MASK:
            raise WireError(f"kind: {message.kind.name}; expected MASK")
        header = unpack_mask(message.body)
        self._check_size(header.frame.size_hw)
        if zlib.crc32(packed) != header.crc32:
            raise WireError("mask: damaged on its way; its sum does not fit")
        answer = answer_from_mask(header, packed, least)
        answer.stamps = (*answer.stamps, Stamp("overlay", begun_ns, self.host.clock.now_ns()))
        return answer

    def _check_size(self, size_hw: SizeHW) -> None:
        """A mask costs memory by the size it claims: that must be the size of some picture there is."""
        if not self.host.has_ring_of(size_hw):
            raise WireError(f"size: {size_hw}; expected that of a ring")

    def _take_answer(self, message: Received, answer: Answer) -> None:
        known = self._answers.get(answer.key)
        if self._is_done(answer.key) or (known is not None and known.crc32 is not None):
            self._masks_link.drop(message, "duplicate")
            return
        self._answers[answer.key] = answer
        self._masks_link.done(message)

    def _give_up(self, waiting: Waiting) -> Answer | None:
        """In every-frame mode: a failure for a frame that nobody will answer any more, None while one may."""
        now_ns, header = self.host.clock.now_ns(), waiting.header
        if any(cell.value == StageState.GIVEN_UP for cell in self._up.values()):
            return self._answers.setdefault(header.key, failure(header, f"{self._down()}, given up"))
        if any(cell.value != StageState.RUNNING for cell in self._up.values()) or self._annotating():
            self._last_answer_ns = now_ns
        if now_ns - max(self._last_answer_ns, waiting.message.received_ns) < _UNANSWERED_NS:
            return None
        return self._answers.setdefault(header.key, failure(header, "no answer from the annotation path"))

    def _annotating(self) -> bool:
        """Whether the annotation path is at work on some frame."""
        return any(self.host.board.value(f"{stage}.busy_since_ns") for stage in self._up)

    def _waits_for(self) -> str:
        """What is being built before there can be a first mask, "" if nothing is."""
        percent = self._building.value
        return f"building engine {percent} %" if percent else ""

    def _down(self) -> str:
        """Which stage of the annotation path is down, "" if none is or if they are still starting."""
        for stage, cell in self._up.items():
            state = cell.value
            if state in (StageState.DOWN, StageState.GIVEN_UP) or (
                state == StageState.STARTING and self._restarts[stage].value
            ):
                return (stage == "infer" and self._waits_for()) or f"{stage} down"
        return ""

    # Ends and silence

    def _expected_header(self) -> FrameHeader | None:
        """What stands for the first frame of a live source until it comes; None where none is live."""
        if not any(is_live(address) for address in self.host.spec.sources):
            return None
        size_hw = self.host.config.live.size_hw or _EXPECTED_SIZE_HW
        now_ns = self.host.clock.now_ns()
        return FrameHeader(FrameKey(0, 0, 0), 0, Fraction(1, 90_000), now_ns, size_hw, 0, 0, 0)

    def _mind_the_end(self) -> None:
        if not self._ended_ns or self._frames:
            return
        waited_ns = self.host.clock.now_ns() - self._ended_ns
        if not (self._annotations_ended or self._every_frame or self._down() or waited_ns > _LAST_MASKS_NS):
            return  # so that the last frames' masks are counted
        if self._handover.tell_end() and not self._end_told:
            self._end_told = True
            self.host.say("presented_all")

    def _mind_the_silence(self) -> None:
        """By our own clock: a source that fell silent is shown as such, never as a picture that seems live."""
        header = self._last_header or self._header_to_come
        if self._every_frame or self._ended_ns or header is None:
            return
        now_ns = self.host.clock.now_ns()
        if self._last_header is None:
            limit_ns, silent_ns = _FIRST_PICTURE_NS, now_ns - header.capture_ns
        else:
            limit_ns = max(_SILENCE_NS, int(_SILENCE_PERIODS * (self._overlay.interval_ns or 0)))
            silent_ns = now_ns - self._last_frame_ns
        if silent_ns < limit_ns or now_ns - self._last_card_ns < _CARD_INTERVAL_NS:
            return
        self._last_card_ns = now_ns
        card = no_signal_picture(header.size_hw, silent_ns / 1e9)
        frame = Frame(header.key, header.pts, header.time_base, now_ns, card)
        self._sink.write(Presented(frame, Annotation(), now_ns, None, True))
        self._tally.synthetic.add()
        if self._last_header is not None:  # before that, nobody knows in which size to record
            self._record_card(card, self._last_header, now_ns)

    def _record_card(self, card: ImageBgr, last: FrameHeader, now_ns: int) -> None:
        """Recordings too show a silence as such: at its time, counted apart, and never in the way of a frame."""
        canvas = self._easel.take(last.size_hw)
        if canvas is None:
            return
        canvas.image_bgr[:] = card
        ticks = Fraction(now_ns - last.capture_ns, 1_000_000_000) / last.time_base
        header = replace(last, pts=last.pts + int(ticks), capture_ns=now_ns, stamps=())
        sent = PresentedHeader(header, Annotation(), now_ns, None, True)
        if self._handover.pass_card(canvas, sent):
            self._easel.give_back(canvas)
        else:
            self._easel.discard(canvas)


def run_overlay(host: StageHost) -> None:
    """Run the display process until the supervisor says stop."""
    overlay: OverlayStage | None = None
    if host.spec.chaos:
        from .reliability.chaos import ChaosOverlay, Switch

        overlay = ChaosOverlay(host.config.overlay, host.config.infer.segmenter, Switch(host))
    Presenter(host, overlay).run()
