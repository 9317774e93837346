"""The log on stderr: a line of text or a JSON object for each event, the same for every command and stage.

Separate from those who log, which use the logger ``endostream`` and know no format. Stages have no log of their own:
they tell the supervisor. In the JSON format each line has::

    time          UTC, ISO 8601 with milliseconds
    monotonic_ns  the clock of all times in reports and recordings' logs
    level         info, warning, error
    stage         who it is about: capture, preprocess, infer, overlay, record, or supervisor
    event         what kind of line it is, a word: stage_down, stderr, progress, …; all stand in docs/service.md
    message       the line as the text format has it
    run           the run's id, null before there is one

and whatever fields the event has besides. Times of recordings' pictures are in their own files, not here.
"""

import json
import logging
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import IO, Any, Literal, TextIO

from .supervision import STAGES

LogFormat = Literal["auto", "text", "json"]
FORMATS: tuple[LogFormat, ...] = ("auto", "text", "json")
OPTION = "--log-format"
_LONGEST_LINE_BYTES = 8192
logger = logging.getLogger("endostream")


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what ``sys.stderr`` is at the time."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """Where it writes."""
        return sys.stderr

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Nobody reads the log any more: the run goes on."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line, in ASCII: whatever a message holds, a line stays a line.

    Attributes:
        run_id: of the run, None before there is one.
    """

    run_id: str | None = None

    def format(self, record: logging.LogRecord) -> str:
        """The line for one record."""
        message = record.getMessage()
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "monotonic_ns": time.monotonic_ns(),
            "level": record.levelname.lower(),
            "stage": getattr(record, "stage", None) or stage_of(message),
            "event": getattr(record, "event", "note"),
            "message": message,
            "run": self.run_id,
        }
        return json.dumps(fields | getattr(record, "fields", {}), default=str)


def stage_of(message: str) -> str:
    """The stage that a line begins with, ``supervisor`` if with none."""
    first = message.partition(":")[0]
    return first if first in STAGES else "supervisor"


def set_up(log_format: LogFormat) -> None:
    """Have everything from ``info`` on written to stderr; ``auto``: text on a terminal, JSON elsewhere."""
    plain = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    handler = StderrHandler()
    handler.setFormatter(logging.Formatter("%(message)s") if plain else JsonFormatter())
    for old in [each for each in logger.handlers if isinstance(each, StderrHandler)]:
        logger.removeHandler(old)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def is_json() -> bool:
    """Whether lines are JSON objects."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in logger.handlers)


def name_run(run_id: str) -> None:
    """Put the run's id into every line from now on."""
    for handler in logger.handlers:
        if isinstance(handler.formatter, JsonFormatter):
            handler.formatter.run_id = run_id


def log_what_is_said(stage: str, stderr: IO[bytes]) -> threading.Thread:
    """Log every line that a stage's process writes on its stderr (libraries, a crash); the thread ends with it."""

    def read() -> None:
        with stderr:
            while line := stderr.readline(_LONGEST_LINE_BYTES):
                text = line.decode(errors="replace").rstrip()
                if text:
                    logger.warning("%s: %s", stage, text, extra={"event": "stderr", "stage": stage})

    thread = threading.Thread(target=read, name=f"{stage}-stderr", daemon=True)
    thread.start()
    return thread


def asked_format(arguments: Sequence[str]) -> LogFormat:
    """The format that a command line asks for, before it is read properly: its own mistakes are logged too."""
    for index, word in enumerate(arguments):
        value = word.removeprefix(f"{OPTION}=") if word.startswith(f"{OPTION}=") else ""
        if word == OPTION:
            value = next(iter(arguments[index + 1 : index + 2]), "")
        if value in FORMATS:
            return value
    return "text"
