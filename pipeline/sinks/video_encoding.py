"""How pictures are encoded for each kind of video file: codec, pixel format, colours, options of FFmpeg.

Separate from the sink, which only writes: what is chosen here was chosen by trying, and the reasons stand
beside it. It opens no file.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from av.video.reformatter import Colorspace

from endostream.configs.errors import ConfigError

from ..frame import SizeHW

CODECS = {".mp4": ("h264", "mpeg4"), ".mkv": ("ffv1", "h264", "mpeg4"), ".avi": ("mpeg4", "ffv1")}
"""What each kind of file may hold; the first is taken for ``auto``.

No h264 in AVI, which has no times of its own: players show it one frame late. FFmpeg refuses ffv1 in MP4.
"""
HD_HEIGHT_PX = 720
"""From here on BT.709 is written and BT.601 below: what a player assumes where a file does not say."""

_ENCODERS = {"h264": "libx264", "mpeg4": "mpeg4", "ffv1": "ffv1"}
_FLUSH = {"flush_packets": "1"}
CONTAINER_OPTIONS = {
    # Fragments of half a second while recording, an ordinary MP4 after a clean close. delay_moov keeps a
    # first time that is not 0.
    ".mp4": {"movflags": "hybrid_fragmented+delay_moov", "frag_duration": "500000", **_FLUSH},
    # A cluster stays in memory until it is full (5 s by default).
    ".mkv": {"cluster_time_limit": "500", **_FLUSH},
    ".avi": _FLUSH,
}


@dataclass(frozen=True, slots=True)
class Encoding:
    """How one video file is encoded.

    Attributes:
        encoder: FFmpeg's name.
        pixel_format: what the encoder eats.
        matrix: of the conversion from BGR, None where the file holds RGB.
        tags: H.273 numbers of matrix, primaries, transfer and range, by PyAV's attribute.
        options: of the encoder.
        container_options: of the muxer.
        threads: of the encoder.
        gop_frames: frames from one key frame to the next.
        tick_s: unit of the times in the file, seconds.
        from_zero: whether the file must begin at time 0.
    """

    encoder: str
    pixel_format: str
    matrix: Colorspace | None
    tags: dict[str, int]
    options: dict[str, str]
    container_options: dict[str, str]
    threads: int
    gop_frames: int
    tick_s: Fraction
    from_zero: bool


def check_suffix(suffix: str, label: str) -> None:
    """Raise ConfigError unless files named ``suffix`` can be written."""
    if suffix.lower() not in CODECS:
        kinds = ", ".join(CODECS)
        raise ConfigError(f"sink {label}: {suffix or 'no'} ending; expected one of {kinds}. Try: video:o.mp4")


def codec_for(suffix: str, codec: str) -> str:
    """What ``record.codec`` means in a ``suffix`` file; ConfigError where the two do not go together."""
    allowed = CODECS[suffix.lower()]
    if codec == "auto":
        return allowed[0]
    if codec not in allowed:
        raise ConfigError(
            f"record.codec: {codec} in a {suffix} file; expected {' or '.join(allowed)}. Try: another ending"
        )
    return codec


def encoding_for(
    suffix: str, size_hw: SizeHW, time_base: Fraction, period_s: Fraction, options: dict[str, Any]
) -> Encoding:
    """Choose the encoding of a file named ``suffix``.

    Args:
        suffix: ``.mp4``, ``.mkv`` or ``.avi``.
        size_hw: of the pictures.
        time_base: of the first source, seconds per unit.
        period_s: nominal time between frames, seconds.
        options: the ``record`` section of the configuration.
    """
    codec = codec_for(suffix, str(options.get("codec", "auto")))
    pixel_format = _pixel_format(codec, size_hw)
    matrix = (
        None if codec == "ffv1" else Colorspace.ITU709 if size_hw[0] >= HD_HEIGHT_PX else Colorspace.ITU601
    )
    return Encoding(
        encoder=_ENCODERS[codec],
        pixel_format=pixel_format,
        matrix=matrix,
        tags=_colour_tags(matrix),
        options=_encoder_options(codec, size_hw, options),
        container_options=CONTAINER_OPTIONS[suffix.lower()],
        threads=int(options.get("threads", 2)),
        gop_frames=1 if codec == "ffv1" else max(1, round(Fraction(options.get("gop_s", 1.0)) / period_s)),
        tick_s=_tick_s(suffix.lower(), time_base, period_s),
        from_zero=suffix.lower() == ".avi",
    )


def _pixel_format(codec: str, size_hw: SizeHW) -> str:
    if codec == "ffv1":
        return "bgr0"
    odd = size_hw[0] % 2 or size_hw[1] % 2
    # x264 refuses odd sizes in 4:2:0; 4:4:4 loses no pixel, and FFmpeg's players show it.
    return "yuv444p" if codec == "h264" and odd else "yuv420p"


def _matrix(size_hw: SizeHW) -> Colorspace:
    return Colorspace.ITU709 if size_hw[0] >= HD_HEIGHT_PX else Colorspace.ITU601


def _colour_tags(matrix: Colorspace | None) -> dict[str, int]:
    if matrix is None:
        return {}
    # H.273: 1 is BT.709, 6 is SMPTE 170M (BT.601, 525 lines); range 1 is limited.
    number = 1 if matrix is Colorspace.ITU709 else 6
    return {"colorspace": number, "color_primaries": number, "color_trc": number, "color_range": 1}


def _encoder_options(codec: str, size_hw: SizeHW, options: dict[str, Any]) -> dict[str, str]:
    crf = int(options.get("crf", 20))
    if codec == "h264":
        # zerolatency: no look-ahead and no B frames, so a SIGKILL costs no frame that the encoder still held.
        return {"preset": str(options.get("preset", "ultrafast")), "tune": "zerolatency", "crf": str(crf)}
    if codec == "mpeg4":
        # A fixed quantiser (2 to 31) near x264's quality at this crf; 118 is FFmpeg's unit (FF_QP2LAMBDA).
        return {"flags": "+qscale", "global_quality": str(118 * min(31, max(2, round(crf / 6))))}
    # Slices let threads share a picture; FFmpeg refuses more slices than pixels.
    return {"level": "3", "coder": "range_tab", "slices": "4" if min(size_hw) >= 64 else "1", "slicecrc": "1"}


def _tick_s(suffix: str, time_base: Fraction, period_s: Fraction) -> Fraction:
    """Unit of the times that the container can hold, ``time_base`` or a fraction of it where possible."""
    if suffix == ".mkv":
        return Fraction(1, 1000)
    if suffix == ".avi":
        return period_s
    # As FFmpeg's MP4 muxer does; done here so that a second source of another rate finds ticks fine enough.
    tick = Fraction(1, min(time_base.denominator, 1_000_000))
    while tick > Fraction(1, 10_000):
        tick /= 2
    return tick
