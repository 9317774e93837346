"""The folder of a session: names that are never used twice, and a log that can be read however it ends."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from endostream.configs.errors import ConfigError, SourceMissing
from endostream.configs.load import Override
from endostream.pipeline.frame import Annotation, Frame, FrameKey, MaskState, Presented
from endostream.pipeline.sessions.playback import playback_overrides, plays_recorded_masks
from endostream.pipeline.sessions.session import (
    SessionWriter,
    check_session_folder,
    is_session,
    new_session_folder,
    parts_of,
    read_session,
)
from endostream.pipeline.sessions.session_frame import TICK_S, SessionFrame
from endostream.pipeline.sessions.session_log import SessionLog
from endostream.pipeline.sessions.session_sinks import FrameLog
from endostream.pipeline.wire import MaskShape

NOW = datetime(2026, 11, 21, 4, 5, 6, tzinfo=UTC)
SHAPE = MaskShape((2, 8), (2, 8, 0, 0, 2, 8, 2, 8), (1, 2, 3))


def line(seq: int, mask: bytes = b"", *, synthetic: bool = False, raw_ms: int | None = 0) -> SessionFrame:
    state = MaskState.HELD if mask else MaskState.ABSENT
    note = Annotation(state, 3, 80_000_000, mask_crc32=77) if mask else Annotation(state)
    frame = Frame(FrameKey(0, 0, seq), seq, TICK_S * 40, 0, np.empty((0, 0, 3), np.uint8))
    presented = Presented(frame, note, 0, None, synthetic)
    return SessionFrame(presented, None, 0, 40 * seq, raw_ms, SHAPE if mask else None, mask)


def writer(folder: Path, segmented: bool = False) -> SessionWriter:
    return SessionWriter(folder, {"segmenter": "fcm"}, segmented)


def test_a_folder_is_named_after_the_time_and_a_second_run_of_that_second_gets_another(
    tmp_path: Path,
) -> None:
    first = new_session_folder(None, str(tmp_path), NOW)
    assert first == tmp_path / "2026-11-21T04-05-06Z"
    first.mkdir()
    assert new_session_folder(None, str(tmp_path), NOW) == tmp_path / "2026-11-21T04-05-06Z-2"
    assert new_session_folder(tmp_path / "given", "elsewhere", NOW) == tmp_path / "given"


@pytest.mark.parametrize(
    ("segmented", "names"),
    [
        (False, ["raw.mkv", "raw-0001.mkv", "raw-0002.mkv"]),
        (True, ["raw-0000.mkv", "raw-0001.mkv", "raw-0002.mkv"]),
    ],
)
def test_files_are_numbered_on_over_parts_and_restarts(
    tmp_path: Path, segmented: bool, names: list[str]
) -> None:
    first = writer(tmp_path / "s", segmented)
    assert first.begin_part() == 0
    given = [first.next_file("raw").name]
    again = writer(tmp_path / "s", segmented)
    assert again.begin_part() == 1
    given += [again.next_file("raw").name, again.next_file("raw").name]
    assert given == names
    assert again.next_file("overlay").name == ("overlay-0000.mkv" if segmented else "overlay.mkv")
    parts = parts_of(tmp_path / "s", read_session(tmp_path / "s"))
    assert [[path.name for path in part.files["raw"]] for part in parts] == [names[:1], names[1:]]


def test_a_name_in_a_session_file_never_leads_out_of_its_folder(tmp_path: Path) -> None:
    content = {"schema": 1, "parts": [{"part": 0, "raw": ["../../etc/passwd"], "overlay": []}]}
    (part,) = parts_of(tmp_path, content)
    assert part.files["raw"] == [tmp_path / "passwd"]


def test_a_trial_leaves_nothing_and_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    check_session_folder(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    writer(tmp_path / "used").begin_part()
    with pytest.raises(ConfigError, match="holds something"):
        check_session_folder(tmp_path / "used")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file"):
        check_session_folder(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    check_session_folder(tmp_path / "empty")
    assert (tmp_path / "empty").is_dir()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": 2, "parts": []}'])
def test_a_session_file_that_cannot_be_understood_is_a_missing_source(tmp_path: Path, text: str) -> None:
    (tmp_path / "session.json").write_text(text)
    assert is_session(tmp_path)
    with pytest.raises(SourceMissing):
        read_session(tmp_path)


def test_a_log_gives_back_state_age_and_mask_of_every_frame_but_pictures_of_our_own(tmp_path: Path) -> None:
    session = writer(tmp_path)
    log = FrameLog(session)
    for content in (line(0), line(1, b"\x0f\xf0", raw_ms=40), line(1, synthetic=True), line(2, b"\x0f\xf0")):
        log.write(content)
    log.close()
    read = SessionLog(tmp_path)
    assert [(frame.raw_ms, frame.time_ns) for frame in read.frames] == [
        (0, 0),
        (40, 40_000_000),
        (0, 80_000_000),
    ]
    assert read.answer(0).annotation == Annotation(MaskState.ABSENT)
    answer = read.answer(1)
    assert (answer.annotation.state, answer.annotation.mask_seq) == (MaskState.HELD, 3)
    assert (answer.annotation.mask_age_ns, answer.annotation.mask_crc32) == (80_000_000, 77)
    assert (answer.mask, answer.packed) == (SHAPE, b"\x0f\xf0")
    with pytest.raises(IndexError):
        read.answer(3)
    read.close()


def test_a_torn_last_line_is_left_out_and_cut_off_by_the_next_part(tmp_path: Path) -> None:
    session = writer(tmp_path)
    log = FrameLog(session)
    log.write(line(0))
    log.close()
    with (tmp_path / "frames.jsonl").open("ab") as file:
        file.write(b'{"source":0,"seq')
    read = SessionLog(tmp_path)
    assert len(read.frames) == 1
    read.close()
    log = FrameLog(session)
    log.write(line(1))
    log.close()
    text = (tmp_path / "frames.jsonl").read_text()
    assert [json.loads(row)["seq"] for row in text.splitlines()] == [0, 1]


@pytest.mark.parametrize("damage", [{"mask": "%%%"}, {"mask": "AAAA"}, {"state": "?"}, {"mask_hw": 1}])
def test_a_line_with_a_damaged_mask_is_an_error_of_its_own(tmp_path: Path, damage: dict[str, object]) -> None:
    log = FrameLog(writer(tmp_path))
    log.write(line(0, b"\x0f\xf0"))
    log.close()
    path = tmp_path / "frames.jsonl"
    path.write_text(json.dumps({**json.loads(path.read_text()), **damage}) + "\n")
    read = SessionLog(tmp_path)
    with pytest.raises(ValueError, match="cannot be understood"):
        read.answer(0)
    read.close()


def test_sessions_are_played_with_their_masks_unless_a_segmenter_is_asked_for(tmp_path: Path) -> None:
    session = str(tmp_path / "s")
    writer(tmp_path / "s").begin_part()
    assert plays_recorded_masks([session, session], None, [])
    assert not plays_recorded_masks([session], "fcm", [])
    assert not plays_recorded_masks([session], None, ["infer.segmenter=fcm"])
    assert not plays_recorded_masks(["phantom:"], None, [])
    with pytest.raises(ConfigError, match="expected one kind"):
        plays_recorded_masks([session, "phantom:"], None, [])
    every_frame = Override("replay.mode", "every-frame", "recorded session")
    name = Override("infer.segmenter", "fcm", "recorded session")
    assert playback_overrides([session], None, []) == [name, every_frame]
    assert playback_overrides([session], "live", []) == [name]
