"""Two profiles against each other: what changed from A to B, and whether that is more than the doubt in both.

Separate from the page that shows it. The interval of a difference comes from the bootstrap draws of both sides: every
draw of B less every draw of A, the middle 95 % of all pairs. A difference counts as one if that interval leaves out 0.
It says when the two were not measured on the same machine, with the same versions or settings: then a difference is of
all of these together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .bootstrap import FIGURES
from .budget import COUNTS, Budget, Verdict, concerns, count_of

_MACHINE = ("cpu", "cores", "gpu", "cpu_governor", "memory_mib", "kernel")
_SETTINGS = ("external", "segmenter", "runtime", "size", "fps", "pace", "launcher", "source")


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of one series in one pair of cells, in milliseconds; None where a side has no value.

    ``interval`` is of ``after`` less ``before``; None where one side has a single block.
    """

    cell: str
    series: str
    figure: str
    before: float | None
    after: float | None
    interval: tuple[float, float] | None

    @property
    def difference(self) -> float | None:
        """B less A."""
        return None if self.before is None or self.after is None else self.after - self.before

    @property
    def verdict(self) -> str:
        """``slower``, ``faster``, ``no difference shown``, or ``not comparable``."""
        if self.difference is None:
            return "not comparable"
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return "no difference shown"
        return "slower" if self.interval[0] > 0 else "faster"

    def to_json(self) -> dict[str, Any]:
        """As data."""
        return {
            "cell": self.cell,
            "series": self.series,
            "figure": self.figure,
            "a": self.before,
            "b": self.after,
            "difference": None if self.difference is None else round(self.difference, 4),
            "interval": None if self.interval is None else [round(end, 4) for end in self.interval],
            "verdict": self.verdict,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Pairs of cells (name, cell of A, cell of B), their changes, and what else differs, a line each."""

    pairs: list[tuple[str, dict[str, Any], dict[str, Any]]]
    changes: list[Change]
    caveats: list[str]
    alone: list[str]


def compare(before: dict[str, Any], after: dict[str, Any]) -> Comparison:
    """Pair the cells by their settings (or, with one on each side, as they are) and take the differences."""
    pairs = list(_pairs(before["cells"], after["cells"]))
    paired = {id(cell) for _, *cells in pairs for cell in cells}
    alone = [
        f"only in {side}: {cell['name']}"
        for side, profile in (("A", before), ("B", after))
        for cell in profile["cells"]
        if id(cell) not in paired
    ]
    changes = [change for name, one, other in pairs for change in _changes(name, one, other)]
    return Comparison(pairs, changes, list(_caveats(before, after, pairs)), alone)


def _pairs(
    before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]
) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    if len(before) == len(after) == 1:
        yield after[0]["name"], before[0], after[0]
        return
    known = {_identity(cell): cell for cell in before}
    for cell in after:
        if (one := known.get(_identity(cell))) is not None:
            yield cell["name"], one, cell


def _identity(cell: dict[str, Any]) -> tuple[str, ...]:
    """The settings, but not a runtime's version: what an upgrade changes is what one wants to see."""
    settings = cell["settings"] | {"runtime": _without_version(str(cell["settings"].get("runtime")))}
    return (cell["measurer"], *(str(settings.get(name)) for name in _SETTINGS))


def _without_version(runtime: str) -> str:
    return " ".join(word for word in runtime.split() if not word[0].isdigit())


def _changes(name: str, before: dict[str, Any], after: dict[str, Any]) -> Iterator[Change]:
    for series in dict.fromkeys((*before["series"], *after["series"])):
        one, other = before["series"].get(series), after["series"].get(series)
        for figure in FIGURES:
            yield Change(
                name,
                series,
                figure,
                one and one[figure],
                other and other[figure],
                difference_interval(one, other, figure),
            )


def difference_interval(
    before: dict[str, Any] | None, after: dict[str, Any] | None, figure: str
) -> tuple[float, float] | None:
    """95 % interval of B less A from the draws of both; None where a side has none."""
    if not before or not after or before["draws"] is None or after["draws"] is None:
        return None
    pairs = np.subtract.outer(np.array(after["draws"][figure]), np.array(before["draws"][figure]))
    low, high = np.percentile(pairs, (2.5, 97.5))
    return float(low), float(high)


def _caveats(
    before: dict[str, Any], after: dict[str, Any], pairs: Sequence[tuple[str, dict[str, Any], dict[str, Any]]]
) -> Iterator[str]:
    """What differs besides what was to be compared."""
    one, other = before["environment"], after["environment"]
    for key in _MACHINE:
        if one.get(key) != other.get(key):
            yield f"the machines differ: {key} is {one.get(key)} in A, {other.get(key)} in B"
    versions, others = one.get("versions") or {}, other.get("versions") or {}
    for package in sorted({*versions, *others}):
        if versions.get(package) != others.get(package):
            yield f"versions differ: {package} is {versions.get(package)} in A, {others.get(package)} in B"
    if one.get("commit") != other.get("commit"):
        yield f"commits differ: {one.get('commit')} in A, {other.get('commit')} in B"
    for name, a, b in pairs:
        for key in _SETTINGS:
            if a["settings"].get(key) != b["settings"].get(key):
                yield f"{name}: {key} is {a['settings'].get(key)} in A, {b['settings'].get(key)} in B"
    for side, profile in (("A", before), ("B", after)):
        for cell in profile["cells"]:
            failed = sum(run["exit_code"] != 0 for run in cell["runs"])
            if failed:
                yield f"{cell['name']}: {failed} of {len(cell['runs'])} runs failed in {side}"
    for key, value in before["options"].items():
        if after["options"].get(key) != value:
            yield f"options differ: {key} is {value} in A, {after['options'].get(key)} in B"


def check_changes(budgets: Sequence[Budget], comparison: Comparison) -> Iterator[Verdict]:
    """Hold the changes against how much worse B may be; a figure that a side lacks breaks its budget."""
    for budget in budgets:
        pairs = [pair for pair in comparison.pairs if concerns(budget, pair[1])]
        for name, before, after in pairs:
            yield _verdict(budget, name, before, after)
        if not pairs:
            yield Verdict(budget, "no pair of cells", None, None, False)


def _verdict(budget: Budget, name: str, before: dict[str, Any], after: dict[str, Any]) -> Verdict:
    unit = "ms"
    if budget.series:
        series, other = before["series"].get(budget.series), after["series"].get(budget.series)
        one, two = series and series[budget.figure], other and other[budget.figure]
        interval = difference_interval(series, other, budget.figure)
    elif budget.figure in COUNTS:
        one, two, interval, unit = (
            count_of(before, budget.figure),
            count_of(after, budget.figure),
            None,
            "frames",
        )
    else:
        one, two, interval, unit = _slowest(before, budget.figure), _slowest(after, budget.figure), None, "s"
    if one is None or two is None:
        return Verdict(budget, name, None, None, False, unit)
    allowed = budget.limit * one / 100 if budget.relative else budget.limit
    return Verdict(budget, name, round(two - one, 6), interval, two - one <= allowed, unit)


def _slowest(cell: dict[str, Any], figure: str) -> float | None:
    times = [run["startup"].get(f"{figure}_s") for run in cell["runs"]]
    return max(times) if times and None not in times else None
