"""What the witness saw, judged: delay of each frame, and which were lost, repeated, torn or out of order.

Separate from looking (``witness_watch.py``, ``witness_file.py``), so that it can be checked on sightings written down
by hand. It knows nothing of our own stamps but to be compared with them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .witness_code import TIME_WRAPS_US
from .witness_play import Slot

_DWELL_PERIODS = 1.5
"""A frame that stays longer on a screen was shown in its successor's place."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame came into sight.

    Attributes:
        number: of the frame; of the newer one where two are seen at once.
        after_ns, by_ns: the last look that did not show it began, and the first that showed it ended; monotonic. In a
            file both are the frame's pts in nanoseconds.
        time_us: what the code says.
        other: the other frame's number where the picture was torn.
    """

    number: int
    after_ns: int
    by_ns: int
    time_us: int
    other: int | None = None

    @property
    def seen_ns(self) -> float:
        """The best guess: half-way."""
        return (self.after_ns + self.by_ns) / 2

    @property
    def error_ns(self) -> float:
        """How far off the guess can be, either way."""
        return (self.by_ns - self.after_ns) / 2

    @property
    def delay_ns(self) -> float:
        """From the code's time to being seen."""
        coded_us = self.seen_ns / 1000 - self.time_us
        return ((coded_us + TIME_WRAPS_US / 2) % TIME_WRAPS_US - TIME_WRAPS_US / 2) * 1000


@dataclass(slots=True)
class Verdict:
    """What became of the frames, by number."""

    sent: int = 0
    seen: int = 0
    lost: list[int] = field(default_factory=list)
    repeated: list[int] = field(default_factory=list)
    reordered: list[int] = field(default_factory=list)
    torn: list[int] = field(default_factory=list)
    not_sent: list[int] = field(default_factory=list)
    delay_ms: dict[str, float | int | None] = field(default_factory=dict)
    error_ms: dict[str, float | int | None] = field(default_factory=dict)
    interval_ms: dict[str, float | int | None] = field(default_factory=dict)


def summary_ms(values_ns: Sequence[float]) -> dict[str, float | int | None]:
    """n, p50, p90, p99, p99.9 and max in milliseconds; null for an empty series."""
    names = {"p50": 50, "p90": 90, "p99": 99, "p99_9": 99.9, "max": 100}
    if not len(values_ns):
        return {"n": 0, **dict.fromkeys(names)}
    levels = np.percentile(np.asarray(values_ns) / 1e6, list(names.values()))
    return {
        "n": len(values_ns),
        **{name: round(float(level), 4) for name, level in zip(names, levels, strict=True)},
    }


def judge(
    seen: Sequence[Seen], slots: Sequence[Slot] | None, period_ns: float, *, file: bool = False
) -> Verdict:
    """Judge sightings in the order in which they were made.

    Args:
        seen: each change of what is in sight; in a file each frame.
        slots: the sender's log; None where only the numbers in between are known to have been sent.
        period_ns: between two frames.
        file: sightings are frames of a file, which have no delay.
    """
    verdict = Verdict()
    if not seen:
        verdict.sent = len({slot.number for slot in slots or () if slot.number is not None})
        verdict.lost = sorted({slot.number for slot in slots or () if slot.number is not None})
        return verdict
    _judge_order(verdict, seen, period_ns, file)
    _judge_losses(verdict, seen, slots)
    fresh = list(_first_sightings(seen))
    if not file:
        whole = [each for each in fresh if each.other is None]
        verdict.delay_ms = summary_ms([each.delay_ns for each in whole])
        verdict.error_ms = summary_ms([each.error_ns for each in whole])
    gaps = np.diff([each.seen_ns for each in fresh])
    verdict.interval_ms = summary_ms([float(gap) for gap in gaps])
    return verdict


def _first_sightings(seen: Sequence[Seen]) -> list[Seen]:
    """Each frame's first whole sighting, or its first at all, in order."""
    first: dict[int, Seen] = {}
    for each in seen:
        if each.number not in first or (first[each.number].other is not None and each.other is None):
            first[each.number] = each
    return sorted(first.values(), key=lambda each: each.seen_ns)


def _judge_order(verdict: Verdict, seen: Sequence[Seen], period_ns: float, file: bool) -> None:
    newest = -1
    for place, each in enumerate(seen):
        before = seen[place - 1] if place else None
        again = before is not None and before.number == each.number
        if each.other is not None:
            _note(verdict.torn, each.number)
        elif each.number < newest and not again:
            _note(verdict.reordered, each.number)
        elif again and file and before is not None and before.other is None:
            _note(verdict.repeated, each.number)
        newest = max(newest, each.number)
        following = seen[place + 1] if place + 1 < len(seen) else None
        if (
            not file
            and following is not None
            and following.seen_ns - each.seen_ns > _DWELL_PERIODS * period_ns
        ):
            _note(verdict.repeated, each.number)


def _judge_losses(verdict: Verdict, seen: Sequence[Seen], slots: Sequence[Slot] | None) -> None:
    in_sight = {each.number for each in seen} | {each.other for each in seen if each.other is not None}
    verdict.seen = len(in_sight)
    if slots is None:
        expected = set(range(min(in_sight), max(in_sight) + 1))
    else:
        expected = {slot.number for slot in slots if slot.number is not None}
        numbers = {slot.slot for slot in slots}
        verdict.not_sent = sorted(numbers - expected)
    verdict.sent = len(expected)
    verdict.lost = sorted(expected - in_sight)


def _note(numbers: list[int], number: int) -> None:
    if not numbers or numbers[-1] != number:
        numbers.append(number)


def against_stamps(seen: Sequence[Seen], present_ns: dict[int, int]) -> dict[str, Any]:
    """How much later than our own stamp the witness saw each frame: the two must agree within ``error_ms``."""
    both = [each for each in _first_sightings(seen) if each.number in present_ns and each.other is None]
    later_ns = [each.seen_ns - present_ns[each.number] for each in both]
    return {
        "witness_after_stamp_ms": summary_ms(later_ns),
        "least_ms": round(min(later_ns) / 1e6, 4) if later_ns else None,
        "error_ms": summary_ms([each.error_ns for each in both]),
    }
