"""The pictures that a command writes to its stdout: ``pipe:COMMAND``, as YUV4MPEG2 or raw (``live.pipe_format``).

This is how anything a vendor's tool, GStreamer or FFmpeg can capture comes in (DeckLink, AJA, NDI). Separate from
running the command (``child_command.py``) and from the format's header (``yuv4mpeg.py``). A thread reads as fast as the
command writes, so that nothing piles up in it: what nobody took in time is replaced by what is newer. What the command
says on stderr goes to the log, line by line.
"""

import os
import re
import select
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from types import TracebackType
from typing import Self

import numpy as np

from endostream.configs.errors import ConfigError, SourceLost, SourceMissing

from ..frame import SizeHW, SourcePicture
from ..source import SourceInfo, SourceOptions
from . import yuv4mpeg
from .child_command import ChildCommand
from .convert import Bytes, RawConverter, RawFormat
from .latest import Latest
from .live_address import redacted
from .live_hints import pipe_hint
from .live_options import LiveOptions

TIME_BASE = Fraction(1, 1_000_000_000)
_STEP_S = 0.05
_POLL_MS = 50
_LONGEST_LINE = 4096
_LONGEST_LOGGED = 300
_LINES_LOGGED = 20
"""Lines of stderr that are logged a second; the rest is counted."""
_SPARE_PICTURES = 4
_LINE_ENDS = re.compile(rb"[\r\n]+")


@dataclass(frozen=True, slots=True)
class _Read:
    """A whole picture: its bytes, number and the arrival of its last byte."""

    data: Bytes
    seq: int
    arrival_ns: int


class _Ended(Exception):
    """Nothing more comes; the text says why."""


class PipeReader(threading.Thread):
    """Reads pictures and stderr of a command until it ends or ``stop`` is called.

    Attributes:
        latest: the newest picture; ends with SourceLost.
        converter, header: known as soon as ``ready`` is set; ``ready`` is set at the end, too.
    """

    def __init__(self, child: ChildCommand, name: str, live: LiveOptions) -> None:
        super().__init__(name="pipe", daemon=True)
        self.latest: Latest[_Read] = Latest()
        self.faults: Counter[str] = Counter()
        self.ready = threading.Event()
        self.header: yuv4mpeg.StreamHeader | None = None
        self.converter: RawConverter | None = None
        self._child = child
        self._name = name
        self._live = live
        self._stopped = threading.Event()
        self._raw = live.settings.pipe_format != "yuv4mpeg"
        self._spare: deque[Bytes] = deque(maxlen=_SPARE_PICTURES)
        self._said = b""
        self._last_line = ""
        self._held_line = ""  # of _last_line, until it is clear that it is not why the command ends
        self._said_at_s, self._lines = 0, 0
        self._poller = select.poll()
        self._poller.register(child.stdout, select.POLLIN)
        self._poller.register(child.stderr, select.POLLIN)

    def stop(self) -> None:
        """Ask the thread to end; it does within 0.1 s."""
        self._stopped.set()

    def give_back(self, data: Bytes) -> None:
        """Let the memory of a picture be used again."""
        self._spare.append(data)

    def run(self) -> None:
        """Read until the end, and say why that was."""
        reason = "stopped"
        try:
            self._begin()
            self._read_pictures()
        except (_Ended, ConfigError, ValueError) as error:
            reason = str(error)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
        self._flush_said()
        self._log_held()
        self.latest.end(SourceLost(f"{self._name}; {reason}"))
        self.ready.set()

    def _begin(self) -> None:
        settings = self._live.settings
        if self._raw:
            size_hw = settings.size_hw
            if size_hw is None:
                raise ConfigError("live.pipe_format: expected live.width, live.height and live.fps with it")
            self.header = yuv4mpeg.StreamHeader(size_hw, settings.rate, settings.pipe_format, "", "")
        else:
            self.header = yuv4mpeg.parse_header(self._line(b""))
        raw = RawFormat(self.header.pixel_format, self.header.size_hw, range=self.header.range)
        self.converter = RawConverter(raw)

    def _read_pictures(self) -> None:
        assert self.converter is not None
        number = 0
        while not self._stopped.is_set():  # a command that writes without end never lets ``_wait`` look
            if not self._raw:
                self._frame_line()
            data = self._buffer(self.converter.frame_bytes)
            self._fill(data.data)
            replaced = self.latest.put(_Read(data, number, time.monotonic_ns()))
            self.ready.set()
            if replaced is not None:
                self.faults["superseded"] += 1
                self.give_back(replaced.data)
            number += 1

    def _buffer(self, size: int) -> Bytes:
        try:
            return self._spare.popleft()
        except IndexError:
            return np.empty(size, np.uint8)

    def _frame_line(self) -> None:
        begun = self._exactly(len(yuv4mpeg.FRAME) + 1)
        if not begun.startswith(yuv4mpeg.FRAME) or begun[-1:] not in (b"\n", b" "):
            raise _Ended(f"garbage where a picture should begin: {begun!r}")
        self._line(begun)

    def _line(self, begun: bytes) -> bytes:
        """The rest of a line of which ``begun`` was read, all of it without the newline."""
        line = begun
        while not line.endswith(b"\n"):
            if len(line) > _LONGEST_LINE:
                raise _Ended(f"begins with {line[:16]!r}; expected a line of text")
            line += self._exactly(1)
        return line[:-1]

    def _exactly(self, size: int) -> bytes:
        data = bytearray(size)
        self._fill(memoryview(data))
        return bytes(data)

    def _fill(self, into: memoryview) -> None:
        """Read until ``into`` is full; raises _Ended if the command ends before."""
        filled = 0
        while filled < len(into):
            try:
                count = os.readv(self._child.stdout, [into[filled:]])
            except BlockingIOError:
                self._wait()
                continue
            if not count:
                raise _Ended(self._why_it_ended())
            filled += count

    def _wait(self) -> None:
        if self._stopped.is_set():
            raise _Ended("stopped")
        ready = self._poller.poll(_POLL_MS)
        if not ready:
            self._log_held()
        for fd, events in ready:
            if fd == self._child.stderr and not (events & select.POLLIN and self._listen()):
                self._poller.unregister(fd)

    def _why_it_ended(self) -> str:
        """The exit code, for which the end of stdout may have to be waited a moment."""
        for _ in range(10):
            if self._child.exit_code() is not None:
                break
            self._stopped.wait(_STEP_S)
        code = self._child.exit_code()
        self._listen()
        self._flush_said()
        if code is None:
            return "the command has closed its output"
        if code < 0:
            return f"the command was ended by signal {-code}"
        if not code or not self._last_line:
            return f"the command has ended with code {code}"
        self._held_line = ""
        return f"the command has ended with code {code}: {self._last_line}"

    # What it says

    def _listen(self) -> bool:
        """Log what stands on stderr; False at its end."""
        try:
            data = os.read(self._child.stderr, 1 << 16)
        except BlockingIOError:
            return True
        *lines, self._said = _LINE_ENDS.split(self._said + data)
        for line in lines:
            self._log(line)
        if len(self._said) > _LONGEST_LINE:
            self._flush_said()
        return bool(data)

    def _flush_said(self) -> None:
        self._log(self._said)
        self._said = b""

    def _log(self, line: bytes) -> None:
        text = "".join(c if c.isprintable() else " " for c in line.decode(errors="replace")).strip()
        if not text:
            return
        self._log_held()
        self._last_line = self._held_line = redacted(text[:_LONGEST_LOGGED])

    def _log_held(self) -> None:
        """Log the last line, now that it will not be told as the reason of an end."""
        text, self._held_line = self._held_line, ""
        if not text:
            return
        second = int(time.monotonic())
        if second != self._said_at_s:
            self._said_at_s, self._lines = second, 0
        self._lines += 1
        if self._lines <= _LINES_LOGGED:
            self._live.log(f"pipe: {text}", "info")
        else:
            self.faults["log_lines_left_out"] += 1


class PipeSource:
    """The stdout of a command as a source.

    Raises:
        SourceMissing: the command is not there, or ended without a picture, or writes something else.
        SourceLost: nothing came from it in ``live.open_timeout_s``.
    """

    def __init__(self, address: str, options: SourceOptions | None = None) -> None:
        self._live = LiveOptions.from_extra((options or SourceOptions()).extra)
        self._name = f"source: {redacted(address)}"
        command = address.removeprefix("pipe:").strip()
        self._command = command
        if not command:
            raise ConfigError("source: pipe:; expected pipe:COMMAND, e.g. pipe:'ffmpeg … -f yuv4mpegpipe -'")
        try:
            self._child = ChildCommand(command)
        except OSError as error:
            raise SourceMissing(f"{self._name}; cannot be started ({error.strerror})") from error
        self._reader = PipeReader(self._child, self._name, self._live)
        self._reader.start()
        try:
            self._first: _Read | None = self._wait_for_the_first()
        except BaseException:
            self.close()
            raise
        header, converter = self._reader.header, self._reader.converter
        assert header is not None
        assert converter is not None
        self._size_hw: SizeHW = header.size_hw
        self.info = SourceInfo(
            address=address,
            kind="pipe",
            size_hw=header.size_hw,
            fps=header.fps or self._live.settings.rate,
            time_base=TIME_BASE,
            codec="rawvideo",
            pixel_format=header.pixel_format,
            colour_matrix=converter.colour_matrix,
            colour_range=converter.colour_range,
            assumed=(*converter.assumed, *(() if header.fps else ("fps",))),
            live=True,
        )
        if header.interlaced:
            self._live.log(f"{self._name}; is interlaced and shown as it comes", "info")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait_for_the_first(self) -> _Read:
        """The first picture; a command that ends without one is told from one that is slow."""
        begun_s = time.monotonic()
        while time.monotonic() - begun_s < self._live.settings.open_timeout_s:
            if self._live.stopping():
                raise SourceLost(f"{self._name}; no picture yet")
            try:
                read = self._reader.latest.take(_STEP_S)
            except SourceLost as error:
                hint = pipe_hint(self._command, self._child.exit_code())
                raise SourceMissing(f"{error}, before the first picture. Try: {hint}") from error
            if read is not None:
                return read
        raise SourceLost(f"{self._name}; no picture in {self._live.settings.open_timeout_s:g} s")

    def __iter__(self) -> Iterator[SourcePicture]:
        """Pictures as they come; raises SourceLost when none do or the command ends."""
        assert self._reader.converter is not None
        silent_s = 0.0
        while not self._live.stopping():
            first, self._first = self._first, None
            read = self._reader.latest.take(_STEP_S, first)
            if read is None:
                silent_s += _STEP_S
                if silent_s > self._live.settings.silence_s:
                    raise SourceLost(f"{self._name}; no picture for {self._live.settings.silence_s:g} s")
                continue
            silent_s = 0.0
            fill = partial(self._reader.converter.fill, read.data)
            yield SourcePicture(read.seq, read.arrival_ns, TIME_BASE, self._size_hw, fill, read.arrival_ns)
            self._reader.give_back(read.data)

    @property
    def faults(self) -> dict[str, int]:
        """``superseded`` (a newer picture was there), ``log_lines_left_out``."""
        return dict(self._reader.faults)

    def close(self) -> None:
        """Kill the command and all it has started."""
        self._reader.stop()
        self._reader.join(1.0)
        self._child.close()
