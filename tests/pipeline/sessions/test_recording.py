"""Recorded sessions end to end: what is on disk is what came, whatever happens meanwhile, and it can be played back."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from endostream.configs.load import load_config
from endostream.pipeline.app import concluded, play
from endostream.pipeline.request import checked_request
from endostream.pipeline.supervisor import Supervisor

from ...replay.make_video import VideoSpec, make_video
from ..end_to_end import FRAMES, HERE, QUICK, Run, small_video, with_small_disk
from ..end_to_end import play as play_command
from ..sources.live_rig import DEVICE, Emulator, LiveRun, Sender, free_port
from ..sources.rtsp_server import RtspServer
from .session_rig import (
    begins_with_a_key_frame,
    coded_slices,
    files_of,
    lines_of,
    mask_of,
    packets_of,
    pictures_of,
    session_json,
    times_ms_of,
)

PHANTOM = ("phantom:320x240@25", "--set", "phantom.duration_s=600", "--set", "overlay.hud=false")
LOSSLESS = ("--set", "record.raw=ffv1", "--set", "record.overlay=ffv1")
ROOM = ("--set", "record.min_free_mb=0")
EVERY_FRAME = ("--mode", "every-frame")
"""In real time, but a busy machine leaves nothing out, so that what is missing was lost."""
SECOND_MS = 1000
"""Of video, what a SIGKILL may cost at most: half a second not written out yet, and what waited for the encoder."""


def playable(session: Path) -> int:
    """Frames that have both a line and a picture in the raw video."""
    times = {
        part["part"]: set(times_ms_of(*(session / name for name in part["raw"])))
        for part in session_json(session)["parts"]
    }
    return sum(line["raw_ms"] in times[line["part"]] for line in lines_of(session))


def test_a_session_of_a_file_holds_its_packets_bit_for_bit_and_a_line_with_its_mask_for_each_frame(
    tmp_path: Path,
) -> None:
    video, session = small_video(tmp_path), tmp_path / "session"
    ended = play_command(tmp_path, video, "--speed", "fastest", "--record", session, *ROOM)
    assert ended.code == 0, ended.stderr
    assert sorted(path.name for path in session.iterdir()) == [
        "frames.jsonl",
        "overlay.mkv",
        "raw.mkv",
        "report.json",
        "session.json",
    ]
    assert packets_of(session / "raw.mkv") == packets_of(video)
    assert len(pictures_of(session / "overlay.mkv")) == FRAMES
    lines = lines_of(session)
    assert [line["seq"] for line in lines] == list(range(FRAMES))
    assert [line["raw_ms"] for line in lines] == times_ms_of(session / "raw.mkv")
    square = np.zeros((320, 320), np.bool_)
    square[100:140, 100:140] = True
    assert all(np.array_equal(mask_of(line), square) for line in lines)
    for stream in ("raw", "overlay", "log"):
        sink = ended.report["sinks"][f"record:{stream}"]
        assert (sink["offered"], sink["written"], sink["dropped"]) == (FRAMES, FRAMES, 0)
    assert json.loads((session / "report.json").read_text()) == ended.report
    said = session_json(session)
    assert (said["sources"], said["segmenter"], said["mode"]) == ([str(video)], QUICK, "every-frame")
    assert [(part["part"], part["raw"], part["overlay"]) for part in said["parts"]] == [
        (0, ["raw.mkv"], ["overlay.mkv"])
    ]


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("b_frames.mp4", VideoSpec("libx264", frames=40, encoder={"max_b_frames": 2, "gop_size": 12})),
        ("lossless.mkv", VideoSpec("ffv1", frames=20)),
    ],
)
def test_every_codec_is_copied_and_each_frame_finds_its_picture_in_the_raw_video(
    tmp_path: Path, name: str, spec: VideoSpec
) -> None:
    video, session = make_video(tmp_path / name, spec), tmp_path / "session"
    ended = play_command(tmp_path, video, "--speed", "fastest", "--record", session, *ROOM)
    assert ended.code == 0, ended.stderr
    assert packets_of(session / "raw.mkv") == packets_of(video)
    assert [line["raw_ms"] for line in lines_of(session)] == times_ms_of(session / "raw.mkv")


def test_a_session_is_played_back_with_its_masks_pixel_for_pixel(tmp_path: Path) -> None:
    session = tmp_path / "session"
    short = (PHANTOM[0], "--set", "phantom.duration_s=2", *PHANTOM[3:])
    recorded = play_command(tmp_path, *short, "--record", session, *LOSSLESS, *ROOM)
    assert recorded.code == 0, recorded.stderr
    shown = ("--sink", f"video:{tmp_path / 'again.mkv'}", "--set", "overlay.hud=false")
    again = play_command(tmp_path, session, "--speed", "fastest", *shown, segmenter=None)
    assert again.code == 0, again.stderr
    assert (again.report["runtime"], again.report["segmenter"]) == ("recorded masks", QUICK)
    raw_times = set(times_ms_of(session / "raw.mkv"))  # a busy machine leaves some frames out of a stream
    played = [line for line in lines_of(session) if line["raw_ms"] in raw_times]
    keys = ("state", "mask_seq", "mask_crc32", "boxes", "area_px")
    assert [[line[key] for key in keys] for line in again.log] == [
        [line[key] for key in keys] for line in played
    ]
    overlay = session / "overlay.mkv"
    marked = dict(zip(times_ms_of(overlay), pictures_of(overlay), strict=True))
    pairs = [
        (marked[line["time_ms"]], picture)
        for line, picture in zip(played, pictures_of(tmp_path / "again.mkv"), strict=True)
        if line["time_ms"] in marked
    ]
    assert len(pairs) >= 10
    assert all(np.array_equal(one, other) for one, other in pairs)


def test_what_a_killed_record_process_leaves_is_playable_and_its_successor_begins_a_new_part(
    tmp_path: Path,
) -> None:
    session = tmp_path / "session"
    with Run(tmp_path, *PHANTOM, *EVERY_FRAME, "--record", session, *ROOM) as run:
        run.wait_for(lambda: len(lines_of(session)) >= 60, "60 lines")
        gone = run.kill("record")
        run.wait_for(lambda: len(session_json(session)["parts"]) == 2, "a second part")
        run.wait_for_return_of("record", gone)
        run.wait_for(lambda: sum(line["part"] == 1 for line in lines_of(session)) >= 30, "30 more")
        run.send(2)
        ended = run.end()
    assert ended.code == 130, ended.stderr
    parts = session_json(session)["parts"]
    assert [part["raw"] for part in parts] == [["raw.mkv"], ["raw-0001.mkv"]]
    lines = lines_of(session)
    for number, part in enumerate(parts):
        last_ms = max(line["time_ms"] for line in lines if line["part"] == number)
        for stream in ("raw", "overlay"):
            (name,) = part[stream]
            assert last_ms - times_ms_of(session / name)[-1] <= SECOND_MS, name
    assert ended.report["frames"]["ledger_closed"]
    assert ended.report["sinks"]["record:log"]["written"] == len(lines)
    again = play_command(tmp_path, session, "--speed", "fastest", segmenter=None)
    assert again.code == 0, again.stderr
    assert again.report["frames"]["presented"] == playable(session)


def test_a_session_whose_run_was_killed_altogether_plays_up_to_the_last_second(tmp_path: Path) -> None:
    session = tmp_path / "session"
    with Run(tmp_path, *PHANTOM, *EVERY_FRAME, "--record", session, *ROOM) as run:
        run.wait_for(lambda: len(lines_of(session)) >= 75, "75 lines")
        run.kill_all()
        run.wait_until_gone()
    last_ms = lines_of(session)[-1]["time_ms"]
    assert not (session / "report.json").exists()
    for stream in ("raw", "overlay"):
        assert last_ms - times_ms_of(*files_of(session, stream))[-1] <= SECOND_MS, stream
    again = play_command(tmp_path, session, "--speed", "fastest", segmenter=None)
    assert again.code == 0, again.stderr
    assert again.report["frames"]["presented"] == playable(session)


def test_segments_of_copied_and_encoded_video_make_up_the_whole_also_for_another_segmenter(
    tmp_path: Path,
) -> None:
    video, session = small_video(tmp_path, 100), tmp_path / "session"
    cut = ("--set", "record.segment_s=1")
    ended = play_command(tmp_path, video, "--speed", "fastest", "--record", session, *cut, *ROOM)
    assert ended.code == 0, ended.stderr
    raw, overlay = files_of(session, "raw"), files_of(session, "overlay")
    assert [path.name for path in overlay] == [f"overlay-{number:04d}.mkv" for number in range(4)]
    assert len(raw) >= 3
    assert packets_of(*raw) == packets_of(video)
    assert times_ms_of(*overlay) == [40 * number for number in range(100)]
    assert all(begins_with_a_key_frame(path) for path in (*raw, *overlay))
    for segmenter, runtime in ((None, "recorded masks"), (QUICK, "numpy")):
        again = play_command(tmp_path, session, "--speed", "fastest", segmenter=segmenter)
        assert (again.code, again.report["runtime"]) == (0, runtime), again.stderr
        assert again.report["frames"]["presented"] == 100


def test_segments_are_cut_by_size_too(tmp_path: Path) -> None:
    session = tmp_path / "session"
    cut = ("--set", "record.segment_mb=1", "--set", "phantom.duration_s=1", "--speed", "fastest")
    ended = play_command(tmp_path, "phantom:320x240@25", *cut, "--record", session, *LOSSLESS, *ROOM)
    assert ended.code == 0, ended.stderr
    overlay = files_of(session, "overlay")
    assert len(overlay) > 1
    assert len(times_ms_of(*overlay)) == 25
    assert all(path.stat().st_size < 3_000_000 for path in overlay)


def test_a_udp_stream_is_copied_as_it_came(tmp_path: Path) -> None:
    address, session = f"udp://127.0.0.1:{free_port()}", tmp_path / "session"
    with LiveRun(tmp_path, address, "--record", str(session), *ROOM) as run:
        with Sender(f"{address}?pkt_size=1316", f"copy={tmp_path / 'sent.ts'}"):
            run.wait_for(lambda: len(lines_of(session)) >= 60, "60 lines")
        run.interrupt()
        report = run.end()
    sent = coded_slices(tmp_path / "sent.ts", annex_b=True)
    copied = coded_slices(session / "raw.mkv", annex_b=False)
    begin = sent.index(copied[0])
    assert copied == sent[begin : begin + len(copied)]
    assert report["links"]["capture-record"]["dropped"] == {}
    lines = [line for line in lines_of(session) if not line["synthetic"]]
    known = {line["raw_ms"] for line in lines} - {None}  # the first frame may come before record listens
    assert known <= set(times_ms_of(session / "raw.mkv"))
    assert len(known) >= 40


def test_an_rtsp_stream_is_copied_as_it_came_and_goes_on_in_the_same_file_after_a_loss(
    tmp_path: Path,
) -> None:
    session = tmp_path / "session"
    settings = ("--set", "live.silence_s=1", *ROOM)
    with (
        RtspServer() as server,
        LiveRun(tmp_path, server.address, "--record", str(session), *settings) as run,
    ):
        run.wait_for(lambda: len(lines_of(session)) >= 40, "40 lines")
        first = bytes(server.sent)
        server.drop()
        run.wait_for(lambda: "is back after" in run.stderr, "its return")
        run.wait_for_pictures(30)
        run.interrupt()
        run.end()
    (tmp_path / "sent.ts").write_bytes(first)
    sent = coded_slices(tmp_path / "sent.ts", annex_b=True)
    copied = coded_slices(session / "raw.mkv", annex_b=False)
    begin = sent.index(copied[0])
    common = len(sent) - begin - 2  # the last may not have been sent whole
    assert common >= 20
    assert copied[:common] == sent[begin : begin + common]
    assert len(copied) >= common + 20
    times = times_ms_of(session / "raw.mkv")
    assert all(later > earlier for earlier, later in pairwise(times))
    assert "hunter2" not in (session / "session.json").read_text()


def test_the_jpeg_pictures_of_a_capture_device_are_copied_as_they_came(tmp_path: Path) -> None:
    jpeg, session = make_jpeg(tmp_path), tmp_path / "session"
    device = Emulator(tmp_path, "MJPG:320x240@30", jpeg)
    recording = ("--record", str(session), "--duration", "2", *ROOM)
    with LiveRun(tmp_path, DEVICE, *recording, **device.environment) as run:
        report = run.end()
    packets = packets_of(session / "raw.mkv")
    assert set(packets) == {jpeg.read_bytes()}
    assert len(packets) == report["sinks"]["record:raw"]["written"]


def make_jpeg(folder: Path) -> Path:
    import cv2

    picture = np.random.default_rng(0).integers(0, 255, (240, 320, 3)).astype(np.uint8)
    cv2.imwrite(str(folder / "picture.jpg"), picture)
    return folder / "picture.jpg"


def test_what_lies_outside_the_view_is_black_in_both_videos_and_nothing_is_copied(tmp_path: Path) -> None:
    session = tmp_path / "session"
    blanked = (
        "--set",
        "record.blank_outside_view=true",
        "--speed",
        "fastest",
        "--set",
        "phantom.duration_s=2",
    )
    ended = play_command(tmp_path, "phantom:320x240@25", *blanked, "--record", session, *LOSSLESS, *ROOM)
    assert ended.code == 0, ended.stderr
    assert session_json(session)["blanked"]
    raw = pictures_of(session / "raw.mkv")
    assert len(raw) == 50
    corners = [picture[:8, :8] for picture in raw]
    assert not any(corner.any() for corner in corners)
    assert raw[-1][120, 160].any()


def test_a_blanked_session_of_compressed_video_is_encoded_after_blanking(tmp_path: Path) -> None:
    video, session = small_video(tmp_path), tmp_path / "session"
    blanked = ("--set", "record.blank_outside_view=true", "--speed", "fastest")
    ended = play_command(tmp_path, video, *blanked, "--record", session, *ROOM)
    assert ended.code == 0, ended.stderr
    assert "is encoded, not copied" in ended.stderr
    assert session_json(session)["raw"] == "h264, after blanking"
    assert ended.report["links"]["capture-record"]["sent"] == 0
    assert packets_of(session / "raw.mkv") != packets_of(video)
    assert len(pictures_of(session / "raw.mkv")) == FRAMES


@pytest.mark.parametrize("least_mb", [0, 4])
def test_a_full_disk_ends_the_recording_with_its_files_finished_and_the_video_goes_on(
    tmp_path: Path, least_mb: int
) -> None:
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    settings = (*LOSSLESS, "--set", f"record.min_free_mb={least_mb}", "--set", "phantom.duration_s=5")
    command = ("phantom:320x240@25", *settings, "--set", "overlay.hud=false", "--record", disk / "session")
    under = (
        *with_small_disk(disk, "9m"),
        "sh",
        "-c",
        f'"$@"; code=$?; cp -r {disk} {kept}; exit $code',
        "sh",
    )
    ended = play_command(tmp_path, *command, under=under)
    session = kept / "session"
    assert ended.code == 1, ended.stderr
    assert ended.report["frames"]["presented"] >= 120
    assert ended.report["frames"]["ledger_closed"]
    written = ended.report["sinks"]["record:overlay"]["written"]
    assert 0 < written < 120
    assert len(pictures_of(session / "overlay.mkv")) >= written - 13 * (least_mb == 0)
    said = "recording is stopped" if least_mb else "cannot be written"
    assert any(said in fault["what"] for fault in ended.report["faults"])


def test_every_frame_mode_ends_when_nothing_can_be_recorded_any_more(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    settings = (*LOSSLESS, *ROOM, "--set", "phantom.duration_s=60", "--speed", "fastest")
    command = ("phantom:320x240@25", *settings, "--record", disk / "session")
    ended = play_command(tmp_path, *command, under=with_small_disk(disk, "5m"), log=False)
    assert ended.code == 1, ended.stderr
    assert ended.report["frames"]["captured"] < 1500


@pytest.mark.parametrize("sinks", [[], ["jsonl:o.jsonl"]])
def test_recording_is_started_and_stopped_while_the_run_goes_on_each_time_in_a_new_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sinks: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.syspath_prepend(str(HERE))
    overrides = [f"infer.segmenter={QUICK}", "phantom.duration_s=600", "record.min_free_mb=0"]
    request = checked_request(["phantom:320x240@25"], sinks, None, load_config(None, overrides), quiet=True)
    orders: list[tuple[str, int, bool | None]] = [
        ("overlay.presented", 25, True),
        ("written", 30, False),
        ("paused", 10, True),
        ("written", 60, None),
    ]

    def tick(supervisor: Supervisor) -> None:
        if not orders:
            return
        cell, due, on = orders[0]
        log = supervisor.spec.session_sinks["log"]
        if supervisor.board.value(cell if "." in cell else f"sink{log}.{cell}") < due:
            return
        orders.pop(0)
        if on is None:
            supervisor.finish()
        else:
            supervisor.set_recording(on)

    totals, outcome = play(request, tick)
    report = concluded(totals, outcome, request)
    assert report.exit_code == 0
    session = Path(outcome.recorded)
    assert session.parent == tmp_path / "recordings"
    assert [part["overlay"] for part in session_json(session)["parts"]] == [
        ["overlay.mkv"],
        ["overlay-0001.mkv"],
    ]
    assert all(len(pictures_of(path)) >= 10 for path in files_of(session, "overlay"))
    lines = lines_of(session)
    sink = report.sinks["record:log"]
    assert sink.written == len(lines) == sink.offered - sink.dropped
    assert len(lines) < report.frames.presented
    assert {line["part"] for line in lines} == {0, 1}
    assert report.frames.ledger_closed


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    session = tmp_path / "session"
    session.mkdir()
    (session / "other.txt").touch()
    refused = play_command(tmp_path, "phantom:", "--record", session, report=False, log=False)
    assert (refused.code, "holds something" in refused.stderr) == (2, True)
    assert [path.name for path in session.iterdir()] == ["other.txt"]


def test_a_session_cannot_be_played_among_other_sources(tmp_path: Path) -> None:
    session = tmp_path / "session"
    session.mkdir()
    (session / "session.json").write_text('{"schema": 1, "parts": []}')
    refused = play_command(tmp_path, session, small_video(tmp_path), segmenter=None, report=False, log=False)
    assert refused.code == 2
    assert "expected one kind" in refused.stderr
    alone = play_command(tmp_path, session, segmenter=None, report=False, log=False)
    assert alone.code == 3
    assert "its log cannot be read" in alone.stderr
