"""One recording of a catalogue, and the conditions by which recordings are chosen.

Separate from the catalogue, so that choosing can be tested without a file: nothing here looks for one.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from endostream.configs.errors import ConfigError
from endostream.pipeline.frame import SizeHW


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One recording as it is listed; None where the list does not say.

    Attributes:
        finding: of the whole video, in the list's words; in a plain folder, the names of the subfolders.
        kilobytes: file size in KiB.
        path: where the file lies, None if it is missing.
        words: what else to look for a finding in: the file's name in a plain folder, where nothing is listed.
    """

    file_name: str
    finding: str
    size_hw: SizeHW | None = None
    frames: int | None = None
    fps: float | None = None
    length_s: float | None = None
    kilobytes: int | None = None
    path: Path | None = None
    words: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries are wanted: all conditions that are not None must hold.

    Attributes:
        finding: a part of the finding, capitals or not.
        size_hw: height and width, exactly.
        fps: the rate, to 1 % or to its whole number.
        limit: at most so many, in the order of the list.
    """

    finding: str | None = None
    size_hw: SizeHW | None = None
    fps: float | None = None
    min_length_s: float | None = None
    max_length_s: float | None = None
    limit: int | None = None

    def matches(self, entry: CatalogueEntry) -> bool:
        """Whether ``entry`` meets every condition but the limit; what is not known meets none."""
        length_s = entry.length_s
        return (
            (self.finding is None or self.finding.casefold() in f"{entry.finding}\n{entry.words}".casefold())
            and (self.size_hw is None or self.size_hw == entry.size_hw)
            and (self.fps is None or (entry.fps is not None and same_rate(self.fps, entry.fps)))
            and (self.min_length_s is None or (length_s is not None and length_s >= self.min_length_s))
            and (self.max_length_s is None or (length_s is not None and length_s <= self.max_length_s))
        )


def count_findings(entries: Iterable[CatalogueEntry]) -> dict[str, int]:
    """How many entries have which finding, most frequent first; capitals make no difference."""
    return dict(Counter(entry.finding.strip().casefold() for entry in entries).most_common())


def same_rate(fps: float, listed_fps: float) -> bool:
    """Whether two rates are the same to 1 % or once cut to whole numbers, as the CSV's are."""
    return int(fps) == int(listed_fps) or abs(fps - listed_fps) <= 0.01 * listed_fps


def parse_size(text: str) -> SizeHW:
    """Read ``WIDTHxHEIGHT`` as height and width in pixels; raises ConfigError."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise ConfigError(f"size: {text!r}; expected WIDTHxHEIGHT in pixels. Try: 720x576")
    return int(height), int(width)
