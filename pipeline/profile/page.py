"""The bones of a page: a self-contained HTML file with its style in it, no script, and nothing fetched from anywhere.

Separate from the pages themselves, which say what is on them. Everything that comes from outside is escaped here.
"""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from endostream.configs.errors import SinkError

DASH = "–"


class Html(str):
    """Text that is HTML already and is not escaped again."""

    __slots__ = ()


def html(value: object) -> Html:
    """Anything as HTML; bytes of a file name that are no UTF-8 are shown as escapes."""
    if isinstance(value, Html):
        return value
    return Html(escape(str(value).encode("utf-8", "backslashreplace").decode()))


def element(name: str, content: object, css_class: str = "") -> Html:
    """``<name>content</name>``."""
    attribute = f' class="{css_class}"' if css_class else ""
    return Html(f"<{name}{attribute}>{html(content)}</{name}>")


def join(parts: Iterable[object]) -> Html:
    """Pieces behind one another."""
    return Html("".join(html(part) for part in parts))


def table(
    columns: Sequence[object], rows: Iterable[Sequence[object]], caption: str = "", css_class: str = ""
) -> Html:
    """A table; with no columns it has no head."""
    head = join(element("th", column) for column in columns)
    body = join(element("tr", join(element("td", cell) for cell in row)) for row in rows)
    parts = [element("caption", caption)] if caption else []
    parts += [element("thead", element("tr", head))] if columns else []
    whole = element("table", join([*parts, element("tbody", body)]), css_class)
    return Html(f'<div class="wide">{whole}</div>')


def words_table(rows: Iterable[tuple[object, object]]) -> Html:
    """Names and what they are, as text."""
    return table((), rows, css_class="words")


def figure(caption: str, svg: str) -> Html:
    """A chart with its caption above."""
    return Html(f"<figure>{element('figcaption', caption)}{svg}</figure>")


def charts(figures: Iterable[Html]) -> Html:
    """Charts beside one another where there is room."""
    return Html(f'<div class="charts">{join(figures)}</div>')


def items(lines: Iterable[object]) -> Html:
    """A list."""
    return element("ul", join(element("li", line) for line in lines))


def page(title: str, body: Iterable[object]) -> str:
    """The whole file."""
    style = (files("endostream.pipeline.profile") / "page.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{join(body)}\n</body>\n</html>\n"
    )


def write_page(path: Path, text: str) -> None:
    """Write a page; raises SinkError."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SinkError(f"report: {path}; cannot be written ({error.strerror}). Try: another path") from error


def ms(value: float | None) -> str:
    """Milliseconds to the digits that matter, a dash for none."""
    if value is None:
        return DASH
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}" if abs(value) < 100 else f"{value:,.1f}"


def interval(ends: Sequence[float] | None) -> Html:
    """A 95 % interval, small, a dash for none."""
    return element("small", DASH if ends is None else f"{ms(ends[0])} … {ms(ends[1])}")


def count(value: Any) -> str:
    """A whole number with commas, a dash for none."""
    return DASH if value is None else f"{value:,}"
