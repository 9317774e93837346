"""The charts of a profile's page, from the data of profile.json: curves of shares, courses over the run, the machine.

Separate from the page, which puts them in order, and from ``svg.py``, which draws anything.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .page import Html, figure
from .svg import COLOURS, Band, Line, chart, linear, logarithmic, style_of, tail

_WIDE_RANGE = 8
"""Above this ratio of largest to smallest duration the axis is logarithmic."""
_MEGAHERTZ = {"cpu_mhz": "processor", "gpu_sm_mhz": "GPU", "gpu_memory_mhz": "GPU memory"}
_PERCENT = {"cpu_percent": "all cores", "busiest_core_percent": "busiest core", "gpu_percent": "GPU"}


def told_apart(names: Sequence[str]) -> list[str]:
    """The names of cells without the words with which all of them begin or end: a legend has little room."""
    words = [name.split(", ") for name in names]
    spare = min(map(len, words), default=0) - 1  # each keeps a word
    if len(words) < 2 or spare < 1:
        return list(names)
    begin = _alike(words, spare)
    end = _alike([one[::-1] for one in words], spare - begin)
    return [", ".join(one[begin : len(one) - end]) for one in words]


def _alike(words: Sequence[Sequence[str]], most: int) -> int:
    """With how many words all of them begin, at most so many."""
    same = (len({one[place] for one in words}) == 1 for place in range(most))
    return sum(1 for _ in itertools.takewhile(bool, same))


def cdf_chart(series: Mapping[str, dict[str, Any] | None]) -> str:
    """Share of frames within a duration, each further nine as long as the one before."""
    known = {name: one for name, one in series.items() if one is not None}
    if not known:
        return "<p>nothing was measured</p>"
    low = min(one["cdf"]["ms"][0] for one in known.values())
    high = max(one["cdf"]["ms"][-1] for one in known.values())
    wide = high > _WIDE_RANGE * max(low, 1e-3)
    x = logarithmic("ms", low, high) if wide else linear("ms", 0.0, high)
    y = tail("share of frames", max(one["n"] for one in known.values()))
    lines = [
        Line(
            name,
            list(zip(one["cdf"]["ms"], one["cdf"]["share"], strict=True)),
            colour,
            True,
            dash=dash,
        )
        for (colour, dash), (name, one) in zip(map(style_of, itertools.count()), known.items(), strict=False)
    ]
    return chart(x, y, lines)


def course_chart(run: dict[str, Any], name: str) -> str:
    """A series over the run: from minimum to maximum of each bin, p99 and median."""
    course = run["course"][name]
    width_s = run["window_s"] / course["bins"]
    times = [(number + 0.5) * width_s for number in course["bin"]]
    x, y = linear("s", 0.0, run["window_s"]), linear("ms", 0.0, max(course["max"]))
    band = Band("least to most", list(zip(times, course["min"], course["max"], strict=True)), COLOURS[0])
    lines = [
        Line(label, list(zip(times, course[key], strict=True)), colour)
        for key, label, colour in (("p99", "p99", COLOURS[1]), ("p50", "median", COLOURS[0]))
    ]
    return chart(x, y, lines, [band])


def machine_charts(run: dict[str, Any]) -> Iterator[Html]:
    """Load, clocks and what each stage used, as far as they could be read."""
    machine = run["machine"]
    if not machine:
        return
    load = {label: machine[key] for key, label in _PERCENT.items() if key in machine}
    yield figure("Load, % (100 % is one core, or the GPU)", _over_time(machine["at_s"], load, "%", 100.0))
    clocks = {label: machine[key] for key, label in _MEGAHERTZ.items() if key in machine}
    if clocks:
        yield figure("Clock rates", _over_time(machine["at_s"], clocks, "MHz"))
    stages = {key.removeprefix("stage."): machine[key] for key in machine if key.startswith("stage.")}
    if stages:
        yield figure("Cores used by each process", _over_time(machine["at_s"], stages, "cores"))
    heat = {key.removeprefix("gpu_"): machine[key] for key in ("gpu_celsius", "gpu_watts") if key in machine}
    if heat:
        yield figure("GPU temperature (°C) and power (W)", _over_time(machine["at_s"], heat, "°C, W"))


def _over_time(
    at_s: list[float], values: Mapping[str, list[float | None]], unit: str, most: float = 0.0
) -> str:
    known = [one for series in values.values() for one in series if one is not None]
    x, y = (
        linear("s since the start of the command", 0.0, max(at_s, default=1.0)),
        linear(unit, 0.0, max([most, *known])),
    )
    lines = [
        Line(
            name,
            [(at, one) for at, one in zip(at_s, series, strict=True) if one is not None],
            COLOURS[number % len(COLOURS)],
        )
        for number, (name, series) in enumerate(values.items())
    ]
    return chart(x, y, lines)
