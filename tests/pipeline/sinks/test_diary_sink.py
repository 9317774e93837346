"""The presenting sink that notes what was presented when."""

import json
from fractions import Fraction
from pathlib import Path

import pytest

from endostream.configs.errors import SinkError
from endostream.pipeline.frame import Annotation, Frame, FrameKey, MaskState, Presented
from endostream.pipeline.sink import SinkContext, open_sink, parse_sink
from endostream.pipeline.sinks.diary_sink import DiaryLine, DiarySink, read_diary

from ..core_fixtures import solid


def presented(seq: int, age_ns: int | None = 40, synthetic: bool = False) -> Presented:
    frame = Frame(FrameKey(0, 2, seq), seq, Fraction(1, 25), 1000 + seq, solid(0))
    return Presented(frame, Annotation(MaskState.HELD, mask_age_ns=age_ns), synthetic=synthetic)


def test_a_picture_is_one_line_with_its_moments_and_its_mask(tmp_path: Path) -> None:
    path = tmp_path / "diary"
    with open_sink(parse_sink(f"diary:{path}"), SinkContext()) as sink:
        assert isinstance(sink, DiarySink)
        sink.write(presented(7))
        sink.write(presented(8, None, synthetic=True))
        first, second = read_diary(path)  # nothing waits in a buffer
    assert first == DiaryLine(2, 7, 1007, first.present_ns, "held", 967, False)
    assert second == DiaryLine(2, 8, 1008, second.present_ns, "held", None, True)
    assert 0 < first.present_ns <= second.present_ns


def test_a_restarted_display_process_goes_on_in_the_same_diary(tmp_path: Path) -> None:
    path = tmp_path / "diary"
    for seq in (1, 2):
        with open_sink(parse_sink(f"diary:{path}"), SinkContext()) as sink:
            sink.write(presented(seq))
    assert [line.seq for line in read_diary(path)] == [1, 2]


def test_the_line_that_a_killed_process_did_not_finish_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "diary"
    whole = json.dumps([0, 1, 2, 3, "fresh", None, False])
    path.write_text(f"{whole}\n{whole[:7]}")
    assert [line.seq for line in read_diary(path)] == [1]
    assert read_diary(tmp_path / "none") == []


def test_a_place_that_cannot_be_written_is_said_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(SinkError):
        DiarySink.check(parse_sink(f"diary:{tmp_path / 'no' / 'folder'}"))
