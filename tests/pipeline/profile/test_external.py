"""Cells measured from outside: sightings become series with known figures, choices that cannot be sent are refused, and
a real program is measured beside the pipeline."""

import json
import shutil
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from endostream.configs.errors import ConfigError
from endostream.pipeline.profile.bootstrap import figures_ns, pool
from endostream.pipeline.profile.external import ExternalCell, external_cells, measured_from
from endostream.pipeline.profile.measure import Window
from endostream.pipeline.witness.witness_measure import Measured as Witnessed
from endostream.pipeline.witness.witness_verdict import Seen, Verdict

from .test_profile_command import profile

PERIOD_NS = 40_000_000
BEGIN_NS = 5_000_000_000
COMMAND = "player {input}"


def sighting(number: int, delay_ms: float, half_ms: float = 0.5, other: int | None = None) -> Seen:
    """Frame ``number`` of 25 a second, seen ``delay_ms`` after its code's time by looks ``half_ms`` apart from it."""
    coded_ns = BEGIN_NS + number * PERIOD_NS
    seen_ns, half_ns = coded_ns + int(delay_ms * 1e6), int(half_ms * 1e6)
    return Seen(number, seen_ns - half_ns, seen_ns + half_ns, coded_ns // 1000, other)


def witnessed(seen: list[Seen], lost: tuple[int, ...] = ()) -> Witnessed:
    return Witnessed(
        Verdict(sent=len(seen) + len(lost), seen=len(seen), lost=list(lost)), seen, [], 100, 0, 0
    )


def test_sightings_become_delays_intervals_and_errors() -> None:
    run = measured_from(
        witnessed([sighting(number, 12.0) for number in range(50)]), Window(0.0, PERIOD_NS, True)
    )
    figures = {}
    for name, series in run.digest.series.items():
        pooled = pool([series])
        assert pooled is not None
        figures[name] = (int(pooled.counts.sum()), figures_ns(pooled)["max"] / 1e6)
    assert figures == {
        "witness.delay": (50, 12.0),
        "witness.interval": (49, 40.0),
        "witness.error": (50, 0.5),
    }
    assert run.counted.presented == 50


def test_torn_and_repeated_sightings_count_no_frame_twice() -> None:
    seen = [sighting(0, 5.0), sighting(1, 5.0, other=0), sighting(1, 7.0), sighting(1, 30.0)]
    run = measured_from(witnessed(seen), Window(0.0, PERIOD_NS, True))
    pooled = pool([run.digest.series["witness.delay"]])
    assert pooled is not None
    assert (run.counted.presented, figures_ns(pooled)["max"]) == (2, 7_000_000)


def test_warm_up_is_left_out_of_figures_and_losses() -> None:
    seen = [sighting(number, 100.0 if number < 25 else 3.0) for number in range(50) if number not in (3, 40)]
    run = measured_from(witnessed(seen, lost=(3, 40)), Window(1.0, PERIOD_NS, True))
    pooled = pool([run.digest.series["witness.delay"]])
    assert pooled is not None
    assert figures_ns(pooled)["max"] == 3_000_000
    assert (dict(run.counted.dropped), dict(run.whole.dropped)) == ({"lost": 1}, {"lost": 2})


def test_frames_that_a_slow_program_did_not_take_are_dropped_too() -> None:
    seen = witnessed([sighting(number, 3.0) for number in range(0, 50, 5)])
    seen.verdict.not_sent = [number for number in range(50) if number % 5]
    run = measured_from(seen, Window(1.0, PERIOD_NS, True))
    assert (dict(run.counted.dropped), dict(run.whole.dropped)) == ({"not_sent": 20}, {"not_sent": 40})


def test_nothing_seen_is_no_series() -> None:
    assert measured_from(witnessed([]), Window(0.0, PERIOD_NS, True)).digest.series == {}


def test_a_program_is_measured_with_every_size_and_rate() -> None:
    found = external_cells([COMMAND], ["phantom:"], [(288, 216), (640, 480)], ["25", "50"])
    assert found == [
        ExternalCell(COMMAND, f"phantom:{size}@{rate}", wh, Fraction(rate))
        for size, wh in (("288x216", (288, 216)), ("640x480", (640, 480)))
        for rate in ("25", "50")
    ]


@pytest.mark.parametrize(
    ("command", "source", "message"),
    [
        ("player", "phantom:", r"expected \{input\} where the pipe's path goes"),
        (COMMAND, "/dev/video0", "is live; expected a recording or phantom: to send"),
        (COMMAND, "clip.avi", "expected phantom:, other sources keep their size"),
    ],
)
def test_a_source_that_cannot_be_sent_is_refused(command: str, source: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        external_cells([command], [source], [(64, 48)], [None])


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((561, 479), r"561 × 479; expected even sides\. Try: phantom:560x478"),
        ((160, 120), "160 × 120; expected at least 288 × 96"),
    ],
)
def test_a_size_that_cannot_be_sent_is_refused_before_anything_runs(
    size: tuple[int, int], message: str
) -> None:
    """Each of the runs failed by it, after the whole of the others."""
    with pytest.raises(ConfigError, match=message):
        external_cells([COMMAND], ["phantom:"], [size], ["25"])


@pytest.mark.skipif(shutil.which("Xvfb") is None, reason="Xvfb is not installed")
def test_a_real_program_is_measured_beside_the_pipeline(tmp_path: Path) -> None:
    """The program is our own window."""
    ours = f"{sys.executable} -c 'from endostream.pipeline.cli import main; main()'"
    command = f'{ours} live "pipe:cat {{input}}" --sink window --quiet --segmenter fcm'
    length = ("--duration", "2", "--warm-up", "0.5", "--repeats", "1", "--out", "o")
    arguments = ("--size", "320x240", "--rate", "25", "--external", command, *length)
    done = profile(tmp_path, *arguments, "--budget", "witness.delay.p50=100s", "--quiet")
    made = json.loads((tmp_path / "o/profile.json").read_text())
    assert done.code == 0, done.stderr
    (cell,) = made["cells"]
    assert (cell["settings"]["external"], cell["settings"]["size"]) == (command, [320, 240])
    assert cell["series"]["witness.delay"]["n"] == cell["counted"]["presented"] > 10
    assert "witness.delay" in (tmp_path / "o/profile.html").read_text()
