"""One video file being written through PyAV: pictures of one size, at times in ticks.

Separate from the sink, which may write several files in a run. The encoder only counts frames; their true
times are put on the packets that come out, so that variable rates and any time base pass through every
codec unchanged.
"""

from collections import deque
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter

from ..frame import ImageBgr, SizeHW
from .video_encoding import Encoding


class VideoFile:
    """Opens ``path`` for writing, replacing what is there; raises OSError or FFmpegError where it cannot."""

    def __init__(self, path: Path, size_hw: SizeHW, period_s: Fraction, encoding: Encoding) -> None:
        self.path = path
        self.size_hw = size_hw
        self._encoding = encoding
        self._period_s = period_s
        # MPEG-4 takes no denominator above 65,535, and what the encoder counts in is no time anyone sees.
        self._count_s = Fraction(1, max(1, round(1 / period_s)))
        self._count = 0
        self._pending_ticks: deque[int] = deque()
        self._reformatter = VideoReformatter()
        # "file:" keeps FFmpeg from reading a name with a colon in it as an address.
        self._container = av.open(f"file:{path}", "w", options=dict(encoding.container_options))
        try:
            self._stream = self._open_stream()
        except Exception:
            self._container.close()
            raise

    def _open_stream(self) -> av.VideoStream:
        stream = self._container.add_stream(
            self._encoding.encoder, rate=1 / self._period_s, options=dict(self._encoding.options)
        )
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = self.size_hw
        stream.pix_fmt = self._encoding.pixel_format
        stream.time_base = self._encoding.tick_s
        context = stream.codec_context
        context.time_base = self._count_s
        context.gop_size = self._encoding.gop_frames
        context.max_b_frames = 0
        context.thread_count = self._encoding.threads
        context.thread_type = "SLICE"
        for name, number in self._encoding.tags.items():
            setattr(context, name, number)
        return stream

    def write(self, image_bgr: ImageBgr, ticks: int) -> None:
        """Encode one picture (H × W × 3, uint8), to be shown at ``ticks``; it is not kept."""
        frame = self._converted(image_bgr)
        frame.pts, frame.time_base = self._count, self._count_s
        self._count += 1
        self._pending_ticks.append(ticks)
        self._mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file; raises OSError if that fails. May be called twice."""
        try:
            if self._count:
                self._mux(self._stream.encode(None))
        finally:
            self._count = 0
            self._container.close()

    def _converted(self, image_bgr: ImageBgr) -> av.VideoFrame:
        source = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(image_bgr), format="bgr24")
        if self._encoding.matrix is None:
            return self._reformatter.reformat(source, format=self._encoding.pixel_format)
        return self._reformatter.reformat(
            source,
            format=self._encoding.pixel_format,
            dst_colorspace=self._encoding.matrix,
            dst_color_range=ColorRange.MPEG,
        )

    def _mux(self, packets: "list[av.Packet[av.VideoStream]]") -> None:
        for packet in packets:
            # Without B frames packets leave in the order of the pictures.
            packet.time_base = self._encoding.tick_s
            packet.pts = packet.dts = self._pending_ticks.popleft()
            packet.duration = max(1, round(self._period_s / self._encoding.tick_s))
            self._container.mux(packet)
