"""The capture stage: pictures from the sources into the ring, released when due, announced on both paths.

A decoder thread runs ahead and fills slots; the main thread waits for each picture's due time, stamps
``capture_ns`` and sends the descriptor. So decoding and pacing never lie inside a measured interval, and how late a
release was against its due time is recorded apart. In live mode nothing here ever waits for a reader; in
every-frame mode a picture is released only when both paths have credit, and its slot comes back when overlay is
done with it. Frames in flight are sent again after preprocess or infer was restarted, ``max_resends`` times at most.
"""

import contextlib
import gc
import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

from endostream.configs.errors import EndostreamError, ExitCode

from .board import packed_size
from .frame import FrameKey, SizeHW, SourcePicture, Stamp
from .host import CAPTURED, RingLease, StageHost
from .link import LinkWriter
from .ring import SlotPool
from .sessions.packet_outlet import PacketOutlet
from .source import Source, SourceInfo, SourceOptions, is_live, open_source
from .wire import FrameHeader, Kind, pack_fail

_FINE_WAIT_MS = 2.0
"""The last part of a wait is slept without polling: a poll wakes to the millisecond only."""
_NOTHING_NEW_MS = 20.0
_FIRST_WAIT_NS = 1_000_000_000
"""Longest wait of the first frame for overlay, which is ready but may not have answered on the link yet, or not have
made ready for pictures of this size."""
_TELL_FAULTS_NS = 1_000_000_000
_LOOK_S = 0.002
_LARGEST_GAP = 255
"""That a frame header can tell."""


def leave_realtime_class() -> None:
    """Put the calling thread into the ordinary scheduling class: decoding may take long, and can wait."""
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture that lies in its slot, not yet released.

    ``stream_ns`` is its time in the playlist, every source and loop put behind the one before.
    """

    header: FrameHeader
    stream_ns: int
    release_offset_ns: int
    arrival_ns: int | None
    gap: int


@dataclass(frozen=True, slots=True)
class _Start:
    """Where a (re)started capture begins: the first frame wanted, none for the very beginning."""

    source_id: int = 0
    loop: int = 0
    seq: int = 0


def source_info_message(source_id: int, info: SourceInfo) -> dict[str, object]:
    """``info`` as plain data for the control channel."""
    fields = {name: getattr(info, name) for name in SourceInfo.__dataclass_fields__}
    fields |= {"fps": None if info.fps is None else str(info.fps), "time_base": str(info.time_base)}
    return {"source_id": source_id, **fields}


def source_info_from_message(message: dict[str, object]) -> SourceInfo:
    """Undo ``source_info_message``."""
    fields = {name: message[name] for name in SourceInfo.__dataclass_fields__}
    fields["fps"] = None if fields["fps"] is None else Fraction(str(fields["fps"]))
    fields["time_base"] = Fraction(str(fields["time_base"]))
    fields["size_hw"] = tuple(fields["size_hw"])  # type: ignore[arg-type]
    fields["assumed"] = tuple(fields["assumed"])  # type: ignore[arg-type]
    return SourceInfo(**fields)  # type: ignore[arg-type]


def _source_wrapper(host: StageHost) -> Callable[[Source], Source]:
    """What every source is wrapped in: nothing, unless it must be able to go wrong on command."""
    if not host.spec.chaos:
        return lambda source: source
    from .reliability.chaos import ChaosSource, Switch

    return partial(ChaosSource, switch=Switch(host))


class Decoder(threading.Thread):
    """Plays the list of sources into slots, ahead of time, and puts what is ready into ``ready``.

    It ends with None in ``ready``. Slots come from ``free``; a source that cannot be opened or breaks off is
    reported and the next one is played.
    """

    def __init__(self, host: StageHost, start: _Start) -> None:
        super().__init__(name="decoder", daemon=True)
        self.host = host
        self.ready: queue.Queue[Prepared | None] = queue.Queue()
        self.ended = threading.Event()
        self.crash: BaseException | None = None
        self.lease: RingLease | None = None
        self._slots = SlotPool(0)
        self._slot_freed = threading.Condition()
        self._start = start
        self._stream_ns = 0
        self._ahead = 0
        self._playing: tuple[int, Source] | None = None
        self._told_faults: dict[str, int] = {}
        self._telling = threading.Lock()
        config = host.config
        self._options = SourceOptions(
            config.replay.start_s,
            config.replay.duration_s,
            {
                "phantom": config.phantom.model_dump(),
                "deinterlace": config.replay.deinterlace,
                "folder_fps": config.replay.folder_fps,
                "decode_threads": config.replay.decode_threads,
                "faults": config.replay.faults.model_dump(),
                "live": config.live.model_dump(),
                "memory": config.memory.model_dump(),
                "stopping": self._over,
                "log": host.log,
            },
        )
        self.outlet = PacketOutlet(host)
        self._service = host.board.histogram("capture.service")
        self._prepared_size = host.board.cell("overlay.prepared_size")
        self._waits_for_display = host.incarnation == 0 and not host.spec.every_frame
        self._wrap = _source_wrapper(host)

    def run(self) -> None:
        """Play all sources, then say so."""
        leave_realtime_class()
        try:
            self._play_all()
        except BaseException as error:
            self.crash = error
        finally:
            self.ended.set()
            self.ready.put(None)

    def give(self, ring_id: int, slot: int) -> None:
        """Return a slot; one of a retired ring is forgotten."""
        with self._slot_freed:
            if self.lease is not None and self.lease.ring.shape.ring_id == ring_id:
                self._slots.give(slot)
                self._slot_freed.notify_all()

    def released(self) -> None:
        """Say that one prepared picture was taken from ``ready``."""
        with self._slot_freed:
            self._ahead -= 1
            self._slot_freed.notify_all()

    def _play_all(self) -> None:
        loops = self.host.config.replay.loop
        loop = self._start.loop
        while loops == 0 or loop < loops:
            played = 0
            for source_id in range(len(self.host.spec.sources)):
                if self._over():
                    return
                if loop == self._start.loop and source_id < self._start.source_id:
                    continue
                played += self._play(source_id, loop)
            cut = loop == self._start.loop and (self._start.source_id, self._start.seq) != (0, 0)
            if not played and not cut:  # by a restart in the middle of this loop
                return  # nothing can be played: looping for ever would only spin
            loop += 1

    def _over(self) -> bool:
        return self.host.stopping or self.host.finishing

    def _play(self, source_id: int, loop: int) -> int:
        """Play one source once; returns how many frames it gave."""
        address = self.host.spec.sources[source_id]
        frames = 0
        source: Source | None = None
        try:
            source = self._open(address, source_id, loop)
            self._playing = (source_id, source)
            with source:
                for prepared in self._prepared(source, source_id, loop):
                    frames += 1
                    self.ready.put(prepared)
            self._report_source(source_id, "done", source, "")
        except EndostreamError as error:
            missing = frames == 0 and error.exit_code is ExitCode.SOURCE
            status = "missing" if missing else "lost"
            self._report_source(source_id, status, source, str(error), error.exit_code)
        return frames

    def _open(self, address: str, source_id: int, loop: int) -> Source:
        faults = self.host.config.replay.faults
        disturbed = any(
            (faults.jitter_ms, faults.lose, faults.freeze, faults.black, faults.tear, faults.disconnect)
        )
        # Of a disturbed source the pictures are not those of its packets.
        tap = None if disturbed else self.outlet.tap(source_id, loop)
        options = replace(self._options, extra={**self._options.extra, "packets": tap})
        if is_live(address) and self._resumes(source_id, loop):
            # It goes on counting where its predecessor was.
            options = replace(options, extra={**options.extra, **self._resumed_at()})
        source = open_source(address, options)
        if disturbed:
            from endostream.replay.faults import FaultySource

            source = FaultySource(source, faults, faults.seed)
        return self._wrap(source)

    def _resumes(self, source_id: int, loop: int) -> bool:
        return self._start.seq > 0 and (source_id, loop) == (self._start.source_id, self._start.loop)

    def _resumed_at(self) -> dict[str, int]:
        value = self.host.board.value
        return {
            "first_seq": self._start.seq,
            "origin_ns": value("capture.first_capture_ns"),
            "last_arrival_ns": value("capture.last_capture_ns"),
        }

    def _report_source(
        self,
        source_id: int,
        status: str,
        source: Source | None,
        message: str,
        exit_code: ExitCode = ExitCode.DONE,
    ) -> None:
        faults = {} if source is None else source.faults
        with self._telling:
            self._playing = None
            self.host.say(
                "source_end",
                source_id=source_id,
                status=status,
                faults=faults,
                message=message,
                exit_code=int(exit_code),
            )

    def tell_faults(self) -> None:
        """Say what has been wrong with the source so far, if that has changed; for the main thread, since this one may
        be waiting for a picture."""
        with self._telling:
            if self._playing is None:
                return
            source_id, source = self._playing
            try:
                faults = source.faults
            except RuntimeError:  # counted while it was read: next time
                return
            if faults != self._told_faults:
                self._told_faults = faults
                self.host.say("source_faults", source_id=source_id, faults=faults)

    def _prepared(self, source: Source, source_id: int, loop: int) -> Iterator[Prepared]:
        skip_to = self._start.seq if self._resumes(source_id, loop) else 0
        told = self._tell(source, source_id, loop)
        if told.live and not self._make_ready(told.size_hw):
            return
        first_ns: int | None = None
        base_ns = self._stream_ns
        period_ns = int(1e9 / source.info.fps) if source.info.fps else 40_000_000
        next_seq: int | None = skip_to or None
        begun_ns = time.monotonic_ns()
        for picture in source:
            if self._over():
                return
            if source.info is not told:  # a live source came back as something else
                told = self._tell(source, source_id, loop)
            begun_ns = picture.arrival_ns or begun_ns
            picture_ns = (
                picture.pts * picture.time_base.numerator * 1_000_000_000 // picture.time_base.denominator
            )
            first_ns = picture_ns if first_ns is None else first_ns
            stream_ns = base_ns + picture_ns - first_ns
            self._stream_ns = stream_ns + period_ns
            if picture.seq < skip_to:
                continue
            header = self._fill(picture, FrameKey(source_id, loop, picture.seq))
            if header is None:
                return
            self._service.record(time.monotonic_ns() - begun_ns)
            if self._waits_for_display and not told.live:
                self._wait_for_display(header.size_hw)
            self._waits_for_display = False
            gap = 0 if next_seq is None else picture.seq - next_seq
            yield Prepared(header, stream_ns, picture.release_offset_ns, picture.arrival_ns, gap)
            next_seq = picture.seq + 1
            begun_ns = time.monotonic_ns()

    def _tell(self, source: Source, source_id: int, loop: int) -> SourceInfo:
        """Say what the source is."""
        info = source.info
        self.host.say("source", loop=loop, **source_info_message(source_id, info))
        return info

    def _make_ready(self, size_hw: SizeHW) -> bool:
        """Get the ring before a live source is listened to, and leave overlay the time to get its own.

        Otherwise the first picture would wait for both. False if the stage is to stop meanwhile.
        """
        slot = self._take_slot(size_hw)
        if slot is None or self.lease is None:
            return False
        self.give(self.lease.ring.shape.ring_id, slot)
        self.released()
        self._wait_for_display(size_hw)
        return not self._over()

    def _wait_for_display(self, size_hw: SizeHW) -> None:
        """Wait, but not for long, until overlay has made ready for pictures of this size."""
        until_ns = time.monotonic_ns() + _FIRST_WAIT_NS
        while self._prepared_size.value != packed_size(size_hw):
            if self._over() or time.monotonic_ns() > until_ns:
                return
            threading.Event().wait(_LOOK_S)

    def _fill(self, picture: SourcePicture, key: FrameKey) -> FrameHeader | None:
        """Decode ``picture`` into a slot; None if the stage is to stop meanwhile."""
        slot = self._take_slot(picture.size_hw)
        if slot is None or self.lease is None:
            return None
        ring = self.lease.ring
        try:
            picture.fill(ring.begin(slot))
        except BaseException:
            self.give(ring.shape.ring_id, slot)
            self.released()
            raise
        generation = ring.commit(slot)
        return FrameHeader(
            key,
            picture.pts,
            picture.time_base,
            0,
            picture.size_hw,
            ring.shape.ring_id,
            slot,
            generation,
            packet_ns=picture.packet_ns,
        )

    def _take_slot(self, size_hw: SizeHW) -> int | None:
        if self.lease is None or self.lease.ring.shape.size_hw != size_hw:
            if not self._wait_until_all_are_free():
                return None
            lease = self.host.lease(CAPTURED, size_hw)
            if lease is None:
                return None
            with self._slot_freed:
                self.lease = lease
                self._slots = SlotPool(lease.ring.shape.slots)
        with self._slot_freed:
            # A slot comes back when it is sent (live) or done with (every-frame).
            while not len(self._slots) or self._ahead > self.lease.lookahead_frames:
                if self.host.stopping or self.host.finishing:
                    return None
                self._slot_freed.wait(0.05)
            self._ahead += 1
            return self._slots.take()

    def _wait_until_all_are_free(self) -> bool:
        """Before a ring of another size: the pictures of this one may not be retired before they were released, or in
        every-frame mode, before all readers are done with them."""
        with self._slot_freed:
            while self.lease is not None and len(self._slots) < self.lease.ring.shape.slots:
                if self._over():
                    return False
                self._slot_freed.wait(0.05)
        return True


class Capture:
    """The main thread of the stage: releases what the decoder prepared, and keeps the two links."""

    def __init__(self, host: StageHost) -> None:
        self.host = host
        board, clock, window = host.board, host.clock, host.config.links.window_frames
        self._every_frame = host.spec.every_frame
        # In live mode the annotation path is drained by its readers; a window only bounds what a hung one costs.
        self.video = LinkWriter(
            host.context, host.endpoint("capture-overlay"), "capture-overlay", window, board, clock
        )
        self.notes = LinkWriter(
            host.context, host.endpoint("capture-preprocess"), "capture-preprocess", window, board, clock
        )
        host.watch(self.video.socket)
        host.watch(self.notes.socket)
        self._cells = {name: board.cell(f"capture.{name}") for name in board.group("capture")}
        self._by_source = [
            (board.cell(f"source{i}.captured"), board.cell(f"source{i}.gaps"))
            for i in range(len(host.spec.sources))
        ]
        self._resent = {
            link: board.cell(f"{link}.resent") for link in ("capture-overlay", "capture-preprocess")
        }
        self._lateness = board.histogram("release_lateness")
        self._factor = host.config.replay.factor
        self._due_base_ns: int | None = None
        self._due_ns: int | None = None
        self._go_ns = 0
        self._faults_told_ns = 0
        self._in_flight: dict[FrameKey, FrameHeader] = {}
        self._to_resend_video: deque[FrameKey] = deque()
        self._to_resend_notes: deque[FrameKey] = deque()
        self._decoder = Decoder(host, self._resume_point())

    def _resume_point(self) -> _Start:
        prefix = "safe_" if self._every_frame else ""
        if self.host.incarnation == 0 or not self._cells["captured"].value:
            return _Start()
        source_id, loop, seq = (
            self._cells[f"{prefix}{name}"].value for name in ("source_id", "loop", "next_seq")
        )
        return _Start(source_id, loop, seq)

    def run(self) -> None:
        """Release all frames, say that this was all, and stay for resending until told to stop."""
        host = self.host
        sys.setswitchinterval(0.0005)  # the decoder must not hold the interpreter 5 ms when a release is due
        host.say("ready")
        gc.freeze()  # what is there by now stays; a collection in mid-run then has little to look at
        self._decoder.start()
        while not (host.stopping or (host.go and self._is_heard())):
            self._service()
            host.poll(_NOTHING_NEW_MS)
        self._release_all()
        if self._decoder.crash is not None and not host.stopping:
            raise RuntimeError(f"decoder: {self._decoder.crash}") from self._decoder.crash
        self._send_end()
        host.say("captured_all")
        while not host.stopping:
            if self._service():
                self._send_end()
            host.poll()
        self.video.close()
        self.notes.close()
        self._decoder.outlet.close()

    def _is_heard(self) -> bool:
        """Whether those who are to get the first frame listen; after a while it is let go all the same."""
        self._service()
        now_ns = self.host.clock.now_ns()
        self._go_ns = self._go_ns or now_ns
        heard = self.video.connected and self._decoder.outlet.is_heard
        return heard or now_ns - self._go_ns > _FIRST_WAIT_NS

    def _release_all(self) -> None:
        while not self.host.stopping:
            try:
                prepared = self._decoder.ready.get(timeout=_NOTHING_NEW_MS / 1000)
            except queue.Empty:
                self._service()
                self.host.poll(0)
                continue
            if prepared is None:
                return
            self._decoder.released()
            if self.host.finishing:
                continue
            self._wait_until_due(prepared)
            self._release(prepared)
            self.host.beat()  # who never has to wait for the next picture shows life and listens here
            self.host.read_control()

    def _service(self) -> bool:
        """Read acknowledgements, free slots, send again what must be; True if anything was sent again."""
        if (now_ns := self.host.clock.now_ns()) - self._faults_told_ns > _TELL_FAULTS_NS:
            self._faults_told_ns = now_ns
            self._decoder.tell_faults()
        done = self.video.service()
        self.notes.service()
        for token in done:
            self._settle(token)
        self._decoder.outlet.service()
        resend = self._read_inbox()
        if not self._every_frame:
            return False
        self._to_resend_video.extend(t for t in self.video.take_lost() if isinstance(t, FrameKey))
        self._to_resend_notes.extend(t for t in self.notes.take_lost() if isinstance(t, FrameKey))
        if resend:
            self._resend_all()
        return self._flush_resends()

    def _read_inbox(self) -> bool:
        """Take in what the supervisor says; whether frames are to be sent again."""
        kinds = [message["t"] for message in self.host.inbox]
        self.host.inbox.clear()
        if "record_link" in kinds:
            self._decoder.outlet.open()
        return "resend" in kinds

    def _settle(self, token: object) -> None:
        if not self._every_frame or not isinstance(token, FrameKey):
            return
        header = self._in_flight.pop(token, None)
        if header is None:
            return
        self._cells["held"].value = len(self._in_flight)
        self._decoder.give(header.ring, header.slot)
        oldest = next(iter(self._in_flight), None)
        if oldest is None:
            oldest = FrameKey(token.source_id, token.loop, token.seq + 1)
        for name, value in zip(("source_id", "loop", "next_seq"), oldest, strict=True):
            self._cells[f"safe_{name}"].value = value

    def _resend_all(self) -> None:
        for key, header in list(self._in_flight.items()):
            self._in_flight[key] = replace(header, attempt=header.attempt + 1)
            if key not in self._to_resend_notes:
                self._to_resend_notes.append(key)

    def _flush_resends(self) -> bool:
        sent = False
        while self._to_resend_video and self.video.can_send:
            key = self._to_resend_video.popleft()
            if key in self._in_flight:
                self._resent["capture-overlay"].add()
                self.video.send(Kind.FRAME, self._in_flight[key].pack(), token=key)
                sent = True
        while self._to_resend_notes and self.notes.can_send:
            key = self._to_resend_notes.popleft()
            header = self._in_flight.get(key)
            if header is None:
                continue
            sent = True
            self._resent["capture-preprocess"].add()
            if header.attempt > self.host.config.supervisor.max_resends:
                cause = f"sent {header.attempt} times, and the annotation path failed each time"
                self.notes.send(Kind.FAIL, pack_fail(header, cause), token=key)
            else:
                self.notes.send(Kind.FRAME, header.pack(), token=key)
        return sent

    def _wait_until_due(self, prepared: Prepared) -> None:
        self._due_ns = None
        if self._factor is None or prepared.arrival_ns is not None:
            return
        host, now_ns = self.host, self.host.clock.now_ns
        offset_ns = int(prepared.stream_ns / self._factor) + prepared.release_offset_ns
        if self._due_base_ns is None:  # also after a restart: the recording goes on where it was
            self._due_base_ns = now_ns() - int(prepared.stream_ns / self._factor)
        due_ns = self._due_base_ns + offset_ns
        while not (host.stopping or host.finishing):
            left_ms = (due_ns - now_ns()) / 1e6
            if left_ms <= _FINE_WAIT_MS:
                host.clock.sleep_until_ns(due_ns)
                break
            self._service()
            host.poll(left_ms - _FINE_WAIT_MS)
        self._lateness.record(now_ns() - due_ns)
        self._due_ns = due_ns

    def _wait_for_credit(self) -> bool:
        """Wait until both paths take a frame; False if the run ends before."""
        while not (self.video.can_send and self.notes.can_send):
            if self.host.stopping or self.host.finishing:
                return False
            self._service()
            if not (self.video.can_send and self.notes.can_send):
                self.host.poll(_NOTHING_NEW_MS)
        return not self.host.stopping

    def _release(self, prepared: Prepared) -> None:
        lease = self._decoder.lease
        if self._every_frame:
            if lease is not None:
                self.video.window = self.notes.window = lease.window_frames
            self._service()
            if not self._wait_for_credit():
                return
        capture_ns = prepared.arrival_ns or self.host.clock.now_ns()
        stamp = Stamp("capture", self._due_ns or capture_ns, capture_ns)
        gap = min(max(prepared.gap, 0), _LARGEST_GAP)
        header = replace(prepared.header, capture_ns=capture_ns, stamps=(stamp,), gap=gap)
        self._count(header, prepared.gap)
        body = header.pack()
        if self._every_frame:
            self._in_flight[header.key] = header
            self._cells["held"].value = len(self._in_flight)
        self._decoder.outlet.service()  # a packet goes before the frame that was decoded from it
        self.video.send(Kind.FRAME, body, token=header.key)
        self.notes.send(Kind.FRAME, body, token=header.key)
        if not self._every_frame:
            self._decoder.give(header.ring, header.slot)
            self._service()

    def _count(self, header: FrameHeader, gap: int) -> None:
        key, cells = header.key, self._cells
        last = FrameKey(cells["source_id"].value, cells["loop"].value, cells["next_seq"].value)
        if (
            self._every_frame
            and cells["captured"].value
            and (key.loop, key.source_id, key.seq)
            < (
                last.loop,
                last.source_id,
                last.seq,
            )
        ):
            self._resent["capture-overlay"].add()  # captured by the stage's predecessor already
            return
        captured, gaps = self._by_source[key.source_id]
        captured.add()
        cells["captured"].add()
        if gap > 0:
            gaps.add(gap)
            cells["source_gaps"].add(gap)
        if not cells["first_capture_ns"].value:
            cells["first_capture_ns"].value = header.capture_ns
        cells["last_capture_ns"].value = header.capture_ns
        cells["source_id"].value, cells["loop"].value, cells["next_seq"].value = (
            key.source_id,
            key.loop,
            key.seq + 1,
        )

    def _send_end(self) -> None:
        """Tell both paths that no frame follows; wait until all that must be sent before has been."""
        outlet = self._decoder.outlet
        while self._every_frame and (self._to_resend_notes or not outlet.is_empty) and not self.host.stopping:
            self._service()
            self.host.poll(_NOTHING_NEW_MS)
        self.video.send_end()
        self.notes.send_end()


def run_capture(host: StageHost) -> None:
    """Run the capture stage until the supervisor says stop."""
    Capture(host).run()
