"""What the display process hands to the record process: a descriptor of each presented frame, and the end.

Separate from presenting, which must not wait for it. In live mode a frame is offered once and its slot is free
again; in every-frame mode it is kept until the record process is done with it, sent again if that dies, and only
then is its credit given back to capture.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from .easel import Canvas
from .host import StageHost
from .link import LinkWriter, Received
from .sink import SinkSpec, sink_class
from .wire import Kind, PresentedHeader

NO_RING = (1 << 32) - 1
"""Ring number of a presented frame whose picture no sink needs."""
LINK = "overlay-record"


def needs_picture(spec: SinkSpec) -> bool:
    """Whether a sink takes pixels; one that does not sets ``needs_picture = False`` on its class."""
    return bool(getattr(sink_class(spec), "needs_picture", True))


@dataclass(frozen=True, slots=True)
class Handed:
    """A frame on its way to the record process: the message, where it came from, where it is drawn."""

    body: bytes
    message: Received
    canvas: Canvas


class Handover:
    """The way to the record process, if there is one.

    Args:
        host: the display process's surroundings.
        settled: called when nobody needs a frame any more: its credit and its canvas may be given back.
    """

    def __init__(self, host: StageHost, settled: Callable[[Received, Canvas], None]) -> None:
        self._every_frame = host.spec.every_frame
        self._settled = settled
        self._host = host
        self._waiting: deque[Handed] = deque()
        self._end_told = False
        self._resent = host.board.cell(f"{LINK}.resent")
        self._writer: LinkWriter | None = None
        if host.spec.sinks:
            window = host.config.links.window_frames
            self._writer = LinkWriter(host.context, host.endpoint(LINK), LINK, window, host.board, host.clock)
            host.watch(self._writer.socket)

    def is_linked(self) -> bool:
        """Whether the record process has answered, or there is none."""
        self.service()
        return self._writer is None or self._writer.connected

    def pass_on(self, message: Received, canvas: Canvas, header: PresentedHeader) -> bool:
        """Hand over one presented frame; ``header.frame`` is as captured, its place in the ring is filled in.

        False if the record process had no room for it (live mode); with no such process, True.
        """
        frame = replace(header.frame, ring=NO_RING, slot=0, generation=0)
        if canvas.lease is not None:
            ring = canvas.lease.ring
            generation = ring.commit(canvas.slot)
            frame = replace(frame, ring=ring.shape.ring_id, slot=canvas.slot, generation=generation)
        if self._writer is None:
            self._settled(message, canvas)
            return True
        body = replace(header, frame=frame).pack()
        self._end_told = False
        if self._every_frame:
            self._waiting.append(Handed(body, message, canvas))
            self._flush()
            return True
        sent = self._writer.send(Kind.PRESENTED, body)
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
            self._writer.send(Kind.PRESENTED, handed.body, token=handed)

    def service(self) -> None:
        """Read what the record process says; settle what it is done with, send again what it lost."""
        if self._writer is None:
            return
        for token in self._writer.service():
            if isinstance(token, Handed):
                self._settled(token.message, token.canvas)
        lost = [token for token in self._writer.take_lost() if isinstance(token, Handed)]
        self._resent.add(len(lost))
        self._waiting.extendleft(reversed(lost))
        while self._host.inbox:
            if self._host.inbox.pop(0)["t"] == "record_restarted":
                self._end_told = False
        self._flush()

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
