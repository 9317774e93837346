"""The page of a comparison: what else differs, every difference with its interval, curves of both sides together.

Separate from the comparing, which it only shows.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from .budget import Verdict
from .compare import Change, Comparison
from .page import DASH, Html, charts, element, figure, interval, items, ms, page, table, words_table
from .report_charts import cdf_chart
from .words import machine_line, software_line

_CURVES = (
    "video_delay",
    "annotation_delay",
    "present_interval",
    "overlay.service",
    "preprocess.service",
    "infer.service",
)


def compare_page(
    before: dict[str, Any], after: dict[str, Any], found: Comparison, verdicts: Sequence[Verdict]
) -> str:
    """The whole page."""
    return page("endostream profile compare", _body(before, after, found, verdicts))


def _body(
    before: dict[str, Any], after: dict[str, Any], found: Comparison, verdicts: Sequence[Verdict]
) -> Iterator[object]:
    yield element("h1", "Two profiles compared")
    yield element("p", "Research use only. Milliseconds; differences are B less A.", "lead")
    yield words_table(
        [
            (side, f"{profile['created_utc']} · {machine_line(profile['environment'])}")
            for side, profile in (("A", before), ("B", after))
        ]
    )
    if found.caveats or found.alone:
        yield element("h3", "What else differs")
        yield items((*found.caveats, *found.alone))
    else:
        yield element("p", "Machine, versions, commit and settings are the same.")
    if verdicts:
        yield element("h3", "Budgets: how much worse B may be")
        yield items(
            element("span", verdict.line(), "kept" if verdict.kept else "broken") for verdict in verdicts
        )
    for name, one, other in found.pairs:
        yield element("h2", name)
        yield _changes_table([change for change in found.changes if change.cell == name])
        yield charts(
            figure(series, cdf_chart({"A": one["series"].get(series), "B": other["series"].get(series)}))
            for series in _CURVES
            if series in one["series"] or series in other["series"]
        )
    yield element("h2", "Software")
    yield words_table(
        [("A", software_line(before["environment"])), ("B", software_line(after["environment"]))]
    )
    yield element("h2", "How to read the differences")
    yield element(
        "p",
        "The interval holds the middle 95 % of all differences between bootstrap draws of B and of A (blocks of time "
        "within runs, and runs). A difference counts as shown if its interval leaves out 0. With many figures some "
        "will be outside by chance: one in twenty where nothing changed.",
    )


def _changes_table(changes: Sequence[Change]) -> Html:
    rows = [
        [
            change.series,
            change.figure.replace("_", "."),
            ms(change.before),
            ms(change.after),
            DASH if change.difference is None else f"{change.difference:+.3f}",
            interval(change.interval),
            element("span", change.verdict, change.verdict if change.verdict in ("slower", "faster") else ""),
        ]
        for change in changes
    ]
    return table(("series", "figure", "A", "B", "difference", "95 % interval", ""), rows, css_class="two")
