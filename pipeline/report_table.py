"""The report on the terminal: a few tables in words that someone who does endoscopies understands.

Separate from ``report.py`` so that a run that prints JSON only never loads rich's tables. It works out
nothing that is not in the report; what was not measured reads "–", which is not 0.
"""

from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .frame import MaskState
from .report import Counts, Report, Series, ledger_errors

DASH = "–"
PIPED_WIDTH = 120
STATE_WORDS = {
    MaskState.FRESH: "fresh: computed from this picture",
    MaskState.HELD: "held: a moment old, still drawn",
    MaskState.STALE: "stale: too old, not drawn",
    MaskState.ABSENT: "absent: nothing computed yet",
    MaskState.FAILED: "failed: the AI was not working",
}


def print_report(report: Report, console: Console) -> None:
    """Print the whole report to ``console``; one that is no terminal is made wide enough for the tables.

    Of a run without a single picture there is nothing to tabulate, and why stands on stderr.
    """
    widen(console)
    if not report.frames.captured:
        console.print(_no_picture(report), soft_wrap=True)
        _print_ledger_errors(report, console)
        return
    console.print(_headline(report))
    makers = (_delays, _frames, _states, _stages, _links, _sinks)
    for table in (make(report) for make in makers):
        if table.row_count:
            console.print(table)
            console.print()
    for fault in report.faults:
        words = plain(f"{fault.where}: {fault.what}")
        console.print(f"[yellow]fault[/] at {fault.at_s:.2f} s, {words}", soft_wrap=True)
    _print_ledger_errors(report, console)
    if report.frames.ledger_closed:
        console.print("[green]ledger closed[/]: every frame, message and written picture is accounted for")


def widen(console: Console) -> None:
    """Give a pipe or a file the width that rich would cut to 80 columns."""
    if not console.is_terminal:
        console.width = max(console.width, PIPED_WIDTH)


def format_ms(value: float | None) -> str:
    """Milliseconds to three digits that matter, "–" for None."""
    if value is None:
        return DASH
    return f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def format_drops(dropped: Counts) -> str:
    """The sum, and the causes that occurred in brackets: ``7 (overwritten 5, stale 2)``."""
    causes = ", ".join(f"{cause} {count:,}" for cause, count in sorted(dropped.items()) if count)
    total = sum(dropped.values())
    return f"{total:,} ({plain(causes)})" if causes else f"{total:,}"


def format_share(part: int, whole: int) -> str:
    """``part`` of ``whole`` in per cent, "–" where there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole else DASH


def plain(text: str) -> str:
    """Text of the user's as rich prints it untouched: brackets kept, bytes that are no UTF-8 as escapes."""
    return escape(text.encode("utf-8", "backslashreplace").decode())


def table_of(title: str, columns: Iterable[str], text_columns: int = 1) -> Table:
    """An empty table in the house style: ``text_columns`` to the left, numbers to the right."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.show_edge, table.pad_edge, table.collapse_padding = False, False, True
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < text_columns else "right", overflow="fold")
    return table


def _print_ledger_errors(report: Report, console: Console) -> None:
    for line in ledger_errors(report):
        console.print(f"[bold red]ledger does not close:[/] {plain(line)}", soft_wrap=True)


def _no_picture(report: Report) -> str:
    """A run without a picture in one line."""
    cards = f"; {report.frames.synthetic:,} made by us (no signal)" if report.frames.synthetic else ""
    return f"{_status(report)}: no picture came{cards}"


def _status(report: Report) -> str:
    """How it ended, as rich's markup."""
    colour = "green" if report.exit_code == 0 else "red"
    return f"[bold {colour}]{plain(report.status)}[/] (exit code {report.exit_code})"


def _headline(report: Report) -> str:
    """Status, mode, segmenter and rates in one line."""
    runtime = f" on {report.runtime}" if report.runtime else ""
    return (
        f"{_status(report)}, {plain(report.mode)}, "
        f"{plain(report.segmenter)}{plain(runtime)}: {report.duration_s:.2f} s, "
        f"{report.throughput_fps:.1f} pictures/s shown, {report.masks_per_s:.1f} masks/s\n"
    )


def _delays(report: Report) -> Table:
    """Both delays, and how late the replay itself was."""
    table = table_of("Delay in ms", ("", "n", "median", "p90", "p99", "p99.9", "worst"))
    rows = (
        ("video: captured → shown", report.video_delay_ms),
        ("annotation: captured → marks shown", report.annotation_delay_ms),
        ("replay behind its timetable", report.release_lateness_ms),
    )
    for words, series in rows:
        table.add_row(words, *_series_cells(series))
    return table


def _series_cells(series: Series) -> list[str]:
    """n, median, p90, p99, p99.9 and worst as cells."""
    if series is None:
        return [DASH] * 6
    values = (series["p50"], series["p90"], series["p99"], series["p99_9"], series["max"])
    return [f"{series['n']:,}", *(format_ms(value) for value in values)]


def _frames(report: Report) -> Table:
    """Where the frames and the masks went."""
    frames, masks = report.frames, report.masks
    table = table_of("Pictures", ("", "count"))
    table.add_row("captured", f"{frames.captured:,}")
    table.add_row(f"shown ({plain(report.presenting_sink)})", f"{frames.presented:,}")
    table.add_row("shown with a valid mask", f"{frames.annotated:,}")
    table.add_row("shown with something marked", DASH if frames.positive is None else f"{frames.positive:,}")
    table.add_row("dropped", format_drops(frames.dropped))
    table.add_row("still under way at the end", f"{frames.in_flight:,}")
    table.add_row("made by us (no signal)", f"{frames.synthetic:,}")
    if frames.not_shown:
        table.add_row("not drawn: the window was away or slow", f"{frames.not_shown:,}")
    table.add_row("longest freeze, ms", format_ms(report.longest_freeze_ms))
    table.add_row("masks computed / shown", f"{masks.computed:,} / {masks.presented:,}")
    return table


def _states(report: Report) -> Table:
    """What stood behind the marks, in frames and per cent of those shown."""
    table = table_of("Marks on the pictures shown", ("", "pictures", "share"))
    shown = sum(report.mask_state.values())
    for state, words in STATE_WORDS.items():
        count = report.mask_state.get(state.label, 0)
        table.add_row(words, f"{count:,}", format_share(count, shown))
    return table


def _pair(series: Series) -> tuple[str, str]:
    """Median and p99 as cells."""
    return (format_ms(series["p50"]), format_ms(series["p99"])) if series else (DASH, DASH)


def _stages(report: Report) -> Table:
    """Work and waiting, by stage."""
    table = table_of("Stages, ms", ("", "work median", "work p99", "wait median", "wait p99", "restarts"))
    for name, stage in report.stages.items():
        table.add_row(plain(name), *_pair(stage.service_ms), *_pair(stage.wait_ms), f"{stage.restarts}")
    return table


def _links(report: Report) -> Table:
    """Messages, by link."""
    table = table_of("Links", ("", "sent", "received", "dropped", "under way"))
    for name, link in report.links.items():
        drops = format_drops(link.dropped)
        table.add_row(plain(name), f"{link.sent:,}", f"{link.received:,}", drops, f"{link.in_flight:,}")
    return table


def _sinks(report: Report) -> Table:
    """Written pictures and how far behind, by sink."""
    table = table_of("Outputs", ("", "written", "dropped", "made by us", "behind: median", "p99", "worst"))
    for name, sink in report.sinks.items():
        delay = sink.write_delay_ms
        worst = format_ms(delay["max"] if delay else None)
        counts = (f"{sink.written:,}", format_drops(sink.dropped_by_cause), f"{sink.synthetic:,}")
        table.add_row(plain(name), *counts, *_pair(delay), worst)
    return table
