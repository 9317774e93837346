"""Snapshots: two lossless pictures under one name, written aside, and what is said when they cannot be."""

from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from endostream.pipeline.frame import ImageBgr
from endostream.pipeline.window.snapshot import SnapshotPair, SnapshotWriter, write_png

from ..sinks.sink_contract import picture
from .x_display import wait_until

TAKEN = datetime(2026, 3, 4, 15, 16, 17, 89_000)
NAME = "20260304-151617-089"


def writer_in(folder: Path) -> SnapshotWriter:
    writer = SnapshotWriter(folder, lambda: TAKEN)
    writer.expect((48, 64))
    return writer


def taken(writer: SnapshotWriter, overlay: ImageBgr, raw: ImageBgr | None) -> SnapshotPair:
    pair = wait_until(writer.take, "memory for a snapshot")
    assert isinstance(pair, SnapshotPair)
    pair.overlay_bgr[:] = overlay
    pair.has_raw = raw is not None
    if raw is not None:
        pair.raw_bgr[:] = raw
    return pair


def test_both_pictures_are_kept_without_loss_under_the_time_they_were_taken(tmp_path: Path) -> None:
    writer = writer_in(tmp_path / "new" / "folder")
    writer.write(taken(writer, picture(seed=1), picture(seed=2)))
    writer.close()
    for kind, seed in (("overlay", 1), ("raw", 2)):
        kept = cv2.imread(str(tmp_path / "new" / "folder" / f"{NAME}-{kind}.png"))
        np.testing.assert_array_equal(kept, picture(seed=seed))
    assert writer.take_said() == [("info", f"snapshot: {tmp_path}/new/folder/{NAME}-overlay.png")]
    assert len(list((tmp_path / "new" / "folder").iterdir())) == 2


def test_a_captured_picture_that_was_gone_is_left_out_and_that_is_said(tmp_path: Path) -> None:
    writer = writer_in(tmp_path)
    writer.write(taken(writer, picture(), None))
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}-overlay.png"]
    assert "without the picture as captured" in writer.take_said()[0][1]


def test_no_file_is_ever_replaced(tmp_path: Path) -> None:
    writer = writer_in(tmp_path)
    for seed in (1, 2):
        writer.write(taken(writer, picture(seed=seed), None))
    writer.close()
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / f"{NAME}-overlay.png")), picture(seed=1))
    assert [level for level, _ in writer.take_said()] == ["info", "error"]
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}-overlay.png"]


def test_a_folder_that_cannot_be_made_is_an_error_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    writer = writer_in(tmp_path / "file" / "folder")
    writer.write(taken(writer, picture(), picture()))
    writer.close()
    ((level, text),) = writer.take_said()
    assert level == "error"
    assert text == f"snapshot: {tmp_path}/file/folder; cannot be written (Not a directory)"


def test_memory_is_lent_twice_and_then_not_before_it_is_back(tmp_path: Path) -> None:
    writer = writer_in(tmp_path)
    first, _ = (taken(writer, picture(), None) for _ in range(2))
    assert writer.take() is None
    writer.write(first)
    assert wait_until(writer.take, "the memory of the first") is first
    writer.close()


def test_pictures_of_a_new_size_get_memory_of_that_size(tmp_path: Path) -> None:
    writer = writer_in(tmp_path)
    wait_until(writer.take, "memory of the first size")
    writer.expect((31, 17))
    assert wait_until(writer.take, "memory of the second size").overlay_bgr.shape == (31, 17, 3)
    writer.close()


def test_a_png_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", picture())
    with pytest.raises(FileExistsError):
        write_png(tmp_path / "a.png", picture(seed=3))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
