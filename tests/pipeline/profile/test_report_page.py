"""The page of a profile: self-contained, every figure of the JSON in it, hostile names harmless."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from endostream.configs.errors import ConfigError
from endostream.pipeline.profile.page import ms
from endostream.pipeline.profile.report_charts import cdf_chart, told_apart
from endostream.pipeline.profile.report_page import profile_page
from endostream.pipeline.profile.result import read_profile, write_profile
from endostream.pipeline.profile.svg import logarithmic, shortened

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


def test_commands_are_as_a_shell_takes_them(tmp_path: Path) -> None:
    profile = some_profile(tmp_path)
    profile["command"] = ["endostream", "profile", "my clip.avi", "--external", "player {input}"]
    profile["cells"][0]["runs"][0]["command"] = ["player {input} < /dev/null"]
    text = profile_page(profile)
    assert (
        "<pre>endostream profile &#x27;my clip.avi&#x27; --external &#x27;player {input}&#x27;</pre>" in text
    )
    assert "<pre>player {input} &lt; /dev/null</pre>" in text


def test_no_two_curves_of_a_matrix_look_alike(tmp_path: Path) -> None:
    runs = [measured(tmp_path, [1.0 + number, 2.0 + number], name=f"{number}.csv") for number in range(16)]
    chart = cdf_chart(
        {
            str(number): profile_of([run])["cells"][0]["series"]["video_delay"]
            for number, run in enumerate(runs)
        }
    )
    looks = re.findall(r'stroke="(#[0-9a-f]{6})" stroke-width="1.6"( stroke-dasharray="[\d ]+")?', chart)
    assert len(looks) == len(set(looks)) == 16


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (
            [
                f"/a/long/path.avi, {one}, {size}, live, processes"
                for one in ("fcm", "resunet")
                for size in (1, 2)
            ],
            ["fcm, 1", "fcm, 2", "resunet, 1", "resunet, 2"],
        ),
        (["a.avi, fcm, live", "b.avi, fcm, live"], ["a.avi", "b.avi"]),
        (["phantom:, live", "phantom:, 25 fps, live"], ["live", "25 fps, live"]),
        (
            ["phantom:, live, processes", "external: play {input}"],
            ["phantom:, live, processes", "external: play {input}"],
        ),
        (["phantom:, live"], ["phantom:, live"]),
        ([], []),
    ],
)
def test_a_legend_leaves_out_what_all_cells_share(names: list[str], told: list[str]) -> None:
    """Of a recording with a long path the middle was left out: segmenter and size, which told the curves apart."""
    assert told_apart(names) == told


def test_long_names_lose_their_middle_and_a_delay_of_nothing_stretches_no_axis() -> None:
    assert shortened("external: a very long command {input}, 25 fps", 24) == "external: a ver…, 25 fps"
    assert len(shortened("x" * 200, 84)) == 84
    assert shortened("short", 84) == "short"
    assert next(tick for tick, _ in logarithmic("ms", 0.0, 500.0).ticks) == 0.05
    assert logarithmic("ms", 0.0, 500.0).place(0.0) == 0.0


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda profile: profile.pop("environment"), "environment: field required"),
        (lambda profile: profile["cells"].append(5), "cells.1: "),
        (
            lambda profile: profile["cells"][0]["series"]["video_delay"].update(p50="fast"),
            "cells.0.series.video_delay.p50: input should be a valid number",
        ),
        (
            lambda profile: profile["cells"][0]["series"]["video_delay"]["draws"].pop("p99"),
            "cells.0.series.video_delay.draws: expected p50, p90, p99, p99_9, max, jitter",
        ),
        (lambda profile: profile["cells"][0]["counted"].pop("dropped"), "cells.0.counted.dropped: field"),
    ],
)
def test_a_profile_that_is_not_whole_is_refused_by_its_first_wrong_place(
    damage: Callable[[dict[str, Any]], object], said: str, tmp_path: Path
) -> None:
    profile = some_profile(tmp_path)
    damage(profile)
    write_profile(tmp_path / "profile.json", profile)
    with pytest.raises(ConfigError, match=re.escape(said)):
        read_profile(tmp_path)


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
