"""Records the session: switches it on and off, places frames and packets in time, and minds the disk.

The part of the record process that knows of sessions, in its main thread; the files are written by threads
(``session_sinks.py``). Nothing here waits for the disk. When the disk is nearly full, or every stream has failed, the
recording is stopped with its files finished, and the video goes on.
"""

import os
from collections import OrderedDict
from collections.abc import Callable
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any

from endostream.configs.errors import EndostreamError
from endostream.configs.schema import RecordSettings

from ..frame import ImageBgr, Presented
from ..host import StageHost
from ..sinks.sink_thread import Delivery, Job, Opener, SinkThread, Writer
from ..sinks.video_times import VideoTimes
from ..source import is_live
from ..sources.live_address import redacted
from ..wire import PresentedHeader
from .packets import SourcePacket
from .session import SessionWriter
from .session_frame import TICK_S, SessionFrame, TimedPacket
from .session_times import RawTimes

LABEL = "record"
_USUAL_FPS = Fraction(25)
_LOOK_NS = 500_000_000
"""How often it is looked whether the disk is nearly full."""
_LIGHT_ROOM = 256
"""Packets and lines that may wait for the disk, ten seconds of them."""
_PACKETS_KNOWN = 4096
"""Packets whose time is kept until the frame comes that was decoded from them."""


class SessionRecorder:
    """The session of one run.

    Args:
        host: the record process's surroundings.
        finished: called by a stream's thread with each delivery it is done with.

    Attributes:
        on: whether it is being recorded.
        threads: one for each stream, by name.
    """

    def __init__(self, host: StageHost, finished: Callable[[Delivery], None]) -> None:
        self.on = False
        self.threads = {
            stream: SinkThread(number, f"{LABEL}:{stream}", host, finished, light_room=_LIGHT_ROOM)
            for stream, number in host.spec.session_sinks.items()
        }
        self.fps: Fraction | None = None
        self._host = host
        self._options = host.config.record.model_dump()
        self._folder = Path(host.spec.session)
        self._session: SessionWriter | None = None
        self._part = 0
        self._times: VideoTimes | None = None
        self._raw_times = RawTimes()
        self._packets: OrderedDict[int, int] = OrderedDict()
        self._newest_packet_ns = 0
        self._looked_ns = 0

    @property
    def takes_pictures(self) -> bool:
        """Whether a frame's picture with marks is needed now."""
        return self.on and "overlay" in self.threads

    def takes_raw(self, header: PresentedHeader) -> bool:
        """Whether the picture without marks is needed of this frame."""
        return self.on and "raw" in self.threads and header.raw is not None and not header.frame.packet_ns

    def lacks_packet(self, packet_ns: int) -> bool:
        """Whether the packet of a frame is to be recorded and may still come: no later one has come."""
        return self.on and "raw" in self.threads and packet_ns > self._newest_packet_ns

    # On and off

    def switch(self, on: bool) -> None:
        """Start a new part, or finish the one there is; says what has become of it."""
        if on == self.on:
            self._tell("")
            return
        if not on:
            self._stop("")
            return
        try:
            self._begin()
        except EndostreamError as error:
            self._fail(str(error))

    def _begin(self) -> None:
        if self._session is None:
            segmented = bool(self._options["segment_s"] or self._options["segment_mb"])
            self._session = SessionWriter(self._folder, about(self._host), segmented)
            if self._options["blank_outside_view"] and self._options["raw"] == "copy":
                self._host.log(
                    "record: what lies outside the view is blanked, so the raw video is encoded, not copied",
                    "info",
                )
        if (free_mb := self._free_mb()) < self._options["min_free_mb"]:
            self._fail(self._nearly_full(free_mb))
            return
        self._part = self._session.begin_part()
        self._times, self._raw_times = None, RawTimes()
        self._packets.clear()
        for stream, thread in self.threads.items():
            thread.turn(self._opener(stream, self._session))
        self.on = True
        self._tell("")

    def _opener(self, stream: str, session: SessionWriter) -> Opener:
        def opened() -> Writer:
            from .session_sinks import FrameLog, OverlayVideo, RawVideo

            if stream == "log":
                return FrameLog(session)
            video = RawVideo if stream == "raw" else OverlayVideo
            return video(session, self._options, self.fps or _USUAL_FPS)

        return opened

    def _stop(self, reason: str) -> None:
        self.on = False
        for thread in self.threads.values():
            thread.turn(None)
        self._tell(reason)

    def _fail(self, reason: str) -> None:
        """Stop, and have the run say so."""
        self._host.say("sink_failed", sink=LABEL, message=reason)
        self._stop(reason)

    def _tell(self, reason: str) -> None:
        self._host.say("recording_state", on=self.on, path=str(self._folder), reason=reason)

    # The disk

    def look(self) -> None:
        """Stop if the disk is nearly full or nothing is written any more; looks now and then only."""
        now_ns = self._host.clock.now_ns()
        if not self.on or now_ns - self._looked_ns < _LOOK_NS:
            return
        self._looked_ns = now_ns
        if all(thread.failed for thread in self.threads.values()):
            self._stop("nothing can be written")
        elif (free_mb := self._free_mb()) < self._options["min_free_mb"]:
            self._fail(self._nearly_full(free_mb))

    def _free_mb(self) -> float:
        try:
            status = os.statvfs(self._folder)
        except OSError:  # gone: writing will say why
            return float("inf")
        return status.f_bavail * status.f_frsize / 1e6

    def _nearly_full(self, free_mb: float) -> str:
        least_mb = self._options["min_free_mb"]
        return (
            f"record: {self._folder}; {free_mb:.0f} MB free, expected at least {least_mb} MB: recording is stopped, "
            "the video goes on. Try: free space, or --set record.min_free_mb=N"
        )

    # Frames and packets

    def frame_jobs(
        self,
        delivery: Delivery,
        header: PresentedHeader,
        presented: Presented,
        raw_bgr: ImageBgr | None,
        mask: bytes,
    ) -> list[tuple[SinkThread, Job]]:
        """What each stream is to write of a presented frame."""
        if not self.on:
            self._pause(header)
            return []
        content = self._placed(header, presented, raw_bgr, mask)
        jobs = []
        for stream, thread in self.threads.items():
            unmarked = stream == "overlay" and not presented.frame.image_bgr.size
            if unmarked or (stream == "raw" and raw_bgr is None):
                if not header.synthetic and (unmarked or self.takes_raw(header)):
                    thread.drop("no_picture")
                continue
            key, shown_ns = header.frame.key, header.present_ns
            light = stream == "log"
            jobs.append((thread, Job(delivery, content, key, shown_ns, header.synthetic, light)))
        return jobs

    def _pause(self, header: PresentedHeader) -> None:
        for stream, thread in self.threads.items():
            if not header.synthetic and (stream != "raw" or not header.frame.packet_ns):
                thread.drop("paused")

    def _placed(
        self, header: PresentedHeader, presented: Presented, raw_bgr: ImageBgr | None, mask: bytes
    ) -> SessionFrame:
        if self._times is None:
            self._times = VideoTimes(TICK_S, 1 / (self.fps or _USUAL_FPS), from_zero=True)
        time_ms = self._times.next_ticks(presented.frame)
        raw_ms = self._packets.pop(header.frame.packet_ns, None)
        if raw_bgr is not None:
            raw_ms = self._raw_times.of_frame(time_ms)
        return SessionFrame(presented, raw_bgr, self._part, time_ms, raw_ms, header.mask, mask)

    def packet_jobs(self, delivery: Delivery, packet: SourcePacket) -> list[tuple[SinkThread, Job]]:
        """What is to be written of a packet."""
        thread = self.threads.get("raw")
        if thread is None:
            return []
        if not self.on:
            thread.drop("paused")
            return []
        live = is_live(self._host.spec.sources[packet.source_id])
        pts_ms, dts_ms = self._raw_times.of_packet(packet, live)
        self._packets[packet.packet_ns] = pts_ms
        self._newest_packet_ns = max(self._newest_packet_ns, packet.packet_ns)
        if len(self._packets) > _PACKETS_KNOWN:
            self._packets.popitem(last=False)
        timed = TimedPacket(packet, pts_ms, dts_ms)
        return [(thread, Job(delivery, timed, packet.key, delivery.message.received_ns, light=True))]


def _raw_words(settings: RecordSettings) -> str:
    """How the raw video is made."""
    if settings.raw != "copy":
        return settings.raw
    return (
        "h264, after blanking"
        if settings.blank_outside_view
        else "copied as it came, h264 where it came uncompressed"
    )


def about(host: StageHost) -> dict[str, Any]:
    """What ``session.json`` says of the run."""
    spec = host.spec
    config = {**spec.config, "live": {k: v for k, v in spec.config["live"].items() if k != "stream_options"}}
    return {
        "sources": [redacted(address) for address in spec.sources],
        "segmenter": host.config.infer.segmenter,
        "mode": spec.mode,
        "blanked": host.config.record.blank_outside_view,
        "raw": _raw_words(host.config.record),
        "versions": {name: metadata.version(name) for name in ("endostream", "av", "numpy")},
        "config": config,
    }
