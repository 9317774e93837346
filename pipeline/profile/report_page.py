"""The page of a profile: its figures with their intervals, curves, courses, worst frames, machine, and its limits.

Separate from the figures, which come from profile.json alone: the page can be made again from it, and shows nothing
that is not in it.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from .external import FAULTS, witness_faults
from .page import (
    DASH,
    Html,
    charts,
    count,
    element,
    figure,
    interval,
    items,
    join,
    ms,
    page,
    table,
    words_table,
)
from .report_charts import cdf_chart, course_chart, machine_charts, told_apart
from .result import OWN_STAMPS
from .series import STAGE_SERIES
from .waterfall import waterfall
from .words import command_line, machine_line, software_line

_FIGURES = ("p50", "p90", "p99", "p99_9", "max")
_DELAYS = ("video_delay", "annotation_delay")
_ALL_DELAYS = (*_DELAYS, "witness.delay")
_STATES = ("fresh", "held", "stale", "absent", "failed")
_COURSES_SHOWN = 3


def profile_page(profile: dict[str, Any]) -> str:
    """The whole page."""
    return page("endostream profile", _body(profile))


def _body(profile: dict[str, Any]) -> Iterator[object]:
    environment = profile["environment"]
    yield element("h1", "endostream profile")
    yield element("p", f"{profile['created_utc']} · {machine_line(environment)}", "lead")
    yield element("p", "Research use only. Milliseconds everywhere.", "lead")
    yield _summary(profile["cells"])
    yield _budgets(profile["budgets"])
    yield element("h2", "What was measured, and what was not")
    yield items(profile["words"]["measured"])
    yield element("h3", "Not measured")
    yield items(profile["words"]["not_measured"])
    if len(profile["cells"]) > 1:
        yield element("h2", "Cells side by side")
        yield charts(_side_by_side(profile["cells"]))
    for cell in profile["cells"]:
        yield from _cell(cell)
    yield from _definitions(profile)


def _side_by_side(cells: list[dict[str, Any]]) -> Iterator[Html]:
    for delay in _ALL_DELAYS:
        known = [cell for cell in cells if delay in cell["series"]]
        names = told_apart([cell["name"] for cell in known])
        if known:
            series = {name: cell["series"][delay] for name, cell in zip(names, known, strict=True)}
            yield figure(f"{delay}, all cells", cdf_chart(series))


def _summary(cells: list[dict[str, Any]]) -> Html:
    columns = ["cell", "frames", "video p50", "p99", "p99.9", "max", "annotation p50", "p99", "max"]
    columns += ["jitter", "too late", "dropped"]
    own = [cell for cell in cells if "external" not in cell["settings"]]
    outside = [cell for cell in cells if "external" in cell["settings"]]
    seen = (
        "cell",
        "frames seen",
        "p50",
        "p99",
        "p99.9",
        "max",
        "error p99",
        *(name.replace("_", " ") for name in FAULTS),
    )
    words = "Delays to the screen, by the witness"
    tables = [table(columns, map(_summary_row, own), "Delays")] if own else []
    return join([*tables, *([table(seen, map(_external_row, outside), words)] if outside else [])])


def _external_row(cell: dict[str, Any]) -> list[object]:
    delay, error = cell["series"].get("witness.delay"), cell["series"].get("witness.error")
    figures = [ms(delay and delay[key]) for key in ("p50", "p99", "p99_9", "max")]
    faults = [count(number) for number in witness_faults(cell).values()]
    return [
        _cell_name(cell),
        count(cell["counted"]["presented"]),
        *figures,
        ms(error and error["p99"]),
        *faults,
    ]


def _cell_name(cell: dict[str, Any]) -> object:
    if cell["status"] == "done":
        return cell["name"]
    return join([cell["name"], " ", element("span", "failed", "broken")])


def _summary_row(cell: dict[str, Any]) -> list[object]:
    video, annotation = (cell["series"].get(delay) for delay in _DELAYS)
    intervals = cell["series"].get("present_interval")
    counted = cell["counted"]
    return [
        _cell_name(cell),
        count(counted["presented"]),
        *(ms(video and video[key]) for key in ("p50", "p99", "p99_9", "max")),
        *(ms(annotation and annotation[key]) for key in ("p50", "p99", "max")),
        ms(intervals and intervals["jitter"]),
        count(counted["deadline_misses"]),
        count(sum(counted["dropped"].values())),
    ]


def _budgets(verdicts: list[dict[str, Any]]) -> Html:
    if not verdicts:
        return Html("")
    rows = [
        [
            element("code", verdict["budget"]),
            verdict["cell"],
            f"{verdict['limit']:g} {verdict['unit']}",
            DASH if verdict["measured"] is None else f"{verdict['measured']:.4g} {verdict['unit']}",
            interval(verdict["interval"]),
            element("span", "kept" if verdict["kept"] else "broken", "kept" if verdict["kept"] else "broken"),
        ]
        for verdict in verdicts
    ]
    return table(("budget", "cell", "limit", "measured", "95 % interval", ""), rows, "Budgets", "two")


def _cell(cell: dict[str, Any]) -> Iterator[object]:
    yield element("h2", cell["name"])
    if cell["measurer"] != OWN_STAMPS:
        yield element("p", f"Measured by {cell['measurer']}.", "note")
    yield from _failures(cell["runs"])
    if not cell["series"]:
        yield element("p", "Nothing was measured.", "broken")
        return
    yield series_table(cell["series"])
    yield element(
        "p",
        "Small: 95 % intervals. † fewer than five values lie beyond this percentile, so its interval is too narrow; "
        "that of a maximum can only reach down.",
        "lead",
    )
    yield charts(_cdfs(cell["series"]))
    yield element("h3", "Over the run")
    yield charts(
        figure(f"{delay}, run {run['repeat']}", course_chart(run, delay))
        for run in cell["runs"][:_COURSES_SHOWN]
        for delay in _ALL_DELAYS
        if delay in run["course"]
    )
    if any(cell["worst"].values()):
        yield element("h3", "The worst frames, and where their time went")
    yield charts(
        figure(f"{delay}: the {len(rows)} longest", waterfall(rows, delay))
        for delay, rows in cell["worst"].items()
        if rows
    )
    if "external" not in cell["settings"]:
        yield element("h3", "Frames")
        yield _frames_table(cell)
    yield element("h3", "The machine meanwhile")
    yield charts(chart for run in cell["runs"][:1] for chart in machine_charts(run))


def _cdfs(series: dict[str, Any]) -> Iterator[Html]:
    """Curves of what there is."""
    for delay in _ALL_DELAYS:
        if delay in series:
            yield figure(f"{delay}: share of frames within", cdf_chart({delay: series[delay]}))
    stages = {name: series[name] for name in STAGE_SERIES if name.endswith("service") and name in series}
    if stages:
        yield figure("Stages: share of frames within", cdf_chart(stages))
    for name in ("present_interval", "witness.interval"):
        if name in series:
            yield figure("Between presented pictures", cdf_chart({name: series[name]}))


def _failures(runs: Iterable[dict[str, Any]]) -> Iterator[Html]:
    for run in runs:
        if run["exit_code"]:
            words = f"Run {run['repeat']} ended with exit code {run['exit_code']}: {run['errors']}"
            yield element("p", words, "note broken")
        if lost := run["counted"]["not_logged"]:
            words = f"Run {run['repeat']}: {lost} presented frames are not in the log and in no figure here."
            yield element("p", words, "note")


def series_table(series: dict[str, Any]) -> Html:
    """Every series with its percentiles and their intervals."""
    columns = ("series", "n", "p50", "p90", "p99", "p99.9", "max", "jitter")
    rows = []
    for name, one in series.items():
        cells = [_with_interval(one, key) for key in (*_FIGURES, "jitter")]
        rows.append([name, count(one["n"]), *cells])
    return table(columns, rows, "Durations, ms")


def _with_interval(one: dict[str, Any], key: str) -> Html:
    mark = "†" if key in one["few"] else ""
    return join([ms(one[key]), mark, Html("<br>"), interval(one["interval"][key])])


def _frames_table(cell: dict[str, Any]) -> Html:
    columns = ["run", "presented", "masks", *_STATES, "too late", "dropped", "not logged"]
    columns += ["first picture, s", "first mask, s", "ledger"]
    return table(columns, (_frames_row(run) for run in cell["runs"]))


def _frames_row(run: dict[str, Any]) -> list[object]:
    counted, startup = run["counted"], run["startup"]
    causes = ", ".join(
        f"{cause.replace('_', ' ')} {frames:,}" for cause, frames in counted["dropped"].items()
    )
    dropped = (
        [count(sum(counted["dropped"].values())), Html("<br>"), element("small", causes)] if causes else "0"
    )
    times = [startup["first_picture_s"], startup["first_mask_s"]]
    return [
        run["repeat"],
        count(counted["presented"]),
        count(counted["masks_presented"]),
        *(count(counted["mask_state"].get(state, 0)) for state in _STATES),
        count(counted["deadline_misses"]),
        join(dropped),
        count(counted["not_logged"]),
        *(DASH if time is None else f"{time:.2f}" for time in times),
        "closed" if run["report"].get("frames", {}).get("ledger_closed") else DASH,
    ]


def _definitions(profile: dict[str, Any]) -> Iterator[object]:
    yield element("h2", "Definitions")
    found = {name: one["definition"] for cell in profile["cells"] for name, one in cell["series"].items()}
    found |= {
        "jitter": "p99 − p50; of present_interval it is the jitter of the picture",
        "too late": "presented more than one frame period after the frame was due",
        "first picture, first mask": "from the start of the command; decoding the source beforehand is in it",
    }
    yield words_table(found.items())
    yield element("h2", "Machine and software")
    yield words_table(
        [
            ("machine", machine_line(profile["environment"])),
            ("software", software_line(profile["environment"])),
        ]
    )
    yield element("h2", "Commands")
    yield element("p", "The profile:")
    yield element("pre", command_line(profile["command"]))
    yield element("p", "The runs it made, outputs left out:")
    yield element(
        "pre",
        "\n".join(
            dict.fromkeys(command_line(run["command"]) for cell in profile["cells"] for run in cell["runs"])
        ),
    )
