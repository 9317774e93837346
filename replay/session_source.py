"""A recorded session as a source: its raw video, part after part and segment after segment, as it was presented.

Separate from ``avi.py``, which plays one file by its own times. Here a picture is played if the session's log says that
it was presented, numbered by its place in that log, and at the time it had then: a frame whose picture is missing is a
gap in ``seq``. A session that was cut short plays as far as it goes. The masks are not read here.
"""

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av

from endostream.configs.errors import ConfigError, SourceLost, SourceMissing
from endostream.pipeline.frame import SourcePicture
from endostream.pipeline.sessions.session import Part, parts_of, read_session
from endostream.pipeline.sessions.session_log import LoggedFrame, SessionLog
from endostream.pipeline.source import SourceInfo, SourceOptions

from .colour import BgrConverter, colour_of
from .container import OpenVideo, open_video
from .reader import PictureReader

TIME_BASE = Fraction(1, 1_000_000_000)
_MS = Fraction(1, 1000)
_PROBE_PACKETS = 1000
_PERIOD_NS = 40_000_000


class SessionSource:
    """A session's folder as a source; each iteration plays from ``start_s`` again.

    Args:
        address: the folder.
        options: ``extra`` knows ``decode_threads``.

    Raises:
        SourceMissing: no session, or one without a frame that could be played.
        ConfigError: ``start_s`` lies behind the end.
    """

    def __init__(self, address: str, options: SourceOptions | None = None) -> None:
        self._options = options or SourceOptions()
        self._threads = int(self._options.extra.get("decode_threads", 1))
        self._faults: Counter[str] = Counter()
        self._converter = BgrConverter(self._threads)
        folder = Path(address)
        content = read_session(folder)
        self._parts = parts_of(folder, content)
        self._times, self._numbers = _placed(address, folder)
        self.info = self._probe(address)
        if self._times and self._options.start_s * 1e9 > self._times[-1]:
            raise ConfigError(
                f"start_s: {self._options.start_s:g}; expected less than {self._times[-1] / 1e9:g} s, the length of "
                f"{address}"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def faults(self) -> dict[str, int]:
        """As a video file's, and ``unreadable_file``: a segment that holds nothing, as a SIGKILL may leave one."""
        return dict(self._faults)

    def close(self) -> None:
        """Every file is closed with the iteration that opened it."""

    def _probe(self, address: str) -> SourceInfo:
        """What the session is, by its first picture that can be decoded."""
        for path in self._files(self._parts):
            try:
                video = open_video(str(path), self._threads)
            except SourceMissing:
                continue
            try:
                first = next(PictureReader(video, Counter()).pictures(_PROBE_PACKETS), None)
                if first is not None:
                    return self._described(address, video, first)
            finally:
                video.container.close()
        raise SourceMissing(f"source: {address}; holds no raw video that can be played, expected raw.mkv")

    @staticmethod
    def _files(parts: list[Part]) -> Iterator[Path]:
        for part in parts:
            yield from part.files["raw"]

    def _described(self, address: str, video: OpenVideo, first: av.VideoFrame) -> SourceInfo:
        colour = colour_of(first)
        return SourceInfo(
            address=address,
            kind="session",
            size_hw=(first.height, first.width),
            fps=self._rate() or video.fps,
            time_base=TIME_BASE,
            frame_count=len(self._times),
            duration_s=self._times[-1] / 1e9,
            codec=video.stream.codec_context.name,
            pixel_format=first.format.name,
            colour_matrix=colour.matrix,
            colour_range=colour.range,
            assumed=colour.assumed,
        )

    def _rate(self) -> Fraction | None:
        """Frames a second by the middle one of the intervals."""
        intervals = sorted(b - a for a, b in zip(self._times, self._times[1:], strict=False))
        middle_ns = intervals[len(intervals) // 2] if intervals else 0
        return Fraction(1_000_000_000, middle_ns).limit_denominator(1001) if middle_ns else None

    def __iter__(self) -> Iterator[SourcePicture]:
        """The pictures that were presented, in that order."""
        first_ns = int(self._options.start_s * 1e9)
        length_s = self._options.duration_s
        end_ns = None if length_s is None else first_ns + int(length_s * 1e9)
        last = -1
        for number, picture in self._pictures():
            time_ns = self._times[number]
            if number <= last or time_ns < first_ns:
                continue
            if end_ns is not None and time_ns >= end_ns:
                return
            last = number
            fill = partial(self._converter.fill, picture)
            yield SourcePicture(number, time_ns, TIME_BASE, (picture.height, picture.width), fill)

    def _pictures(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Every picture that was presented, with its number."""
        for part in self._parts:
            for path in part.files["raw"]:
                try:
                    video = open_video(str(path), self._threads)
                except SourceMissing:
                    self._faults["unreadable_file"] += 1
                    continue
                try:
                    yield from self._numbered(part.number, video)
                except SourceLost:
                    self._faults["unreadable_file"] += 1
                finally:
                    video.container.close()

    def _numbered(self, part: int, video: OpenVideo) -> Iterator[tuple[int, av.VideoFrame]]:
        ms_a_tick: Any = (video.stream.time_base or _MS) / _MS
        for picture in PictureReader(video, self._faults).pictures():
            if picture.pts is None:
                continue
            number = self._numbers.get((part, round(picture.pts * ms_a_tick)))
            if number is not None:
                yield number, picture


def _placed(address: str, folder: Path) -> tuple[list[int], dict[tuple[int, int], int]]:
    """The time of each frame from the first one's on, in nanoseconds, and its number by part and time in the video."""
    try:
        log = SessionLog(folder)
    except OSError as error:
        raise SourceMissing(f"source: {address}; its log cannot be read ({error.strerror})") from error
    log.close()
    if not log.frames:
        raise SourceMissing(f"source: {address}; its log holds no frame")
    numbers = {
        (frame.part, frame.raw_ms): number
        for number, frame in enumerate(log.frames)
        if frame.raw_ms is not None
    }
    return _growing(log.frames), numbers


def _growing(frames: list[LoggedFrame]) -> list[int]:
    """The frames' own times, laid one behind the other where they begin anew: at another source or loop, or a jump."""
    times: list[int] = []
    offset_ns = -frames[0].time_ns
    for number, frame in enumerate(frames):
        if times and (frame.origin != frames[number - 1].origin or frame.time_ns + offset_ns <= times[-1]):
            offset_ns = times[-1] + _PERIOD_NS - frame.time_ns
        times.append(frame.time_ns + offset_ns)
    return times
