"""The matrix of a profile: which combinations of source, segmenter, runtime, size, rate, pace and launcher are run.

Separate from running them. A dimension that was not given is left to the configuration.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from endostream.configs.errors import ConfigError
from endostream.configs.schema import frame_rate

from ..source import is_live

PACES = {"live": "realtime", "back-to-back": "fastest"}
"""live: frames come when they are due, newest wins. back-to-back: as fast as it goes, no frame dropped."""
LAUNCHERS = ("processes", "threads")
OPTION_OF = {
    "launcher": "launcher",
    "speed": "pace",
    "segmenter": "segmenter",
    "runtime": "runtime",
    "width": "size",
    "height": "size",
    "fps": "rate",
}
"""The option of ``endostream profile`` by the last word of the setting that a cell makes for it."""
_SIZE = re.compile(r"(\d+)[x×](\d+)")


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination; None is what the configuration says, of size and rate what the source has."""

    source: str
    segmenter: str | None = None
    runtime: str | None = None
    size: tuple[int, int] | None = None
    fps: str | None = None
    pace: str = "live"
    launcher: str = "processes"

    @property
    def paced(self) -> bool:
        """Whether frames are due at a time."""
        return self.pace == "live"

    @property
    def is_live(self) -> bool:
        """Whether its pictures arrive by themselves, so that nothing can be decoded beforehand."""
        return is_live(self.source)

    @property
    def name(self) -> str:
        """What the report calls it."""
        size = None if self.size is None else f"{self.size[0]}×{self.size[1]}"
        rate = None if self.fps is None else f"{self.fps} fps"
        words = (self.source, self.segmenter, self.runtime, size, rate, self.pace, self.launcher)
        return ", ".join(word for word in words if word)

    def settings(self) -> list[str]:
        """What it sets, as ``KEY=VALUE``."""
        found, pictures = [f"supervisor.launcher={self.launcher}"], "live" if self.is_live else "memory"
        if not self.is_live:
            found.append(f"replay.speed={PACES[self.pace]}")
        if self.segmenter is not None:
            found.append(f"infer.segmenter={self.segmenter}")
        if self.runtime is not None:
            found.append(f"infer.runtime={self.runtime}")
        if self.size is not None:
            found += [f"{pictures}.width={self.size[0]}", f"{pictures}.height={self.size[1]}"]
        if self.fps is not None:
            found.append(f"{pictures}.fps={self.fps}")
        return found


def matrix_of(
    sources: Sequence[str],
    *,
    segmenter: str | None = None,
    runtime: str | None = None,
    size: str | None = None,
    rate: str | None = None,
    pace: str | None = None,
    launcher: str | None = None,
) -> list[Cell]:
    """All combinations of what was typed, each a comma-separated list; raises ConfigError for what is no value."""
    sizes, rates = sizes_of(size), rates_of(rate)
    paces = [_one_of("pace", text or "live", tuple(PACES)) for text in _listed("pace", pace)]
    launchers = [
        _one_of("launcher", text or "processes", LAUNCHERS) for text in _listed("launcher", launcher)
    ]
    dimensions = (
        list(sources),
        _listed("segmenter", segmenter),
        _listed("runtime", runtime),
        *(sizes, rates, paces, launchers),
    )
    cells = [Cell(*combination) for combination in itertools.product(*dimensions)]
    if any(cell.is_live and not cell.paced for cell in cells):
        raise ConfigError("pace: back-to-back; expected live for a live source, which comes as it comes")
    return cells


def sizes_of(text: str | None) -> list[tuple[int, int] | None]:
    """Widths and heights of a comma-separated list; [None] where nothing was given."""
    return [None if one is None else _size(one) for one in _listed("size", text)]


def rates_of(text: str | None) -> list[str | None]:
    """Rates of a comma-separated list, checked; [None] where nothing was given."""
    return [None if one is None else _rate(one) for one in _listed("rate", text)]


def _listed(name: str, text: str | None) -> list[str | None]:
    """The values of one dimension, each once; [None] where nothing was given."""
    if text is None:
        return [None]
    values = [value.strip() for value in text.split(",")]
    if not all(values) or len(set(values)) != len(values):
        raise ConfigError(f"{name}: {text!r}; expected values with commas between them, each once")
    return list(values)


def _size(text: str) -> tuple[int, int]:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ConfigError(f"size: {text!r}; expected WIDTHxHEIGHT. Try: --size 720x576")
    return int(match[1]), int(match[2])


def _rate(text: str) -> str:
    try:
        frame_rate(text)
    except ValueError as error:
        raise ConfigError(f"rate: {text!r}; expected frames a second, 1 to 240. Try: --rate 25") from error
    return text


def _one_of(name: str, text: str, known: Sequence[str]) -> str:
    if text not in known:
        raise ConfigError(f"{name}: {text!r}; expected {' or '.join(known)}")
    return text
