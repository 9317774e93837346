"""A recorded session: a folder with the video as it came, the video with marks, a line for each frame, and what it is.

    session.json     what, when, of which source, with which segmenter and versions, and the parts with their files
    raw.mkv          video without marks, as it came
    overlay.mkv      video with marks
    frames.jsonl     a line for each presented frame, with its mask
    report.json      the run's report, once that has ended

Every start of recording, and every restart of the record process, begins a new part; parts and segments are numbered
in one series (``raw-0001.mkv``) and nothing is ever overwritten. ``session.json`` is replaced as a whole whenever a
file begins, so that a session that was cut off still says what it consists of. Separate from what writes the
files and from what plays them. It holds no picture.
"""

import json
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from endostream.configs.errors import ConfigError, SinkError, SourceMissing

SCHEMA = 1
SESSION_FILE, LOG_FILE, REPORT_FILE = "session.json", "frames.jsonl", "report.json"
VIDEO_STREAMS = ("raw", "overlay")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a session as it was read: its number and its files by stream."""

    number: int
    files: dict[str, list[Path]]


def is_session(folder: Path) -> bool:
    """Whether ``folder`` holds a recorded session."""
    return (folder / SESSION_FILE).is_file()


def new_session_folder(given: Path | None, base: str, now: datetime) -> Path:
    """Where this run's session goes: the folder given, else one named after the time in ``base``."""
    if given is not None:
        return given.resolve()
    folder = Path(base).resolve() / now.strftime("%Y-%m-%dT%H-%M-%SZ")
    number, free = 1, folder
    while free.exists():  # a second run in the same second
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


def check_session_folder(folder: Path) -> None:
    """Raise SinkError or ConfigError unless a session can be recorded there; leaves nothing behind."""
    try:
        if folder.exists() and not folder.is_dir():
            raise ConfigError(
                f"record: {folder}; is a file, expected a folder. Try: --record {folder}.session"
            )
        if folder.exists() and any(folder.iterdir()):
            raise ConfigError(f"record: {folder}; holds something, expected a new folder. Try: another name")
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        try:
            (folder / SESSION_FILE).touch()
            (folder / SESSION_FILE).unlink()
        finally:
            for path in made:
                path.rmdir()
    except OSError as error:
        if isinstance(error, SinkError):
            raise
        raise _cannot_write(folder, error) from error


def _cannot_write(folder: Path, error: OSError) -> SinkError:
    return SinkError(f"record: {folder}; cannot be written ({error.strerror}). Try: another folder")


def utc_now() -> str:
    """ISO 8601 to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class SessionWriter:
    """Writes ``session.json`` and names the files; makes the folder, or goes on with one it finds.

    Args:
        folder: of the session.
        about: what the session is, for ``session.json``.
        segmented: whether the first file is numbered too.

    Raises:
        SinkError: the folder cannot be written.
    """

    def __init__(self, folder: Path, about: dict[str, Any], segmented: bool) -> None:
        self.folder = folder
        self._segmented = segmented
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if is_session(folder):
                self._content = json.loads((folder / SESSION_FILE).read_text(encoding="utf-8"))
            else:
                self._content = {"schema": SCHEMA, "began_utc": utc_now(), **about, "parts": []}
        except OSError as error:
            raise _cannot_write(folder, error) from error

    @property
    def parts(self) -> int:
        """How many parts have begun."""
        return len(self._content["parts"])

    def begin_part(self) -> int:
        """Begin the next part; returns its number."""
        with self._lock:
            number = self.parts
            files: dict[str, list[str]] = {stream: [] for stream in VIDEO_STREAMS}
            self._content["parts"].append({"part": number, "began_utc": utc_now(), **files})
            self._save()
        return number

    def next_file(self, stream: str) -> Path:
        """The next file of ``stream`` in the newest part; it stands in ``session.json`` before it is there."""
        with self._lock:
            number = sum(len(part[stream]) for part in self._content["parts"])
            name = f"{stream}-{number:04d}.mkv" if number or self._segmented else f"{stream}.mkv"
            self._content["parts"][-1][stream].append(name)
            self._save()
        return self.folder / name

    def _save(self) -> None:
        file = self.folder / SESSION_FILE
        beside = file.with_name(f".{SESSION_FILE}.new")
        text = json.dumps(self._content, indent=2, ensure_ascii=False)
        try:
            beside.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
            beside.replace(file)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise _cannot_write(self.folder, error) from error


def read_session(folder: Path) -> dict[str, Any]:
    """What ``session.json`` says; raises SourceMissing if it cannot be read."""
    try:
        content = json.loads((folder / SESSION_FILE).read_text(encoding="utf-8"))
        schema = content["schema"]
        content["parts"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceMissing(f"source: {folder}; {SESSION_FILE} cannot be read ({error})") from error
    if schema != SCHEMA:
        raise SourceMissing(f"source: {folder}; session of schema {schema}; expected {SCHEMA}")
    return dict(content)


def parts_of(folder: Path, content: dict[str, Any]) -> list[Part]:
    """The parts of a session that was read, in order."""
    return [
        Part(
            part["part"],
            {stream: [folder / Path(name).name for name in part[stream]] for stream in VIDEO_STREAMS},
        )
        for part in content["parts"]
    ]
