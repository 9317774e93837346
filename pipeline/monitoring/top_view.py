"""The pictures of ``endostream top``: two records of a run as tables for a terminal.

Separate from the loop that shows them (``top.py``), so that each can be tested as text. It works out nothing: rates
come from ``run_rates.py``; what was not measured reads "–", which is not 0. A line never wraps at 80 columns: numbers
are short, and names give way.
"""

from collections.abc import Iterable
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..report_table import DASH, format_drops, format_ms, plain, table_of
from .run_rates import Record, summary_ms

_MIB = 1 << 20
_STATE_COLOURS = {"running": "green", "starting": "yellow", "down": "bold red", "given_up": "bold red"}
_MASK_COLOURS = {"fresh": "green", "held": "green", "stale": "yellow", "failed": "bold red", "absent": "blue"}
_LAST_FAULTS = 3
_HEAD_LINES = 2


def run_view(
    record: Record, rates: dict[str, Any], ended: str = "", height: int | None = None
) -> RenderableType:
    """All of one run; ``ended`` says that it is over, or does not answer, "" while it goes on.

    With ``height``, in lines, as many of its tables as there is room for, and the names of the others.
    """
    made = (_delays, _stages, _sinks, _links)  # what matters most comes first
    tables = [table for make in made if (table := make(record, rates)).row_count]
    lines = [*_headline(record, ended), *_state(record, rates), *_faults(record)]
    if height is None:
        return Group(*lines, *tables, _rings(record))
    heights = [table.row_count + _HEAD_LINES for table in tables]
    if len(lines) + sum(heights) < height:
        return Group(*lines, *tables, _rings(record))
    shown = 0
    while len(lines) + sum(heights[: shown + 1]) < height:
        shown += 1
    names = ", ".join(f"{table.columns[0].header}s".partition(",")[0] for table in tables[shown:])
    return Group(*lines, *tables[:shown], _line(f"A higher window shows more: {names}"))


def list_view(records: Iterable[Record]) -> Table:
    """One line for each run."""
    columns = ("run", "mode", "sources", "segmenter", "pid", "up", "shown", "AI", "status")
    table = table_of("Runs", columns, 4)
    for column in table.columns:
        column.no_wrap = column.header not in ("sources", "segmenter")
    for record in records:
        run, frames = record["run"], record["frames"]
        table.add_row(
            run["id"],
            run["mode"],
            plain(_sources(record)),
            plain(run["segmenter"]),
            str(run["pid"]),
            _clock(run["uptime_s"]),
            _count(frames["presented"]),
            record["masks"]["state"],
            run["status"],
        )
    return table


def _part(columns: Iterable[str], text_columns: int = 1, giving_way: Iterable[str] = ()) -> Table:
    """A table without a title whose columns stay whole, but for those ``giving_way``, of ``_line`` cells."""
    table, narrowed = table_of("", columns, text_columns), set(giving_way)
    for column in table.columns:
        column.no_wrap, column.overflow = column.header not in narrowed, "ellipsis"
    return table


def _line(text: str, style: str = "") -> Text:
    """Text that is cut short where there is no room."""
    return Text(text.encode("utf-8", "backslashreplace").decode(), style, overflow="ellipsis", no_wrap=True)


def _ms(value: float | None) -> str:
    """Milliseconds in at most five characters; from 10 s on in seconds, with their unit."""
    if value is None or value < 9_999.5:
        return format_ms(value)
    return f"{value / 1e3:.1f}s" if value < 999_950 else f"{value / 1e3:.0f}s"


def _count(number: int) -> str:
    """In at most seven characters; from a million on in millions."""
    return f"{number:,}" if number < 1_000_000 else f"{number / 1e6:.2f}M"


def _rate(per_s: float) -> str:
    return f"{per_s:.1f}" if per_s < 999.95 else f"{per_s:.0f}"


def _sources(record: Record) -> str:
    playing = [source["address"] for source in record["sources"] if source["status"] == "playing"]
    names = playing or [source["address"] for source in record["sources"]]
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _headline(record: Record, ended: str) -> list[Text]:
    run = record["run"]
    line = _line(f"endostream {run['version']}  run {run['id']}  ", "bold")
    line.append(f"up {_clock(run['uptime_s'])}  ", style="not bold")
    line.append(ended or run["status"], style="bold red" if ended else "bold green")
    on = f" on {run['runtime']}" if run["runtime"] else ""
    return [line, _line(f"{run['mode']}, {run['segmenter']}{on}, {_sources(record)}")]


def _state(record: Record, rates: dict[str, Any]) -> list[Text]:
    masks, frames = record["masks"], record["frames"]
    first, second = _line("AI "), _line(f"captured {frames['captured']:,}, ")
    first.append(masks["state"], style=_MASK_COLOURS[masks["state"]])
    if masks["age_ms"] is not None:
        age = _ms(masks["age_ms"])
        first.append(f", mask {age} old" if age.endswith("s") else f", mask {age} ms old")
    first.append(
        f"   {_rate(rates['presented_fps'])} pictures/s shown, {_rate(rates['masks_per_s'])} masks/s"
    )
    silent_s = frames["since_presented_s"]
    if silent_s is not None and silent_s > 1 and record["run"]["status"] == "running":
        first.append(f"   no picture for {silent_s:.1f} s", style="bold red")
    second.append(f"presented {frames['presented']:,}, ")
    if frames.get("not_shown"):
        second.append(f"not shown {frames['not_shown']:,}, ", style="bold red")
    dropped = {cause: count for cause, count in frames["dropped"].items() if count}
    second.append(f"dropped {format_drops(dropped)}", style="bold red" if dropped else "")
    return [first, second]


def _delays(record: Record, rates: dict[str, Any]) -> Table:
    recent = f"{min(rates['seconds'], 999):.0f} s p50"
    table = _part(("Delay, ms", recent, "p99", "max", "run p50", "p99", "p99.9", "max", "n"))
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
            table.add_row(text, *map(_ms, cells), _count(int(whole["n"])))
    return table


def _stages(record: Record, rates: dict[str, Any]) -> Table:
    columns = ("Stage", "state", "pid", "CPU%", "MiB", "life", "1/s", "work p50", "p99", "wait p50", "p99")
    table = _part(columns, 2)
    table.padding = (0, 0)  # the widest there is: 79 columns
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
            _rate(now["processed_per_s"]),
            *map(_ms, times),
        )
    return table


def _links(record: Record, rates: dict[str, Any]) -> Table:
    columns = ("Link", "under way", "1/s", "sent", "lost", "refused", "dropped")
    table = _part(columns, giving_way=("dropped",))
    for name, link in record["links"].items():
        lost = link["lost_with_stage"]
        table.add_row(
            name,
            _count(link["in_flight"]),
            _rate(rates["links"][name]["sent_per_s"]),
            _count(link["sent"]),
            _count(lost),
            _count(link["refused"]),
            _line(format_drops(link["dropped"])),
        )
    return table


def _sinks(record: Record, rates: dict[str, Any]) -> Table:
    columns = ("Sink", "lag p50", "p99", "1/s", "written", "dropped", "free GB")
    table = _part(columns, giving_way=("Sink", "dropped"))
    for label, sink in record["sinks"].items():
        now, free, name = rates["sinks"][label], sink["free_bytes"], _line(label)
        if sink["failed"]:
            name = _line(f"failed: {sink['failed']}  {label}", "bold red")
        table.add_row(
            name,
            _ms(now["write_delay"]["p50"]),
            _ms(now["write_delay"]["p99"]),
            _rate(now["written_per_s"]),
            _count(sink["written"]),
            _line(format_drops(sink["dropped"])),
            DASH if free is None else f"{free / 1e9:.1f}",
        )
    return table


def _rings(record: Record) -> Text:
    rings = [
        f"{ring['role']} {ring['slots']} × {ring['size_hw'][1]} × {ring['size_hw'][0]}, {ring['bytes'] / _MIB:.0f} MiB"
        for ring in record["rings"]
    ]
    return _line(f"Rings: {'; '.join(rings) or DASH}")


def _faults(record: Record) -> list[Text]:
    faults = record["faults"]
    lines = [Text(f"Faults: {faults['count']}", style="yellow" if faults["count"] else "")]
    for fault in faults["last"][-_LAST_FAULTS:]:
        what = (
            fault["what"]
            if fault["what"].startswith(fault["where"])
            else f"{fault['where']}: {fault['what']}"
        )
        lines.append(_line(f"  {_clock(fault['at_s'])}  {what}"))
    return lines
