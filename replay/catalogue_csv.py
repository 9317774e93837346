"""HyperKvasir's metadata CSV: finding it near a folder, and reading it.

Separate from the catalogue because it alone knows the CSV's columns. It looks at no video. The authors made
the CSV with OpenCV: rates and lengths are cut to whole numbers, file sizes are KiB. It is known by its
columns, not by its name; ``;`` or ``,`` separates.
"""

import csv
from collections.abc import Iterator
from math import inf
from pathlib import Path

from endostream.configs.errors import ConfigError

from .catalogue_entry import CatalogueEntry

FINDING_COLUMNS = ("finding", "main-finding")
Row = dict[str, str]
"""The cells of a line by the name of their column."""


def find_metadata(root: Path, videos: list[Path], tables: list[Path]) -> Path | None:
    """The metadata CSV of ``root``: in or below it, nearest first, else beside one of its two parents.

    One of a parent counts only if it names a video that is here: other folders may lie beside a HyperKvasir.
    """
    nearest = sorted(tables, key=lambda path: len(path.parts))
    if below := next(filter(is_metadata, nearest), None):
        return below
    names = {path.name.casefold() for path in videos}
    for parent in root.resolve().parents[:2]:
        for table in filter(is_metadata, sorted(parent.glob("*.csv"))):
            if any(row["file-name"].casefold() in names for row, _ in _rows(table)):
                return table
    return None


def is_metadata(table: Path) -> bool:
    """Whether the CSV's header names files and findings."""
    try:
        with table.open(encoding="utf-8-sig", errors="replace") as file:
            columns = {column.strip() for column in file.readline().replace(",", ";").split(";")}
    except OSError:
        return False
    return "file-name" in columns and not columns.isdisjoint(FINDING_COLUMNS)


def read_metadata(table: Path) -> list[CatalogueEntry]:
    """The entries of a CSV in its order, without paths.

    Raises:
        ConfigError: a cell that should be a number is none.
    """
    return [_entry_from_row(row, where) for row, where in _rows(table)]


def _rows(table: Path) -> Iterator[tuple[Row, str]]:
    """Each row that names a file, and where it stands."""
    with table.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        delimiter = ";" if ";" in file.readline() else ","
        file.seek(0)
        reader = csv.DictReader(file, delimiter=delimiter, skipinitialspace=True, restval="")
        for row in reader:
            # Cells beyond the last column stand under None.
            cells = {name.strip(): (cell or "").strip() for name, cell in row.items() if name is not None}
            if cells.get("file-name"):
                yield cells, f"{table} line {reader.line_num}"


def _entry_from_row(row: Row, where: str) -> CatalogueEntry:
    """One row as an entry; ``where`` is for messages."""
    width, height = _count(row, "width", where), _count(row, "height", where)
    return CatalogueEntry(
        file_name=row["file-name"],
        finding=next((row[column] for column in FINDING_COLUMNS if column in row), ""),
        size_hw=(height, width) if height and width else None,
        frames=_count(row, "number-of-frames", where),
        fps=_number(row, "fps", where),
        length_s=_number(row, "length", where),
        kilobytes=_count(row, "kilobytes", where),
    )


def _count(row: Row, column: str, where: str) -> int | None:
    """A cell as a whole number, None if it is empty."""
    number = _number(row, column, where)
    return None if number is None else int(number)


def _number(row: Row, column: str, where: str) -> float | None:
    """A cell as a number, None if it is empty; raises ConfigError."""
    text = row.get(column, "")
    try:
        number = float(text or 0)
    except ValueError:
        number = -1.0
    if not 0 <= number < inf:
        raise ConfigError(f"catalogue: {where}, {column}: {text!r}; expected a number")
    return number if text else None
