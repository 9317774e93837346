"""What the display process hands to the record process: a descriptor of each presented frame, and the end.

Separate from presenting, which must not wait for it. In live mode a frame is offered once and its slot is free
again; in every-frame mode it is kept until the record process is done with it, sent again if that dies, and only
then is its credit given back to capture.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from .easel import Canvas
from .host import RunSpec, StageHost
from .link import LinkWriter, Received
from .sink import SinkSpec, parse_sink, sink_class
from .wire import NOWHERE, Kind, PresentedHeader

NO_RING = NOWHERE.ring
"""Ring number of a presented frame whose picture no sink needs."""
LINK = "overlay-record"
LOG_WINDOW = 256
"""Frames that record may lag in live mode where nothing takes pictures: a log that waits costs no memory to speak of,
and one with holes is worth little."""


def needs_picture(spec: SinkSpec) -> bool:
    """Whether a sink takes pixels; one that does not sets ``needs_picture = False`` on its class."""
    return bool(getattr(sink_class(spec), "needs_picture", True))


def writes_logs_only(spec: RunSpec) -> bool:
    """Whether a live run records, and no picture of it; that may change when a recording is started."""
    pictures = spec.record_at_start or any(needs_picture(parse_sink(text)) for text in spec.sinks)
    return bool(spec.sinks) and not pictures and not spec.every_frame


@dataclass(frozen=True, slots=True)
class RecordingState:
    """What the record process last said of the session: whether it is recorded, where, and why it stopped."""

    on: bool = False
    path: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Handed:
    """A frame on its way to the record process: the message, where it came from, where it is drawn."""

    body: bytes
    mask: bytes
    message: Received
    canvas: Canvas


class Handover:
    """The way to the record process, if there is one.

    Args:
        host: the display process's surroundings.
        settled: called when nobody needs a frame any more: its credit and its canvas may be given back.
        wanted: called when frames are to be recorded from now on, in a run that began without.

    Attributes:
        recording: what is known of the recording of the session.
    """

    def __init__(
        self, host: StageHost, settled: Callable[[Received, Canvas], None], wanted: Callable[[], None]
    ) -> None:
        self.recording = RecordingState()
        self._every_frame = host.spec.every_frame
        self._settled = settled
        self._wanted = wanted
        self._host = host
        self._waiting: deque[Handed] = deque()
        self._end_told = False
        self._resent = host.board.cell(f"{LINK}.resent")
        self._not_handed = host.board.cell("overlay.not_handed")
        self._without_packet = host.board.cell("overlay.handed_without_packet")
        self._writer: LinkWriter | None = None
        if host.spec.records_at_start:
            self._open_link()

    def _open_link(self) -> None:
        host = self._host
        window = LOG_WINDOW if writes_logs_only(host.spec) else host.config.links.window_frames
        self._writer = LinkWriter(host.context, host.endpoint(LINK), LINK, window, host.board, host.clock)
        host.watch(self._writer.socket)

    def set_recording(self, on: bool) -> None:
        """Ask for recording to begin or to end; what becomes of it will stand in ``recording``."""
        self._host.say("recording", on=on)

    def is_linked(self) -> bool:
        """Whether the record process has answered, or there is none."""
        self.service()
        return self._writer is None or self._writer.connected

    def pass_on(self, message: Received, canvas: Canvas, header: PresentedHeader, mask: bytes = b"") -> bool:
        """Hand over one presented frame; ``header.frame`` is as captured, its place in the ring is filled in.

        ``mask`` holds the packed bits that ``header.mask`` describes. False if the record process had no room for it
        (live mode); with no such process, True.
        """
        frame = replace(header.frame, ring=NO_RING, slot=0, generation=0)
        if canvas.lease is not None:
            ring = canvas.lease.ring
            generation = ring.commit(canvas.slot)
            frame = replace(frame, ring=ring.shape.ring_id, slot=canvas.slot, generation=generation)
        if self._writer is None:
            self._not_handed.add()
            self._settled(message, canvas)
            return True
        body = replace(header, frame=frame).pack()
        self._end_told = False
        if not frame.packet_ns:
            self._without_packet.add()
        if self._every_frame:
            self._waiting.append(Handed(body, mask, message, canvas))
            self._flush()
            return True
        sent = self._writer.send(Kind.PRESENTED, body, mask or None)
        self._settled(message, canvas)
        return sent

    def pass_card(self, canvas: Canvas, header: PresentedHeader) -> bool:
        """Offer a picture of our own, in live mode; False if nobody takes it now, and it is counted nowhere."""
        if self._writer is None or not self._writer.can_send:
            return False
        frame = replace(header.frame, ring=NO_RING, slot=0, generation=0)
        if canvas.lease is not None:
            ring = canvas.lease.ring
            generation = ring.commit(canvas.slot)
            frame = replace(frame, ring=ring.shape.ring_id, slot=canvas.slot, generation=generation)
        self._end_told = False
        return self._writer.send(Kind.PRESENTED, replace(header, frame=frame).pack())

    def _flush(self) -> None:
        while self._writer is not None and self._waiting and self._writer.can_send:
            handed = self._waiting.popleft()
            self._writer.send(Kind.PRESENTED, handed.body, handed.mask or None, token=handed)

    def service(self) -> None:
        """Read what the record process says; settle what it is done with, send again what it lost."""
        self._read_inbox()
        if self._writer is None:
            return
        for token in self._writer.service():
            if isinstance(token, Handed):
                self._settled(token.message, token.canvas)
        lost = [token for token in self._writer.take_lost() if isinstance(token, Handed)]
        self._resent.add(len(lost))
        self._waiting.extendleft(reversed(lost))
        self._flush()

    def _read_inbox(self) -> None:
        while self._host.inbox:
            message = self._host.inbox.pop(0)
            if message["t"] == "record_restarted":
                self._end_told = False
            elif message["t"] == "recording_state":
                self.recording = RecordingState(
                    message["on"], message.get("path", ""), message.get("reason", "")
                )
                if self.recording.on:
                    self._expect_pictures()
            elif message["t"] == "record_link" and self._writer is None:
                self._open_link()
                self._expect_pictures()

    def _expect_pictures(self) -> None:
        """Pictures are recorded too from now on, so that no more may be under way than the ring holds."""
        self._wanted()
        if self._writer is not None:
            self._writer.window = self._host.config.links.window_frames

    def tell_end(self) -> bool:
        """Tell the record process that no frame follows; whether it knows, and in every-frame mode has them all."""
        if self._writer is None:
            return True
        if not self._end_told:
            if self._waiting or not self._writer.connected:
                return False
            self._writer.send_end()
            self._end_told = True
        return not (self._every_frame and self._writer.under_way)

    def close(self) -> None:
        """Close the link."""
        if self._writer is not None:
            self._writer.close()
