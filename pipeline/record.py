"""The record process: every sink that does not present, and the recorded session, each in a thread of its own.

Separate from the display process because encoding takes longer than a frame may wait (x264 ultrafast: 17.6 ms p50,
24.5 ms p99 for a 1080p frame on two cores). In live mode a picture is copied out of the ring and offered to each
sink; what a sink has no room for is dropped and counted for that sink alone. In every-frame mode nothing is copied
and nothing dropped: a frame's credit goes back when every sink has written it. What a sink does with a frame is its
own thread's business (``sink_thread.py``), what a session is that of ``session_recorder.py``.
"""

import contextlib
import os
import queue
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from .frame import Frame, ImageBgr, Presented, SizeHW
from .handover import LOG_WINDOW, NO_RING, needs_picture, writes_logs_only
from .host import StageHost
from .link import LinkReader, Received
from .ring import READ_AHEAD_BYTES
from .sessions.packets import unpack_packet
from .sessions.session_recorder import SessionRecorder
from .sink import Sink, SinkContext, SinkSpec, open_sink, parse_sink
from .sinks.sink_thread import Delivery, Job, Opener, SinkThread
from .wire import Kind, Place, PresentedHeader, WireError, unpack_presented

if TYPE_CHECKING:
    from endostream.models.field_of_view import FieldOfView

_NO_PICTURE = np.empty((0, 0, 3), np.uint8)
_SHUT_DOWN_S = 1.2
"""What the sinks get for finishing their files when the run is cut short."""
_PACKET_PATIENCE_S, _LIVE_PACKET_PATIENCE_S = 1.0, 0.05
"""Most that a frame waits for the packet it was decoded from, in every-frame and in live mode."""


@dataclass(slots=True)
class _Pictures:
    """The pictures of one frame as they go to the sinks, and what of them was copied."""

    marked_bgr: ImageBgr
    raw_bgr: ImageBgr | None = None
    buffers: list[ImageBgr] = field(default_factory=list)


class Record:
    """The main thread of the record process: takes frames from the link and hands them to the sinks."""

    def __init__(self, host: StageHost) -> None:
        self.host = host
        self._every_frame = host.spec.every_frame
        self._reader = self._link("overlay-record")
        self._packets = self._link("capture-record") if host.spec.session else None
        self._fps: Fraction | None = None
        self._done: queue.SimpleQueue[Delivery] = queue.SimpleQueue()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        host.watch_fd(self._wake_read)
        self._buffers: dict[SizeHW, list[ImageBgr]] = {}
        self._processed = host.board.cell("record.processed")
        self._service = host.board.histogram("record.service")
        self._wait = host.board.histogram("record.wait")
        specs = [parse_sink(text) for text in host.spec.sinks]
        self._picture_sinks = any(needs_picture(spec) for spec in specs)
        wrap = _sink_wrapper(host)
        room = LOG_WINDOW if writes_logs_only(host.spec) else None
        self._sinks = [
            SinkThread(number, spec.label, host, self.finished, self._opener(spec, wrap), room)
            for number, spec in enumerate(specs)
        ]
        self._session = SessionRecorder(host, self.finished) if host.spec.session else None
        self._blanking = _Blanking() if host.config.record.blank_outside_view else None

    def _link(self, name: str) -> LinkReader:
        host = self.host
        reader = LinkReader(host.context, host.endpoint(name), name, host.board, host.clock)
        host.watch(reader.socket)
        return reader

    def _opener(self, spec: SinkSpec, wrap: Callable[[Sink], Sink]) -> Opener:
        return lambda: wrap(open_sink(spec, self.context()))

    @property
    def _threads(self) -> list[SinkThread]:
        return [*self._sinks, *(self._session.threads.values() if self._session else ())]

    def context(self) -> SinkContext:
        """What a sink may know of the run, as far as it is known when its first frame comes."""
        return SinkContext(self._fps, self.host.config.record.model_dump(), self.host.incarnation)

    def finished(self, delivery: Delivery) -> None:
        """Called by a sink's thread when it is done with its job of ``delivery``."""
        if delivery.one_done():
            self._done.put(delivery)
            with contextlib.suppress(BlockingIOError):  # the main thread has plenty to wake for already
                os.write(self._wake_write, b"1")

    def run(self) -> None:
        """Record until the end, or until told to stop; every output is finished either way."""
        for thread in self._threads:
            thread.start()
        self.host.say("ready")
        ended = False
        try:
            while not self.host.stopping:
                self.host.poll()
                self._read_inbox()
                self._settle()
                self._take_packets()
                for message in self._reader.receive():
                    ended = message.kind is Kind.EOS  # what comes behind an end takes it back
                    if not ended:
                        self._take(message)
                if self._session is not None:
                    self._session.look()
                if ended:
                    self._finish()
                    self.host.say("recorded_all")
                    ended = False
        finally:
            self._cut_short()
            self._reader.close()
            if self._packets is not None:
                self._packets.close()
            if not any(thread.is_alive() for thread in self._threads):
                os.close(self._wake_read)
                os.close(self._wake_write)

    def _read_inbox(self) -> None:
        while self.host.inbox:
            message = self.host.inbox.pop(0)
            if message["t"] == "source_info" and message["fps"]:
                self._fps = Fraction(message["fps"])
                if self._session is not None:
                    self._session.fps = self._fps
            elif message["t"] == "recording" and self._session is not None:
                self._session.switch(message["on"])

    def _settle(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        while not self._done.empty():
            self._free(self._done.get_nowait())

    def _free(self, delivery: Delivery) -> None:
        """Nobody needs this message any more."""
        if self._every_frame:
            delivery.reader.done(delivery.message)
        for buffer in delivery.buffers:
            self._buffers.setdefault((buffer.shape[0], buffer.shape[1]), []).append(buffer)

    # Packets

    def _take_packets(self) -> None:
        reader = self._packets
        if reader is None:
            return
        for message in reader.receive():
            if message.kind is Kind.PACKET:
                self._take_packet(reader, message)
            elif message.kind is not Kind.EOS:
                reader.drop(message, "invalid")

    def _take_packet(self, reader: LinkReader, message: Received) -> None:
        assert self._session is not None
        try:
            packet = unpack_packet(message.body, message.payload)
            if packet.source_id >= len(self.host.spec.sources):
                raise WireError(f"source: {packet.source_id}; expected below {len(self.host.spec.sources)}")
        except WireError as error:
            self.host.log_refusal(f"record: {error}")
            reader.drop(message, "invalid")
            return
        delivery = Delivery(reader, message, 1)
        self._hand_out(delivery, self._session.packet_jobs(delivery, packet))

    def _await_packet(self, packet_ns: int) -> None:
        """Frames and packets come by two links: give a frame's packet, if it is still to come, a little time."""
        if self._packets is None or self._session is None:
            return
        patience_s = _PACKET_PATIENCE_S if self._every_frame else _LIVE_PACKET_PATIENCE_S
        until_ns = self.host.clock.now_ns() + int(patience_s * 1e9)
        while self._session.lacks_packet(packet_ns):
            left_ms = (until_ns - self.host.clock.now_ns()) // 1_000_000
            if left_ms <= 0 or not self._packets.socket.poll(left_ms):
                return
            self._take_packets()

    # Frames

    def _take(self, message: Received) -> None:
        try:
            if message.kind is not Kind.PRESENTED:
                raise WireError(f"kind: {message.kind.name}; expected PRESENTED")
            header = unpack_presented(message.body)
        except WireError as error:
            self.host.log_refusal(f"record: {error}")
            self._reader.drop(message, "invalid")
            return
        self._wait.record(message.received_ns - header.present_ns)
        self._await_packet(header.frame.packet_ns)
        pictures = self._pictures(header)
        if pictures is None and header.synthetic:
            self._reader.done(message)
            return
        if pictures is None:
            self._reader.drop(message, "overwritten")
            return
        delivery = Delivery(self._reader, message, 1, pictures.buffers)
        self._hand_out(delivery, self._jobs(delivery, header, pictures))
        self._service.record(self.host.clock.now_ns() - message.received_ns)
        self._processed.add()

    def _pictures(self, header: PresentedHeader) -> _Pictures | None:
        """What the sinks need of the frame's pictures; None if the finished one is gone."""
        frame, session = header.frame, self._session
        pictures = _Pictures(_NO_PICTURE)
        if frame.ring != NO_RING and (
            self._picture_sinks or (session is not None and session.takes_pictures)
        ):
            place = Place(frame.ring, frame.slot, frame.generation)
            marked_bgr = self._picture(place, frame.size_hw, self._every_frame, pictures)
            if marked_bgr is None:
                return None
            pictures.marked_bgr = marked_bgr
        if session is not None and header.raw is not None and session.takes_raw(header):
            in_place = self._every_frame and self._blanking is None
            pictures.raw_bgr = self._picture(header.raw, frame.size_hw, in_place, pictures)
            if self._blanking is not None and pictures.raw_bgr is not None:
                self._blanking.blank(pictures.raw_bgr, header.blank_view)
        return pictures

    def _picture(self, place: Place, size_hw: SizeHW, in_place: bool, pictures: _Pictures) -> ImageBgr | None:
        """The picture in a slot: the slot itself, or a copy that ``pictures`` gives back; None if it is gone."""
        ring = self.host.ring(place.ring)
        if ring is None or ring.shape.size_hw != size_hw or not ring.is_current(place.slot, place.generation):
            return None
        if in_place:
            return ring.view(place.slot)
        spare = self._buffers.setdefault(size_hw, [])
        buffer = spare.pop() if spare else _buffer(size_hw)
        pictures.buffers.append(buffer)
        return buffer if ring.copy(place.slot, place.generation, buffer) else None

    def _jobs(
        self, delivery: Delivery, header: PresentedHeader, pictures: _Pictures
    ) -> list[tuple[SinkThread, Job]]:
        """One for each sink and each stream of the session."""
        sent = header.frame
        frame = Frame(sent.key, sent.pts, sent.time_base, sent.capture_ns, pictures.marked_bgr, sent.stamps)
        presented = Presented(
            frame,
            header.annotation,
            header.present_ns,
            header.annotation_delay_ns,
            header.synthetic,
            header.mask_stamps,
            header.hud,
            header.lost,
        )
        job = Job(delivery, presented, sent.key, header.present_ns, header.synthetic)
        jobs = [(sink, job) for sink in self._sinks]
        if self._session is not None:
            mask = delivery.message.payload or b""
            jobs += self._session.frame_jobs(delivery, header, presented, pictures.raw_bgr, mask)
        return jobs

    def _hand_out(self, delivery: Delivery, jobs: list[tuple[SinkThread, Job]]) -> None:
        delivery.open_jobs = (
            len(jobs) + 1
        )  # the last is ours, so that nothing is given back before all have it
        for thread, job in jobs:
            if self._every_frame:
                thread.put(job)
            elif not thread.offer(job):
                self.finished(delivery)
        if not self._every_frame:
            delivery.reader.done(delivery.message)
        if delivery.one_done():
            self._free(delivery)

    # The end

    def _finish(self) -> None:
        """Write all that is queued and finish every output."""
        for thread in self._threads:
            thread.put(None)
        for thread in self._threads:
            while thread.is_alive() and not self.host.stopping:
                thread.join(0.05)
                self.host.poll(0)
        self._settle()

    def _cut_short(self) -> None:
        """The run is over at once: what is being written is finished, what is queued is not."""
        for thread in self._threads:
            thread.give_up = True
            if thread.is_alive():
                thread.cut_short()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_SHUT_DOWN_S)
            if thread.is_alive():  # stuck in a write; what waits behind it is never written
                thread.leave_queued()


class _Blanking:
    """Blackens in the raw picture what lies outside the view that overlay blanked by."""

    def __init__(self) -> None:
        self._known: tuple[SizeHW, tuple[int, ...]] | None = None
        self._view: FieldOfView | None = None

    def blank(self, image_bgr: ImageBgr, view: tuple[int, ...]) -> None:
        """In place; all of it while the view is not known."""
        from endostream.models.field_of_view import FieldOfView, blank_outside

        size_hw = (image_bgr.shape[0], image_bgr.shape[1])
        if not view:
            image_bgr[:] = 0
            return
        if (size_hw, view) != self._known:  # an equal view is kept: it has its mask at hand
            self._known, self._view = (size_hw, view), FieldOfView.from_ints(size_hw, view)
        assert self._view is not None
        blank_outside(image_bgr, self._view)


def _sink_wrapper(host: StageHost) -> Callable[[Sink], Sink]:
    """What every sink is wrapped in: nothing, unless it must be able to go wrong on command."""
    if not host.spec.chaos:
        return lambda sink: sink
    from .reliability.chaos import ChaosSink, Switch

    return partial(ChaosSink, switch=Switch(host))


def _buffer(size_hw: SizeHW) -> ImageBgr:
    height, width = size_hw
    room = np.empty(height * width * 3 + READ_AHEAD_BYTES, np.uint8)
    return room[:-READ_AHEAD_BYTES].reshape(height, width, 3)


def run_record(host: StageHost) -> None:
    """Run the record process until the supervisor says stop."""
    Record(host).run()
