"""The report in the order of 21 CFR 876.1520(b)(2): the pixel comparison is real and finds a single changed byte; the
page says that it is no clearance, and holds what was measured."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from endostream.configs.errors import ConfigError
from endostream.configs.schema import Config
from endostream.pipeline.cli import run_command
from endostream.pipeline.frame import ImageBgr
from endostream.pipeline.profile.cfr import (
    CfrReport,
    options_of,
    own_cells,
    performance_of,
    read_evaluation,
)
from endostream.pipeline.profile.cfr_page import cfr_page
from endostream.pipeline.profile.degradation import (
    Degradation,
    DegradationFailed,
    compare_session,
    mark_style,
    touched,
)

from ..end_to_end import small_video
from .synthetic import measured, profile_of
from .test_profile_command import Done, profile
from .test_report_page import checked


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Config]:
    """A recorded session of fuzzy c-means on a small video: its folder, the video, the configuration."""
    from endostream.pipeline.profile.degradation import measure_degradation

    folder = tmp_path_factory.mktemp("cfr")
    video = small_video(folder)
    options = ("--segmenter", "fcm", "--duration", "1", "--set", "supervisor.launcher=threads")
    found = measure_degradation(str(video), options, folder / "session")
    assert (found.frames, found.changed_px, found.identical, found.sizes) == (25, 0, True, ["160 × 120"])
    assert found.compared_px + found.marked_px >= 25 * 160 * 120 - found.hud_px
    assert found.frames_with_marks > 0
    return folder / "session", video, Config.model_validate(found.report["config"])


def pictures_of(video: Path) -> list[ImageBgr]:
    with av.open(str(video)) as container:
        return [picture.to_ndarray(format="bgr24") for picture in container.decode(video=0)]


def write_lossless(path: Path, images: list[ImageBgr]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(25))
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], "bgr0"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))


def tampered(session: tuple[Path, Path, Config], folder: Path, inside: bool) -> Degradation:
    """The same session with one byte of frame 12 changed by 1, outside the marks or under them."""
    recorded, video, config = session
    images = pictures_of(recorded / "overlay.mkv")
    lines = (recorded / "frames.jsonl").read_text().splitlines()
    marks = touched(json.loads(lines[12]), images[12].shape, mark_style(config), config)
    row, column = np.argwhere(marks == inside)[0]
    images[12][row, column, 1] ^= 1
    copy = folder / "session"
    copy.mkdir()
    for name in ("session.json", "frames.jsonl"):
        (copy / name).write_bytes((recorded / name).read_bytes())
    write_lossless(copy / "overlay.mkv", images)
    return compare_session(copy, str(video), config)


def test_one_changed_byte_outside_the_marks_is_found(
    session: tuple[Path, Path, Config], tmp_path: Path
) -> None:
    found = tampered(session, tmp_path, inside=False)
    assert (found.changed_px, found.most_levels, found.changed_frames) == (1, 1, [12])
    assert not found.identical


def test_what_lies_under_the_marks_is_not_compared(
    session: tuple[Path, Path, Config], tmp_path: Path
) -> None:
    assert tampered(session, tmp_path, inside=True).identical


def test_another_source_is_not_taken_for_the_recorded_one(session: tuple[Path, Path, Config]) -> None:
    recorded, _, config = session
    with pytest.raises(DegradationFailed, match="frame 0 of phantom:64x48@25 is not what was recorded"):
        compare_session(recorded, "phantom:64x48@25", config)


def test_nothing_compared_is_not_identical() -> None:
    assert not Degradation().identical


def report_of(folder: Path, degradation: Degradation) -> CfrReport:
    made = profile_of([measured(folder, [1.0 + seq % 5 for seq in range(100)])])
    performance = [performance_of(name, "openvino 2026.4.1 int8", None) for name in ("resunet-small", "fcm")]
    command = ["endostream", "profile", "report", "--cfr", "<x>"]
    return CfrReport(made, "clip.avi", degradation, performance, command)


def test_the_page_says_first_that_it_is_no_clearance(tmp_path: Path) -> None:
    text = cfr_page(report_of(tmp_path, Degradation(frames=3, compared_px=9)))
    assert checked(text).references == []
    assert text.index("This is no clearance, no approval and no submission.") < text.index("<table")


def test_the_page_holds_the_four_assessments_the_signal_path_and_the_commands(tmp_path: Path) -> None:
    text = cfr_page(
        report_of(tmp_path, Degradation(frames=3, compared_px=9, command=["endostream", "replay", "c"]))
    )
    heads = (
        "Video signal path",
        "(i) Stand-alone",
        "(ii) Degradation",
        "(iii) Delay due",
        "(iv) Delay of the",
    )
    places = [text.index(f"<h2>{head}") for head in heads]
    assert places == sorted(places)
    for words in (
        "identical, byte for byte",
        "endostream replay c",
        "endostream profile phantom:",
        "&lt;x&gt;",
    ):
        assert words in text


def test_a_difference_is_said_in_words_and_numbers(tmp_path: Path) -> None:
    found = Degradation(frames=3, compared_px=1000, changed_px=7, most_levels=2, changed_frames=[1])
    text = cfr_page(report_of(tmp_path, found))
    assert "NOT identical: 7 pixels differ" in text
    assert "7; largest difference 2 levels of 255" in text


def test_a_comparison_of_a_part_is_not_called_one_of_the_whole(tmp_path: Path) -> None:
    config = {"overlay": {"hold_ms": 200.0, "fill_alpha": 0.25}, "replay": {"duration_s": 1.5}}
    part = Degradation(frames=3, report={"config": config})
    assert "every frame of 1.5 s (not the whole recording)" in cfr_page(report_of(tmp_path, part))
    assert "not the whole recording" not in cfr_page(report_of(tmp_path, Degradation(frames=3)))


def test_performance_comes_from_the_card_and_where_there_is_none_the_page_says_so(tmp_path: Path) -> None:
    report = report_of(tmp_path, Degradation(frames=1))
    card, none = report.performance
    assert (card.origin, none.figures) == ("the card of the weights", {})
    text = cfr_page(report)
    assert f"{card.figures['dice_per_image']:.4f}" in text
    assert "There is none: this algorithm has no card" in text


def test_an_evaluation_of_the_same_segmenter_goes_before_the_card(tmp_path: Path) -> None:
    file = tmp_path / "evaluation.json"
    file.write_text(
        json.dumps({"segmenter": "fcm", "dice_per_image": 0.3125, "images": 100, "runtime": "numba"})
    )
    found = performance_of("fcm", "", read_evaluation(file))
    assert (found.origin, found.figures["dice_per_image"]) == ("endostream evaluate", 0.3125)
    assert performance_of("resunet-small", "", read_evaluation(file)).origin == "the card of the weights"


@pytest.mark.parametrize("text", ["", "[]", '{"images": 3}'])
def test_what_is_no_evaluation_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "evaluation.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match="evaluation"):
        read_evaluation(file)


def test_the_replay_gets_the_options_of_the_profile_but_not_its_outputs(tmp_path: Path) -> None:
    made = profile_of([measured(tmp_path, [2.0] * 3)])
    made["options"]["options"] = ["--sink", "window", "--set", "overlay.hud=false", "--config", "archive"]
    assert options_of(made) == ["--set", "overlay.hud=false", "--config", "archive"]


def test_the_command_makes_profile_comparison_and_page(tmp_path: Path) -> None:
    video = small_video(tmp_path, frames=10)
    length = (
        "--first-frames",
        "--duration",
        "0.4",
        "--repeats",
        "1",
        "--launcher",
        "threads",
        "--segmenter",
        "fcm",
    )
    assert profile(tmp_path, video, *length, "--out", "p", "--quiet").code == 0
    done: Done = profile(tmp_path, "report", "p", "--cfr", "r.html", "--json")
    assert done.code == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["degradation"]["frames"], found["degradation"]["identical"]) == (10, True)
    assert "no clearance" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("report", "p"), 2, "report: no place for it. Try: --cfr report.html"),
        (("report", "--cfr", "r.html"), 2, "report: neither a profile nor a source."),
        (
            ("report", "--cfr", "r.html", "--source", "none.avi"),
            3,
            "source: none.avi; no such file or folder",
        ),
    ],
)
def test_mistakes_are_told(arguments: tuple[str, ...], code: int, message: str, tmp_path: Path) -> None:
    done = profile(tmp_path, *arguments)
    assert (done.code, len(done.stderr.splitlines())) == (code, 1)
    assert message in done.stderr


@pytest.mark.parametrize(
    ("cells", "has"),
    [([], "no run"), ([{"settings": {"external": "play {input}"}}], "external programs only")],
)
def test_a_profile_without_a_run_of_the_pipeline_gives_no_report(
    cells: list[dict[str, Any]], has: str
) -> None:
    with pytest.raises(ConfigError, match=f"the profile has {has}; expected a cell of endostream"):
        own_cells({"cells": cells})


def test_an_evaluation_that_is_none_is_refused_before_anything_is_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A profile was made first, for minutes, and then the file could not be read."""
    words = ["profile", "report", "--source", "phantom:", "--cfr", str(tmp_path / "r.html")]
    assert run_command([*words, "--evaluation", str(tmp_path / "no.json")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"endostream: evaluation: {tmp_path / 'no.json'}; cannot be read")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_place_of_the_report_is_told_with_a_name_of_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["profile", "report", "--source", "phantom:", "--cfr", str(tmp_path)]) == 1
    assert capsys.readouterr().err.endswith(f"Try: --cfr {tmp_path}/cfr.html\n")
