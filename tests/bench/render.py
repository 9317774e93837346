"""Puts the benchmarks' results into docs/benchmarks.md, between the marks, and leaves the words around them alone.

    python tests/bench/render.py [--folder out/bench] [--page docs/benchmarks.md] [--draft]

A block ``<!-- results:NAME -->`` to ``<!-- end -->`` is filled from NAME.json: tables, what was promised and whether
it was kept, machine, commit and versions. Results of ``--quick`` are refused; each table names the commit it was made
on, and changes that were not committed show in its name. ``--draft`` prints the page whatever the results are. It
measures nothing.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from results import OUT, machine_line

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
_BLOCK = re.compile(r"(<!-- results:(\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rendered(result: dict[str, Any]) -> str:
    """One benchmark's block, as Markdown."""
    parts = [markdown_table(**table) for table in result["tables"]]
    promises = [f"- {'kept' if one['kept'] else '**not kept**'}: {one['text']}" for one in result["promises"]]
    if promises:
        parts.append("\n".join(promises))
    machine = machine_line(result["environment"], result["versions"])
    parts.append(f"*{machine}; measured {result['written_utc']}.*")
    return "\n\n".join(parts)


def markdown_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with its title; columns but the first are right-aligned."""
    lines = [f"**{title}**", ""]
    lines.append(markdown_row(columns))
    lines.append(markdown_row(["---", *["---:"] * (len(columns) - 1)]))
    return "\n".join([*lines, *(markdown_row(row) for row in rows)])


def markdown_row(cells: Sequence[str]) -> str:
    """One line of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def filled(page: str, results: dict[str, dict[str, Any]]) -> str:
    """``page`` with every block whose result there is replaced; the others stay as they are."""

    def fill(match: re.Match[str]) -> str:
        begin, name, end = match.groups()
        if name not in results:
            return match[0]
        return f"{begin}\n{rendered(results[name])}\n\n{end}"

    return _BLOCK.sub(fill, page)


def objections(results: dict[str, dict[str, Any]]) -> list[str]:
    """Why these results should not be published."""
    return [
        f"{name}: made with --quick; expected a whole run" for name, one in results.items() if one["quick"]
    ]


def main() -> int:
    """Fill the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=OUT, help="where the results lie")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--draft", action="store_true", help="print the page, whatever the results are")
    arguments = parser.parse_args()
    page = arguments.page.read_text(encoding="utf-8")
    names = [name for _, name, _ in _BLOCK.findall(page)]
    files = {name: arguments.folder / f"{name}.json" for name in names}
    results = {
        name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.exists()
    }
    if arguments.draft:
        print(filled(page, results))
        return 0
    wrong = objections(results)
    if wrong or not results:
        for line in wrong or [f"results: none in {arguments.folder}. Try: make bench"]:
            print(line, file=sys.stderr)
        return 1
    arguments.page.write_text(filled(page, results), encoding="utf-8")
    missing = sorted(set(names) - set(results))
    print(
        f"{arguments.page}: filled {', '.join(results)}"
        + (f"; not measured: {', '.join(missing)}" if missing else "")
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
