"""What a capture device offers, and which of it we take: arithmetic on lists, no device.

Separate from the device so that the choice can be tested against any list. The rule: the size asked for (else the one
the driver stands on); of the formats that reach the rate asked for (else the best rate up to 60), the one that costs
least to convert.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from endostream.configs.errors import ConfigError

from ..frame import SizeHW
from ..source import UnreadableFormats

READABLE = {
    "BGR3": "bgr24",
    "RGB3": "rgb24",
    "NV12": "nv12",
    "YU12": "yuv420p",
    "YUYV": "yuyv422",
    "UYVY": "uyvy422",
    "GREY": "gray",
    "MJPG": "mjpeg",
    "JPEG": "mjpeg",
}
"""Pixel formats we read, by the kernel's name, with FFmpeg's; cheapest first (1080p: 0.1 to 0.8 ms, MJPEG 6 ms)."""
_COST = {name: cost for cost, name in enumerate(READABLE)}
HIGHEST_DEFAULT_FPS = 60
_RATE_TOLERANCE = Fraction(995, 1000)
_LARGEST_DEFAULT_PX = 1920 * 1080


@dataclass(frozen=True, slots=True)
class Mode:
    """One pixel format (the kernel's name) at one size, with the rates it can have; none if it does not say."""

    pixel_format: str
    size_hw: SizeHW
    rates: tuple[Fraction, ...] = ()

    def __str__(self) -> str:
        height, width = self.size_hw
        rates = ", ".join(f"{float(rate):g}" for rate in sorted(self.rates))
        return f"{self.pixel_format} {width}x{height}{f' at {rates} fps' if rates else ''}"


@dataclass(frozen=True, slots=True)
class Choice:
    """A mode with the rate to set; ``fps`` None where the device names none."""

    pixel_format: str
    size_hw: SizeHW
    fps: Fraction | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asked for; None for whatever is best. ``pixel_format`` is the kernel's name."""

    size_hw: SizeHW | None = None
    fps: Fraction | None = None
    pixel_format: str | None = None


def choose(modes: Sequence[Mode], wanted: Wanted, current_hw: SizeHW | None = None) -> Choice:
    """The mode to capture in; ``current_hw`` is the size the driver stands on, often that of the signal.

    Raises:
        ConfigError: nothing offered is what was asked for; the message names what is.
    """
    readable = [mode for mode in modes if mode.pixel_format in READABLE]
    if wanted.pixel_format is not None:
        names = sorted({mode.pixel_format for mode in readable})
        readable = [mode for mode in readable if mode.pixel_format == wanted.pixel_format]
        if not readable:
            raise ConfigError(
                f"live.pixel_format: {wanted.pixel_format}; expected one the device offers: {', '.join(names)}"
            )
    if not readable:
        names = sorted({mode.pixel_format for mode in modes})
        raise UnreadableFormats(
            f"pixel formats: {', '.join(names) or 'none'}; expected one of {', '.join(READABLE)}. "
            "Try: --set live.reader=ffmpeg"
        )
    size_hw = _size(readable, wanted.size_hw, current_hw)
    at_size = [mode for mode in readable if mode.size_hw == size_hw]
    best = max((_best_rate(mode) for mode in at_size), default=Fraction(0))
    target = wanted.fps if wanted.fps is not None else min(best, Fraction(HIGHEST_DEFAULT_FPS))
    reaching = [mode for mode in at_size if not mode.rates or max(mode.rates) >= target * _RATE_TOLERANCE]
    if not reaching:
        reaching = [mode for mode in at_size if _best_rate(mode) == best]
    chosen = min(reaching, key=lambda mode: _COST[mode.pixel_format])
    return Choice(chosen.pixel_format, size_hw, _rate(chosen, target, wanted.fps))


def _best_rate(mode: Mode) -> Fraction:
    """The best rate that counts where none is asked for: up to 60; faster ones only if there are no others."""
    usual = [rate for rate in mode.rates if rate <= HIGHEST_DEFAULT_FPS]
    return max(usual or mode.rates, default=Fraction(0))


def _size(modes: Sequence[Mode], wanted_hw: SizeHW | None, current_hw: SizeHW | None) -> SizeHW:
    sizes = {mode.size_hw for mode in modes}
    if wanted_hw is not None:
        if wanted_hw not in sizes:
            offered = ", ".join(f"{width}x{height}" for height, width in sorted(sizes))
            raise ConfigError(
                f"live.width, live.height: {wanted_hw[1]}x{wanted_hw[0]}; expected a size the device offers: {offered}"
            )
        return wanted_hw
    if current_hw in sizes:
        return current_hw
    fitting = [size for size in sizes if size[0] * size[1] <= _LARGEST_DEFAULT_PX]
    if fitting:
        return max(fitting, key=lambda size: size[0] * size[1])
    return min(sizes, key=lambda size: size[0] * size[1])


def _rate(mode: Mode, target: Fraction, asked: Fraction | None) -> Fraction | None:
    """The lowest rate that reaches the target, else the highest there is."""
    if not mode.rates:
        return asked
    reaching = [rate for rate in mode.rates if rate >= target * _RATE_TOLERANCE]
    return min(reaching) if reaching else max(mode.rates)
