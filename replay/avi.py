"""Plays any video file that FFmpeg decodes, damaged or not; AVI is what endoscopy archives hold.

Separate from ``container.py`` (what can be opened), ``reader.py`` (how far it can be decoded),
``timeline.py`` (at what times), ``deinterlace.py`` and ``colour.py`` (how pictures look). It never waits:
capture releases pictures when they are due.

Ignored on purpose: audio; rotation tags (endoscope recorders write none, phones do); sample aspect ratio
(pixels are shown as recorded, as the network was trained). Damage does not end a replay before the file does:
what cannot be decoded is counted in ``faults`` and leaves a gap in ``seq``, and decoding goes on with the
next packet.
"""

import math
from collections import Counter
from collections.abc import Generator, Iterator
from fractions import Fraction
from functools import partial
from types import TracebackType
from typing import Self

import av

from endostream.configs.errors import ConfigError, SourceLost, SourceMissing
from endostream.pipeline.frame import SourcePicture
from endostream.pipeline.source import SourceInfo, SourceOptions

from .colour import BgrConverter, colour_of
from .container import ASSUMED_FPS, OpenVideo, open_video
from .deinterlace import Deinterlacer
from .reader import PictureReader
from .timeline import Timeline, in_display_order

PROBE_PACKETS = 1000
"""Packets without a picture after which a file is given up as holding none."""
LONGEST_GAP_S = 60
"""A longer gap between two pictures is taken for damage: the replay would stand still."""
B_FRAME_LOOK_AHEAD = 8
"""Pictures held back to sort the times of an AVI with B-frames; encoders use up to 3 in a row, rarely 8."""
SEEK_MARGIN_FRAMES = 16
"""Seek as much too early: times in the file may be those of B-frames and a few frames off."""
DURATION_SLACK_S = 2.0
"""A length may be an estimate (MPEG program streams): only a start well behind it is refused unread."""
TIME_TOLERANCE_S = 0.0005
"""Matroska rounds times to milliseconds: a start at 1/3 s means the frame stamped 0.333 s."""


class AviSource:
    """A video file as a source. Each iteration plays from ``start_s`` again, and ends the one before.

    ``start_s`` counts from the file's first picture, whatever its pts.

    Args:
        address: path of the file.
        options: ``extra`` knows ``decode_threads`` (int, default 1) and ``deinterlace`` (``"off"``, the
            default, or ``"auto"``).

    Attributes:
        first_cause: FFmpeg's words for the first thing that could not be decoded, "" if there was none.

    Raises:
        SourceMissing: not there, or no picture of it could be decoded.
        ConfigError: ``start_s`` lies behind the end (from iterating, where the header does not tell).
    """

    def __init__(self, address: str, options: SourceOptions | None = None) -> None:
        self._path = address.removeprefix("file:")
        self._options = options or SourceOptions()
        self._threads = int(self._options.extra.get("decode_threads", 1))
        self._converter = BgrConverter(self._threads)
        self._faults: Counter[str] = Counter()
        self._playing: Generator[SourcePicture, None, None] | None = None
        self.first_cause = ""
        self.info, self._origin = self._probe(address)
        if (
            self.info.duration_s is not None
            and self.info.duration_s + DURATION_SLACK_S < self._options.start_s
        ):
            raise self._nothing_from_start(self.info.duration_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[SourcePicture]:
        """Pictures from ``start_s`` to the end or ``duration_s``; SourceLost if the file cannot be read."""
        self.close()
        self._playing = self._play()
        return self._playing

    @property
    def faults(self) -> dict[str, int]:
        """Over all iterations, by cause.

        ``corrupt_packet`` (not decoded, a gap in seq), ``damaged_packet`` (bytes of it are missing),
        ``corrupt_picture`` (shown, in part concealed by the decoder), ``missing_pts``, ``backward_pts``,
        ``pts_jump`` (mended), ``size_change``, ``stream_added`` (and passed over), ``ended_early``
        (the header promised more than there was).
        """
        return dict(self._faults)

    def close(self) -> None:
        """End the iteration under way and close its file."""
        if self._playing is not None:
            self._playing.close()
            self._playing = None

    def _probe(self, address: str) -> tuple[SourceInfo, int]:
        """What the file is, and the pts of its first picture, both by decoding that."""
        video = open_video(self._path, self._threads)
        reader = PictureReader(video, Counter())
        try:
            first = next(reader.pictures(PROBE_PACKETS), None)
            if first is None:
                cause = f" ({reader.first_cause})" if reader.first_cause else ""
                raise SourceMissing(
                    f"source: {address}; no picture could be decoded{cause}, expected at least one"
                )
            return _info(address, video, first), first.pts or 0
        except SourceLost as error:
            raise SourceMissing(str(error)) from error
        finally:
            video.container.close()

    def _play(self) -> Generator[SourcePicture, None, None]:
        start_pts = float(self._origin + (self._options.start_s - TIME_TOLERANCE_S) / self.info.time_base)
        video = self._open_before(start_pts)
        tap = self._options.extra.get("packets")
        if tap is not None and self._options.extra.get("deinterlace", "off") != "off":
            tap = None  # a picture then comes of several packets
        reader = PictureReader(video, self._faults, None if tap is None else tap.take)
        try:
            yield from self._pictures(video, reader, start_pts)
        finally:
            video.container.close()
            self.first_cause = self.first_cause or reader.first_cause

    def _pictures(self, video: OpenVideo, reader: PictureReader, start_pts: float) -> Iterator[SourcePicture]:
        time_base, step = self.info.time_base, self._step
        length_s = self._options.duration_s
        end_pts = math.inf if length_s is None else float(start_pts + length_s / time_base)
        timeline = Timeline(step, int(LONGEST_GAP_S / time_base), self._faults)
        played = lost_unseen = 0
        pts = self._origin
        for picture, raw_pts in self._timed(video, reader):
            pts = timeline.mend(raw_pts)
            if pts >= end_pts:
                return
            if pts < start_pts:
                lost_unseen = reader.lost
                continue
            size_hw = (picture.height, picture.width)
            fill = partial(self._converter.fill, picture)
            seq, name = played + reader.lost - lost_unseen, picture.opaque
            packet_ns = name if isinstance(name, int) else 0
            yield SourcePicture(seq, pts, time_base, size_hw, fill, packet_ns=packet_ns)
            played += 1
        if not played and self._options.start_s > 0:
            raise self._nothing_from_start(float((pts + step - self._origin) * time_base))
        counted = video.stream.frames > 0 and not video.stores_times
        self._check_end(pts + step, counted and not reader.lost)

    def _timed(self, video: OpenVideo, reader: PictureReader) -> Iterator[tuple[av.VideoFrame, int | None]]:
        sorts = not video.stores_times and bool(video.stream.codec_context.has_b_frames)
        timed = in_display_order(reader.pictures(), B_FRAME_LOOK_AHEAD if sorts else 0)
        if self._options.extra.get("deinterlace", "off") == "auto":
            timed = Deinterlacer().run(timed)
        return timed

    def _check_end(self, end_pts: int, counted: bool) -> None:
        """Count an end before its time: a file cut off, truncated while it was played, or short of pictures."""
        played_s = float((end_pts - self._origin) * self.info.time_base)
        # An AVI's length is a count of pictures; elsewhere it is a time, which may be a frame or two off.
        slack_s = float((Fraction(1, 2) if counted else 2) * self._step * self.info.time_base)
        if self.info.duration_s is not None and played_s < self.info.duration_s - slack_s:
            self._faults["ended_early"] += 1

    def _nothing_from_start(self, length_s: float) -> ConfigError:
        start_s = self._options.start_s
        return ConfigError(
            f"start_s: {start_s:g}; expected less than {length_s:g} s, the length of {self._path}"
        )

    @property
    def _step(self) -> int:
        """Pts units of a frame at the nominal rate."""
        return max(1, round(1 / ((self.info.fps or ASSUMED_FPS) * self.info.time_base)))

    def _open_before(self, start_pts: float) -> OpenVideo:
        """The file, standing on a key frame before ``start_pts``, or at its beginning if it leads to none."""
        video = self._reopen()
        target = math.floor(start_pts) - SEEK_MARGIN_FRAMES * self._step
        if target <= self._origin or _seek(video, target):
            return video
        video.container.close()
        return self._reopen()

    def _reopen(self) -> OpenVideo:
        try:
            return open_video(self._path, self._threads)
        except SourceMissing as error:
            raise SourceLost(f"{error}; it was there when the replay began") from error


def _seek(video: OpenVideo, target: int) -> bool:
    """Go to a key frame at or before ``target``; False if what is decoded there is none (a wrong index)."""
    if not video.seekable:
        return False
    try:
        video.container.seek(target, stream=video.stream)
        first = next(PictureReader(video, Counter()).pictures(PROBE_PACKETS), None)
        if first is None or first.pts is None or first.pts > target or not first.key_frame:
            return False
        video.container.seek(target, stream=video.stream)
    except (av.FFmpegError, SourceLost):
        return False
    return True


def _info(address: str, video: OpenVideo, first: av.VideoFrame) -> SourceInfo:
    stream, colour = video.stream, colour_of(first)
    assumed = list(colour.assumed)
    if video.fps is None:
        assumed.append("fps")
    if first.pts is None:
        assumed.append("pts")
    return SourceInfo(
        address=address,
        kind="file",
        size_hw=(first.height, first.width),
        fps=video.fps or ASSUMED_FPS,
        time_base=stream.time_base or Fraction(1, 1_000_000),
        frame_count=stream.frames or None,
        duration_s=video.duration_s,
        codec=stream.codec_context.name,
        pixel_format=first.format.name,
        colour_matrix=colour.matrix,
        colour_range=colour.range,
        assumed=tuple(assumed),
    )
