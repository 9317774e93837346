"""What writes a session's files: video encoded or copied, in segments, and the line for each frame.

Separate from the sinks of the command line, which write one file each and know no parts. All of it runs in threads of
the record process. Files are Matroska with clusters of half a second, each written out at once: a SIGKILL costs what
was in the last one. A segment begins with a key frame, and times go on from one to the next.
"""

import base64
import json
import zlib
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
from av.container import OutputContainer
from av.packet import Packet

from endostream.configs.errors import SinkError

from ..frame import ImageBgr
from ..sinks.jsonl_sink import cut_torn_line, record_of
from ..sinks.video_encoding import CONTAINER_OPTIONS, encoding_for
from ..sinks.video_file import VideoFile
from .packets import open_described
from .session import LOG_FILE, SessionWriter
from .session_frame import TICK_S, SessionFrame, TimedPacket


@dataclass(frozen=True, slots=True)
class SegmentLimits:
    """When a video goes on in a new file; None for never."""

    length_s: float | None
    size_mb: float | None

    def reached(self, length_ms: int, path: Path) -> bool:
        """Whether the file at ``path`` with pictures of ``length_ms`` is full."""
        if self.length_s is not None and length_ms >= self.length_s * 1000:
            return True
        return self.size_mb is not None and path.stat().st_size >= self.size_mb * 1e6


class _File(Protocol):
    """A video file under way."""

    path: Path

    def close(self) -> None:
        """Finish it."""


class _Segments:
    """The file that is written now, and when it is full."""

    def __init__(self, session: SessionWriter, stream: str, limits: SegmentLimits) -> None:
        self.session = session
        self.stream = stream
        self.file: Any = None
        self._limits = limits
        self._first_ms = 0

    def is_full(self, time_ms: int) -> bool:
        """Whether what comes at ``time_ms`` belongs into the next file."""
        return self.file is not None and self._limits.reached(time_ms - self._first_ms, self.file.path)

    def begin(self, time_ms: int) -> Path:
        """Finish the file and name the next, whose first picture is at ``time_ms``."""
        self.close()
        self._first_ms = time_ms
        return self.session.next_file(self.stream)

    def close(self) -> None:
        """Finish the file, if one is open."""
        file, self.file = self.file, None
        if file is not None:
            file.close()

    def failed(self, error: Exception) -> SinkError:
        """Save what can be saved, and say what happened."""
        path = self.file.path if self.file is not None else self.session.folder
        with suppress(OSError, av.FFmpegError):
            self.close()
        reason = getattr(error, "strerror", None) or str(error)
        return SinkError(f"record: {path}; cannot be written ({reason}). Try: free space, or another folder")


class EncodedVideo:
    """Pictures of one stream, encoded.

    Args:
        segments: where the files go.
        options: the ``record`` section with ``codec`` of this stream.
        fps: nominal rate, for key frames.
    """

    def __init__(self, segments: _Segments, options: dict[str, Any], fps: Fraction) -> None:
        self._segments = segments
        self._options = options
        self._period_s = 1 / fps

    def write(self, image_bgr: ImageBgr, time_ms: int) -> None:
        """Encode one picture; raises SinkError."""
        size_hw = (image_bgr.shape[0], image_bgr.shape[1])
        segments = self._segments
        try:
            file = segments.file if isinstance(segments.file, VideoFile) else None
            if file is None or file.size_hw != size_hw or segments.is_full(time_ms):
                path = segments.begin(time_ms)
                encoding = encoding_for(".mkv", size_hw, TICK_S, self._period_s, self._options)
                file = segments.file = VideoFile(path, size_hw, self._period_s, encoding)
            file.write(image_bgr, time_ms)
        except (OSError, av.FFmpegError) as error:
            raise segments.failed(error) from error


class _CopiedFile:
    """A file of packets as they came, all of one stream."""

    def __init__(self, path: Path, stream: bytes) -> None:
        self.path = path
        self.stream = stream
        with open_described(stream) as described:
            self._container: OutputContainer = av.open(f"file:{path}", "w", options=CONTAINER_OPTIONS[".mkv"])
            try:
                self._stream = self._container.add_stream_from_template(described.streams.video[0])
                self._stream.time_base = TICK_S
            except Exception:
                self._container.close()
                raise

    def write(self, timed: TimedPacket) -> None:
        packet = Packet(timed.packet.data)
        packet.stream, packet.time_base = self._stream, TICK_S
        packet.pts, packet.dts = timed.pts_ms, timed.dts_ms
        packet.duration = round(timed.packet.duration * timed.packet.time_base / TICK_S)
        packet.is_keyframe = timed.packet.is_key
        self._container.mux(packet)

    def close(self) -> None:
        self._container.close()


class CopiedVideo:
    """Packets of a source, copied as they came; after one is missing nothing is copied until the next key packet."""

    def __init__(self, segments: _Segments) -> None:
        self._segments = segments
        self._waits = True
        self._next_number = -1

    def write(self, timed: TimedPacket) -> str | None:
        """Copy one packet; "no_key_frame" if it could not be decoded without what is missing. Raises SinkError."""
        packet, segments = timed.packet, self._segments
        follows = packet.number == self._next_number
        self._next_number = packet.number + 1
        self._waits = (self._waits or not follows) and not packet.is_key
        if self._waits:
            return "no_key_frame"
        try:
            file = segments.file if isinstance(segments.file, _CopiedFile) else None
            if packet.is_key and (
                file is None or packet.stream != file.stream or segments.is_full(timed.pts_ms)
            ):
                file = segments.file = _CopiedFile(segments.begin(timed.pts_ms), packet.stream)
            if file is None:
                self._waits = True
                return "no_key_frame"
            file.write(timed)
        except (OSError, av.FFmpegError) as error:
            raise segments.failed(error) from error
        return None


class OverlayVideo:
    """The video with marks: a writer for a ``SinkThread``."""

    def __init__(self, session: SessionWriter, options: dict[str, Any], fps: Fraction) -> None:
        self._segments = _Segments(session, "overlay", limits_from(options))
        self._video = EncodedVideo(self._segments, {**options, "codec": options["overlay"]}, fps)

    def write(self, content: SessionFrame, /) -> None:
        """Encode the picture with marks."""
        self._video.write(content.presented.frame.image_bgr, content.time_ms)

    def close(self) -> None:
        """Finish the file."""
        _close(self._segments)


class RawVideo:
    """The video without marks, copied or encoded: a writer for a ``SinkThread``."""

    def __init__(self, session: SessionWriter, options: dict[str, Any], fps: Fraction) -> None:
        self._segments = _Segments(session, "raw", limits_from(options))
        codec = "h264" if options["raw"] == "copy" else options["raw"]
        self._encoded = EncodedVideo(self._segments, {**options, "codec": codec}, fps)
        self._copied = CopiedVideo(self._segments)

    def write(self, content: SessionFrame | TimedPacket, /) -> str | None:
        """Copy a packet or encode a picture."""
        if isinstance(content, TimedPacket):
            return self._copied.write(content)
        assert content.raw_bgr is not None
        assert content.raw_ms is not None
        self._encoded.write(content.raw_bgr, content.raw_ms)
        return None

    def close(self) -> None:
        """Finish the file."""
        _close(self._segments)


def _close(segments: _Segments) -> None:
    try:
        segments.close()
    except (OSError, av.FFmpegError) as error:
        raise segments.failed(error) from error


def limits_from(options: dict[str, Any]) -> SegmentLimits:
    """From the ``record`` section."""
    return SegmentLimits(options.get("segment_s"), options.get("segment_mb"))


class FrameLog:
    """``frames.jsonl``: a line for each presented frame, with its mask; a writer for a ``SinkThread``."""

    def __init__(self, session: SessionWriter) -> None:
        self._path = session.folder / LOG_FILE
        self._last: tuple[int, str] | None = None
        try:
            cut_torn_line(self._path)
            self._file = self._path.open("ab", buffering=0)
        except OSError as error:
            raise self._failed(error) from error

    def write(self, content: SessionFrame, /) -> None:
        """Write one line; raises SinkError."""
        record = {
            **record_of(content.presented),
            "part": content.part,
            "time_ms": content.time_ms,
            "raw_ms": content.raw_ms,
            **self._mask(content),
        }
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        try:
            if self._file.write(line) != len(line):
                raise OSError(28, "No space left on device")
        except OSError as error:
            raise self._failed(error) from error

    def _mask(self, content: SessionFrame) -> dict[str, Any]:
        """The mask at the network's size: its bits packed, deflated, in Base64; null where there is none."""
        if content.mask is None:
            return {"mask": None}
        shape = content.mask
        return {
            "mask": self._text(content.presented.annotation.mask_crc32 or 0, content.packed),
            "mask_hw": list(shape.size_hw),
            "transform": list(shape.transform),
            "view": list(shape.view),
        }

    def _text(self, crc32: int, packed: bytes) -> str:
        """A mask that is held is not deflated again."""
        if self._last is None or self._last[0] != crc32:
            self._last = (crc32, base64.b64encode(zlib.compress(packed)).decode())
        return self._last[1]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _failed(self, error: OSError) -> SinkError:
        reason = error.strerror or str(error)
        return SinkError(
            f"record: {self._path}; cannot be written ({reason}). Try: free space, or another folder"
        )
