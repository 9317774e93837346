"""The page of a profile: self-contained, every figure of the JSON in it, hostile names harmless."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from endostream.pipeline.profile.page import ms
from endostream.pipeline.profile.report_page import profile_page
from endostream.pipeline.profile.result import read_profile, write_profile

from .synthetic import measured, profile_of

VOID = {"meta", "br", "rect", "path"}


class Checker(HTMLParser):
    """Notes references, scripts, and elements that do not close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[tuple[str, str | None]] = []
        self.elements: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.references += [
            (name, value) for name, value in attrs if name in ("src", "href", "srcset", "xlink:href")
        ]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    return checker


def some_profile(folder: Path, name: str = "phantom:, fcm") -> dict[str, Any]:
    return profile_of([measured(folder, [1.0 + (seq * 7 % 31) / 7 for seq in range(200)])], name)


def test_the_page_needs_nothing_from_anywhere(tmp_path: Path) -> None:
    text = profile_page(some_profile(tmp_path))
    checker = checked(text)
    assert checker.references == []
    assert not checker.elements & {"script", "link", "img", "iframe", "object", "embed", "base"}
    assert not re.search(r"https?://|url\(|@import", text)


def test_the_page_holds_every_figure_and_interval_of_the_json(tmp_path: Path) -> None:
    profile = some_profile(tmp_path)
    text = profile_page(profile)
    for series in profile["cells"][0]["series"].values():
        for figure in ("p50", "p90", "p99", "p99_9", "max", "jitter"):
            assert f">{ms(series[figure])}" in text
            low, high = series["interval"][figure]
            assert f"{ms(low)} … {ms(high)}" in text


def test_the_page_says_what_was_not_measured_and_of_which_machine_and_commit(tmp_path: Path) -> None:
    text = profile_page(some_profile(tmp_path))
    for words in (
        "<li>this</li>",
        "<li>that</li>",
        "a processor, 2 cores",
        "commit c0ffee",
        "Research use only",
    ):
        assert words in text


def test_names_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    profile = some_profile(tmp_path, '</h2><script>alert("x")</script>\udcff')
    profile["command"] = ["endostream", "profile", "</pre><script>"]
    text = profile_page(profile)
    assert "script" not in checked(text).elements
    text.encode()


def test_a_cell_without_a_frame_is_shown_as_such(tmp_path: Path) -> None:
    profile = profile_of([measured(tmp_path, [])])
    profile["cells"][0]["runs"][0] |= {"exit_code": 4, "errors": "model: none; no such file"}
    text = profile_page(profile)
    checked(text)
    assert "Nothing was measured." in text
    assert "Run 1 ended with exit code 4: model: none; no such file" in text


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    profile = some_profile(tmp_path)
    write_profile(tmp_path / "profile.json", profile)
    assert read_profile(tmp_path) == read_profile(tmp_path / "profile.json")
    assert profile_page(read_profile(tmp_path)) == profile_page(profile)
