"""The summary over several videos of a run: a line for each, as a table and as CSV for a spreadsheet.

Separate from the report, which tells of the run as a whole: this compares its sources. Where a run does
not count by source, the cells stay empty; nothing is guessed from the whole.
"""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console

from endostream.configs.errors import SinkError

from .frame import MaskState
from .report import Series, SourceTotals
from .report_table import DASH, format_ms, format_share, plain, table_of, widen

Row = dict[str, Any]
"""One source: the columns of ``COLUMNS``, None where nothing was counted or measured."""

STATES = tuple(state.label for state in MaskState)
COLUMNS = (
    *("source", "status", "captured", "presented", "dropped"),
    *("video_delay_p50_ms", "video_delay_p99_ms", "annotation_delay_p50_ms", "annotation_delay_p99_ms"),
    *(f"{state}_share" for state in STATES),
    *("positive_share", "faults"),
)


def summary_rows(sources: Iterable[SourceTotals]) -> list[Row]:
    """One row for each source, in the order of play.

    Shares are of the presented frames, 0 to 1: ``fresh_share`` and so on by mask state, ``positive_share`` of
    frames with something drawn. ``faults`` is the number of faults of the source itself.
    """
    return [_row(source) for source in sources]


def _row(source: SourceTotals) -> Row:
    """The cells of one source."""
    video, annotation = source.video_delay_ms, source.annotation_delay_ms
    shares = {
        f"{state}_share": _share(source.mask_state.get(state, 0), sum(source.mask_state.values()))
        for state in STATES
    }
    return {
        "source": source.address,
        "status": source.status,
        "captured": source.captured,
        "presented": source.presented,
        "dropped": sum(source.dropped.values()),
        "video_delay_p50_ms": video and video["p50"],
        "video_delay_p99_ms": video and video["p99"],
        "annotation_delay_p50_ms": annotation and annotation["p50"],
        "annotation_delay_p99_ms": annotation and annotation["p99"],
        **shares,
        "positive_share": None if source.positive is None else _share(source.positive, source.presented),
        "faults": sum(source.faults.values()),
    }


def _share(part: int, whole: int) -> float | None:
    """``part`` of ``whole`` to four decimals, None where there is no whole."""
    return round(part / whole, 4) if whole else None


def summary_csv(rows: Iterable[Row]) -> str:
    """The rows as CSV (RFC 4180: comma, CR LF) with a header; None is an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_summary(path: Path, rows: Iterable[Row]) -> None:
    """Write the rows as a CSV file; raises SinkError."""
    try:
        path.write_text(summary_csv(rows), encoding="utf-8", errors="backslashreplace", newline="")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SinkError(f"summary: {path}; cannot be written ({reason}). Try: another path") from error


def print_summary(sources: Iterable[SourceTotals], console: Console) -> None:
    """Print one line for each source to ``console``; one that is no terminal is made wide enough."""
    widen(console)
    columns = ("video", "status", "shown", "drops", "video delay", "annotation", "valid", "failed", "marked")
    table = table_of("Videos (delays: median / p99 in ms)", columns, text_columns=2)
    for column in table.columns[1:]:
        column.no_wrap = True
    for source in sources:
        table.add_row(plain(Path(source.address).name), plain(source.status), *_cells(source))
    console.print(table)


def _cells(source: SourceTotals) -> list[str]:
    """The numbers of one line: valid means fresh or held."""
    states = source.mask_state
    counted = sum(states.values())
    valid = sum(states.get(state.label, 0) for state in MaskState if state.drawn)
    return [
        f"{source.presented:,}",
        f"{sum(source.dropped.values()):,}",
        _delay(source.video_delay_ms),
        _delay(source.annotation_delay_ms),
        format_share(valid, counted),
        format_share(states.get(MaskState.FAILED.label, 0), counted),
        DASH if source.positive is None else format_share(source.positive, source.presented),
    ]


def _delay(series: Series) -> str:
    """Median and p99 in one cell."""
    return f"{format_ms(series['p50'])} / {format_ms(series['p99'])}" if series else DASH
