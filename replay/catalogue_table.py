"""``endostream catalogue``: lists and counts the recordings of a catalogue, and says which files are wrong.

Separate from the catalogue, which prints nothing. A missing or differing file is a result of this command,
not its failure: it ends with exit code 0.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from endostream.configs.errors import ExitCode

from .catalogue import Catalogue, CatalogueProblem
from .catalogue_entry import CatalogueEntry, Selection, count_findings

PIPED_WIDTH = 160
"""Columns where stdout is no terminal: wide enough that no file name of HyperKvasir is broken in two."""


def catalogue_command(
    directory: Path,
    wanted: Selection | None = None,
    check: bool = True,
    as_json: bool = False,
    console: Console | None = None,
) -> int:
    """List the recordings of ``directory`` that are ``wanted`` on stdout, as a table or as JSON.

    Args:
        check: open the files that are there and compare them with the list.

    Returns:
        The exit code.

    Raises:
        SourceMissing: no such folder, or nothing in it.
        ConfigError: a metadata CSV that cannot be read.
    """
    catalogue = Catalogue.open(directory)
    entries = catalogue.select(wanted)
    problems = {id(problem.entry): problem for problem in catalogue.check(entries)} if check else {}
    told = catalogue_json(catalogue, entries, problems)
    if as_json:
        print(json.dumps(told, indent=2))
        return ExitCode.DONE
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, PIPED_WIDTH)
    _print_tables(told, console)
    return ExitCode.DONE


def catalogue_json(
    catalogue: Catalogue, entries: list[CatalogueEntry], problems: Mapping[int, CatalogueProblem]
) -> dict[str, Any]:
    """All that is told, as JSON takes it: numbers of the whole catalogue, then of the ``entries`` selected.

    ``problems`` are by ``id`` of their entry. ``findings`` are counted among the selected.
    """
    listed = [_entry_json(entry, problems.get(id(entry))) for entry in entries]
    states = [entry["state"] for entry in listed]
    return {
        "root": str(catalogue.root),
        "metadata": str(catalogue.metadata) if catalogue.metadata else None,
        "videos": len(catalogue.entries),
        "mention_polyp": len(catalogue.select(Selection(finding="polyp"))),
        "unlisted": [str(path) for path in catalogue.unlisted],
        "selected": len(entries),
        "frames": sum(entry.frames or 0 for entry in entries),
        "length_s": round(sum(entry.length_s or 0 for entry in entries), 3),
        **{state: states.count(state) for state in ("missing", "differs", "unreadable")},
        "findings": count_findings(entries),
        "entries": listed,
    }


def _entry_json(entry: CatalogueEntry, problem: CatalogueProblem | None) -> dict[str, Any]:
    """One recording; ``state`` is ``ok``, ``missing``, ``differs`` or ``unreadable``."""
    height, width = entry.size_hw or (None, None)
    state = problem.kind if problem else "missing" if entry.path is None else "ok"
    return {
        "file": entry.file_name,
        "finding": entry.finding,
        "width": width,
        "height": height,
        "frames": entry.frames,
        "fps": entry.fps,
        "length_s": entry.length_s,
        "path": str(entry.path) if entry.path else None,
        "state": state,
        "what": problem.what if problem else "",
    }


def _print_tables(told: dict[str, Any], console: Console) -> None:
    """The recordings, the findings counted, and the sums in words."""
    entries = told["entries"]
    if entries:
        console.print(_entry_table(entries))
        console.print()
        console.print(_finding_table(told["findings"]))
        console.print()
    hours = told["length_s"] / 3600
    where = told["metadata"] or told["root"]
    lines = [
        f"{told['videos']} videos in {where}, {told['mention_polyp']} whose finding mentions a polyp",
        f"{told['selected']} selected: {told['frames']:,} frames, {hours:.2f} h",
    ]
    if told["missing"]:
        lines.append(f"{told['missing']} of them missing under {told['root']}")
    for kind, words in (("differs", "not as listed"), ("unreadable", "cannot be read")):
        lines += [f"{words}: {entry['file']}: {entry['what']}" for entry in entries if entry["state"] == kind]
    if told["unlisted"]:
        lines.append(f"{len(told['unlisted'])} videos there that the list does not name")
    for line in lines:
        console.print(_plain(line), soft_wrap=True, highlight=False)


def _entry_table(entries: list[dict[str, Any]]) -> Table:
    """One line a recording."""
    table = _table(("file", "finding"), ("size", "fps", "frames", "length"))
    table.add_column("state")
    for entry in entries:
        numbers = (_size(entry), _text(entry["fps"]), _text(entry["frames"]), _length(entry["length_s"]))
        table.add_row(_plain(entry["file"]), _plain(entry["finding"]), *numbers, entry["state"])
    return table


def _finding_table(findings: dict[str, int]) -> Table:
    """How often each finding occurs."""
    table = _table(("finding",), ("videos",))
    for finding, count in findings.items():
        table.add_row(_plain(finding), str(count))
    return table


def _table(left: tuple[str, ...], right: tuple[str, ...]) -> Table:
    """An empty table with words to the left and numbers to the right; long words fold."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in left:
        table.add_column(column, overflow="fold")
    for column in right:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _plain(text: str) -> str:
    """Text of the list's as rich prints it untouched: brackets kept, bytes that are no UTF-8 as escapes."""
    return escape(text.encode("utf-8", "backslashreplace").decode())


def _text(number: float | None) -> str:
    """A number without needless digits, "–" for None."""
    return "–" if number is None else f"{round(number, 3):g}" if number < 1000 else f"{number:,.0f}"


def _size(entry: dict[str, Any]) -> str:
    """``WIDTHxHEIGHT``, "–" if unknown."""
    return f"{entry['width']}x{entry['height']}" if entry["width"] else "–"


def _length(length_s: float | None) -> str:
    """Minutes and seconds, "–" for None."""
    if length_s is None:
        return "–"
    minutes, seconds = divmod(round(length_s), 60)
    return f"{minutes}:{seconds:02}"
