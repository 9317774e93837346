"""Small charts as SVG text: lines and bands over two axes, and bars of segments (a waterfall).

Written here rather than with a plotting library: the pages need four kinds of chart, must open from disk without
network or scripts, and stay small. A chart takes numbers and words, and knows nothing of what they mean.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#0b6e99", "#d1495b", "#edae49", "#3c7d3e", "#7b5ea7", "#6b7280", "#1c2530", "#b5651d")
_DASHES = ("", "6 4", "2 3")
"""Of the first, second and third curve of one colour."""
_SIGNS = {"": "■", "6 4": "– –", "2 3": "···"}
WIDTH, HEIGHT = 640, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 12, 40
_LEGEND_PX = 18
_MOST_POINTS = 400
_MOST_RATIO = 1e4
_LEGEND_CHARACTERS = 84

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: its name, its points (x ascending), its colour; ``steps`` draws a staircase, ``dash`` is SVG's."""

    name: str
    points: Points
    colour: str
    steps: bool = False
    width: float = 1.6
    dash: str = ""


@dataclass(frozen=True, slots=True)
class Band:
    """The area between two curves over the same x: (x, low, high)."""

    name: str
    points: Sequence[tuple[float, float, float]]
    colour: str


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: its words, its range, its ticks with their labels, and how a value lies on it (0 to 1)."""

    label: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    place: Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in the legend, with a square of its colour, or a piece of its dashes."""

    name: str
    colour: str
    opacity: float = 1.0
    dash: str = ""


def style_of(number: int) -> tuple[str, str]:
    """Colour and dashes of the curve with this number, from 0: no two of the first 24 are alike."""
    return COLOURS[number % len(COLOURS)], _DASHES[number // len(COLOURS) % len(_DASHES)]


def linear(label: str, low: float, high: float, count: int = 6) -> Axis:
    """Even steps of 1, 2 or 5 times a power of ten; the range grows to whole steps."""
    high = high if high > low else low + 1
    step = _nice_step((high - low) / count)
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    ticks = [low + number * step for number in range(round((high - low) / step) + 1)]
    return Axis(
        label, low, high, [(tick, _number(tick)) for tick in ticks], lambda v: (v - low) / (high - low)
    )


def logarithmic(label: str, low: float, high: float) -> Axis:
    """Ticks at 1, 2 and 5 times the powers of ten, four of which at most; what lies below is drawn at the edge."""
    low = max(low, high / _MOST_RATIO, 1e-4)
    high = max(high, low * 1.1)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [digit * 10.0**exponent for exponent in exponents for digit in (1, 2, 5)]
    begin = max((mark for mark in marks if mark <= low), default=low)
    end = min((mark for mark in marks if mark >= high), default=high)
    ticks = [(mark, _number(mark)) for mark in marks if begin <= mark <= end]
    span = math.log10(end / begin)
    return Axis(label, begin, end, ticks, lambda v: math.log10(max(v, begin) / begin) / span)


def tail(label: str, n: int) -> Axis:
    """Shares of ``n`` values from 0 to nearly 1, each further nine as long as the one before."""
    nines = max(1.0, math.log10(max(n, 10)))
    marks = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999]
    ticks = [(mark, f"{100 * mark:.7g} %") for mark in marks if 1 - mark >= 10**-nines * 0.999]

    def place(share: float) -> float:
        return min(1.0, -math.log10(max(1 - share, 10**-nines)) / nines)

    return Axis(label, 0.0, 1.0, ticks, place)


def chart(
    x: Axis, y: Axis, lines: Sequence[Line], bands: Sequence[Band] = (), marks: Sequence[Line] = ()
) -> str:
    """Curves over axes, with a legend; ``marks`` are drawn on top and are not in the legend."""
    drawn = [*(_band(x, y, band) for band in bands), *(_line(x, y, line) for line in (*lines, *marks))]
    named = [Entry(band.name, band.colour, 0.3) for band in bands]
    named += [Entry(line.name, line.colour, dash=line.dash) for line in lines]
    legend, rows = _legend(named, HEIGHT)
    words = f"{y.label} over {x.label}: {', '.join(entry.name for entry in named)}"
    return _svg(HEIGHT + _LEGEND_PX * rows, [*_frame(x, y), *drawn, legend], words)


def bars(
    rows: Sequence[tuple[str, Sequence[tuple[str, float, float]]]], colours: dict[str, str], label: str
) -> str:
    """A waterfall: for each row its segments (name, begin, end), on one axis from 0; colours by name."""
    ends = [end for _, segments in rows for _, _, end in segments]
    x, row_px = linear(label, 0.0, max(ends, default=1.0)), 22
    height = _TOP + row_px * len(rows) + _BOTTOM
    left = 130
    parts = []
    for number, (name, segments) in enumerate(rows):
        top = _TOP + number * row_px
        parts.append(f'<text x="{left - 6}" y="{top + 14}" text-anchor="end">{escape(name)}</text>')
        for segment, begin, end in segments:
            x0, x1 = (left + x.place(value) * (WIDTH - left - _RIGHT) for value in (begin, end))
            title = f"{segment}: {_number(begin)} to {_number(end)} ms, {end - begin:.3f} ms"
            parts.append(
                f'<rect x="{x0:.1f}" y="{top + 3}" width="{max(x1 - x0, 0.6):.1f}" height="{row_px - 6}" '
                f'fill="{colours[segment]}"><title>{escape(title)}</title></rect>'
            )
    bottom = _TOP + row_px * len(rows)
    for value, word in x.ticks:
        at = left + x.place(value) * (WIDTH - left - _RIGHT)
        parts.append(f'<path class="grid" d="M{at:.1f} {_TOP}V{bottom}"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 14}" text-anchor="middle">{word}</text>')
    parts.append(
        f'<text x="{(left + WIDTH) / 2}" y="{bottom + 30}" text-anchor="middle">{escape(label)}</text>'
    )
    used = {segment for _, segments in rows for segment, _, _ in segments}
    named = [Entry(name, colour) for name, colour in colours.items() if name in used]
    legend, legend_rows = _legend(named, height)
    return _svg(height + _LEGEND_PX * legend_rows, [*parts, legend], label)


def thinned(points: Points, most: int = _MOST_POINTS) -> Points:
    """At most ``most`` of the points, evenly chosen, the last one kept."""
    if len(points) <= most:
        return points
    places = sorted({round(number * (len(points) - 1) / (most - 1)) for number in range(most)})
    return [points[place] for place in places]


def _line(x: Axis, y: Axis, line: Line) -> str:
    if not line.points:
        return ""
    places = [_place(x, y, *point) for point in thinned(line.points)]
    path = f"M{places[0][0]:.1f} {places[0][1]:.1f}"
    for across, up in places[1:]:
        path += f"H{across:.1f}V{up:.1f}" if line.steps else f"L{across:.1f} {up:.1f}"
    dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
    return f'<path d="{path}" fill="none" stroke="{line.colour}" stroke-width="{line.width}"{dash}/>'


def _band(x: Axis, y: Axis, band: Band) -> str:
    if not band.points:
        return ""
    above = [_place(x, y, at, high) for at, _, high in band.points]
    below = [_place(x, y, at, low) for at, low, _ in reversed(band.points)]
    path = "L".join(f"{across:.1f} {up:.1f}" for across, up in (*above, *below))
    return f'<path d="M{path}Z" fill="{band.colour}" fill-opacity="0.18" stroke="none"/>'


def _place(x: Axis, y: Axis, across: float, up: float) -> tuple[float, float]:
    inside_x, inside_y = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    clipped = min(1.0, max(0.0, y.place(up)))
    return _LEFT + min(1.0, max(0.0, x.place(across))) * inside_x, _TOP + (1 - clipped) * inside_y


def _frame(x: Axis, y: Axis) -> Iterable[str]:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    for value, word in x.ticks:
        at = _place(x, y, value, y.low)[0]
        yield f'<path class="grid" d="M{at:.1f} {_TOP}V{bottom}"/>'
        yield f'<text x="{at:.1f}" y="{bottom + 14}" text-anchor="middle">{escape(word)}</text>'
    for value, word in y.ticks:
        at = _place(x, y, x.low, value)[1]
        yield f'<path class="grid" d="M{_LEFT} {at:.1f}H{right}"/>'
        yield f'<text x="{_LEFT - 5}" y="{at + 4:.1f}" text-anchor="end">{escape(word)}</text>'
    yield f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>'
    yield f'<text x="{(_LEFT + right) / 2}" y="{bottom + 31}" text-anchor="middle">{escape(x.label)}</text>'
    middle = (_TOP + bottom) / 2
    yield (
        f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">'
        f"{escape(y.label)}</text>"
    )


def shortened(name: str, most: int) -> str:
    """The name, its middle left out where it has more than ``most`` characters."""
    if len(name) <= most:
        return name
    end = most // 3
    return f"{name[: most - end - 1]}…{name[-end:]}"


def _legend(named: Sequence[Entry], top: int) -> tuple[str, int]:
    """Names with their colours in rows from ``top`` on, and how many rows that takes."""
    rows: list[list[str]] = [[]]
    taken = 0
    for entry in named:
        name = shortened(entry.name, _LEGEND_CHARACTERS)
        wide = 30 + 7 * len(name)
        if taken + wide > WIDTH - _LEFT and rows[-1]:
            rows.append([])
            taken = 0
        sign = _SIGNS[entry.dash]
        square = f'<tspan fill="{entry.colour}" fill-opacity="{entry.opacity}">{sign}</tspan>'
        rows[-1].append(f"{square} {escape(name)}   ")
        taken += wide
    texts = [
        f'<text x="{_LEFT}" y="{top + 12 + _LEGEND_PX * number}" xml:space="preserve">{"".join(row)}</text>'
        for number, row in enumerate(rows)
    ]
    return "".join(texts), len(rows)


def _svg(height: float, parts: Iterable[str], words: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(words, quote=True)}">'
        f"{''.join(parts)}</svg>"
    )


def _nice_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough * 0.999)


def _number(value: float) -> str:
    return f"{value:.6g}"
