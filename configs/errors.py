"""Errors and exit codes that every part shares. Separate so that nothing has to import the pipeline to raise one.

A message reads ``what: value; expected. Try: …`` and is shown to the user as one line, without a traceback.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process tells the shell."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    SOURCE = 3
    MODEL = 4
    CHECK = 5
    INTERRUPTED = 130


class EndostreamError(Exception):
    """Root of all errors a user can meet; ``exit_code`` is what the command ends with."""

    exit_code: ExitCode = ExitCode.FAILED


class ConfigError(EndostreamError, ValueError):
    """A setting, an option or an argument that cannot be used as given."""

    exit_code = ExitCode.USAGE


class SourceMissing(EndostreamError, FileNotFoundError):
    """The source is not there, or is nothing that can be played."""

    exit_code = ExitCode.SOURCE

    # FileNotFoundError formats itself from errno; ours is the plain message.
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class SourceLost(EndostreamError, ConnectionError):
    """The source was there and has gone away, or no longer yields pictures."""

    exit_code = ExitCode.SOURCE

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class ModelError(EndostreamError, RuntimeError):
    """A model, engine or runtime that is missing, damaged or not for this machine."""

    exit_code = ExitCode.MODEL


class SinkError(EndostreamError, OSError):
    """An output that cannot be written."""

    exit_code = ExitCode.FAILED

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class CheckFailed(EndostreamError, AssertionError):
    """A check the user asked for, or the ledger, was not met."""

    exit_code = ExitCode.CHECK
