"""The pictures of ``endostream top``: two records of a run as tables for a terminal.

Separate from the loop that shows them (``top.py``), so that each can be tested as text. It works out nothing: rates
come from ``run_rates.py``; what was not measured reads "–", which is not 0.
"""

from collections.abc import Iterable
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .report_table import DASH, format_drops, format_ms, plain, table_of
from .run_rates import Record, summary_ms

_MIB = 1 << 20
_STATE_COLOURS = {"running": "green", "starting": "yellow", "down": "bold red", "given_up": "bold red"}
_MASK_COLOURS = {"fresh": "green", "held": "green", "stale": "yellow", "failed": "bold red", "absent": "blue"}
_LAST_FAULTS = 3


def run_view(record: Record, rates: dict[str, Any], ended: str = "") -> RenderableType:
    """All of one run; ``ended`` says that it is over, or does not answer, "" while it goes on."""
    # What matters most comes first: a small terminal shows as much as it has room for.
    tables = [_delays(record, rates), _stages(record, rates), _sinks(record, rates), _links(record, rates)]
    parts: list[RenderableType] = [_headline(record, ended), _state(record, rates), *_faults(record)]
    parts += [table for table in tables if table.row_count]
    return Group(*parts, _rings(record))


def list_view(records: Iterable[Record]) -> Table:
    """One line for each run."""
    columns = ("run", "mode", "sources", "segmenter", "pid", "up", "shown", "AI", "status")
    table = table_of("Runs", columns, 4)
    for record in records:
        run, frames = record["run"], record["frames"]
        table.add_row(
            run["id"],
            run["mode"],
            plain(_sources(record)),
            plain(run["segmenter"]),
            str(run["pid"]),
            _clock(run["uptime_s"]),
            f"{frames['presented']:,}",
            record["masks"]["state"],
            run["status"],
        )
    return table


def _part(columns: Iterable[str], text_columns: int = 1) -> Table:
    """A table without a title; the names in its first column stay whole where the terminal is narrow."""
    table = table_of("", columns, text_columns)
    table.columns[0].no_wrap, table.columns[0].overflow = True, "ellipsis"
    return table


def _sources(record: Record) -> str:
    playing = [source["address"] for source in record["sources"] if source["status"] == "playing"]
    names = playing or [source["address"] for source in record["sources"]]
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _headline(record: Record, ended: str) -> Text:
    run = record["run"]
    line = Text(f"endostream {run['version']}  run {run['id']}  ", style="bold")
    line.append(f"{run['mode']}, {_sources(record)}, {run['segmenter']}", style="not bold")
    line.append(f" on {run['runtime']}" if run["runtime"] else "", style="not bold")
    line.append(f"  up {_clock(run['uptime_s'])}  ", style="not bold")
    line.append(ended or run["status"], style="bold red" if ended else "bold green")
    return line


def _state(record: Record, rates: dict[str, Any]) -> Text:
    masks, frames = record["masks"], record["frames"]
    age = "" if masks["age_ms"] is None else f", mask {format_ms(masks['age_ms'])} ms old"
    line = Text("AI ")
    line.append(masks["state"], style=_MASK_COLOURS[masks["state"]])
    line.append(
        f"{age}   {rates['presented_fps']:.1f} pictures/s shown, {rates['masks_per_s']:.1f} masks/s   "
    )
    line.append(f"captured {frames['captured']:,}, presented {frames['presented']:,}, ")
    dropped = {cause: count for cause, count in frames["dropped"].items() if count}
    line.append(f"dropped {format_drops(dropped)}", style="bold red" if dropped else "")
    line.append(f", not shown {frames['not_shown']:,}" if frames.get("not_shown") else "", style="bold red")
    silent_s = frames["since_presented_s"]
    if silent_s is not None and silent_s > 1 and record["run"]["status"] == "running":
        line.append(f"   no picture for {silent_s:.1f} s", style="bold red")
    return line


def _delays(record: Record, rates: dict[str, Any]) -> Table:
    recent = f"last {rates['seconds']:.0f} s"
    table = _part(("Delay, ms", f"{recent}: p50", "p99", "max", "run: p50", "p99", "p99.9", "max", "n"))
    words = {
        "video_delay": "video delay",
        "annotation_delay": "annotation delay",
        "release_lateness": "replay late by",
        "present_interval": "picture interval",
    }
    for name, text in words.items():
        now, whole = rates["delays"][name], summary_ms(record["delays"][name])
        if whole["n"]:
            cells = [
                now["p50"],
                now["p99"],
                now["max"],
                *(whole[key] for key in ("p50", "p99", "p99_9", "max")),
            ]
            table.add_row(text, *map(format_ms, cells), f"{whole['n']:,}")
    return table


def _stages(record: Record, rates: dict[str, Any]) -> Table:
    columns = ("Stage", "state", "pid", "CPU%", "MiB", "starts", "1/s", "work p50", "p99", "wait p50", "p99")
    table = _part(columns, 2)
    for name in ("capture", "preprocess", "infer", "overlay", "record"):
        if name not in record["stages"]:
            continue
        stage, now = record["stages"][name], rates["stages"][name]
        state = stage["state"].replace("_", " ")
        times = [now[kind][key] for kind in ("service", "wait") for key in ("p50", "p99")]
        table.add_row(
            name,
            Text(state, style=_STATE_COLOURS.get(stage["state"], "")),
            str(stage["pid"] or DASH),
            DASH if now["cpu_percent"] is None else f"{now['cpu_percent']:.0f}",
            DASH if stage["resident_bytes"] is None else f"{stage['resident_bytes'] / _MIB:.0f}",
            Text(str(stage["restarts"] + 1), style="bold red" if stage["restarts"] else ""),
            f"{now['processed_per_s']:.1f}",
            *map(format_ms, times),
        )
    return table


def _links(record: Record, rates: dict[str, Any]) -> Table:
    table = _part(("Link", "under way", "1/s", "sent", "lost", "refused", "dropped"))
    for name, link in record["links"].items():
        lost = link["lost_with_stage"]
        table.add_row(
            name,
            str(link["in_flight"]),
            f"{rates['links'][name]['sent_per_s']:.1f}",
            f"{link['sent']:,}",
            f"{lost:,}",
            f"{link['refused']:,}",
            format_drops(link["dropped"]),
        )
    return table


def _sinks(record: Record, rates: dict[str, Any]) -> Table:
    table = _part(("Sink", "lag p50", "p99", "1/s", "written", "dropped", "free GB"))
    for label, sink in record["sinks"].items():
        now, free = rates["sinks"][label], sink["free_bytes"]
        name = (
            f"{plain(label)}  [bold red]failed: {plain(sink['failed'])}[/]"
            if sink["failed"]
            else plain(label)
        )
        table.add_row(
            name,
            format_ms(now["write_delay"]["p50"]),
            format_ms(now["write_delay"]["p99"]),
            f"{now['written_per_s']:.1f}",
            f"{sink['written']:,}",
            format_drops(sink["dropped"]),
            DASH if free is None else f"{free / 1e9:.1f}",
        )
    return table


def _rings(record: Record) -> Text:
    rings = [
        f"{ring['role']} {ring['slots']} × {ring['size_hw'][1]} × {ring['size_hw'][0]}, {ring['bytes'] / _MIB:.0f} MiB"
        for ring in record["rings"]
    ]
    return Text(f"Rings: {'; '.join(rings) or DASH}")


def _faults(record: Record) -> list[Text]:
    faults = record["faults"]
    lines = [Text(f"Faults: {faults['count']}", style="yellow" if faults["count"] else "")]
    for fault in faults["last"][-_LAST_FAULTS:]:
        what = (
            fault["what"]
            if fault["what"].startswith(fault["where"])
            else f"{fault['where']}: {fault['what']}"
        )
        lines.append(Text(f"  {_clock(fault['at_s'])}  {what}", overflow="ellipsis", no_wrap=True))
    return lines
