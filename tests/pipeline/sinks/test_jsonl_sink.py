"""The JSON lines: what a line says, that a kill loses little, that a restart goes on in the same file."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from endostream.configs.errors import SinkError
from endostream.pipeline.frame import Annotation, Box, MaskState
from endostream.pipeline.sink import SinkContext, parse_sink
from endostream.pipeline.sinks.jsonl_sink import JsonlSink

from .sink_contract import FileSinkContract, presented


class TestJsonlSink(FileSinkContract):
    address = "jsonl:{folder}/o.jsonl"


def sink_for(path: Path, part: int = 0) -> JsonlSink:
    return JsonlSink(parse_sink(f"jsonl:{path}"), SinkContext(part=part))


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_says_what_was_presented(tmp_path: Path) -> None:
    annotation = Annotation(MaskState.HELD, 6, 80_000_000, (Box(1, 2, 3, 4), Box(5, 6, 1, 1)), 13, 0xDEADBEEF)
    delay = {"annotation_delay_ns": 81_234_567, "hud": Box(7, 7, 20, 10)}
    frame = presented(
        8, pts=8008, time_base=Fraction(1, 30000), loop=2, source_id=1, annotation=annotation, **delay
    )
    with sink_for(tmp_path / "o.jsonl") as sink:
        sink.write(frame)
    assert lines_of(tmp_path / "o.jsonl") == [
        {
            "source": 1,
            "loop": 2,
            "seq": 8,
            "pts": 8008,
            "time_base": "1/30000",
            "time_s": 0.266933,
            "state": "held",
            "mask_seq": 6,
            "mask_age_ms": 80.0,
            "boxes": [[1, 2, 3, 4], [5, 6, 1, 1]],
            "area_px": 13,
            "mask_crc32": 3735928559,
            "hud": [7, 7, 20, 10],
            "video_delay_ms": 1.5,
            "annotation_delay_ms": 81.2346,
            "capture_ns": 320000000,
            "present_ns": 321500000,
            "synthetic": False,
            "cause": "",
        }
    ]


def test_what_there_is_none_of_is_null_and_never_zero(tmp_path: Path) -> None:
    with sink_for(tmp_path / "o.jsonl") as sink:
        sink.write(presented(0, annotation=Annotation(MaskState.FAILED, cause="infer down"), synthetic=True))
    [line] = lines_of(tmp_path / "o.jsonl")
    missing = ("mask_seq", "mask_age_ms", "mask_crc32", "annotation_delay_ms", "video_delay_ms")
    assert [line[name] for name in missing] == [None] * 5
    assert (line["state"], line["cause"]) == ("failed", "infer down")
    assert (line["boxes"], line["synthetic"]) == ([], True)


def test_every_line_is_in_the_file_before_the_next_is_written(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    with sink_for(path) as sink:
        for seq in range(3):
            sink.write(presented(seq))
            assert [line["seq"] for line in lines_of(path)] == list(range(seq + 1))


def test_a_new_run_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    path.write_text("old\n")
    with sink_for(path) as sink:
        sink.write(presented(7))
    assert [line["seq"] for line in lines_of(path)] == [7]


@pytest.mark.parametrize("torn", ["", '{"source":0,"lo'])
def test_a_restart_goes_on_after_cutting_off_a_torn_line(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "o.jsonl"
    path.write_text('{"seq":0}\n{"seq":1}\n' + torn)
    with sink_for(path, part=1) as sink:
        sink.write(presented(2))
    assert [line["seq"] for line in lines_of(path)] == [0, 1, 2]


def test_a_file_that_holds_nothing_but_a_torn_line_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    path.write_text('{"seq":')
    with sink_for(path, part=1) as sink:
        sink.write(presented(2))
    assert [line["seq"] for line in lines_of(path)] == [2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_one_clear_line() -> None:
    with (
        sink_for(Path("/dev/full")) as sink,
        pytest.raises(SinkError, match=r"No space left on device.*Try:"),
    ):
        sink.write(presented(0))
