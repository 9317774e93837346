"""What every benchmark shares: its options, the machine it ran on, its tables, and the JSON file they end in.

Separate so that a benchmark is only about what it measures, and so that ``render.py`` can put any of them into the
docs without knowing it. It measures nothing.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from endostream.pipeline.environment import environment

OUT = Path(__file__).resolve().parents[2] / "out" / "bench"
"""Where results lie; not in the repository. Those of ``--quick`` lie in ``quick`` below it and are never published."""
NOT_MET = 5
"""Exit code when a promise is not kept, as everywhere in endostream."""
PRINTED_VERSIONS = ("python", "numpy", "opencv-python", "numba", "av", "pyzmq", "libzmq")


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it is printed and published: cells are text, the first column is left-aligned."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Promise:
    """Something the project says of itself, and whether this run bears it out.

    One that is not ``binding`` is told like the others but makes no run a failed one: the docs say why it is not kept.
    """

    text: str
    kept: bool
    binding: bool = True


@dataclass(slots=True)
class Result:
    """One benchmark's result.

    Attributes:
        name: of the benchmark, and of its JSON file.
        numbers: everything measured, in the units its keys end in.
        tables: the same for people.
        promises: what was to be shown.
        versions: of packages that only this benchmark needs.
    """

    name: str
    numbers: dict[str, Any]
    tables: list[Table]
    promises: list[Promise] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)


def bench_parser(doc: str | None) -> argparse.ArgumentParser:
    """The options every benchmark has."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--json", metavar="FILE", help="write the result here, not under out/bench")
    parser.add_argument(
        "--quick", action="store_true", help="too short to be published; shows that the script works"
    )
    return parser


def conclude(result: Result, arguments: argparse.Namespace, machine: dict[str, Any]) -> int:
    """Print and write ``result``; returns the exit code. ``machine`` is the environment before measuring."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(machine_line(machine, result.versions), style="dim", highlight=False)
    for table in result.tables:
        _print_table(console, table)
    for promise in result.promises:
        console.print(f"{'kept' if promise.kept else 'NOT KEPT'}: {promise.text}", highlight=False)
    path = Path(arguments.json) if arguments.json else result_path(result.name, arguments.quick)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(
        {
            "written_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "quick": arguments.quick,
            "environment": machine,
            **asdict(result),
        },
        indent=2,
    )
    path.write_text(text + "\n", encoding="utf-8")
    console.print(f"written: {path}", style="dim", highlight=False)
    return 0 if all(promise.kept or not promise.binding for promise in result.promises) else NOT_MET


def result_path(name: str, quick: bool) -> Path:
    """Where the result of the benchmark ``name`` lies."""
    return (OUT / "quick" if quick else OUT) / f"{name}.json"


def this_machine() -> dict[str, Any]:
    """The environment; to be read before measuring, so that its load is not ours."""
    return environment()


def machine_line(machine: dict[str, Any], more_versions: dict[str, str]) -> str:
    """Machine, commit and versions in one line."""
    versions = {name: machine["versions"].get(name) for name in PRINTED_VERSIONS} | more_versions
    named = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    cores = f"{machine['cores']} cores"
    load = f"load {machine['load_1min']} before"
    return f"{machine['cpu']}, {cores}, {machine['kernel']}, {load}; commit {machine['commit']}; {named}"


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """n, p50, p90, p99 (nearest rank) and max; of no values, only ``n``."""
    if not values:
        return {"n": 0}
    ordered = sorted(values)
    at = {f"p{share}": ordered[max(0, -(-len(ordered) * share // 100) - 1)] for share in (50, 90, 99)}
    return {"n": len(ordered), **at, "max": ordered[-1]}


def median(values: Sequence[float]) -> float:
    """Of a few repetitions."""
    return float(np.median(values))


def _print_table(console: Console, table: Table) -> None:
    console.print(table.title, style="bold", highlight=False)
    rich_table = RichTable(show_edge=False, pad_edge=False)
    for index, column in enumerate(table.columns):
        rich_table.add_column(column, justify="left" if index == 0 else "right")
    for row in table.rows:
        rich_table.add_row(*map(escape, row))
    console.print(rich_table)
    console.print()
