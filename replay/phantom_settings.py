"""The phantom's settings: from an address and the options of a source, checked.

Separate from the configuration's schema because the phantom is also used without one (tests, training, tools), and
has settings that only they need.
"""

import math
import re
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from endostream.configs.errors import ConfigError
from endostream.pipeline.frame import SizeHW

FIELDS = ("octagon", "round", "full")
_ADDRESS = re.compile(r"phantom:(?:(?P<width>\d+)x(?P<height>\d+))?(?:@(?P<fps>[\d./]+))?")


@dataclass(frozen=True, slots=True)
class PhantomSettings:
    """How the phantom looks and lasts.

    Attributes:
        width: pixels, 16 to 7680.
        height: pixels, 16 to 4320.
        fps: frames a second, exact, above 0 up to 1000.
        duration_s: seconds, above 0 up to 86400.
        seed: of everything; the same seed and settings give the same bytes.
        field: the field of view in its black border: ``octagon``, ``round``, or ``full`` for none.
        text: whether text stands beside the field where there is room.
        inset: whether a black inset (as a ScopeGuide's place) cuts the field's lower left corner.
        polyps: False for a colon that never has any.
    """

    width: int = 720
    height: int = 576
    fps: Fraction = Fraction(25)
    duration_s: float = 10.0
    seed: int = 0
    field: str = "octagon"
    text: bool = True
    inset: bool = False
    polyps: bool = True

    def __post_init__(self) -> None:
        """Raise ConfigError for a value outside its range."""
        _check_whole("width", self.width, 16, 7680)
        _check_whole("height", self.height, 16, 4320)
        _check_whole("seed", self.seed, 0, 2**32 - 1)
        if not 0 < self.fps <= 1000:
            raise ConfigError(f"phantom.fps: {self.fps}; expected above 0 up to 1000 frames/s")
        if not (_is_number(self.duration_s) and 0 < self.duration_s <= 86_400):
            raise ConfigError(f"phantom.duration_s: {self.duration_s!r}; expected above 0 up to 86400 s")
        if self.field not in FIELDS:
            raise ConfigError(f"phantom.field: {self.field!r}; expected one of {', '.join(FIELDS)}")
        for name in ("text", "inset", "polyps"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"phantom.{name}: {getattr(self, name)!r}; expected true or false")

    @property
    def size_hw(self) -> SizeHW:
        """Height and width."""
        return self.height, self.width

    @property
    def frame_count(self) -> int:
        """Frames that begin before ``duration_s`` is over, at least 1."""
        return max(1, math.ceil(Fraction(str(self.duration_s)) * self.fps))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_whole(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(f"phantom.{name}: {value!r}; expected a whole number from {low} to {high}")


def exact_rate(value: object) -> Fraction:
    """A frame rate given as 25, 29.97, ``"30000/1001"`` or a Fraction; raises ConfigError for anything else."""
    try:
        return Fraction(str(value))
    except (ValueError, ZeroDivisionError) as error:
        raise ConfigError(
            f"phantom.fps: {value!r}; expected a number or fraction. Try: 25 or 30000/1001"
        ) from error


def settings_from(address: str, extra: dict[str, Any]) -> PhantomSettings:
    """Settings of ``phantom:`` or ``phantom:WIDTHxHEIGHT@FPS``; what the address says goes before ``extra``.

    Raises:
        ConfigError: an address that cannot be read, an unknown setting, or a value outside its range.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise ConfigError(f"source: {address!r}; expected phantom:WIDTHxHEIGHT@FPS. Try: phantom:1280x720@25")
    known = set(PhantomSettings.__dataclass_fields__)
    for name in extra:
        if name not in known:
            raise ConfigError(f"phantom.{name}: unknown; expected one of {', '.join(sorted(known))}")
    values = dict(extra)
    if match["width"]:
        values["width"], values["height"] = int(match["width"]), int(match["height"])
    if match["fps"]:
        values["fps"] = match["fps"]
    if "fps" in values:
        values["fps"] = exact_rate(values["fps"])
    return replace(PhantomSettings(), **values)
