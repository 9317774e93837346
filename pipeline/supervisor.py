"""The supervisor: starts the stages, watches them, restarts what dies or hangs, and ends all in order.

It owns what must outlive a stage: the board, the rings, the run directory. The display side starts first. A stage
counts as hung when work is pending without progress, or when it gives no sign of life; hung or dead, it is started
again with growing delays, and overlay reads on the board that it is down. Nothing here touches a picture. What a
run amounts to is told in ``Outcome``; the report is made elsewhere (``totals.py``).
"""

import select
import signal
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from endostream.configs.errors import EndostreamError, ExitCode
from endostream.configs.schema import Config

from .board import Board
from .capture import source_info_from_message
from .control import ControlChannel, PeerGone
from .health import Health
from .host import RunSpec
from .launcher import Handle, Launcher
from .rings import READERS, KeptRing, RingKeeper
from .source import SourceInfo, is_live
from .supervision import StageState

_TICK_S = 0.02
_READY_TIMEOUT_S = 30.0
_EVERY_FRAME_WAIT_S = 10.0
_DRAIN_TIMEOUT_S = 60.0
_LOADING_GRACE_S = 0.2
_STABLE_NS = 10_000_000_000
_FAILED_STARTS = 3
"""After so many deaths in a row that got it nowhere, a stage that a run cannot do without ends the run."""
_PROGRESS = {"capture": "capture.captured", "overlay": "overlay.presented", "record": "sink{}.written"}
"""What must grow for a life to have got somewhere; for the annotation path being ready is enough, since there a
frame that kills is not sent a third time."""
_MOVES = (
    "capture.captured",
    "overlay.presented",
    "record.processed",
    "infer.processed",
    "preprocess.processed",
)
_FRUITLESS_LIVES = 9
"""After so many deaths in a row without a frame done in between, every-frame mode gives a stage of the annotation path
up: each frame in flight was tried three times by then, and three windows of them failed."""
_DAMAGE = {
    "ended_early": "ends before its header says",
    "corrupt_packet": "packets that cannot be decoded",
    "damaged_packet": "packets with bytes missing",
    "corrupt_picture": "pictures decoded in part",
    "unreadable_picture": "pictures that cannot be read",
}
"""Faults of a source that a user is told of at once, not only in the report."""
_OWN_GAP_NS, _BLIND_NS = 300_000_000, 1_000_000_000
"""When we slept so long ourselves (a laptop, a crowded machine), nobody else is to blame for so long."""


@dataclass(slots=True)
class SourceOutcome:
    """What became of one source: ``status`` done, lost or missing; ``message`` why; its own faults by cause."""

    info: SourceInfo | None = None
    status: str = "not played"
    message: str = ""
    faults: dict[str, int] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)
    exit_code: ExitCode = ExitCode.DONE
    faults_now: dict[str, int] = field(default_factory=dict)

    @property
    def all_faults(self) -> dict[str, int]:
        """``faults``, of times that are over, and ``faults_now``, of the one that goes on."""
        causes = (*self.faults, *self.faults_now)
        return {cause: self.faults.get(cause, 0) + self.faults_now.get(cause, 0) for cause in causes}


@dataclass(slots=True)
class Outcome:
    """What a run amounted to, besides what stands on the board.

    ``events``: monotonic ns, where, what, for everything that went wrong. ``fatal``: why the run could not go on.
    ``run_id`` names the run in logs, metrics and report. ``recorded``: the folder of the session, "" if
    none was recorded.
    """

    started_ns: int
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    ended_ns: int = 0
    interrupted: bool = False
    fatal: str = ""
    fatal_code: ExitCode = ExitCode.DONE
    runtime: str = ""
    passed_over: dict[str, str] = field(default_factory=dict)
    weights_sha256: str | None = None
    sources: list[SourceOutcome] = field(default_factory=list)
    failed_sinks: dict[str, str] = field(default_factory=dict)
    events: list[tuple[int, str, str]] = field(default_factory=list)
    first_mask_possible_ns: int = 0
    recorded: str = ""


@dataclass(slots=True)
class Watched:
    """One stage under watch."""

    name: str
    essential: bool
    open_timeout_s: float
    hang_timeout_s: float
    nice: int
    wanted: bool = True
    handle: Handle | None = None
    control: ControlChannel | None = None
    state: StageState = StageState.ABSENT
    incarnation: int = -1
    started_ns: int = 0
    ready_ns: int = 0
    building_ns: int = 0
    built_percent: int = 0
    restart_at_ns: int = 0
    backoff_s: float = 0.0
    failed_starts: int = 0
    beyond_restart: bool = False
    fruitless_lives: int = 0
    processed: int = 0
    ever_ready: bool = False
    progress: int = 0
    rings_of: int = 0


class Supervisor:
    """Runs one run to its end.

    Args:
        spec: the run.
        config: the same configuration as in ``spec``, validated.
        launcher: how stages are brought to life.
        tell: called with one line for everything that went wrong (level, text, and in a word what kind it is).
        tick: called some fifty times a second, for progress.
    """

    def __init__(
        self,
        spec: RunSpec,
        config: Config,
        launcher: Launcher,
        tell: Callable[[str, str, str], None],
        tick: Callable[["Supervisor"], None] = lambda _: None,
    ) -> None:
        self.spec = spec
        self.config = config
        self.board, self._board_block = Board.create(spec.topology)
        self.outcome = Outcome(time.monotonic_ns(), sources=[SourceOutcome() for _ in spec.sources])
        self._launcher = launcher
        self._tell = tell
        self._tick = tick
        self._rings = RingKeeper(config)
        self._health = Health(self.board, config, live=not spec.every_frame)
        self._stages = {stage.name: stage for stage in self._plan()}
        self._handlers: dict[str, Callable[[Watched, dict[str, Any]], None]] = {
            "ready": self._on_ready,
            "need_ring": self._on_need_ring,
            "source": self._on_source,
            "source_faults": self._on_source_faults,
            "source_end": self._on_source_end,
            "building": self._on_building,
            "segmenter": self._on_segmenter,
            "captured_all": self._on_captured_all,
            "presented_all": self._on_presented_all,
            "recorded_all": self._on_recorded_all,
            "sink_failed": self._on_sink_failed,
            "recording": lambda _, message: self.set_recording(bool(message["on"])),
            "recording_state": self._on_recording_state,
            "error": self._on_error,
            "log": self._on_log,
            "quit": lambda *_: self.finish(),
        }
        # Live video is shown before any model is loaded; where no frame may go without its mask, all wait.
        live = any(is_live(address) for address in spec.sources)
        wait_s = max(config.replay.ready_wait_s, _EVERY_FRAME_WAIT_S if spec.every_frame else 0.0)
        self._ready_wait_s = 0.0 if live else wait_s
        self.refused_messages = 0
        self._go_told = False
        self._finishing_ns = 0
        self._drain_ns = 0
        self._moves: list[int] = []
        self._moved_ns = 0
        self._captured_all = False
        self._presented_all = False
        self._recorded_all = not spec.records_at_start
        self._recording = spec.record_at_start
        self._recording_state: dict[str, Any] = {}
        self._over = False
        self._last_tick_ns = time.monotonic_ns()
        self._blind_until_ns = 0

    def _plan(self) -> list[Watched]:
        config, beat_s = self.config, self.config.supervisor.heartbeat_timeout_s
        stages = [Watched("overlay", True, _READY_TIMEOUT_S, beat_s, config.overlay.nice)]
        if self.spec.sinks or self.spec.session:
            wanted = self.spec.records_at_start
            stages.append(Watched("record", False, _READY_TIMEOUT_S, beat_s, config.record.nice, wanted))
        return [
            *stages,
            Watched("capture", True, _READY_TIMEOUT_S, beat_s, config.capture.nice),
            Watched(
                "infer", False, config.infer.open_timeout_s, config.infer.hang_timeout_s, config.infer.nice
            ),
            Watched("preprocess", False, _READY_TIMEOUT_S, beat_s, config.preprocess.nice),
        ]

    @property
    def stages(self) -> Mapping[str, Watched]:
        """The stages under watch by name, once they are wanted; to be read only."""
        return {name: stage for name, stage in self._stages.items() if stage.wanted}

    @property
    def rings(self) -> list[KeptRing]:
        """The rings that are kept."""
        return self._rings.all()

    @property
    def status(self) -> str:
        """``running``, ``finishing`` (nothing new is taken in), or ``ended``."""
        if self.outcome.ended_ns:
            return "ended"
        return "finishing" if self._finishing_ns or self._over or self._captured_all else "running"

    # The run

    def run(self) -> Outcome:
        """Run to the end; returns when every stage is gone."""
        previous = self._catch_signals()
        try:
            for stage in self._stages.values():
                if stage.wanted:
                    self._start(stage)
            while not self._over:
                self._step()
        finally:
            self._stop_all()
            self._restore_signals(previous)
            self.outcome.ended_ns = time.monotonic_ns()
            self._rings.close()
            self._board_block.close()  # the memory stays for whoever makes the report of it
        return self.outcome

    def finish(self) -> None:
        """Take nothing new in; what is under way ends, or is cut short after ``stop_timeout_s``. Before the first
        frame nothing is."""
        if not self._finishing_ns:
            self._finishing_ns = time.monotonic_ns()
            self._over = self._over or not (self._go_told or self.board.value("capture.captured"))
            self._send(self._stages["capture"], {"t": "finish"})
            self._send(self._stages["capture"], {"t": "go"})

    def interrupt(self) -> None:
        """As a user's Ctrl-C: the first lets what is under way end, the second cuts it short."""
        if self.outcome.interrupted:
            self._over = True
        self.outcome.interrupted = True
        self.finish()

    def fail(self, message: str, exit_code: ExitCode) -> None:
        """End the run because it cannot go on."""
        if not self.outcome.fatal:
            self.outcome.fatal, self.outcome.fatal_code = message, exit_code
        self.finish()
        self._over = self._over or not self.board.value("capture.captured")

    def tell_stage(self, name: str, message: dict[str, Any]) -> None:
        """Send a control message to a stage, if it is there."""
        if name in self._stages:
            self._send(self._stages[name], message)

    def _step(self) -> None:
        self._read_messages()
        now_ns = time.monotonic_ns()
        if now_ns - self._last_tick_ns > _OWN_GAP_NS:
            self._blind_until_ns = now_ns + _BLIND_NS
        self._last_tick_ns = now_ns
        for stage in self._stages.values():
            self._watch(stage, now_ns)
        self._let_capture_go(now_ns)
        self._mind_the_time(now_ns)
        self._tick(self)

    def _mind_the_time(self, now_ns: int) -> None:
        patience_ns = self.config.supervisor.stop_timeout_s * 1e9
        if self._finishing_ns and now_ns - self._finishing_ns > patience_ns:
            self._over = True
        if self._drain_ns and now_ns - self._drain_ns > _DRAIN_TIMEOUT_S * 1e9:
            self._note(
                "supervisor",
                "end_overdue",
                f"outputs not finished {_DRAIN_TIMEOUT_S:.0f} s after the last frame",
            )
            self._over = True
        if self._captured_all and not self._drain_ns and self._stands_still(now_ns):
            self._note(
                "supervisor",
                "end_overdue",
                f"nothing has moved for {_DRAIN_TIMEOUT_S:.0f} s after the last frame",
            )
            self._over = True

    def _stands_still(self, now_ns: int) -> bool:
        """Whether no stage has got on with anything for so long that none will."""
        moves = [self.board.value(cell) for cell in _MOVES]
        infer = self._stages["infer"]
        at_work = self.board.value("infer.busy_since_ns") or infer.state is StageState.STARTING
        if at_work or moves != self._moves:
            self._moves, self._moved_ns = moves, now_ns
        return now_ns - self._moved_ns > _DRAIN_TIMEOUT_S * 1e9

    # Starting, watching, restarting

    def _start(self, stage: Watched) -> None:
        stage.incarnation += 1
        self.board.cell(f"{stage.name}.incarnation").value = stage.incarnation
        self._set_state(stage, StageState.STARTING)
        stage.started_ns, stage.building_ns = time.monotonic_ns(), 0
        stage.progress = self._progress(stage)
        try:
            stage.handle, stage.control = self._launcher.start(
                stage.name, self.spec, self._board_block, stage.incarnation, stage.nice
            )
        except (OSError, PeerGone) as error:  # no memory or no process to be had: the others go on
            self._bury(stage, f"cannot be started ({error})", stage.started_ns)
            return
        self.board.cell(f"{stage.name}.pid").value = stage.handle.pid
        self.board.cell(f"{stage.name}.heartbeat_ns").value = stage.started_ns
        for ring in self._rings.readable_by(stage.name):
            self._send_ring(stage, ring, [])
        if stage.name == "record":
            self._forward_source_info()
            self._send(stage, {"t": "recording", "on": self._recording})
        elif stage.name in ("overlay", "capture") and self.spec.session and self._is_wanted("record"):
            self._send(stage, {"t": "record_link"})
            if stage.name == "overlay" and self._recording_state:
                self._send(stage, self._recording_state)

    def _is_wanted(self, name: str) -> bool:
        return name in self._stages and self._stages[name].wanted

    def _progress(self, stage: Watched) -> int:
        """What it got done, over all its lives; record's are pictures that a sink has written, not only taken."""
        cell = _PROGRESS.get(stage.name)
        if cell is None:
            return 0
        cells = {cell.format(number) for number in range(self.board.topology.sinks or 1)}
        return sum(self.board.value(name) for name in cells)

    def _set_state(self, stage: Watched, state: StageState) -> None:
        stage.state = state
        self.board.cell(f"{stage.name}.state").value = state
        self.board.cell(f"{stage.name}.building_percent").value = 0

    def _watch(self, stage: Watched, now_ns: int) -> None:
        if stage.handle is None:
            if stage.restart_at_ns and now_ns >= stage.restart_at_ns:
                stage.restart_at_ns = 0
                self._start(stage)
            return
        code = stage.handle.exit_code()
        if code is not None:
            self._bury(
                stage, f"killed by {_signal_name(-code)}" if code < 0 else f"ended with code {code}", now_ns
            )
        elif now_ns > self._blind_until_ns and (reason := self._hung(stage, now_ns)):
            stage.handle.kill()
            stage.handle.join(1.0)
            self._bury(stage, reason, now_ns)

    def _hung(self, stage: Watched, now_ns: int) -> str:
        """Why ``stage`` counts as hung or ill, "" if it does not."""
        if stage.state is StageState.STARTING:
            moved_ns = max(stage.started_ns, stage.building_ns)
            late = now_ns - moved_ns > stage.open_timeout_s * 1e9
            return f"not ready after {stage.open_timeout_s:g} s: killed" if late else ""
        # The last beat may lie before a long opening: being ready was a sign of life too.
        pid = stage.handle.pid if stage.handle else 0
        reason = self._health.hung(stage.name, pid, stage.hang_timeout_s, stage.ready_ns, now_ns)
        return reason or self._health.too_large(stage.name, pid, now_ns)

    def _bury(self, stage: Watched, reason: str, now_ns: int) -> None:
        """A stage is gone: say so, and plan its next life."""
        if stage.control is not None:
            self._drain_control(stage)
            stage.control.close()
        stage.handle, stage.control = None, None
        if stage.name == "capture":
            self._keep_faults()
        self._set_state(stage, StageState.DOWN)
        self.board.cell(f"{stage.name}.busy_since_ns").value = 0
        if self._over:
            return
        if stage.beyond_restart:
            self._set_state(stage, StageState.GIVEN_UP)
            return
        if stage.name == "record" and self._recording:
            self._tell_recording({**self._recording_state, "on": False, "reason": "record is down"})
        was_ready, stage.ready_ns = stage.ready_ns, 0
        idle = (
            stage.name not in _PROGRESS or not self._go_told
        )  # before the first frame there is nothing to get on with
        got_on = was_ready and (idle or self._progress(stage) > stage.progress)
        stage.failed_starts = 0 if got_on else stage.failed_starts + 1
        stable = was_ready and now_ns - was_ready > _STABLE_NS
        settings = self.config.supervisor
        stage.backoff_s = (
            settings.restart_backoff_min_s
            if stable or not stage.backoff_s
            else min(2 * stage.backoff_s, settings.restart_backoff_max_s)
        )
        if stage.failed_starts >= _FAILED_STARTS and (stage.essential or self.spec.every_frame):
            self._set_state(stage, StageState.GIVEN_UP)
            self.fail(
                f"{stage.name}: {reason}, {stage.failed_starts} times in a row without getting anywhere",
                ExitCode.FAILED,
            )
            return
        if self._is_hopeless(stage):
            self._set_state(stage, StageState.GIVEN_UP)
            self.fail(f"{stage.name}: {reason}, {stage.fruitless_lives} times in a row", ExitCode.CHECK)
            return
        self.board.cell(f"{stage.name}.restarts").add()
        stage.restart_at_ns = now_ns + int(stage.backoff_s * 1e9)
        self._note(stage.name, "stage_down", f"{reason}; starts again in {stage.backoff_s:g} s")

    def _is_hopeless(self, stage: Watched) -> bool:
        """Whether frames wait for a stage of the annotation path that dies over and over and does none of them."""
        processed = self.board.value(f"{stage.name}.processed")
        stage.fruitless_lives = stage.fruitless_lives + 1 if processed == stage.processed else 1
        stage.processed = processed
        annotates = stage.name in ("preprocess", "infer")
        return annotates and self.spec.every_frame and stage.fruitless_lives >= _FRUITLESS_LIVES

    def _let_capture_go(self, now_ns: int) -> None:
        """The first frame waits for the display side, and in a replay, for a while, for infer."""
        capture = self._stages["capture"]
        if self._go_told or self._finishing_ns or capture.state is not StageState.RUNNING:
            return
        display = [self._stages[name] for name in ("overlay", "record") if self._is_wanted(name)]
        waited_s = (now_ns - self.outcome.started_ns) / 1e9
        if not all(stage.ever_ready for stage in display) and waited_s < _READY_TIMEOUT_S:
            return
        notes = (self._stages["infer"], self._stages["preprocess"])
        ready = all(stage.ever_ready for stage in notes) or any(stage.failed_starts for stage in notes)
        if not ready and waited_s < self._ready_wait_s:
            return
        if not ready and self._ready_wait_s:
            self._note(
                "supervisor",
                "infer_late",
                f"infer is not ready after {waited_s:.0f} s; the video starts without it",
            )
        self._go_told = True
        self._send(capture, {"t": "go"})

    # Messages

    def _read_messages(self) -> None:
        channels = [stage.control for stage in self._stages.values() if stage.control is not None]
        select.select(channels, [], [], _TICK_S)
        for stage in self._stages.values():
            self._drain_control(stage)

    def _drain_control(self, stage: Watched) -> None:
        try:
            while stage.control is not None and (received := stage.control.receive()) is not None:
                self._handle(stage, received[0])
        except PeerGone:
            return  # its exit is noticed by ``_watch``

    def _handle(self, stage: Watched, message: dict[str, Any]) -> None:
        """A stage that says nonsense, as one does whose memory is damaged, takes nobody along."""
        try:
            self._handlers[message["t"]](stage, message)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
            if isinstance(error, EndostreamError):
                raise
            self.refused_messages += 1
            if self.refused_messages == 1:
                self._note(
                    stage.name, "bad_message", f"said what cannot be used: {type(error).__name__}: {error}"
                )

    def _send(self, stage: Watched, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        if stage.control is None:
            return
        try:
            stage.control.send(message, fds)
        except PeerGone:
            return

    def _on_ready(self, stage: Watched, _: dict[str, Any]) -> None:
        again = stage.ever_ready
        stage.ready_ns, stage.ever_ready = time.monotonic_ns(), True
        self._set_state(stage, StageState.RUNNING)
        if stage.name == "capture" and (self._go_told or self._finishing_ns):
            self._send(stage, {"t": "go"})
            if self._finishing_ns:
                self._send(stage, {"t": "finish"})
        if stage.name == "record":
            self._send(self._stages["overlay"], {"t": "record_restarted"})
        if again and stage.name in ("preprocess", "infer", "overlay"):
            self._send(self._stages["capture"], {"t": "resend"})
        if stage.building_ns:
            self._note(
                stage.name, "stage_ready", f"ready after {(stage.ready_ns - stage.started_ns) / 1e9:.0f} s"
            )
        if again:
            self._note(stage.name, "stage_back", "is back", "info")

    def _on_need_ring(self, stage: Watched, message: dict[str, Any]) -> None:
        role, size_hw = message["role"], (message["size_hw"][0], message["size_hw"][1])
        retired: list[int] = []
        ring = self._rings.newest(role, size_hw)
        if self.spec.every_frame and stage.rings_of != stage.incarnation:
            ring = None  # readers still need what a predecessor wrote, and its successor does not know which
        stage.rings_of = stage.incarnation
        if ring is None:
            try:
                ring, retired = self._rings.open(role, size_hw)
            except (EndostreamError, OSError) as error:
                code = error.exit_code if isinstance(error, EndostreamError) else ExitCode.FAILED
                self.fail(str(error), code)
                return
            for reader in READERS[role]:
                if reader in self._stages:
                    self._send_ring(self._stages[reader], ring, retired)
        self._send_ring(stage, ring, retired)

    def _send_ring(self, stage: Watched, ring: KeptRing, retired: list[int]) -> None:
        shape = ring.shape
        message = {
            "t": "ring",
            "role": ring.role,
            "id": shape.ring_id,
            "size_hw": list(shape.size_hw),
            "slots": shape.slots,
            "lookahead": ring.lookahead_frames,
            "window": ring.window_frames,
            "retired": retired,
        }
        self._send(stage, message, (ring.block.fd,))

    def _on_source(self, _: Watched, message: dict[str, Any]) -> None:
        info = source_info_from_message(message)
        source = self.outcome.sources[message["source_id"]]
        source.info, source.status = info, "playing"
        self._forward_source_info()

    def _forward_source_info(self) -> None:
        playing = [source.info for source in self.outcome.sources if source.info is not None]
        if self._is_wanted("record") and playing:
            fps = playing[-1].fps
            self._send(self._stages["record"], {"t": "source_info", "fps": "" if fps is None else str(fps)})

    def _on_source_faults(self, _: Watched, message: dict[str, Any]) -> None:
        self.outcome.sources[message["source_id"]].faults_now = message["faults"]

    def _keep_faults(self) -> None:
        """Capture is gone: what it said of a live source stays. Of a recording its successor counts everything anew."""
        for address, source in zip(self.spec.sources, self.outcome.sources, strict=True):
            if is_live(address):
                source.faults = source.all_faults
            source.faults_now = {}

    def _on_source_end(self, _: Watched, message: dict[str, Any]) -> None:
        source = self.outcome.sources[message["source_id"]]
        source.faults_now = {}
        source.status, source.message = message["status"], message["message"]
        source.exit_code = ExitCode(message.get("exit_code", ExitCode.DONE))
        for cause, count in message["faults"].items():
            source.faults[cause] = source.faults.get(cause, 0) + count
        damage = [
            f"{words} ({count})"
            for cause, words in _DAMAGE.items()
            if (count := message["faults"].get(cause))
        ]
        address = self.spec.sources[message["source_id"]]
        if damage and source.damage != damage:  # said once, not for every time round
            source.damage = damage
            what = f"source: {address}; damaged, the rest was played: {', '.join(damage)}"
            self._note("capture", "source_damaged", what)
        if message["message"]:
            self._note("capture", "source_failed", message["message"], "error")

    def _on_building(self, stage: Watched, message: dict[str, Any]) -> None:
        """A stage is building what it needs, for minutes: while that gets on it is not hung, and the board says so."""
        what, percent = message["what"], max(1, min(message["percent"], 100))
        if not stage.building_ns:
            self._note(stage.name, "building", f"{what}; the video runs without it meanwhile")
        elif percent // 10 != stage.built_percent // 10:
            self._tell("warning", f"{stage.name}: {what} {percent} %", "building")
        stage.building_ns, stage.built_percent = time.monotonic_ns(), percent
        self.board.cell(f"{stage.name}.building_percent").value = percent

    def _on_segmenter(self, _: Watched, message: dict[str, Any]) -> None:
        self.outcome.runtime = message["runtime"]
        self.outcome.passed_over = message["passed_over"]
        self.outcome.weights_sha256 = message["weights_sha256"]

    def _on_captured_all(self, *_: object) -> None:
        self._captured_all, self._moved_ns = True, time.monotonic_ns()

    def _on_presented_all(self, *_: object) -> None:
        self._presented_all = True
        self._drain_ns = self._drain_ns or time.monotonic_ns()
        self._over = self._over or self._recorded_all

    def _on_recorded_all(self, *_: object) -> None:
        self._recorded_all = True
        self._over = self._over or self._presented_all

    def _on_sink_failed(self, stage: Watched, message: dict[str, Any]) -> None:
        self.outcome.failed_sinks[message["sink"]] = message["message"]
        self._note(stage.name, "sink_failed", message["message"], "error")
        failed = self.outcome.failed_sinks
        session_failed = "record" in failed or all(
            f"record:{name}" in failed for name in self.spec.session_sinks
        )
        sinks_failed = all(sink in failed for sink in self.spec.sinks)
        if self.spec.every_frame and sinks_failed and (session_failed or not self._recording):
            self.finish()

    def set_recording(self, on: bool) -> None:
        """Start or stop recording the session; the record process is started when it is first wanted."""
        if not self.spec.session or self._finishing_ns or self._presented_all:
            why = "the run is ending" if self.spec.session else "this run has no session"
            self._tell_recording({"on": False, "reason": why})
            return
        self._recording = on
        record = self._stages["record"]
        if record.wanted:
            self._send(record, {"t": "recording", "on": self._recording})
        elif self._recording:
            record.wanted, self._recorded_all = True, False
            self._start(record)
            for name in ("overlay", "capture"):
                self._send(self._stages[name], {"t": "record_link"})

    def _on_recording_state(self, _: Watched, message: dict[str, Any]) -> None:
        if message["on"]:
            self.outcome.recorded = message["path"]
        self._tell_recording(message)

    def _tell_recording(self, state: dict[str, Any]) -> None:
        """Forward what the record process says of the recording, so that it can be shown."""
        was_on = self._recording_state.get("on", False)
        self._recording_state = {"path": "", "reason": "", **state, "t": "recording_state"}
        if state["on"] and not was_on:
            self._tell("info", f"record: recording into {state['path']}", "recording_on")
        elif was_on and not state["on"]:
            why = f": {state['reason']}" if state.get("reason") else ""
            self._tell("info", f"record: recording has ended{why}", "recording_off")
        self._send(self._stages["overlay"], self._recording_state)

    def _on_error(self, stage: Watched, message: dict[str, Any]) -> None:
        """A stage says that a restart would not help. Live video goes on without marks once it is running."""
        annotates = stage.name in ("preprocess", "infer")
        if annotates and stage.ever_ready and not self.spec.every_frame:
            self._note(stage.name, "stage_failed", message["message"], "error")
        else:
            stage.beyond_restart = annotates  # the display side may still have outputs to finish
            self.fail(message["message"], ExitCode(message["exit_code"]))

    def _on_log(self, stage: Watched, message: dict[str, Any]) -> None:
        if message["level"] == "info":  # a key pressed, a snapshot kept: nothing that went wrong
            self._tell("info", message["message"], "note")
        else:
            self._note(stage.name, "note", message["message"], message["level"])

    def _note(self, where: str, event: str, what: str, level: str = "warning") -> None:
        self.outcome.events.append((time.monotonic_ns(), where, what))
        self._tell(level, what if what.startswith(where) else f"{where}: {what}", event)

    # The end

    def _stop_all(self) -> None:
        """Ask every stage to end, the display side last; kill what has not ended in time.

        What is still loading hears nothing for seconds and, but for record, has no file to finish: nobody waits for it.
        """
        deadline_ns = time.monotonic_ns() + int(self.config.supervisor.stop_timeout_s * 1e9)
        for name in ("capture", "preprocess", "infer", "record", "overlay"):
            if name in self._stages:
                self._send(self._stages[name], {"t": "stop"})
        for stage in self._stages.values():
            if stage.handle is None:
                continue
            left_s = max(0.05, (deadline_ns - time.monotonic_ns()) / 1e9)
            loading = stage.state is StageState.STARTING and stage.name != "record"
            if not stage.handle.join(min(left_s, _LOADING_GRACE_S) if loading else left_s):
                if not loading:
                    self._note(stage.name, "stage_killed", "did not end in time: killed")
                stage.handle.kill()
                stage.handle.join(1.0)
            self._drain_control(stage)
            if stage.control is not None:
                stage.control.close()
            self._set_state(stage, StageState.ENDED)
        self._launcher.close()

    def _catch_signals(self) -> dict[int, Any]:
        try:
            return {
                number: signal.signal(number, lambda *_: self.interrupt())
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            }
        except (
            ValueError
        ):  # not in the main thread (tests, another program): whoever is there has the signals
            return {}

    @staticmethod
    def _restore_signals(previous: dict[int, Any]) -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
