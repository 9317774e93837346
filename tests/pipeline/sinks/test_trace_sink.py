"""The frame log: what a row says, that what is missing is named, that a kill loses little, CSV and Parquet alike."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest

from endostream.configs.errors import ConfigError, SinkError
from endostream.pipeline.frame import Annotation, Box, Frame, FrameKey, Lost, MaskState, Presented, Stamp
from endostream.pipeline.sink import SinkContext, check_sink, parse_sink
from endostream.pipeline.sinks.trace_row import COLUMNS
from endostream.pipeline.sinks.trace_sink import TraceSink

from .sink_contract import TIME_BASE, FileSinkContract, presented


class TestCsvTraceSink(FileSinkContract):
    address = "trace:{folder}/o.csv"


class TestParquetTraceSink(FileSinkContract):
    address = "trace:{folder}/o.parquet"


def sink_for(path: Path, part: int = 0) -> TraceSink:
    return TraceSink(parse_sink(f"trace:{path}"), SinkContext(part=part))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def frame_with_a_mask() -> Presented:
    stamps = (Stamp("capture", 100, 120), Stamp("overlay", 130, 190))
    image = np.zeros((4, 6, 3), np.uint8)
    frame = Frame(FrameKey(1, 2, 8), 9, TIME_BASE, 120, image, stamps)
    way = (Stamp("capture", 10, 11), Stamp("preprocess", 12, 13), Stamp("infer", 14, 15))
    note = Annotation(MaskState.HELD, 6, 109, (Box(1, 2, 3, 4),), 12, 77)
    return Presented(frame, note, 190, 179, mask_stamps=(*way, Stamp("overlay", 16, 17)))


def test_a_row_has_every_stamp_of_the_frame_and_of_its_mask(tmp_path: Path) -> None:
    with sink_for(tmp_path / "o.csv") as sink:
        sink.write(frame_with_a_mask())
    assert (tmp_path / "o.csv").read_text().splitlines() == [
        ",".join(COLUMNS),
        "presented,1,2,8,1,9,1/25,100,120,130,190,190,held,6,11,12,13,14,15,16,17,1,1,12,77,",
    ]


def test_a_picture_of_our_own_is_told_apart(tmp_path: Path) -> None:
    with sink_for(tmp_path / "o.csv") as sink:
        sink.write(presented(3, synthetic=True))
    (row,) = rows_of(tmp_path / "o.csv")
    assert (row["event"], row["seq"], row["mask_seq"], row["first_shown"]) == ("synthetic", "3", "", "")


def lost_of(rows: list[dict[str, str]]) -> list[tuple[str, ...]]:
    return [
        (row["event"], row["seq"], row["frames"], row["cause"]) for row in rows if row["event"] != "presented"
    ]


def test_frames_that_overlay_says_were_lost_have_rows_with_their_cause(tmp_path: Path) -> None:
    lost = (Lost(FrameKey(0, 0, 1), 2, "superseded"), Lost(FrameKey(0, 0, 3), 1, "not_logged"))
    with sink_for(tmp_path / "o.csv") as sink:
        sink.write(presented(0))
        sink.write(presented(4, lost=lost))
    assert lost_of(rows_of(tmp_path / "o.csv")) == [
        ("dropped", "1", "2", "superseded"),
        ("not_logged", "3", "1", "not_logged"),
    ]


def test_what_overlay_tells_ahead_of_its_place_is_told_once_and_by_its_cause(tmp_path: Path) -> None:
    """A pipe gave frames 3 to 21 to nobody; overlay had received 22 when it presented 1, and told it with 1."""
    with sink_for(tmp_path / "o.csv") as sink:
        sink.write(presented(0))
        sink.write(presented(1, lost=(Lost(FrameKey(0, 0, 3), 19, "lost_at_source"),)))
        for seq in (2, 22, 24):
            sink.write(presented(seq))
    assert lost_of(rows_of(tmp_path / "o.csv")) == [
        ("dropped", "3", "19", "lost_at_source"),
        ("not_logged", "23", "1", "not_logged"),
    ]


def test_frames_that_nobody_says_anything_of_were_presented_and_are_not_in_the_log(tmp_path: Path) -> None:
    with sink_for(tmp_path / "o.csv") as sink:
        sink.write(presented(0))
        sink.write(presented(5, lost=(Lost(FrameKey(0, 0, 1), 1, "superseded"),)))
    assert lost_of(rows_of(tmp_path / "o.csv")) == [
        ("dropped", "1", "1", "superseded"),
        ("not_logged", "1", "3", "not_logged"),
    ]


def test_after_a_restart_csv_goes_on_behind_the_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "o.csv"
    with sink_for(path) as sink:
        sink.write(presented(0))
    with path.open("a") as file:
        file.write("presented,0,0,1,1")  # torn by a SIGKILL
    with sink_for(path, part=1) as sink:
        sink.write(presented(2))
    assert [row["seq"] for row in rows_of(path)] == ["0", "2"]


def test_parquet_holds_what_csv_holds(tmp_path: Path) -> None:
    frames = [frame_with_a_mask(), presented(9, source_id=1, loop=2), presented(10, synthetic=True)]
    for name in ("o.csv", "o.parquet"):
        with sink_for(tmp_path / name) as sink:
            for frame in frames:
                sink.write(frame)
    table = pyarrow.parquet.read_table(tmp_path / "o.parquet").to_pylist()
    texts = [{name: "" if value is None else str(value) for name, value in row.items()} for row in table]
    assert texts == rows_of(tmp_path / "o.csv")


def test_parquet_is_written_in_groups(tmp_path: Path) -> None:
    with sink_for(tmp_path / "o.parquet") as sink:
        image = np.zeros((1, 1, 3), np.uint8)
        for seq in range(8192 + 5):
            sink.write(presented(seq, image))
    file = pyarrow.parquet.ParquetFile(tmp_path / "o.parquet")
    assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [8192, 5]


def test_a_later_part_of_parquet_leaves_the_first_alone(tmp_path: Path) -> None:
    for part in (0, 1):
        with sink_for(tmp_path / "o.parquet", part) as sink:
            sink.write(presented(part))
    names = {"o.parquet": 0, "o.part1.parquet": 1}
    assert {name: pyarrow.parquet.read_table(tmp_path / name)["seq"].to_pylist() for name in names} == {
        name: [seq] for name, seq in names.items()
    }


def test_parquet_without_pyarrow_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_spec(name: str) -> Any:
        return None

    monkeypatch.setattr("endostream.pipeline.sinks.trace_sink.find_spec", find_spec)
    with pytest.raises(ConfigError, match=r"expected pyarrow with it. Try: pip install"):
        check_sink(parse_sink(f"trace:{tmp_path / 'o.parquet'}"))


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    sink = sink_for(Path("/dev/full"))
    sink.write(presented(0))
    with pytest.raises(SinkError, match=r"cannot write /dev/full \(No space left on device\)"):
        sink.close()
