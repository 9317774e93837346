"""Two profiles with a known difference: it is found with its interval, none is found where there is none."""

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from endostream.pipeline.profile.budget import parse_budget
from endostream.pipeline.profile.compare import Change, Comparison, check_changes, compare
from endostream.pipeline.profile.compare_page import compare_page

from .synthetic import measured, profile_of


@functools.cache
def profile_text(mean_ms: float, seed: int, runs: int) -> str:
    """Delays around ``mean_ms`` with a spread of a tenth, as JSON."""
    random = np.random.default_rng(seed)
    delays = [random.normal(mean_ms, mean_ms / 10, 500).clip(0.6).tolist() for _ in range(runs)]
    with tempfile.TemporaryDirectory() as folder:
        logs = [measured(Path(folder), one, name=f"{number}.csv") for number, one in enumerate(delays)]
    return json.dumps(profile_of(logs))


def profile(mean_ms: float, seed: int, runs: int = 2, **environment: Any) -> dict[str, Any]:
    """A profile of its own, to be changed."""
    made: dict[str, Any] = json.loads(profile_text(mean_ms, seed, runs))
    made["environment"] |= environment
    return made


def change(found: Comparison, series: str = "video_delay", figure: str = "p50") -> Change:
    return next(one for one in found.changes if (one.series, one.figure) == (series, figure))


def test_a_difference_of_three_milliseconds_is_found_as_three() -> None:
    found = change(compare(profile(5.0, 1), profile(8.0, 2)))
    assert found.difference == pytest.approx(3.0, abs=0.1)
    assert found.interval is not None
    low, high = found.interval
    assert 2.8 < low < 3.0 < high < 3.2
    assert found.verdict == "slower"
    assert change(compare(profile(8.0, 1), profile(5.0, 2))).verdict == "faster"


def test_two_profiles_of_the_same_show_no_difference() -> None:
    found = compare(profile(5.0, 1), profile(5.0, 2))
    assert change(found).verdict == "no difference shown"
    assert change(found, "infer.service").difference == 0.0


def test_a_series_on_one_side_only_is_not_comparable() -> None:
    after = profile(5.0, 2)
    del after["cells"][0]["series"]["annotation_delay"]
    found = change(compare(profile(5.0, 1), after), "annotation_delay")
    assert (found.difference, found.interval, found.verdict) == (None, None, "not comparable")


def test_it_says_when_machine_versions_commit_or_settings_differ() -> None:
    before = profile(5.0, 1)
    after = profile(5.0, 2, cpu="another", versions={"python": "3.12"}, commit="beef")
    after["cells"][0]["settings"]["segmenter"] = "resunet-small"
    after["options"]["repeats"] = 5
    assert compare(before, after).caveats == [
        "the machines differ: cpu is a processor in A, another in B",
        "versions differ: python is 3.11 in A, 3.12 in B",
        "commits differ: c0ffee in A, beef in B",
        "phantom:, fcm: segmenter is fcm in A, resunet-small in B",
        "options differ: repeats is 2 in A, 5 in B",
    ]
    assert compare(before, before).caveats == []


def test_cells_are_paired_by_their_settings_and_the_rest_is_named() -> None:
    before, after = profile(5.0, 1), profile(5.0, 2)
    for name, side in (("only here", before), ("only there", after)):
        more = {**side["cells"][0], "name": name}
        more["settings"] = {**more["settings"], "segmenter": name}
        side["cells"].append(more)
    found = compare(before, after)
    assert [name for name, _, _ in found.pairs] == ["phantom:, fcm"]
    assert found.alone == ["only in A: only here", "only in B: only there"]


def test_cells_are_paired_across_versions_of_a_runtime_but_not_across_runtimes() -> None:
    """After an upgrade of OpenVINO no cell of a matrix had a partner any more."""
    before, after = profile(5.0, 1), profile(5.0, 2)
    for side, runtimes in (
        (before, ("openvino 2026.4.1 int8", "openvino 2026.4.1 fp32")),
        (after, ("openvino 2026.5.0 int8", "keras 3.9 int8")),
    ):
        (cell,) = side["cells"]
        side["cells"] = [
            {**cell, "name": runtime, "settings": cell["settings"] | {"runtime": runtime}}
            for runtime in runtimes
        ]
    found = compare(before, after)
    assert [name for name, _, _ in found.pairs] == ["openvino 2026.5.0 int8"]
    assert found.alone == ["only in A: openvino 2026.4.1 fp32", "only in B: keras 3.9 int8"]
    assert found.caveats == [
        "openvino 2026.5.0 int8: runtime is openvino 2026.4.1 int8 in A, openvino 2026.5.0 int8 in B"
    ]


def test_runs_that_failed_are_told() -> None:
    before, after = profile(5.0, 1), profile(5.0, 2)
    after["cells"][0]["runs"][1]["exit_code"] = 3
    assert compare(before, after).caveats == ["phantom:, fcm: 1 of 2 runs failed in B"]


@pytest.mark.parametrize(
    ("budget", "kept"),
    [
        ("video_delay.p50=2.5ms", False),
        ("video_delay.p50=+3.5ms", True),
        ("video_delay.p50=50%", False),
        ("video_delay.p50=70%", True),
        ("dropped=0", True),
        ("witness.video_delay.p50=100ms", False),
    ],
)
def test_budgets_say_how_much_worse_it_may_be(budget: str, kept: bool) -> None:
    found = compare(profile(5.0, 1, runs=1), profile(8.0, 2, runs=1))
    (verdict,) = check_changes([parse_budget(budget, relative_allowed=True)], found)
    assert verdict.kept is kept


def test_a_budget_on_nothing_in_common_is_broken() -> None:
    (verdict,) = check_changes([parse_budget("dropped=0")], Comparison([], [], [], []))
    assert not verdict.kept


def test_the_page_shows_both_sides_and_every_caveat() -> None:
    before, after = profile(5.0, 1), profile(8.0, 2, cpu="<another>")
    found = compare(before, after)
    text = compare_page(
        before, after, found, list(check_changes([parse_budget("video_delay.p50=1ms")], found))
    )
    assert "the machines differ: cpu is a processor in A, &lt;another&gt; in B" in text
    assert f"{change(found).difference:+.3f}" in text
    assert "budget broken: video_delay.p50" in text
    assert text.count("<svg") == 6
