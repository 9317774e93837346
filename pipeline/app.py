"""A run from request to exit code: sets the supervisor up, shows progress, makes the report, and says how it ended.

The command line and Python programs come in here. What is checked before is in ``request.py``; nothing here knows
how an option was spelt.
"""

import importlib
import logging
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path

from rich.console import Console

from endostream.configs.errors import EndostreamError, ExitCode

from . import log_lines
from .environment import environment
from .frame import MaskState
from .host import RunSpec
from .launcher import Launcher, ProcessLauncher, ThreadLauncher
from .monitoring.metrics import snapshot
from .monitoring.metrics_server import MetricsServer
from .monitoring.metrics_socket import RecordServer
from .monitoring.notify import Notifier, RunNotices
from .progress import Progress
from .report import Report, RunTotals, ledger_errors, report_from_totals, report_json, write_report
from .report_table import print_report
from .request import RunRequest
from .rundir import RunDirectory
from .sessions.session import REPORT_FILE, new_session_folder
from .source import source_kind
from .sources.live_address import redacted
from .summary import print_summary, summary_rows, write_summary
from .supervisor import Outcome, Supervisor
from .totals import run_totals

logger = logging.getLogger("endostream")
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def run(request: RunRequest) -> int:
    """Do the run, print or write its report, return the exit code. Prints one line for everything that went wrong."""
    with ExitStack() as stack:
        progress = stack.enter_context(nullcontext() if request.quiet else _progress(request))
        totals, outcome = play(request, _Ticker(progress, _notices(stack)))
    session = Path(outcome.recorded) if outcome.recorded else None
    report = concluded(totals, outcome, request)
    _log_end(report)
    return _publish(report, request, session)


def _progress(request: RunRequest) -> Progress:
    """How the run gets on: a bar on a terminal, unless each line there is to be JSON."""
    console = Console(stderr=True, force_terminal=False) if log_lines.is_json() else None
    return Progress(*expected(request), console=console)


def play(
    request: RunRequest, tick: Callable[[Supervisor], None], *, chaos: bool = False
) -> tuple[RunTotals, Outcome]:
    """Do the run; ``tick`` is called some fifty times a second, and with ``chaos`` stages can be told to go wrong."""
    started = datetime.now(UTC)
    with ExitStack() as stack:
        directory = _run_directory(request, stack)
        launcher = _launcher(directory)
        spec = replace(run_spec(request), endpoints=launcher.endpoints, chaos=chaos)
        supervisor = Supervisor(spec, request.config, launcher, _tell, tick)
        log_lines.name_run(supervisor.outcome.run_id)
        _log_begin(supervisor)
        _serve_metrics(supervisor, request, directory, stack)
        outcome = supervisor.run()
    totals = run_totals(supervisor.board, spec, outcome, request.config.infer.segmenter)
    totals.run_id = outcome.run_id
    totals.started_utc = started.isoformat(timespec="milliseconds")
    totals.command = [redacted(word) for word in request.command]
    totals.config = request.config.model_dump()
    totals.environment = environment()
    return totals, outcome


def concluded(totals: RunTotals, outcome: Outcome, request: RunRequest) -> Report:
    """The report, after status and exit code were settled and what went wrong was told."""
    conclude(totals, outcome, request)
    return report_from_totals(totals)


def run_spec(request: RunRequest) -> RunSpec:
    """What the stages are told; the endpoints are filled in when the launcher is known."""
    return RunSpec(
        endpoints="",
        mode=request.config.effective_mode(),
        config=request.config.model_dump(),
        sources=tuple(request.sources),
        presenting=request.presenting.label,
        sinks=tuple(spec.label for spec in request.recording),
        session=str(new_session_folder(request.record, request.config.record.folder, datetime.now(UTC))),
        record_at_start=request.record is not None or request.config.record.at_start,
        recorded_masks=request.recorded_masks,
    )


def _run_directory(request: RunRequest, stack: ExitStack) -> RunDirectory | None:
    """Where the sockets of processes lie; threads need none."""
    threads = request.config.supervisor.launcher == "threads"
    return None if threads else stack.enter_context(RunDirectory())


def _launcher(directory: RunDirectory | None) -> Launcher:
    if directory is None:
        return ThreadLauncher("inproc://endostream/")
    return ProcessLauncher(f"ipc://{directory.path}/")


def _notices(stack: ExitStack) -> RunNotices | None:
    """Whom to tell how it goes if a service manager has started us."""
    notifier = Notifier.from_environment()
    return None if notifier is None else RunNotices(stack.enter_context(closing(notifier)))


def _log_begin(supervisor: Supervisor) -> None:
    """The first line of a log that machines read: what runs."""
    if log_lines.is_json():
        spec = supervisor.spec
        fields = {
            "version": metadata.version("endostream"),
            "sources": [redacted(source) for source in spec.sources],
            "sinks": [spec.presenting, *spec.sinks],
            "mode": spec.mode,
        }
        logger.info("the run begins", extra={"event": "begin", "fields": fields})


def _log_end(report: Report) -> None:
    """The last line of a log that machines read: how it ended."""
    if log_lines.is_json():
        frames = report.frames
        fields = {
            "status": report.status,
            "exit_code": report.exit_code,
            "duration_s": report.duration_s,
            "captured": frames.captured,
            "presented": frames.presented,
            "ledger_closed": frames.ledger_closed,
            "restarts": {name: stage.restarts for name, stage in report.stages.items()},
        }
        logger.info("the run has ended", extra={"event": "end", "fields": fields})


def _serve_metrics(
    supervisor: Supervisor, request: RunRequest, directory: RunDirectory | None, stack: ExitStack
) -> None:
    """Let others ask how the run goes until the stack is closed."""
    record = partial(snapshot, supervisor)
    if directory is not None:
        stack.enter_context(RecordServer(directory.path, record))
    if request.config.metrics.listen:
        stack.enter_context(MetricsServer(request.config.metrics.listen, record))


def expected(request: RunRequest) -> tuple[int | None, float | None]:
    """Frames and seconds the run will have, None where unknown; for a person to watch, so only on a terminal."""
    replay = request.config.replay
    if not sys.stderr.isatty() or not replay.loop:
        return None, None
    frames, seconds = 0.0, 0.0
    for address in request.sources:
        length_s, fps = source_length(address, request)
        if length_s is None or fps is None:
            return None, None
        played_s = min(max(0.0, length_s - replay.start_s), replay.duration_s or length_s)
        seconds += played_s * replay.loop
        frames += played_s * fps * replay.loop
    return round(frames), seconds / replay.factor if replay.factor else None


def source_length(address: str, request: RunRequest) -> tuple[float | None, float | None]:
    """Seconds and frames a second of a recorded source by its header, None where it does not say."""
    kind = source_kind(address)
    if kind == "phantom":
        return request.config.phantom.duration_s, float(request.config.phantom.rate)
    if kind != "file" or not Path(address).is_file():
        return None, None
    probe = importlib.import_module("endostream.replay.video_probe").probe_video
    try:
        facts = probe(Path(address))
    except EndostreamError:
        return None, None
    return facts.length_s, facts.fps


class _Ticker:
    """Feeds the progress display, and a service manager if there is one, from the board."""

    def __init__(self, progress: Progress | None, notices: RunNotices | None = None) -> None:
        self._progress = progress
        self._notices = notices

    def __call__(self, supervisor: Supervisor) -> None:
        if self._notices is not None:
            self._notices(supervisor)
        if self._progress is None:
            return
        board = supervisor.board
        captured, presented = board.value("capture.captured"), board.value("overlay.presented")
        drops = board.group("capture-overlay.dropped")
        newest = MaskState(board.value("overlay.mask_state"))
        self._progress.update(captured, presented, sum(drops.values()), newest)


def _tell(level: str, text: str, event: str) -> None:
    logger.log(_LEVELS[level], "%s", text, extra={"event": event})


def _broken_promises(totals: RunTotals, outcome: Outcome, recorded_masks: bool) -> list[str]:
    """What every-frame mode promises and this run did not keep, a line each. Failures that were recorded are none."""
    failed, dropped = totals.mask_state.get(MaskState.FAILED.label), sum(totals.frames.dropped.values())
    lines = [f"{failed} frames got no mask"] if failed and not recorded_masks else []
    lines += [f"{dropped} frames were dropped in every-frame mode"] if dropped else []
    lost = {} if outcome.interrupted else totals.sinks
    lines += [
        f"{label}: {sink.dropped} frames were not written"
        for label, sink in lost.items()
        if sink.dropped and label not in outcome.failed_sinks
    ]
    return lines


def conclude(totals: RunTotals, outcome: Outcome, request: RunRequest) -> None:
    """Settle status and exit code: what went wrong first wins over the ledger, the ledger over a lost source."""
    code, status = ExitCode.DONE, "done"
    not_done = [source for source in totals.sources if source.status in ("missing", "lost")]
    if outcome.failed_sinks:
        code, status = ExitCode.FAILED, "failed"
    if not_done:
        asked_wrongly = {outcome.sources[source.index].exit_code for source in not_done} == {ExitCode.USAGE}
        code, status = ExitCode.USAGE if asked_wrongly else ExitCode.SOURCE, "failed"
    broken = (
        _broken_promises(totals, outcome, request.recorded_masks)
        if request.config.effective_mode() == "every-frame"
        else []
    )
    for line in broken:
        _tell("error", f"{line}; see the report", "promise_broken")
        code, status = ExitCode.CHECK, "failed"
    for line in ledger_errors(totals):
        _tell("error", f"ledger: {line}", "ledger_open")
        code, status = ExitCode.CHECK, "failed"
    if outcome.fatal:
        _tell("error", outcome.fatal, "run_failed")
        code, status = outcome.fatal_code, "failed"
    elif outcome.interrupted:
        code, status = ExitCode.INTERRUPTED, "interrupted"
    totals.exit_code, totals.status = int(code), status


def _publish(report: Report, request: RunRequest, session: Path | None) -> int:
    """Write the report and print it; a report that cannot be written makes the run a failed one."""
    code = report.exit_code
    for file in (request.report, session and session / REPORT_FILE):
        if file is None:
            continue
        try:
            write_report(file, report)
        except EndostreamError as error:
            _tell("error", str(error), "report_failed")
            code = code or int(error.exit_code)
    if request.summary is not None:
        try:
            write_summary(request.summary, summary_rows(report.sources))
        except EndostreamError as error:
            _tell("error", str(error), "report_failed")
            code = code or int(error.exit_code)
    if request.json:
        sys.stdout.write(report_json(report))
    elif not request.quiet:
        console = Console()
        print_report(report, console)
        if len(report.sources) > 1:
            print_summary(report.sources, console)
    return code
