"""Whatever dies, hangs, errs or is interrupted in a run of the command, with real processes and real signals.

What must hold: live, the picture goes on and the log says what is not working; in every-frame mode no frame is lost,
or it is said which got no mask; the ledger closes; a run always ends; nothing of it is left behind. "Twice", "two at
once" and SIGSTOP for every stage are marked slow: they differ from what runs always by chance only.
"""

import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from ..end_to_end import (
    FRAMES,
    PATIENCE_S,
    STAGES,
    Ended,
    Run,
    play,
    small_video,
    times_of,
)

PERIOD_MS = 40
LIVE_LOOPS, EVERY_FRAME_LOOPS = 3, 20
SOON = (
    "--set",
    "supervisor.restart_backoff_max_s=0.1",
    "--set",
    "infer.hang_timeout_s=0.5",
    "--set",
    "supervisor.stop_timeout_s=2",
)
Nasty = Callable[[Run], None]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_video(tmp_path_factory.mktemp("source"))


def kill(*stages: str, number: int = signal.SIGKILL) -> Nasty:
    """Signal ``stages`` at once after some frames, and wait until all are back."""

    def act(run: Run) -> None:
        run.wait_for_frames(20)
        pids = {stage: run.pid(stage) for stage in stages}
        for pid in pids.values():
            os.kill(pid, number)
        for stage, pid in pids.items():
            run.wait_for_return_of(stage, pid)

    return act


def kill_twice(stage: str) -> Nasty:
    def act(run: Run) -> None:
        kill(stage)(run)
        kill(stage)(run)

    return act


def kill_at_start(stage: str) -> Nasty:
    def act(run: Run) -> None:
        run.kill(stage)

    return act


def kill_near_the_end(stage: str, frames: int) -> Nasty:
    def act(run: Run) -> None:
        run.wait_for(lambda: len(run.log()) >= frames - 3, "the end")
        if pid := run.pid(stage):
            os.kill(pid, signal.SIGKILL)

    return act


def live(folder: Path, video: Path, nasty: Nasty, loops: int = LIVE_LOOPS) -> Ended:
    """Play live while ``nasty`` happens; the run must end well and account for every frame."""
    with Run(folder, video, "--loop", str(loops), "--sink", f"video:{folder / 'o.mp4'}") as run:
        nasty(run)
        ended = run.end()
    frames = ended.report["frames"]
    assert (ended.code, frames["captured"], frames["ledger_closed"]) == (0, FRAMES * loops, True), (
        ended.stderr
    )
    return ended


def every_frame(folder: Path, video: Path, nasty: Nasty) -> Ended:
    """Play every frame while ``nasty`` happens; each must be shown once, in order, with its own mask."""
    options = ("--loop", str(EVERY_FRAME_LOOPS), "--speed", "fastest", "--sink", f"video:{folder / 'o.mp4'}")
    with Run(folder, video, *options) as run:
        nasty(run)
        ended = run.end()
    frames = ended.report["frames"]
    assert (ended.code, frames["dropped"], frames["ledger_closed"]) == (0, {}, True), ended.stderr
    assert ended.keys == [(0, loop, seq) for loop in range(EVERY_FRAME_LOOPS) for seq in range(FRAMES)]
    assert ended.states == ["fresh"]
    assert all(line["mask_seq"] == line["seq"] for line in ended.log)
    return ended


def restarts(ended: Ended) -> dict[str, int]:
    return {name: stage["restarts"] for name, stage in ended.report["stages"].items() if stage["restarts"]}


def appear_in_order(wanted: Iterable[str], states: Iterable[str]) -> bool:
    left = iter(states)
    return all(state in left for state in wanted)


# Killed


@pytest.mark.parametrize("stage", ["infer", "preprocess"])
def test_live_video_goes_on_when_the_annotation_path_is_killed_and_says_so(
    video: Path, tmp_path: Path, stage: str
) -> None:
    def nasty(run: Run) -> None:
        kill(stage)(run)
        run.wait_for_frames(1, "fresh")

    ended = live(tmp_path, video, nasty)
    assert restarts(ended) == {stage: 1}
    assert ended.report["longest_freeze_ms"] < 3 * 2 * PERIOD_MS  # two periods, and room for a loaded machine
    assert appear_in_order(["fresh", "failed", "fresh"], ended.states)
    assert {line["cause"] for line in ended.log if line["state"] == "failed"} == {f"{stage} down"}
    assert ended.report["frames"]["dropped"] == {}
    assert f"{stage}: killed by SIGKILL; starts again" in ended.stderr


def test_live_video_goes_on_when_record_is_killed_and_its_second_part_plays(
    video: Path, tmp_path: Path
) -> None:
    ended = live(tmp_path, video, kill("record"))
    assert restarts(ended) == {"record": 1}
    assert ended.report["longest_freeze_ms"] < 3 * 2 * PERIOD_MS
    assert ended.report["frames"]["presented"] == FRAMES * LIVE_LOOPS
    assert ended.keys == sorted(set(ended.keys), key=lambda key: (key[1], key[2]))
    assert len(times_of(tmp_path / "o.mp4")) > 0
    assert len(times_of(tmp_path / "o.part1.mp4")) > 0


@pytest.mark.parametrize("stage", ["overlay", "capture"])
def test_live_video_comes_back_when_the_video_path_is_killed(video: Path, tmp_path: Path, stage: str) -> None:
    ended = live(tmp_path, video, kill(stage))
    assert restarts(ended) == {stage: 1}
    assert ended.keys == sorted(set(ended.keys), key=lambda key: (key[1], key[2]))
    assert ended.keys[-1] == (0, LIVE_LOOPS - 1, FRAMES - 1)


@pytest.mark.parametrize("stage", STAGES)
def test_every_frame_mode_loses_nothing_when_a_stage_is_killed(
    video: Path, tmp_path: Path, stage: str
) -> None:
    assert restarts(every_frame(tmp_path, video, kill(stage))) == {stage: 1}


def test_frames_that_overlay_holds_survive_capture_dying_with_infer(video: Path, tmp_path: Path) -> None:
    """The restarted capture wrote over the pictures that overlay kept for their masks: up to seven were lost."""
    assert restarts(every_frame(tmp_path, video, kill("capture", "infer"))) == {"capture": 1, "infer": 1}


@pytest.mark.slow
@pytest.mark.parametrize("play_it", [live, every_frame])
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_killed_twice_comes_back_twice(
    video: Path, tmp_path: Path, stage: str, play_it: Callable[..., Ended]
) -> None:
    loops = {"loops": 6} if play_it is live else {}
    assert restarts(play_it(tmp_path, video, kill_twice(stage), **loops)) == {stage: 2}


@pytest.mark.slow
@pytest.mark.parametrize("play_it", [live, every_frame])
@pytest.mark.parametrize(
    "stages",
    [("infer", "preprocess"), ("capture", "overlay"), ("infer", "record"), ("overlay", "record"), STAGES],
)
def test_stages_killed_at_once_all_come_back(
    video: Path, tmp_path: Path, stages: tuple[str, ...], play_it: Callable[..., Ended]
) -> None:
    loops = {"loops": 5} if play_it is live else {}
    assert restarts(play_it(tmp_path, video, kill(*stages), **loops)) == dict.fromkeys(stages, 1)


@pytest.mark.parametrize("stage", ["infer", "overlay"])
def test_a_stage_killed_before_it_was_ready_costs_no_frame(video: Path, tmp_path: Path, stage: str) -> None:
    assert restarts(every_frame(tmp_path, video, kill_at_start(stage))) == {stage: 1}


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_live_a_stage_killed_before_it_was_ready_comes_back(video: Path, tmp_path: Path, stage: str) -> None:
    ended = live(tmp_path, video, kill_at_start(stage), loops=2)
    assert restarts(ended) == {stage: 1}
    assert ended.report["frames"]["presented"] == 2 * FRAMES


@pytest.mark.parametrize("stage", ["overlay", "record"])
def test_a_display_side_killed_just_before_the_end_still_hears_of_it(
    video: Path, tmp_path: Path, stage: str
) -> None:
    """A restarted overlay was never told that the recording was over: the run did not end."""
    live(tmp_path, video, kill_near_the_end(stage, FRAMES), loops=1)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_every_frame_mode_loses_nothing_when_a_stage_is_killed_just_before_the_end(
    video: Path, tmp_path: Path, stage: str
) -> None:
    every_frame(tmp_path, video, kill_near_the_end(stage, FRAMES * EVERY_FRAME_LOOPS))


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("record", "record: killed by SIGKILL, 3 times in a row without getting anywhere"),
        ("infer", "infer: killed by SIGKILL, 3 times in a row without getting anywhere"),
    ],
)
def test_every_frame_mode_ends_when_a_stage_it_needs_dies_over_and_over(
    video: Path, tmp_path: Path, stage: str, words: str
) -> None:
    """It must not try for ever: who started an archive's evaluation in the evening wants to know in the morning."""
    options = ("--loop", "0", "--speed", "fastest", "--sink", f"video:{tmp_path / 'o.mp4'}")
    with Run(tmp_path, video, *options) as run:
        killed = 0
        while run.process.poll() is None:
            if (pid := run.pid(stage)) not in (0, killed):
                os.kill(pid, signal.SIGKILL)
                killed = pid
        ended = run.end()
    assert ended.code == 1
    assert words in ended.stderr
    assert ended.report["frames"]["ledger_closed"] is True


# Stopped


def test_live_video_goes_on_while_infer_is_stopped_until_it_is_replaced(video: Path, tmp_path: Path) -> None:
    ended = live(tmp_path, video, kill("infer", number=signal.SIGSTOP), loops=5)
    assert restarts(ended) == {"infer": 1}
    assert ended.report["longest_freeze_ms"] < 3 * 2 * PERIOD_MS
    assert appear_in_order(["fresh", "failed", "fresh"], ended.states)


@pytest.mark.slow
@pytest.mark.parametrize("play_it", [live, every_frame])
@pytest.mark.parametrize("stage", STAGES)
def test_a_stopped_stage_is_replaced(
    video: Path, tmp_path: Path, stage: str, play_it: Callable[..., Ended]
) -> None:
    loops = {"loops": 6} if play_it is live else {}
    assert restarts(play_it(tmp_path, video, kill(stage, number=signal.SIGSTOP), **loops)) == {stage: 1}


# Segmenters


@pytest.mark.parametrize("name", ["Exiting", "Hanging", "Lost"])
def test_a_segmenter_that_takes_its_process_along_once_costs_time_and_no_frame(
    video: Path, tmp_path: Path, name: str
) -> None:
    options = ("--set", "infer.options.at=10", "--set", f"infer.options.once={tmp_path / 'once'}")
    ended = play(tmp_path, video, "--speed", "fastest", *options, *SOON, segmenter=f"nasty_segmenters:{name}")
    assert (ended.code, restarts(ended)) == (0, {"infer": 1})
    assert ended.keys == [(0, 0, seq) for seq in range(FRAMES)]
    assert ended.states == ["fresh"]


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("Raising", "infer: RuntimeError: out of memory: 12 GiB wanted"),
        ("WrongShape", "infer: BadSegmentation: mask: bool (7, 5); expected bool (320, 320)"),
    ],
)
def test_a_segmenter_that_errs_once_fails_that_frame_with_the_cause_and_no_other(
    video: Path, tmp_path: Path, name: str, cause: str
) -> None:
    options = ("--speed", "fastest", "--set", "infer.options.at=10", "--set", "infer.options.every=0")
    ended = play(tmp_path, video, *options, segmenter=f"nasty_segmenters:{name}")
    assert ended.code == 5
    assert [(line["seq"], line["cause"]) for line in ended.log if line["state"] == "failed"] == [(10, cause)]
    assert ended.report["mask_state"]["fresh"] == FRAMES - 1
    assert restarts(ended) == {}
    assert ended.stderr.splitlines() == [cause, "1 frames got no mask; see the report"]


@pytest.mark.parametrize(
    "name",
    [
        "Raising",
        "Exiting",
        "Hanging",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("Crashing", "WrongType", "NotANumber")),
    ],
)
def test_every_frame_mode_gives_a_segmenter_up_that_only_fails_and_ends(
    video: Path, tmp_path: Path, name: str
) -> None:
    ended = play(tmp_path, video, "--speed", "fastest", *SOON, segmenter=f"nasty_segmenters:{name}")
    assert ended.code == 5
    assert ended.report["frames"]["ledger_closed"] is True
    assert ended.states == ["failed"]
    assert all(line["cause"] for line in ended.log)
    assert ended.keys == [(0, 0, seq) for seq in range(len(ended.keys))]
    assert "frames got no mask" in ended.stderr


@pytest.mark.parametrize("name", ["Raising", "Hanging", "Lost", "FailingToOpen"])
def test_live_video_goes_on_with_a_segmenter_that_only_fails(video: Path, tmp_path: Path, name: str) -> None:
    ended = play(tmp_path, video, *SOON, segmenter=f"nasty_segmenters:{name}")
    frames = ended.report["frames"]
    assert (ended.code, frames["presented"], frames["annotated"]) == (0, FRAMES, 0)
    assert frames["ledger_closed"] is True
    assert "failed" in ended.states
    assert not {"fresh", "held", "stale"} & set(ended.states)


def test_a_segmenter_that_cannot_be_opened_ends_an_every_frame_run(video: Path, tmp_path: Path) -> None:
    ended = play(tmp_path, video, "--speed", "fastest", segmenter="nasty_segmenters:FailingToOpen")
    assert ended.code == 1
    assert "infer: RuntimeError: no such device" in ended.stderr
    assert ended.report["status"] == "failed"


def test_a_segmenter_that_cannot_be_had_ends_a_live_run_that_has_begun_and_is_not_tried_again(
    video: Path, tmp_path: Path
) -> None:
    ended = play(tmp_path, video, "--set", "replay.ready_wait_s=0", segmenter="nasty_segmenters:MissingLate")
    frames = ended.report["frames"]
    assert (ended.code, frames["captured"] > 0, frames["ledger_closed"]) == (4, True, True)
    assert (ended.stderr, restarts(ended)) == ("weights: late.bin; no such file\n", {})


def test_live_video_starts_without_a_segmenter_that_is_not_ready_in_time(video: Path, tmp_path: Path) -> None:
    options = ("--set", "replay.ready_wait_s=0.5", "--set", "supervisor.stop_timeout_s=1")
    ended = play(tmp_path, video, *options, segmenter="nasty_segmenters:HangingToOpen")
    assert (ended.code, ended.report["frames"]["presented"], ended.states) == (0, FRAMES, ["absent"])
    assert "infer is not ready after" in ended.stderr


def test_a_gpu_that_fails_is_named_and_infer_starts_afresh(video: Path, tmp_path: Path) -> None:
    options = ("--set", "infer.options.at=5", "--set", f"infer.options.once={tmp_path / 'once'}")
    ended = play(tmp_path, video, "--speed", "fastest", *options, *SOON, segmenter="nasty_segmenters:Lost")
    cause = "infer: cudaGraphLaunch: cudaErrorIllegalAddress"
    assert ended.stderr.splitlines()[0] == cause
    assert next(fault["what"] for fault in ended.report["faults"] if fault["where"] == "infer") == cause
    assert restarts(ended) == {"infer": 1}


def test_the_video_runs_while_an_engine_is_built_and_every_frame_says_so(video: Path, tmp_path: Path) -> None:
    options = ("--set", "replay.ready_wait_s=0.2", "--set", "infer.open_timeout_s=4", "--loop", "6")
    ended = play(tmp_path, video, *options, segmenter="nasty_segmenters:Building")
    assert ended.code == 0
    assert restarts(ended) == {}
    assert ended.states[:2] == ["absent", "fresh"]
    causes = [line["cause"] for line in ended.log if line["state"] == "absent" and line["cause"]]
    percents = [int(cause.removeprefix("building engine ").removesuffix(" %")) for cause in causes]
    assert len(percents) > 10
    assert percents == sorted(percents)
    told = [fault["what"] for fault in ended.report["faults"] if fault["where"] == "infer"]
    assert told[0] == "building engine; the video runs without it meanwhile"
    assert told[1].startswith("ready after ")
    assert "infer: building engine 50 %" in ended.stderr.splitlines()


# Interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_finishes_its_files(video: Path, tmp_path: Path, number: int) -> None:
    with Run(tmp_path, video, "--loop", "0", "--sink", f"video:{tmp_path / 'o.mp4'}") as run:
        run.wait_for_frames(20)
        run.send(number)
        ended = run.end()
    frames = ended.report["frames"]
    assert (ended.code, ended.report["status"], frames["ledger_closed"]) == (130, "interrupted", True)
    assert len(times_of(tmp_path / "o.mp4")) == len(ended.log) == frames["presented"]


@pytest.mark.parametrize("times", [1, 2])
def test_every_frame_mode_can_be_interrupted_and_cut_short(video: Path, tmp_path: Path, times: int) -> None:
    options = ("--loop", "0", "--speed", "fastest", "--sink", f"video:{tmp_path / 'o.mp4'}")
    with Run(tmp_path, video, *options) as run:
        run.wait_for_frames(20)
        for _ in range(times):
            run.send(signal.SIGINT)
        ended = run.end()
    assert (ended.code, ended.report["frames"]["ledger_closed"]) == (130, True)
    assert len(times_of(tmp_path / "o.mp4")) > 0


@pytest.mark.parametrize("newest", ["overlay", "capture", "preprocess"])
def test_a_run_interrupted_while_it_starts_ends_at_once(video: Path, tmp_path: Path, newest: str) -> None:
    """A terminal signals the stages too: they died of it while they were still importing, with a traceback each."""
    with Run(tmp_path, video, "--sink", f"video:{tmp_path / 'o.mp4'}") as run:
        run.wait_for(lambda: run.pid(newest), newest)
        os.killpg(run.process.pid, signal.SIGINT)
        ended = run.end()
    assert (ended.code, ended.stderr) == (130, "")
    assert ended.report["frames"]["ledger_closed"] is True
    assert {name: stage["restarts"] for name, stage in ended.report["stages"].items()} == dict.fromkeys(
        ended.report["stages"], 0
    )


def test_without_its_supervisor_every_stage_ends_and_the_video_plays(video: Path, tmp_path: Path) -> None:
    with Run(tmp_path, video, "--loop", "0", "--sink", f"video:{tmp_path / 'o.mp4'}") as run:
        run.wait_for_frames(40)
        run.send(signal.SIGKILL)
        run.process.wait(PATIENCE_S)
        run.wait_until_gone()
        shown = len(run.log())
    assert 0 < len(times_of(tmp_path / "o.mp4")) <= shown + 2


def test_what_a_killed_process_group_left_is_swept_by_the_next_run(video: Path, tmp_path: Path) -> None:
    with Run(tmp_path, video, "--loop", "0") as killed:
        killed.wait_for_frames(5)
        killed.kill_all()
        killed.wait_until_gone()
        assert len(list(killed.runtime.glob("endostream/run-*"))) == 1
        shared = {"XDG_RUNTIME_DIR": str(killed.runtime)}
        (folder := tmp_path / "next").mkdir()
        assert play(folder, video, "--speed", "fastest", environment=shared).code == 0
        killed.assert_nothing_is_left()
