"""Opening a video file with FFmpeg, and saying in one line why it cannot be played.

Separate from ``avi.py`` so that the list of what can be wrong with a file stands apart from playing it, and
so that the catalogue can look into a file without playing it. FFmpeg's own log stays off, as PyAV leaves it:
a damaged file would flood the terminal, and a log callback that needs Python's lock can deadlock with decoder
threads. Errors are counted by the reader instead.
"""

import stat
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from endostream.configs.errors import SourceMissing

MAX_PICTURE_PX = 8192 * 8192
"""A damaged header may claim more; FFmpeg then refuses the picture instead of asking for gigabytes."""
ASSUMED_FPS = Fraction(25)
"""For streams that name no rate between MIN_FPS and MAX_FPS: what PAL recorders write."""
MIN_FPS, MAX_FPS = Fraction(1, 60), Fraction(1000)

_SEEKABLE = {"avi", "matroska", "mov", "mp4", "asf", "mpeg", "mpegts"}


@dataclass(frozen=True, slots=True)
class OpenVideo:
    """An open file and the stream of it that is played."""

    container: InputContainer
    stream: VideoStream

    @property
    def formats(self) -> set[str]:
        """FFmpeg's names of the container format."""
        return set(self.container.format.name.split(","))

    @property
    def seekable(self) -> bool:
        """Whether times after a seek are as good as times from the beginning: not so for raw streams."""
        return bool(self.formats & _SEEKABLE)

    @property
    def stores_times(self) -> bool:
        """Whether the container holds presentation times; AVI does not."""
        return "avi" not in self.formats

    @property
    def fps(self) -> Fraction | None:
        """Nominal rate, None if the stream names none that can be true."""
        for rate in (self.stream.guessed_rate, self.stream.average_rate):
            if rate is not None and MIN_FPS <= rate <= MAX_FPS:
                return rate
        return None

    @property
    def duration_s(self) -> float | None:
        """Seconds by the header, None if it does not say."""
        if self.stream.frames > 0 and not self.stores_times and self.fps is not None:
            return float(self.stream.frames / self.fps)
        if self.stream.duration is not None and self.stream.time_base is not None:
            return float(self.stream.duration * self.stream.time_base)
        if self.container.duration is not None:
            return self.container.duration / av.time_base
        return None


def open_video(path: str, threads: int = 1) -> OpenVideo:
    """Open ``path`` for decoding its first real video stream.

    Args:
        path: of a regular file.
        threads: decoder threads within a picture. Threads across pictures would hold as many pictures back
            and, by PyAV's flush, lose the last ones of a damaged file.

    Raises:
        SourceMissing: nothing there, or nothing FFmpeg finds a video in; the message is one line.
    """
    _check_regular_file(path)
    try:
        # "file:" keeps names with a colon from being read as a network address, the whitelist what playlists
        # name.
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except (av.FFmpegError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SourceMissing(
            f"source: {path}; no video FFmpeg can read ({reason}). Try: another file"
        ) from error
    try:
        stream = _video_stream(path, container)
    except SourceMissing:
        container.close()
        raise
    stream.codec_context.options = {"max_pixels": str(MAX_PICTURE_PX)}
    stream.thread_type = "SLICE"
    stream.codec_context.thread_count = threads
    return OpenVideo(container, stream)


def _check_regular_file(path: str) -> None:
    try:
        status = Path(path).stat()
        if stat.S_ISDIR(status.st_mode):
            raise SourceMissing(f"source: {path}; is a folder, expected a video file")
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise SourceMissing(
                f"source: {path}; is a device or pipe, expected a video file. Try: endostream live"
            )
        with Path(path).open("rb"):
            pass
    except (OSError, ValueError) as error:
        if isinstance(error, SourceMissing):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise SourceMissing(f"source: {path}; cannot be read ({reason})") from error
    if status.st_size == 0:
        raise SourceMissing(f"source: {path}; the file is empty (0 bytes)")


def _video_stream(path: str, container: InputContainer) -> VideoStream:
    streams = [
        stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic
    ]
    if not streams:
        raise SourceMissing(f"source: {path}; holds no video stream")
    playable = [stream for stream in streams if stream.codec_context is not None]
    if not playable:
        raise SourceMissing(f"source: {path}; FFmpeg has no decoder for its video stream")
    return playable[0]
