"""What a video file says of itself, read from its header: size, rate, number of frames.

Separate from the catalogue because it alone opens files. It decodes nothing, so a file that is cut off or
damaged further in still has a fine header.
"""

from dataclasses import dataclass
from pathlib import Path

import av

from endostream.configs.errors import SourceMissing
from endostream.pipeline.frame import SizeHW


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """A video's header.

    Attributes:
        frames: as the header says, else duration times rate, as OpenCV counts too; None if it says neither.
        frames_exact: the header says the number itself.
        fps: average rate, None if unknown.
    """

    size_hw: SizeHW
    frames: int | None
    fps: float | None
    frames_exact: bool = True

    @property
    def length_s(self) -> float | None:
        """Seconds it lasts at its rate, None if unknown."""
        return self.frames / self.fps if self.frames and self.fps else None


def probe_video(path: Path) -> VideoFacts:
    """Read the header of ``path``.

    Raises:
        SourceMissing: it is not there, or is no video that can be read.
    """
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            if not container.streams.video:
                raise SourceMissing(f"video: {path}; no video stream in it")
            stream = container.streams.video[0]
            rate = stream.average_rate or stream.guessed_rate
            fps = float(rate) if rate else None
            frames = stream.frames or _estimated_frames(stream, container.duration, fps)
            size_hw = (stream.height, stream.width)
    except (av.FFmpegError, OSError) as error:
        reason = (error.strerror or str(error)).lower()
        raise SourceMissing(f"video: {path}; cannot be read ({reason})") from error
    if not all(size_hw):
        raise SourceMissing(f"video: {path}; no picture size in its header")
    return VideoFacts(size_hw, frames, fps, frames_exact=bool(stream.frames))


def _estimated_frames(stream: av.VideoStream, container_us: int | None, fps: float | None) -> int | None:
    """Duration times rate, from the container's duration (microseconds) or else the stream's own."""
    if not fps:
        return None
    if container_us:
        return round(container_us / 1e6 * fps)
    return (
        round(float(stream.duration * stream.time_base) * fps)
        if stream.duration and stream.time_base
        else None
    )
