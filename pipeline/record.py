"""The record process: every sink that does not present, each in a thread with a bounded queue of its own.

Separate from the display process because encoding takes longer than a frame may wait (x264 ultrafast: 17.6 ms p50,
24.5 ms p99 for a 1080p frame on two cores). In live mode a picture is copied out of the ring and offered to each
sink; what a sink has no room for is dropped and counted for that sink alone. In every-frame mode nothing is copied
and nothing dropped: a frame's credit goes back when every sink has written it. A sink that fails is closed, counted
and reported; the others go on. After a restart a sink goes on where its predecessor's count stopped.
"""

import contextlib
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import TypeVar

import numpy as np

from endostream.configs.errors import EndostreamError

from .frame import Frame, FrameKey, ImageBgr, Presented, SizeHW
from .handover import NO_RING, needs_picture
from .host import StageHost
from .link import LinkReader, Received
from .ring import READ_AHEAD_BYTES
from .sink import Sink, SinkContext, SinkSpec, open_sink, parse_sink
from .wire import Kind, PresentedHeader, WireError, unpack_presented

T = TypeVar("T")

_NO_PICTURE = np.empty((0, 0, 3), np.uint8)
_SHUT_DOWN_S = 1.2
"""What the sinks get for finishing their files when the run is cut short."""


@dataclass(slots=True)
class Job:
    """One presented frame on its way through the sinks; ``open_sinks`` counts those not done with it."""

    message: Received
    presented: Presented
    open_sinks: int
    buffer: ImageBgr | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def one_done(self) -> bool:
        """Count one sink as done; True for the last."""
        with self.lock:
            self.open_sinks -= 1
            return self.open_sinks == 0


class SinkThread(threading.Thread):
    """Writes one sink. ``offer`` never waits; ``put`` does."""

    def __init__(self, number: int, spec: SinkSpec, record: "Record") -> None:
        super().__init__(name=spec.label, daemon=True)
        self.spec = spec
        self._record = record
        board = record.host.board
        self._cells = {name: board.cell(f"sink{number}.{name}") for name in board.group(f"sink{number}")}
        self._delay = board.histogram(f"sink{number}.write_delay")
        self._jobs: queue.Queue[Job | None] = queue.Queue(record.host.config.record.queue_frames)
        self._failed = False
        self.give_up = False

    def offer(self, job: Job) -> bool:
        """Take ``job`` if there is room; otherwise count it as dropped, unless it is a picture of our own."""
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            if not job.presented.synthetic:
                self._cells["dropped.sink_full"].add()
            return False
        return True

    def put(self, job: Job) -> None:
        """Take ``job``; waits for room, showing signs of life."""
        while self.is_alive():
            try:
                self._jobs.put(job, timeout=0.1)
                return
            except queue.Full:
                self._record.host.beat()

    def end(self) -> None:
        """Let what is queued be written, then finish the output."""
        while self.is_alive():
            try:
                self._jobs.put(None, timeout=0.1)
                return
            except queue.Full:
                self._record.host.beat()

    def run(self) -> None:
        """Open the sink with the first frame, write until the end, and finish the output."""
        sink: Sink | None = None
        try:
            while (job := self._jobs.get()) is not None:
                if self.give_up:
                    self._leave(job)
                    self.leave_queued()
                    break
                own = job.presented.synthetic
                if not self._failed and (own or not self._written_before(job.presented.frame.key)):
                    if sink is None:
                        sink = self._guarded(lambda: self._record.open_sink(self.spec))
                    if sink is not None:
                        self._write(sink, job)
                if self._failed and not own:
                    self._cells["dropped.sink_failed"].add()
                self._record.finished(job)
        finally:
            if sink is not None:
                self._guarded(sink.close)

    def _write(self, sink: Sink, job: Job) -> None:
        presented = job.presented
        self._guarded(lambda: sink.write(presented))
        if self._failed:
            return
        if presented.synthetic:
            self._cells["synthetic"].add()
            return
        key = presented.frame.key
        self._cells["next_loop"].value = key.loop
        self._cells["next_source_id"].value = key.source_id
        self._cells["next_seq"].value = key.seq + 1
        self._cells["written"].add()
        self._delay.record(self._record.host.clock.now_ns() - presented.present_ns)

    def leave_queued(self) -> None:
        """Count what is queued as not written, since the run was cut short."""
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._jobs.get_nowait()
                if job is not None:
                    self._leave(job)

    def _leave(self, job: Job) -> None:
        if not self._written_before(job.presented.frame.key):
            self._cells["dropped.end_of_run"].add()

    def _written_before(self, key: FrameKey) -> bool:
        """Whether this sink, before a restart, wrote the frame already (every-frame mode sends again)."""
        cells = self._cells
        last = (cells["next_loop"].value, cells["next_source_id"].value, cells["next_seq"].value)
        return (key.loop, key.source_id, key.seq) < last

    def _guarded(self, action: Callable[[], T]) -> T | None:
        try:
            return action()
        except Exception as error:
            self._failed = True
            self._cells["failed"].value = 1
            message = str(error) if isinstance(error, EndostreamError) else f"{type(error).__name__}: {error}"
            self._record.host.say("sink_failed", sink=self.spec.label, message=message)
            return None


class Record:
    """The main thread of the record process: takes frames from the link and hands them to the sinks."""

    def __init__(self, host: StageHost) -> None:
        self.host = host
        self._every_frame = host.spec.every_frame
        self._reader = LinkReader(
            host.context, host.endpoint("overlay-record"), "overlay-record", host.board, host.clock
        )
        host.watch(self._reader.socket)
        self._fps: Fraction | None = None
        self._done: queue.SimpleQueue[Job] = queue.SimpleQueue()
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
        self._wrap = _sink_wrapper(host)
        self._sinks = [SinkThread(number, spec, self) for number, spec in enumerate(specs)]

    def context(self) -> SinkContext:
        """What a sink may know of the run, as far as it is known when its first frame comes."""
        return SinkContext(self._fps, self.host.config.record.model_dump(), self.host.incarnation)

    def open_sink(self, spec: SinkSpec) -> Sink:
        """Open a sink; called by its own thread."""
        return self._wrap(open_sink(spec, self.context()))

    def finished(self, job: Job) -> None:
        """Called by a sink's thread when it is done with ``job``."""
        if job.one_done():
            self._done.put(job)
            with contextlib.suppress(BlockingIOError):  # the main thread has plenty to wake for already
                os.write(self._wake_write, b"1")

    def run(self) -> None:
        """Record until the end, or until told to stop; every output is finished either way."""
        for sink in self._sinks:
            sink.start()
        self.host.say("ready")
        ended = False
        try:
            while not self.host.stopping:
                self.host.poll()
                self._read_inbox()
                self._settle()
                for message in self._reader.receive():
                    ended = message.kind is Kind.EOS  # what comes behind an end takes it back
                    if not ended:
                        self._take(message)
                if ended:
                    self._finish()
                    self.host.say("recorded_all")
                    ended = False
        finally:
            self._cut_short()
            self._reader.close()
            if not any(sink.is_alive() for sink in self._sinks):
                os.close(self._wake_read)
                os.close(self._wake_write)

    def _read_inbox(self) -> None:
        while self.host.inbox:
            message = self.host.inbox.pop(0)
            if message["t"] == "source_info" and message["fps"]:
                self._fps = Fraction(message["fps"])

    def _settle(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        while not self._done.empty():
            job = self._done.get_nowait()
            if self._every_frame:
                self._reader.done(job.message)
            if job.buffer is not None:
                self._buffers.setdefault(job.presented.frame.image_bgr.shape[:2], []).append(job.buffer)

    def _take(self, message: Received) -> None:
        try:
            if message.kind is not Kind.PRESENTED:
                raise WireError(f"kind: {message.kind.name}; expected PRESENTED")
            header = unpack_presented(message.body)
        except WireError as error:
            self.host.log(f"record: {error}")
            self._reader.drop(message, "invalid")
            return
        self._wait.record(message.received_ns - header.present_ns)
        image_bgr = self._picture(header)
        if image_bgr is None and header.synthetic:
            self._reader.done(message)
            return
        if image_bgr is None:
            self._reader.drop(message, "overwritten")
            return
        self._hand_out(message, header, image_bgr)
        self._service.record(self.host.clock.now_ns() - message.received_ns)
        self._processed.add()

    def _picture(self, header: PresentedHeader) -> ImageBgr | None:
        """The finished picture: in live mode a copy, in every-frame mode the slot itself; None if it is gone."""
        frame = header.frame
        if frame.ring == NO_RING or not self._picture_sinks:
            return _NO_PICTURE
        ring = self.host.ring(frame.ring)
        if ring is None or not ring.is_current(frame.slot, frame.generation):
            return None
        if self._every_frame:
            return ring.view(frame.slot)
        spare = self._buffers.setdefault(frame.size_hw, [])
        buffer = spare.pop() if spare else _buffer(frame.size_hw)
        return buffer if ring.copy(frame.slot, frame.generation, buffer) else None

    def _hand_out(self, message: Received, header: PresentedHeader, image_bgr: ImageBgr) -> None:
        sent = header.frame
        frame = Frame(sent.key, sent.pts, sent.time_base, sent.capture_ns, image_bgr, sent.stamps)
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
        buffer = None if self._every_frame or image_bgr is _NO_PICTURE else image_bgr
        job = Job(message, presented, len(self._sinks), buffer)
        for sink in self._sinks:
            if self._every_frame:
                sink.put(job)
            elif not sink.offer(job):
                self.finished(job)
        if not self._every_frame:
            self._reader.done(message)

    def _finish(self) -> None:
        """Write all that is queued and finish every output."""
        for sink in self._sinks:
            sink.end()
        for sink in self._sinks:
            while sink.is_alive() and not self.host.stopping:
                sink.join(0.05)
                self.host.poll(0)
        self._settle()

    def _cut_short(self) -> None:
        """The run is over at once: what is being written is finished, what is queued is not."""
        for sink in self._sinks:
            sink.give_up = True
            if sink.is_alive():
                with contextlib.suppress(queue.Full):  # it looks at give_up with its next job
                    sink._jobs.put_nowait(None)
        for sink in self._sinks:
            if sink.is_alive():
                sink.join(_SHUT_DOWN_S)
            if sink.is_alive():  # stuck in a write; what waits behind it is never written
                sink.leave_queued()


def _sink_wrapper(host: StageHost) -> Callable[[Sink], Sink]:
    """What every sink is wrapped in: nothing, unless it must be able to go wrong on command."""
    if not host.spec.chaos:
        return lambda sink: sink
    from .chaos import ChaosSink, Switch

    return partial(ChaosSink, switch=Switch(host))


def _buffer(size_hw: SizeHW) -> ImageBgr:
    height, width = size_hw
    room = np.empty(height * width * 3 + READ_AHEAD_BYTES, np.uint8)
    return room[:-READ_AHEAD_BYTES].reshape(height, width, 3)


def run_record(host: StageHost) -> None:
    """Run the record process until the supervisor says stop."""
    Record(host).run()
