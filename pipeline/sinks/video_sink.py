"""The sink ``video:PATH``: presented pictures as a video file with the source's own times.

One picture a write, in .mp4 (H.264, plays everywhere), .mkv (FFV1, lossless: what was shown can be checked
byte for byte) or .avi (MPEG-4). Times are kept: exactly in .mp4, to the millisecond in .mkv, to the frame
grid and from 0 in .avi, since these containers hold no more. What a SIGKILL leaves plays up to about a
second before it (measured: 0.4 s in .mp4, nothing but the last frame in .mkv and .avi). Pictures are never
scaled: after a change of size the run goes on in ``o.size2.mp4``.
"""

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av

from endostream.configs.errors import SinkError

from ..frame import Presented
from ..sink import SinkContext, SinkSpec
from .output_path import cannot_write, check_output_file, part_path, size_path
from .video_encoding import check_suffix, codec_for, encoding_for
from .video_file import VideoFile
from .video_times import VideoTimes

_USUAL_FPS = Fraction(25)
"""Assumed where a source names no rate: what most recorders write. It sets key frames, not times."""


class VideoSink:
    """Writes a video file; see the module's docstring. ``paths`` names the files written so far."""

    def __init__(self, spec: SinkSpec, context: SinkContext) -> None:
        path = Path(spec.path)
        check_suffix(path.suffix, spec.label)
        codec_for(path.suffix, str(context.options.get("codec", "auto")))
        self.paths: list[Path] = []
        self._spec = spec
        self._path = part_path(path, context.part)
        self._options = context.options
        self._period_s = 1 / (context.fps or _USUAL_FPS)
        self._file: VideoFile | None = None
        self._times = VideoTimes(self._period_s, self._period_s)
        self._mended = 0
        self._broken = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def check(spec: SinkSpec) -> None:
        """Raise ConfigError for an unknown ending, SinkError for a path that cannot be written."""
        path = Path(spec.path)
        check_suffix(path.suffix, spec.label)
        check_output_file(spec, path)

    @property
    def mended_times(self) -> int:
        """Frames whose time did not grow and was moved."""
        return self._mended + self._times.nudged + self._times.restarted

    def write(self, presented: Presented) -> None:
        """Encode the picture; raises SinkError when the disk is full or the encoder gives up."""
        if self._broken:
            raise SinkError(f"sink {self._spec.label}: an earlier write failed; nothing more is written")
        image = presented.frame.image_bgr
        size_hw = (image.shape[0], image.shape[1])
        try:
            if self._file is None or self._file.size_hw != size_hw:
                self._open_next(presented)
            assert self._file is not None
            self._file.write(image, self._times.next_ticks(presented.frame))
        except (OSError, av.FFmpegError) as error:
            raise self._give_up(error) from error

    def close(self) -> None:
        """Finish the file so that it plays; may be called twice."""
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.close()
        except (OSError, av.FFmpegError) as error:
            raise self._give_up(error) from error

    def _open_next(self, presented: Presented) -> None:
        if self._file is not None:
            self._file.close()
        frame = presented.frame
        size_hw = (frame.image_bgr.shape[0], frame.image_bgr.shape[1])
        path = size_path(self._path, len(self.paths) + 1)
        encoding = encoding_for(path.suffix, size_hw, frame.time_base, self._period_s, self._options)
        self._mended = self.mended_times
        self._times = VideoTimes(encoding.tick_s, self._period_s, encoding.from_zero)
        self._file = VideoFile(path, size_hw, self._period_s, encoding)
        self.paths.append(path)

    def _give_up(self, error: Exception) -> SinkError:
        """Save what can be saved, and say what happened."""
        self._broken = True
        file, self._file = self._file, None
        if file is not None:
            # What was written so far plays; the first error is the one to tell.
            with suppress(OSError, av.FFmpegError):
                file.close()
        path = self.paths[-1] if self.paths else self._path
        if isinstance(error, OSError):
            return cannot_write(self._spec, path, error)
        return SinkError(f"sink {self._spec.label}: {path} cannot be encoded ({error})")
