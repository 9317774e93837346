"""The supervisor's decisions, with stages that are made of nothing and a clock that stands still.

A fake launcher gives it handles whose life and death the test decides; what a stage would say is said by hand.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from endostream.configs.errors import ConfigError, ExitCode
from endostream.configs.schema import Config
from endostream.pipeline.clock import VirtualClock
from endostream.pipeline.control import ControlChannel, PeerGone
from endostream.pipeline.host import RunSpec
from endostream.pipeline.supervision import StageState
from endostream.pipeline.supervisor import Supervisor, Watched

from .core_fixtures import config_of

SECOND_NS = 1_000_000_000
DISPLAY_FIRST = ["overlay", "record", "capture", "infer", "preprocess"]


class FakeHandle:
    """A stage that lives until it is told otherwise."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None
        self.kills = 0
        self.deaf = False
        self.waited_s: list[float] = []

    def exit_code(self) -> int | None:
        return self.code

    def kill(self) -> None:
        self.kills += 1
        self.code = -9

    def join(self, timeout_s: float) -> bool:
        self.waited_s.append(timeout_s)
        if not self.deaf and self.code is None:
            self.code = 0
        return self.code is not None


@dataclass
class FakeLauncher:
    """Starts stages that do nothing; keeps every life of each, and the stage's end of its channel."""

    endpoints: str = "fake://"
    lives: dict[str, list[FakeHandle]] = field(default_factory=dict)
    ends: dict[str, ControlChannel] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    refuses: set[str] = field(default_factory=set)
    closed: int = 0

    def start(
        self, stage: str, spec: RunSpec, board_block: Any, incarnation: int, nice: int
    ) -> tuple[FakeHandle, ControlChannel]:
        self.order.append(stage)
        if stage in self.refuses:
            raise OSError("cannot allocate memory")
        ours, theirs = ControlChannel.pair()
        if stage in self.ends:
            self.ends[stage].close()
        self.ends[stage] = theirs
        lives = self.lives.setdefault(stage, [])
        lives.append(FakeHandle(1000 * len(self.order) + incarnation))
        return lives[-1], ours

    def close(self) -> None:
        self.closed += 1
        for end in self.ends.values():
            end.close()


class Rig:
    """A supervisor whose time the test moves and whose stages the test kills."""

    def __init__(
        self, config: Config, mode: str, sinks: tuple[str, ...], clock: VirtualClock, session: str
    ) -> None:
        self.clock = clock
        self.launcher = FakeLauncher()
        self.told: list[tuple[str, str]] = []
        every = "every-frame" if mode == "every-frame" else "live"
        spec = RunSpec("fake://", every, config.model_dump(), ("a.avi",), sinks=sinks, session=session)
        self.events: list[str] = []
        self.supervisor = Supervisor(spec, config, self.launcher, self._hear)
        self.board = self.supervisor.board

    def _hear(self, level: str, text: str, event: str) -> None:
        self.told.append((level, text))
        self.events.append(event)

    def start(self) -> None:
        for stage in self.supervisor._stages.values():
            if stage.wanted:
                self.supervisor._start(stage)

    def stage(self, name: str) -> Watched:
        return self.supervisor._stages[name]

    def handle(self, name: str) -> FakeHandle:
        return self.launcher.lives[name][-1]

    def says(self, name: str, kind: str, **more: Any) -> None:
        self.launcher.ends[name].send({"t": kind, **more})
        self.supervisor._drain_control(self.stage(name))

    def hears(self, name: str) -> list[str]:
        """What the supervisor has told a stage since the last call, by kind."""
        return [message["t"] for message in self.hears_whole(name)]

    def hears_whole(self, name: str) -> list[dict[str, Any]]:
        """What the supervisor has told a stage since the last call."""
        heard = []
        try:
            while (received := self.launcher.ends[name].receive()) is not None:
                heard.append(received[0])
        except PeerGone:
            pass
        return heard

    def all_ready(self) -> None:
        for name in self.supervisor._stages:
            self.says(name, "ready")

    def watch(self, seconds: float = 0.0) -> None:
        """Let time pass, everybody alive beating, then look at all."""
        self.clock.advance_ns(int(seconds * SECOND_NS))
        now_ns = self.clock.now_ns()
        for stage in list(self.supervisor._stages.values()):
            self.supervisor._watch(stage, now_ns)

    def beat(self, *but: str) -> None:
        for name in self.supervisor._stages:
            if name not in but:
                self.board.cell(f"{name}.heartbeat_ns").value = self.clock.now_ns()

    def die(self, name: str, code: int = -9) -> None:
        self.handle(name).code = code
        self.watch()

    def state(self, name: str) -> StageState:
        return StageState(self.board.value(f"{name}.state"))

    @property
    def warnings(self) -> list[str]:
        return [text for _, text in self.told]


Make = Any


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    clock = VirtualClock(1000 * SECOND_NS)
    monkeypatch.setattr("endostream.pipeline.supervisor.time", SimpleNamespace(monotonic_ns=clock.now_ns))
    monkeypatch.setattr("endostream.pipeline.health.starving", lambda pid: False)  # the pids are not ours
    rigs: list[Rig] = []

    def make(
        config: Config | None = None,
        mode: str = "live",
        sinks: tuple[str, ...] = ("jsonl:o",),
        session: str = "",
    ) -> Rig:
        rigs.append(Rig(config or Config(), mode, sinks, clock, session))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.supervisor._stop_all()
        rig.supervisor._rings.close()
        assert rig.launcher.closed == 1


@pytest.fixture
def rig(make: Make) -> Rig:
    made: Rig = make()
    made.start()
    made.all_ready()
    return made


def test_the_display_side_starts_first_and_the_annotation_path_last(rig: Rig) -> None:
    assert rig.launcher.order == DISPLAY_FIRST


def test_without_sinks_there_is_no_record_process(make: Make) -> None:
    rig = make(sinks=())
    rig.start()
    assert "record" not in rig.launcher.order


def test_the_board_shows_each_stages_state_pid_and_incarnation(make: Make) -> None:
    rig = make()
    rig.start()
    assert {rig.state(name) for name in DISPLAY_FIRST} == {StageState.STARTING}
    rig.says("infer", "ready")
    assert rig.state("infer") is StageState.RUNNING
    rig.die("infer")
    assert rig.state("infer") is StageState.DOWN
    rig.watch(1)
    assert rig.state("infer") is StageState.STARTING
    assert rig.board.value("infer.pid") == rig.handle("infer").pid
    assert rig.board.value("infer.incarnation") == 1
    assert rig.board.value("infer.restarts") == 1


def test_a_killed_stage_starts_again_after_the_shortest_delay_and_says_so(rig: Rig) -> None:
    rig.die("infer")
    assert rig.warnings == ["infer: killed by SIGKILL; starts again in 0.05 s"]
    rig.watch(0.04)
    assert len(rig.launcher.lives["infer"]) == 1
    rig.watch(0.02)
    assert len(rig.launcher.lives["infer"]) == 2
    rig.says("infer", "ready")
    assert rig.told[-1] == ("info", "infer: is back")
    assert rig.events == ["stage_down", "stage_back"]
    assert [where for _, where, _ in rig.supervisor.outcome.events] == ["infer", "infer"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (-11, "killed by SIGSEGV"),
        (75, "ended with code 75"),
        (0, "ended with code 0"),
        (-99, "killed by signal 99"),
    ],
)
def test_how_a_stage_ended_is_said(rig: Rig, code: int, reason: str) -> None:
    rig.die("preprocess", code)
    assert rig.warnings == [f"preprocess: {reason}; starts again in 0.05 s"]


def test_the_delay_doubles_with_each_death_up_to_the_longest(rig: Rig) -> None:
    delays = []
    for _ in range(9):
        rig.die("infer")
        delays.append(rig.stage("infer").backoff_s)
        rig.watch(delays[-1])
        rig.says("infer", "ready")
    assert delays == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_a_stage_that_ran_long_enough_starts_again_with_the_shortest_delay(rig: Rig) -> None:
    for _ in range(4):
        rig.die("infer")
        rig.watch(5)
        rig.says("infer", "ready")
    assert rig.stage("infer").backoff_s == 0.4
    rig.clock.advance_ns(11 * SECOND_NS)
    rig.beat()
    rig.die("infer")
    assert rig.stage("infer").backoff_s == 0.05


@pytest.mark.parametrize(
    ("stage", "mode"), [("capture", "live"), ("overlay", "live"), ("infer", "every-frame")]
)
def test_a_stage_that_cannot_be_done_without_ends_the_run_after_three_failed_starts(
    make: Make, stage: str, mode: str
) -> None:
    rig = make(mode=mode)
    rig.start()
    for _ in range(3):
        assert rig.supervisor.outcome.fatal == ""
        rig.die(stage, 1)
        rig.watch(10)
    assert rig.supervisor.outcome.fatal == (
        f"{stage}: ended with code 1, 3 times in a row without getting anywhere"
    )
    assert rig.supervisor.outcome.fatal_code is ExitCode.FAILED
    assert rig.state(stage) is StageState.GIVEN_UP
    assert rig.supervisor._over
    assert len(rig.launcher.lives[stage]) == 3


@pytest.mark.parametrize("stage", ["infer", "preprocess", "record"])
def test_live_video_goes_on_however_often_the_annotation_path_cannot_start(make: Make, stage: str) -> None:
    rig = make()
    rig.start()
    for _ in range(12):
        rig.die(stage, 1)
        rig.watch(10)
        rig.beat()
    assert rig.supervisor.outcome.fatal == ""
    assert len(rig.launcher.lives[stage]) == 13


def test_a_capture_that_dies_of_the_same_frame_again_and_again_ends_the_run(make: Make) -> None:
    # It said it was ready each time, so it was started again for ever, and the run never ended.
    rig = make()
    rig.start()
    rig.all_ready()
    rig.supervisor._let_capture_go(rig.clock.now_ns())
    rig.board.cell("capture.captured").value = 50
    for _ in range(4):
        rig.die("capture", 75)
        rig.watch(10)
        rig.beat()
        if rig.supervisor.outcome.fatal:
            break
        rig.says("capture", "ready")
    assert "3 times in a row" in rig.supervisor.outcome.fatal


def test_deaths_before_there_was_anything_to_get_on_with_do_not_end_the_run(rig: Rig) -> None:
    for _ in range(10):
        rig.die("overlay")
        rig.watch(10)
        rig.beat()
        rig.says("overlay", "ready")
    assert rig.supervisor.outcome.fatal == ""


def test_deaths_between_which_the_video_got_on_do_not_end_the_run(rig: Rig) -> None:
    rig.supervisor._let_capture_go(rig.clock.now_ns())
    for _ in range(10):
        rig.board.cell("overlay.presented").add()
        rig.die("overlay")
        rig.watch(10)
        rig.beat()
        rig.says("overlay", "ready")
    assert rig.supervisor.outcome.fatal == ""


def test_a_record_process_that_dies_before_a_sink_has_written_anything_ends_an_every_frame_run(
    make: Make,
) -> None:
    # It counted what it had taken, not what was written: each life took a frame, died of it, and so on for ever.
    rig = make(mode="every-frame")
    rig.start()
    rig.all_ready()
    rig.supervisor._let_capture_go(rig.clock.now_ns())
    rig.board.cell("sink0.written").value = 7
    rig.die("record", 75)
    for _ in range(3):
        rig.watch(10)
        rig.beat()
        rig.says("record", "ready")
        rig.board.cell("record.processed").add()
        rig.die("record", 75)
    assert rig.supervisor.outcome.fatal == (
        "record: ended with code 75, 3 times in a row without getting anywhere"
    )
    assert rig.supervisor.outcome.fatal_code is ExitCode.FAILED


def test_a_record_process_that_writes_between_its_deaths_is_started_for_ever(make: Make) -> None:
    rig = make(mode="every-frame", sinks=("jsonl:a", "jsonl:b"))
    rig.start()
    rig.all_ready()
    rig.supervisor._let_capture_go(rig.clock.now_ns())
    for _ in range(10):
        rig.board.cell("sink1.written").add()
        rig.die("record")
        rig.watch(10)
        rig.beat()
        rig.says("record", "ready")
    assert rig.supervisor.outcome.fatal == ""


def test_a_stage_whose_memory_grows_too_large_is_killed_and_says_so(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make(config_of(supervisor={"memory_limit_mib": 100}))
    rig.start()
    rig.all_ready()
    sizes = {rig.handle(name).pid: 100 for name in DISPLAY_FIRST}
    monkeypatch.setattr("endostream.pipeline.health.own_memory_mib", lambda pid: sizes.get(pid, 0))
    rig.watch()
    assert not any(handles[0].kills for handles in rig.launcher.lives.values())
    sizes[rig.handle("infer").pid] = 101
    rig.watch(0.4)  # looked at twice a second
    assert rig.handle("infer").kills == 0
    rig.beat()
    rig.watch(0.1)
    assert rig.warnings == [
        "infer: memory: 101 MiB, more than 100 (supervisor.memory_limit_mib): killed; starts again in 0.05 s"
    ]


def test_a_stage_that_cannot_be_started_at_all_takes_nobody_along(rig: Rig) -> None:
    # A machine without memory for a process: this used to end the whole run, the video with it.
    rig.launcher.refuses = {"infer"}
    rig.die("infer")
    rig.watch(1)
    assert rig.state("infer") is StageState.DOWN
    assert rig.warnings[-1] == "infer: cannot be started (cannot allocate memory); starts again in 0.1 s"
    rig.launcher.refuses = set()
    rig.beat()
    rig.watch(1)
    assert rig.state("infer") is StageState.STARTING


def test_work_pending_without_progress_counts_as_hung(rig: Rig) -> None:
    rig.board.cell("infer.busy_since_ns").value = rig.clock.now_ns()
    rig.clock.advance_ns(5 * SECOND_NS)
    rig.beat("infer")
    rig.watch()
    assert rig.handle("infer").kills == 0
    rig.watch(0.001)
    assert rig.launcher.lives["infer"][0].kills == 1
    assert rig.warnings == ["infer: hung for 5 s: killed; starts again in 0.05 s"]
    assert rig.board.value("infer.busy_since_ns") == 0


@pytest.mark.parametrize(
    ("stage", "mode", "limit_s"),
    [
        ("overlay", "live", 0.5),
        ("capture", "live", 1.0),
        ("infer", "live", 1.0),
        ("record", "live", 2.0),
        ("overlay", "every-frame", 2.0),
        ("infer", "every-frame", 2.0),
    ],
)
def test_a_stage_that_gives_no_sign_of_life_is_killed(
    make: Make, stage: str, mode: str, limit_s: float
) -> None:
    rig = make(mode=mode)
    rig.start()
    rig.all_ready()
    rig.clock.advance_ns(int(limit_s * SECOND_NS))
    rig.beat(stage)
    rig.watch()
    assert rig.handle(stage).kills == 0
    rig.watch(0.001)
    assert rig.launcher.lives[stage][0].kills == 1
    assert rig.warnings == [f"{stage}: no sign of life for {limit_s:g} s: killed; starts again in 0.05 s"]


def test_a_stage_has_its_own_time_to_open(make: Make) -> None:
    rig = make(config_of(infer={"open_timeout_s": 60.0}))
    rig.start()
    for name in DISPLAY_FIRST:
        if name != "infer":
            rig.says(name, "ready")
    for _ in range(59):
        rig.clock.advance_ns(SECOND_NS)
        rig.beat()
        rig.watch()
    assert rig.handle("infer").kills == 0
    rig.clock.advance_ns(2 * SECOND_NS)
    rig.beat()
    rig.watch()
    assert rig.launcher.lives["infer"][0].kills == 1
    assert rig.warnings == ["infer: not ready after 60 s: killed; starts again in 0.05 s"]


def test_an_opening_may_take_as_long_as_what_it_builds_gets_on(make: Make) -> None:
    rig = make(config_of(infer={"open_timeout_s": 60.0}))
    rig.start()
    for name in DISPLAY_FIRST:
        if name != "infer":
            rig.says(name, "ready")
    for percent in range(20):  # ten minutes
        rig.says("infer", "building", what="building engine", percent=5 * percent)
        rig.clock.advance_ns(30 * SECOND_NS)
        rig.beat()
        rig.watch()
    assert rig.handle("infer").kills == 0
    assert rig.board.value("infer.building_percent") == 95
    assert rig.warnings[:2] == [
        "infer: building engine; the video runs without it meanwhile",
        "infer: building engine 10 %",
    ]
    rig.says("infer", "ready")
    assert rig.board.value("infer.building_percent") == 0
    assert rig.warnings[-1] == "infer: ready after 600 s"


def test_a_building_that_stands_still_is_killed(make: Make) -> None:
    rig = make(config_of(infer={"open_timeout_s": 60.0}))
    rig.start()
    rig.clock.advance_ns(50 * SECOND_NS)
    rig.says("infer", "building", what="building engine", percent=3)
    rig.clock.advance_ns(60 * SECOND_NS)
    rig.beat()
    rig.watch()
    assert rig.handle("infer").kills == 0
    rig.clock.advance_ns(1)
    rig.watch()
    assert rig.launcher.lives["infer"][0].kills == 1
    assert rig.board.value("infer.building_percent") == 0


def test_what_computes_the_masks_and_what_was_passed_over_is_kept_for_the_report(make: Make) -> None:
    rig = make()
    rig.start()
    passed_over = {"rtx": "no NVIDIA driver"}
    rig.says("infer", "segmenter", runtime="openvino 2026", passed_over=passed_over, weights_sha256="c0ffee")
    assert rig.supervisor.outcome.runtime == "openvino 2026"
    assert rig.supervisor.outcome.passed_over == passed_over


def test_a_long_opening_is_not_taken_for_silence_once_the_stage_is_ready(make: Make) -> None:
    rig = make()
    rig.start()
    rig.clock.advance_ns(20 * SECOND_NS)
    rig.all_ready()
    rig.watch()
    assert not any(handles[0].kills for handles in rig.launcher.lives.values())


def test_a_gap_in_the_supervisors_own_time_is_nobody_elses_fault(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.supervisor, "_read_messages", lambda: None)
    rig.supervisor._step()
    rig.clock.advance_ns(60 * SECOND_NS)  # a laptop asleep
    rig.supervisor._step()
    assert not any(handles[0].kills for handles in rig.launcher.lives.values())
    rig.beat("overlay")
    for _ in range(5):
        rig.clock.advance_ns(SECOND_NS // 4)
        rig.beat("overlay")
        rig.supervisor._step()
    assert rig.launcher.lives["overlay"][0].kills == 1


def test_capture_is_let_go_once_everybody_is_ready(make: Make) -> None:
    rig = make()
    rig.start()
    for name in ("overlay", "record", "capture", "preprocess"):
        rig.says(name, "ready")
    rig.hears("capture")
    rig.supervisor._let_capture_go(rig.clock.now_ns())
    assert rig.hears("capture") == []
    rig.says("infer", "ready")
    rig.supervisor._let_capture_go(rig.clock.now_ns())
    rig.supervisor._let_capture_go(rig.clock.now_ns())
    assert rig.hears("capture") == ["go"]


def test_the_video_starts_without_infer_when_that_takes_too_long_or_fails(make: Make) -> None:
    for fails in (False, True):
        rig = make()
        rig.start()
        for name in ("overlay", "record", "capture", "preprocess"):
            rig.says(name, "ready")
        if fails:
            rig.die("infer", 1)
        else:
            rig.clock.advance_ns(10 * SECOND_NS)
        rig.supervisor._let_capture_go(rig.clock.now_ns())
        assert rig.hears("capture") == ["go"]
        assert ("the video starts without it" in rig.warnings[-1]) == (not fails)


def test_a_restarted_capture_goes_on_at_once(rig: Rig) -> None:
    rig.supervisor._let_capture_go(rig.clock.now_ns())
    rig.die("capture")
    rig.watch(1)
    rig.says("capture", "ready")
    assert rig.hears("capture") == ["go"]


@pytest.mark.parametrize(
    ("stage", "told"), [("infer", True), ("preprocess", True), ("overlay", True), ("record", False)]
)
def test_capture_sends_again_what_a_restarted_reader_of_its_frames_lost(
    rig: Rig, stage: str, told: bool
) -> None:
    rig.hears("capture")
    rig.die(stage)
    rig.watch(1)
    rig.says(stage, "ready")
    assert ("resend" in rig.hears("capture")) == told


def test_finishing_asks_capture_alone_and_only_once(rig: Rig) -> None:
    for name in DISPLAY_FIRST:
        rig.hears(name)
    rig.supervisor.finish()
    rig.supervisor.finish()
    assert rig.hears("capture") == ["finish", "go"]
    assert rig.hears("overlay") == []


def test_the_first_interrupt_lets_what_is_under_way_end_and_the_second_cuts_it_short(rig: Rig) -> None:
    rig.board.cell("capture.captured").value = 9
    rig.supervisor.interrupt()
    assert (rig.supervisor._over, rig.supervisor.outcome.interrupted) == (False, True)
    rig.supervisor.interrupt()
    assert rig.supervisor._over


def test_an_interrupt_before_the_first_frame_waits_for_nobody(make: Make) -> None:
    """It took up to eight seconds: capture and infer were still loading, and the video was said to start without it."""
    rig = make()
    rig.start()
    rig.supervisor.interrupt()
    assert rig.supervisor._over
    rig.clock.advance_ns(20 * SECOND_NS)
    rig.all_ready()
    rig.supervisor._let_capture_go(rig.clock.now_ns())
    assert rig.warnings == []


def test_what_is_still_loading_at_the_end_is_killed_without_a_word_but_record_may_finish_its_files(
    make: Make,
) -> None:
    rig = make()
    rig.start()
    for name in ("overlay", "capture"):
        rig.says(name, "ready")
    for name in ("infer", "record", "overlay"):
        rig.handle(name).deaf = True
    rig.supervisor._stop_all()
    kills = {name: rig.handle(name).kills for name in DISPLAY_FIRST}
    assert kills == {"overlay": 1, "record": 1, "capture": 0, "infer": 1, "preprocess": 0}
    assert sorted(rig.warnings) == [f"{name}: did not end in time: killed" for name in ("overlay", "record")]
    waits = {name: rig.handle(name).waited_s for name in ("infer", "record")}
    assert waits == {"infer": [0.2, 1.0], "record": [5.0, 1.0]}
    rig.launcher.closed = 0


def test_finishing_takes_no_longer_than_is_allowed(rig: Rig) -> None:
    rig.board.cell("capture.captured").value = 9
    rig.supervisor.interrupt()
    rig.supervisor._mind_the_time(rig.clock.now_ns() + 5 * SECOND_NS)
    assert not rig.supervisor._over
    rig.supervisor._mind_the_time(rig.clock.now_ns() + 5 * SECOND_NS + 1)
    assert rig.supervisor._over


def test_the_run_is_over_when_all_is_presented_and_recorded(rig: Rig) -> None:
    rig.says("overlay", "presented_all")
    assert not rig.supervisor._over
    rig.says("record", "recorded_all")
    assert rig.supervisor._over


def test_outputs_that_are_never_finished_do_not_keep_a_run_for_ever(rig: Rig) -> None:
    rig.says("overlay", "presented_all")
    rig.supervisor._mind_the_time(rig.clock.now_ns() + 61 * SECOND_NS)
    assert rig.supervisor._over
    assert rig.warnings == ["supervisor: outputs not finished 60 s after the last frame"]


def test_a_run_in_which_nothing_moves_after_the_last_frame_ends(rig: Rig) -> None:
    # A record process that could never start was never told the end, and everybody waited for it.
    rig.says("capture", "captured_all")
    for second in range(0, 300, 10):
        rig.clock.advance_ns(10 * SECOND_NS)
        if second < 120:
            rig.board.cell("overlay.presented").add()
        rig.supervisor._mind_the_time(rig.clock.now_ns())
        assert rig.supervisor._over == (second >= 180)


def test_a_slow_network_is_no_standstill(rig: Rig) -> None:
    rig.says("capture", "captured_all")
    rig.board.cell("infer.busy_since_ns").value = 1
    for _ in range(30):
        rig.clock.advance_ns(10 * SECOND_NS)
        rig.supervisor._mind_the_time(rig.clock.now_ns())
    assert not rig.supervisor._over


def test_an_error_of_capture_ends_the_run_with_its_code(rig: Rig) -> None:
    rig.says("capture", "error", message="source: gone", exit_code=3)
    assert (rig.supervisor.outcome.fatal, rig.supervisor.outcome.fatal_code) == (
        "source: gone",
        ExitCode.SOURCE,
    )
    assert rig.supervisor._over  # nothing was captured, so there is nothing to finish


def test_the_first_fatal_error_is_the_one_that_is_told(rig: Rig) -> None:
    rig.board.cell("capture.captured").value = 9
    rig.supervisor.fail("first", ExitCode.MODEL)
    rig.supervisor.fail("second", ExitCode.FAILED)
    assert (rig.supervisor.outcome.fatal, rig.supervisor.outcome.fatal_code) == ("first", ExitCode.MODEL)
    assert not rig.supervisor._over


def test_an_error_of_infer_in_mid_video_does_not_end_a_live_run(make: Make) -> None:
    for mode, fatal in (("live", ""), ("every-frame", "engine: lost")):
        rig = make(mode=mode)
        rig.start()
        rig.all_ready()
        rig.says("infer", "error", message="engine: lost", exit_code=4)
        assert rig.supervisor.outcome.fatal == fatal


def test_an_error_of_infer_before_it_was_ever_ready_ends_the_run(make: Make) -> None:
    rig = make()
    rig.start()
    rig.says("infer", "error", message="weights: missing", exit_code=4)
    assert rig.supervisor.outcome.fatal_code is ExitCode.MODEL


@pytest.mark.parametrize(("stage", "lives"), [("infer", 1), ("preprocess", 1), ("overlay", 2)])
def test_what_a_restart_would_not_help_is_not_restarted_unless_it_has_outputs_to_finish(
    make: Make, stage: str, lives: int
) -> None:
    rig = make()
    rig.start()
    rig.board.cell("capture.captured").value = 9
    rig.says(stage, "error", message="options: wrong", exit_code=2)
    rig.die(stage, 75)
    rig.watch(10)
    assert not rig.supervisor._over
    assert len(rig.launcher.lives[stage]) == lives


def test_an_every_frame_run_ends_when_its_last_sink_has_failed(make: Make) -> None:
    for mode, finishing in (("live", False), ("every-frame", True)):
        rig = make(mode=mode, sinks=("jsonl:a", "jsonl:b"))
        rig.start()
        rig.all_ready()
        rig.says("record", "sink_failed", sink="jsonl:a", message="disk full")
        assert not rig.supervisor._finishing_ns
        rig.says("record", "sink_failed", sink="jsonl:b", message="disk full")
        assert bool(rig.supervisor._finishing_ns) == finishing
        assert set(rig.supervisor.outcome.failed_sinks) == {"jsonl:a", "jsonl:b"}


def need_ring(rig: Rig, stage: str, role: str, size_hw: tuple[int, int] = (48, 64)) -> list[int]:
    """Ask for a ring as a stage does; returns the ring numbers it was given."""
    rig.launcher.ends[stage].send({"t": "need_ring", "role": role, "size_hw": list(size_hw)})
    rig.supervisor._drain_control(rig.stage(stage))
    given = []
    while (received := rig.launcher.ends[stage].receive()) is not None:
        if received[0]["t"] == "ring":
            given.append(received[0]["id"])
    return given


def test_readers_hear_of_a_ring_before_its_writer_does(rig: Rig) -> None:
    rig.hears("overlay")
    assert need_ring(rig, "capture", "captured") == [0]
    assert rig.hears("overlay") == ["ring"]
    assert rig.hears("preprocess") == ["ring"]
    assert "ring" not in rig.hears("infer")


def test_a_restarted_reader_gets_the_rings_again(rig: Rig) -> None:
    need_ring(rig, "capture", "captured")
    rig.die("preprocess")
    rig.watch(1)
    assert rig.hears("preprocess") == ["ring"]


def test_a_restarted_writer_goes_on_with_its_ring_in_live_mode(rig: Rig) -> None:
    assert need_ring(rig, "capture", "captured") == [0]
    rig.die("capture")
    rig.watch(1)
    assert need_ring(rig, "capture", "captured") == [0]


@pytest.mark.parametrize(("stage", "role"), [("capture", "captured"), ("overlay", "presented")])
def test_in_every_frame_mode_a_restarted_writer_gets_a_ring_of_its_own(
    make: Make, stage: str, role: str
) -> None:
    # Its readers still held slots of its predecessor's; it took all for free and wrote over them.
    rig = make(mode="every-frame")
    rig.start()
    rig.all_ready()
    assert need_ring(rig, stage, role) == [0]
    assert need_ring(rig, stage, role) == [0]
    rig.board.cell("capture.captured").add()
    rig.board.cell("overlay.presented").add()
    rig.die(stage)
    rig.watch(1)
    rig.hears(stage)
    assert need_ring(rig, stage, role) == [1]
    assert need_ring(rig, stage, role) == [1]


def test_pictures_too_large_for_the_budget_end_the_run_with_the_setting_to_change(make: Make) -> None:
    rig = make(config_of(capture={"ring_budget_mib": 16}))
    rig.start()
    rig.all_ready()
    assert need_ring(rig, "capture", "captured", (4320, 7680)) == []
    assert "Try: --set capture.ring_budget_mib=" in rig.supervisor.outcome.fatal
    assert rig.supervisor.outcome.fatal_code is ExitCode.USAGE


def test_a_stage_that_does_not_end_in_time_is_killed(make: Make) -> None:
    rig = make()
    rig.start()
    rig.handle("infer").deaf = True
    rig.supervisor._stop_all()
    assert rig.handle("infer").kills == 1
    assert rig.handle("overlay").kills == 0
    assert {rig.state(name) for name in DISPLAY_FIRST} == {StageState.ENDED}
    rig.launcher.closed = 0  # the fixture ends it once more


def test_a_run_of_too_many_sources_for_one_message_says_so(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make()

    def start(*_: Any) -> Any:
        left, right = ControlChannel.pair()
        try:
            left.send({"t": "run", "sources": ["x" * 100] * 10_000})
        finally:
            left.close()
            right.close()

    monkeypatch.setattr(rig.launcher, "start", start)
    with pytest.raises(ConfigError, match=r"Try: fewer sources in one run"):
        rig.start()


def test_what_sources_say_is_kept_by_source(rig: Rig) -> None:
    rig.says(
        "capture", "source_end", source_id=0, status="lost", faults={"corrupt_packet": 2}, message="cut off"
    )
    rig.says("capture", "source_end", source_id=0, status="done", faults={"corrupt_packet": 1}, message="")
    source = rig.supervisor.outcome.sources[0]
    assert (source.status, source.faults) == ("done", {"corrupt_packet": 3})
    assert ("error", "capture: cut off") in rig.told


# Recording


def test_a_run_that_may_be_recorded_starts_no_record_process_before_it_is_asked_to(make: Make) -> None:
    rig = make(sinks=(), session="/s")
    rig.start()
    assert rig.launcher.order == ["overlay", "capture", "infer", "preprocess"]
    rig.says("overlay", "recording", on=False)
    assert "record" not in rig.launcher.lives
    rig.says("overlay", "recording", on=True)
    assert rig.launcher.order[-1] == "record"
    assert rig.hears("overlay") == rig.hears("capture") == ["record_link"]
    assert rig.hears_whole("record") == [{"t": "recording", "on": True}]
    rig.says("overlay", "recording", on=False)
    assert rig.hears_whole("record") == [{"t": "recording", "on": False}]
    assert len(rig.launcher.lives["record"]) == 1


def test_what_record_says_of_the_recording_is_forwarded_to_overlay_also_to_one_that_was_restarted(
    make: Make,
) -> None:
    rig = make(sinks=(), session="/s")
    rig.start()
    rig.says("overlay", "recording", on=True)
    rig.hears("overlay")
    rig.says("record", "recording_state", on=True, path="/s")
    state = {"t": "recording_state", "on": True, "path": "/s", "reason": ""}
    assert rig.hears_whole("overlay") == [state]
    assert rig.supervisor.outcome.recorded
    rig.die("overlay")
    rig.watch(0.1)
    assert rig.hears_whole("overlay") == [{"t": "record_link"}, state]


def test_overlay_hears_that_nothing_is_recorded_while_record_is_down_and_its_successor_goes_on(
    make: Make,
) -> None:
    rig = make(sinks=(), session="/s")
    rig.start()
    rig.says("overlay", "recording", on=True)
    rig.says("record", "recording_state", on=True, path="/s")
    rig.hears("overlay")
    rig.die("record")
    (state,) = rig.hears_whole("overlay")
    assert (state["on"], state["path"], state["reason"]) == (False, "/s", "record is down")
    rig.watch(0.1)
    assert rig.hears_whole("record") == [{"t": "recording", "on": True}]


def test_without_a_session_folder_a_wish_to_record_changes_nothing(make: Make) -> None:
    rig = make()
    rig.start()
    rig.hears("record")
    rig.says("overlay", "recording", on=True)
    assert rig.hears("record") == []
    assert not rig.supervisor.outcome.recorded


def test_what_a_live_source_said_is_wrong_counts_at_once_and_is_kept_when_capture_dies(rig: Rig) -> None:
    rig.supervisor.spec = replace(rig.supervisor.spec, sources=("udp://127.0.0.1:1",))
    source = rig.supervisor.outcome.sources[0]
    rig.says("capture", "source_faults", source_id=0, faults={"signal_lost": 1})
    rig.says("capture", "source_faults", source_id=0, faults={"signal_lost": 2})
    assert source.all_faults == {"signal_lost": 2}
    rig.die("capture")
    assert (source.faults, source.faults_now) == ({"signal_lost": 2}, {})
    rig.watch(1.0)
    rig.says("capture", "source_faults", source_id=0, faults={"signal_lost": 1})
    assert source.all_faults == {"signal_lost": 3}
    rig.says("capture", "source_end", source_id=0, status="done", faults={"signal_lost": 4}, message="")
    assert source.all_faults == {"signal_lost": 6}


def test_what_a_recording_said_is_wrong_is_counted_anew_by_capture_started_again(rig: Rig) -> None:
    rig.says("capture", "source_faults", source_id=0, faults={"corrupt_packet": 5})
    rig.die("capture")
    assert rig.supervisor.outcome.sources[0].all_faults == {}
