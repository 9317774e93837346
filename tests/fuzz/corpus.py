"""Small valid streams to be damaged: one of each kind that a source plays, made anew by FFmpeg.

Separate from the damage (``mutation.py``) and from playing (``player.py``). Each has PICTURES numbered pictures with
noise over them, so that its bytes are mostly picture data, as in real files; ``other`` is the same kind in another
size, to be spliced in. It holds no test.
"""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import av
import numpy as np

from ..replay.make_video import VideoSpec, make_video, numbered_picture

PICTURES = 30
SIZE_HW, OTHER_HW = (64, 96), (96, 128)
KINDS = ("ts", "avi", "mkv", "mp4", "y4m", "udp", "rtsp", "v4l2")
"""MPEG-TS, MJPEG in AVI, Matroska and MP4 as files; YUV4MPEG2 through pipe:; MPEG-TS over UDP and RTSP; V4L2 MJPEG."""
FILES = ("ts", "avi", "mkv", "mp4")
_H264 = {"preset": "ultrafast", "tune": "zerolatency", "g": "10"}


@dataclass(frozen=True)
class Sample:
    """A valid stream and one of another size."""

    kind: str
    data: bytes
    other: bytes

    @property
    def block(self) -> int:
        """Bytes of the unit that such a stream is sent in; 0 if it has none of a fixed length."""
        return 188 if self.kind in ("ts", "udp", "rtsp") else 0


def samples(folder: Path) -> dict[str, Sample]:
    """All kinds, made in ``folder``."""
    made = {
        kind: Sample(kind, *(_made(folder, kind, size) for size in (SIZE_HW, OTHER_HW))) for kind in FILES
    }
    for kind in ("udp", "rtsp"):
        made[kind] = Sample(kind, made["ts"].data, made["ts"].other)
    made["y4m"] = Sample("y4m", _y4m(SIZE_HW), _y4m(OTHER_HW))
    made["v4l2"] = Sample("v4l2", _jpegs(SIZE_HW), _jpegs(OTHER_HW))
    return made


def _made(folder: Path, kind: str, size_hw: tuple[int, int]) -> bytes:
    common = {"size_hw": size_hw, "frames": PICTURES, "texture": True}
    if kind == "avi":
        spec = VideoSpec("mjpeg", "yuvj420p", options={"qmin": "5", "qmax": "5"}, **common)
    else:
        spec = VideoSpec("libx264", options=_H264, **common)
    path = make_video(folder / f"{kind}-{size_hw[1]}.{kind}", spec)
    return _in_fragments(path) if kind == "mp4" else path.read_bytes()


def _in_fragments(path: Path) -> bytes:
    """The same MP4 in fragments, as recorders write it that want it to survive a power cut."""
    out = BytesIO()
    with (
        av.open(str(path)) as whole,
        av.open(out, "w", format="mp4", options={"movflags": "frag_keyframe+empty_moov"}) as parts,
    ):
        stream = parts.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                parts.mux(packet)
    return out.getvalue()


def _pictures(size_hw: tuple[int, int]) -> list[av.VideoFrame]:
    pictures = []
    for number in range(PICTURES):
        noise = np.random.default_rng(number).integers(0, 50, (*size_hw, 3), np.uint8)
        pictures.append(av.VideoFrame.from_ndarray(numbered_picture(number, size_hw) + noise, "bgr24"))
    return pictures


def _y4m(size_hw: tuple[int, int]) -> bytes:
    head = f"YUV4MPEG2 W{size_hw[1]} H{size_hw[0]} F25:1 Ip A1:1 C420jpeg\n".encode()
    planes = [picture.reformat(format="yuv420p").to_ndarray().tobytes() for picture in _pictures(size_hw)]
    return head + b"".join(b"FRAME\n" + plane for plane in planes)


def _jpegs(size_hw: tuple[int, int]) -> bytes:
    """JPEG pictures one behind the other."""
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.height, encoder.width, encoder.pix_fmt = *size_hw, "yuvj420p"
    encoder.framerate = 25
    pictures = (picture.reformat(format="yuvj420p") for picture in _pictures(size_hw))
    return b"".join(bytes(packet) for picture in pictures for packet in encoder.encode(picture))
