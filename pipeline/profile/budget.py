"""Budgets: limits that a profile, or a change between two, must keep; for the CI of whoever uses the pipeline.

A budget reads ``SERIES.FIGURE=LIMIT``: ``video_delay.p99=5.75ms``, ``infer.service.max=30ms``,
``present_interval.jitter=2ms``; or a count: ``dropped=0``, ``deadline_misses=0``, ``failed=0``; or a time from start:
``first_picture=1.5s``, ``first_mask=4s`` (the slowest run). It holds for every cell of its measurer (``witness.…``:
those measured from outside; any other series: our own); a series without a value breaks it. Of a comparison, LIMIT is
how much worse B may be than A: ``0.5ms``, ``10%``.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from endostream.configs.errors import ConfigError

from .bootstrap import FIGURES
from .series import DEFINITIONS

COUNTS = ("dropped", "deadline_misses", "failed")
"""Frames dropped for any cause, presented too late, presented with a failed mask."""
STARTUP = ("first_picture", "first_mask")
_OUTSIDE = "witness."
"""How the names of series begin that are measured from outside."""
_UNITS_MS = {"ms": 1.0, "us": 1e-3, "µs": 1e-3, "s": 1e3}
_KEY = re.compile(r"(?P<series>[a-z_]+(?:\.[a-z_]+)*)\.(?P<figure>p50|p90|p99[._]9|p99|max|jitter)")
_LIMIT = re.compile(r"\+?(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?P<unit>ms|us|µs|s|%|)")


@dataclass(frozen=True, slots=True)
class Budget:
    """One limit; of a series in milliseconds, of a count in frames, of a comparison perhaps in per cent.

    ``series`` is "" for a count or a time from start, whose name ``figure`` then is.
    """

    text: str
    series: str
    figure: str
    limit: float
    relative: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one budget in one cell.

    Attributes:
        cell: its name.
        measured: None where there is no value.
        interval: of what was measured, None where there is none.
        kept: whether the limit holds.
        unit: of the numbers, "ms", "s" or "frames".
    """

    budget: Budget
    cell: str
    measured: float | None
    interval: tuple[float, float] | None
    kept: bool
    unit: str = "ms"

    def line(self) -> str:
        """In a line: figure, limit, measured, interval."""
        name = f"{self.budget.series}.{self.budget.figure}" if self.budget.series else self.budget.figure
        limit = f"{self.budget.limit:g} {'%' if self.budget.relative else self.unit}"
        word = "budget kept" if self.kept else "budget broken"
        if self.measured is None:
            return f"{word}: {name} in {self.cell}; limit {limit}, nothing was measured"
        interval = (
            "no interval"
            if self.interval is None
            else f"95 % interval {self.interval[0]:.4g} to {self.interval[1]:.4g}"
        )
        return f"{word}: {name} in {self.cell}; limit {limit}, measured {self.measured:.4g} {self.unit} ({interval})"

    def to_json(self) -> dict[str, Any]:
        """For profile.json."""
        return {
            "budget": self.budget.text,
            "cell": self.cell,
            "limit": self.budget.limit,
            "unit": "%" if self.budget.relative else self.unit,
            "measured": self.measured,
            "interval": None if self.interval is None else list(self.interval),
            "kept": self.kept,
        }


def parse_budget(text: str, relative_allowed: bool = False) -> Budget:
    """Take ``KEY=LIMIT`` apart; raises ConfigError."""
    key, separator, limit = (part.strip() for part in text.partition("="))
    found, number = _KEY.fullmatch(key), _LIMIT.fullmatch(limit)
    if not separator or number is None or (found is None and key not in (*COUNTS, *STARTUP)):
        raise ConfigError(
            f"budget: {text!r}; expected SERIES.FIGURE=LIMIT with FIGURE one of {', '.join(FIGURES)}, or one of "
            f"{', '.join((*COUNTS, *STARTUP))}. Try: --budget {_nearest_key(key)}"
        )
    unit, value = number["unit"], float(number["number"])
    if unit == "%":
        if not relative_allowed:
            expected = "a number of frames" if key in COUNTS else "ms, us or s"
            raise ConfigError(f"budget: {text!r}; expected {expected}: a share is of a comparison only")
        return Budget(text, found["series"] if found else "", _figure(key, found), value, True)
    if found is None and key in COUNTS:
        if unit:
            raise ConfigError(f"budget: {text!r}; expected a number of frames without a unit")
        return Budget(text, "", key, value)
    if not unit:
        raise ConfigError(f"budget: {text!r}; expected a unit: ms, us or s. Try: --budget {key}={limit}ms")
    if found is None:
        return Budget(text, "", key, value * _UNITS_MS[unit] / 1e3)
    return Budget(text, found["series"], _figure(key, found), value * _UNITS_MS[unit])


def _figure(key: str, found: "re.Match[str] | None") -> str:
    return key if found is None else found["figure"].replace("p99.9", "p99_9")


def _nearest_key(key: str) -> str:
    """The key that was perhaps meant, with a limit."""
    series = [f"{series}.{figure}" for series in DEFINITIONS for figure in FIGURES]
    limits = dict.fromkeys(COUNTS, "0") | dict.fromkeys(STARTUP, "1.5s") | dict.fromkeys(series, "5.75ms")
    near = next(iter(get_close_matches(key, limits, 1)), "video_delay.p99")
    return f"{near}={limits[near]}"


def refuse_unknown(budgets: Sequence[Budget], measured: Iterable[tuple[bool, Collection[str]]]) -> None:
    """Refuse limits on a series that nothing here can have, before anything is run or held against them.

    Args:
        budgets: what was asked for.
        measured: of each cell, whether it is measured from outside, and names of series it has besides the usual.

    Raises:
        ConfigError: with the nearest name there is.
    """
    known: set[str] = set()
    for outside, names in measured:
        known |= {*names, *(name for name in DEFINITIONS if name.startswith(_OUTSIDE) == outside)}
    for budget in budgets:
        if budget.series and budget.series not in known:
            raise ConfigError(_unknown(budget, known))


def _unknown(budget: Budget, known: set[str]) -> str:
    begin, names = f"budget: {budget.text!r}; expected", ", ".join(sorted(known))
    if budget.series in DEFINITIONS and budget.series.startswith(_OUTSIDE):
        return f"{begin} a cell of --external, which alone has {_OUTSIDE}… series. Try: --external COMMAND"
    if budget.series in DEFINITIONS:
        return f"{begin} a series of --external: {names}. Try: a SOURCE, for a cell of our own"
    near = next(iter(get_close_matches(budget.series, sorted(known), 1, 0.5)), "")
    hint = f". Try: --budget {budget.text.replace(budget.series, near, 1)}" if near else ""
    return f"{begin} SERIES one of {names}{hint}"


def check(budgets: Sequence[Budget], cells: Sequence[dict[str, Any]]) -> Iterator[Verdict]:
    """Hold each cell against each budget."""
    for budget in budgets:
        concerned = [cell for cell in cells if concerns(budget, cell)]
        if not concerned:
            yield Verdict(budget, "no cell", None, None, False, _unit(budget))
        for cell in concerned:
            measured, interval, unit = _measured(budget, cell)
            kept = measured is not None and measured <= budget.limit
            yield Verdict(budget, cell["name"], measured, interval, kept, unit)


def concerns(budget: Budget, cell: dict[str, Any]) -> bool:
    """Whether a cell can have what the budget limits: series and starts are of one measurer, counts of all."""
    outside = "external" in cell["settings"]
    if budget.series:
        return budget.series.startswith(_OUTSIDE) == outside
    return not (outside and budget.figure in (*STARTUP, "failed", "deadline_misses"))


def _measured(budget: Budget, cell: dict[str, Any]) -> tuple[float | None, tuple[float, float] | None, str]:
    if budget.series:
        series = cell["series"].get(budget.series)
        if series is None:
            return None, None, "ms"
        interval = series["interval"][budget.figure]
        return series[budget.figure], None if interval is None else (interval[0], interval[1]), "ms"
    if budget.figure in STARTUP:
        times = [run["startup"].get(f"{budget.figure}_s") for run in cell["runs"]]
        known = [time for time in times if time is not None]
        return (max(known) if known and len(known) == len(times) else None), None, "s"
    return count_of(cell, budget.figure), None, "frames"


def _unit(budget: Budget) -> str:
    """Of the limit: of a count frames, of a start seconds."""
    if budget.series:
        return "ms"
    return "s" if budget.figure in STARTUP else "frames"


def count_of(cell: dict[str, Any], name: str) -> float | None:
    """One of COUNTS of a cell, None if it was not counted or nothing was presented."""
    counted = cell["counted"]
    if not counted["presented"]:
        return None
    if name == "dropped":
        return float(sum(counted["dropped"].values()))
    if name == "failed":
        return float(counted["mask_state"].get("failed", 0))
    misses = counted["deadline_misses"]
    return None if misses is None else float(misses)
