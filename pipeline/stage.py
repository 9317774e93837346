"""Stages that turn one message into one: the contract, and the loop that runs it between two links.

A ``Stage`` computes: it has no socket, no clock and no thread, and is tested by calling ``process``. The loop owns
waiting, stamps, drops, credit and errors. Capture, overlay and record have loops of their own, because they have
another number of inputs or outputs.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from endostream.configs.errors import EndostreamError

from .frame import Stamp
from .host import StageHost
from .link import LinkReader, LinkWriter, Received
from .wire import FrameHeader, Kind, WireError, pack_fail, unpack_fail, unpack_frame, unpack_tensor

_ERRORS_IN_A_ROW = 3
"""After so many failures in a row a stage ends, and starts afresh."""


class Drop(Exception):
    """Raised by ``process`` for a message that is to be dropped; ``cause`` is one of READER_CAUSES.

    ``told``: why there is no mask, in words, where the user is to see that in live mode too; else "".
    """

    def __init__(self, cause: str, told: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.told = told


class StageBroken(RuntimeError):
    """A stage that failed so often, or in such a way, that only a fresh start can help; its process ends."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a stage makes of a message: kind, body without stamps applied, payload."""

    kind: Kind
    header: Any
    payload: Any


class Stage(Protocol):
    """One step of the annotation path.

    ``sends_again``: whether output that died with its reader goes to the reader's successor (every-frame mode). Only
    right where it cannot have been what the reader died of.
    """

    name: str
    takes: Kind
    sends_again: bool

    def open(self) -> None:
        """Load and warm up; raises EndostreamError if it cannot work on this machine."""

    def process(self, message: Received, header: Any) -> Output:
        """Turn one message into one output; raises Drop, StageBroken, or anything else for a failure."""

    def close(self) -> None:
        """Give back what it holds."""


def header_of(message: Received) -> Any:
    """The typed header of a data message; raises WireError."""
    if message.kind is Kind.FRAME:
        return unpack_frame(message.body)
    if message.kind is Kind.TENSOR:
        return unpack_tensor(message.body)
    raise WireError(f"kind: {message.kind.name}; not for this stage")


def frame_of(header: Any) -> FrameHeader:
    """The frame header inside any header."""
    return header if isinstance(header, FrameHeader) else header.frame


def stamped(header: Any, stamp: Stamp) -> Any:
    """The same header, its frame stamped once more."""
    if isinstance(header, FrameHeader):
        return replace(header, stamps=(*header.stamps, stamp))
    return replace(header, frame=stamped(header.frame, stamp))


class StageLoop:
    """Runs a stage between the link it reads and the link it writes until the host says stop.

    Live: of the messages that are there only the newest is processed, and output that finds no credit is dropped.
    Every-frame: each is processed in order, output waits for credit, and a failure is passed on as FAIL, so that
    each frame gets exactly one answer.
    """

    def __init__(self, host: StageHost, stage: Stage, reads: str, writes: str) -> None:
        self.host = host
        self.stage = stage
        board, clock, context = host.board, host.clock, host.context
        self.reader = LinkReader(context, host.endpoint(reads), reads, board, clock)
        window = host.config.links.window_frames
        self.writer = LinkWriter(context, host.endpoint(writes), writes, window, board, clock)
        host.watch(self.reader.socket)
        host.watch(self.writer.socket)
        self._every_frame = host.spec.every_frame
        self._inbox: deque[Received] = deque()
        self._waiting: Output | None = None
        self._again: deque[Output] = deque()
        self._resent = board.cell(f"{writes}.resent")
        self._errors_in_a_row = 0
        self._processed = board.cell(f"{stage.name}.processed")
        self._errors = board.cell(f"{stage.name}.errors")
        self._service = board.histogram(f"{stage.name}.service")
        self._wait = board.histogram(f"{stage.name}.wait")

    def run(self, opened: Callable[[], None] | None = None) -> None:
        """Open the stage, call ``opened``, then process until the host says stop."""
        try:
            self.stage.open()
            if opened is not None:
                opened()
            self._inbox.extend(self.reader.receive())  # answers the writer, so that it may send from now on
            self.host.say("ready")
            while not self.host.stopping:
                if not self.step():
                    self.host.poll()
                else:
                    self.host.read_control()
        finally:
            self.stage.close()
            self.reader.close()
            self.writer.close()

    def step(self) -> bool:
        """Do what can be done now; False if there is nothing but to wait."""
        self.writer.service()
        lost = [token for token in self.writer.take_lost() if isinstance(token, Output)]
        if self._every_frame and self.stage.sends_again:
            self._again.extend(lost)
        self._inbox.extend(
            self.reader.receive()
        )  # also while output waits: a readable socket ends every poll
        if not self._flush():
            return False
        if not self._every_frame:
            self._keep_the_newest()
        if not self._inbox:
            return False
        message = self._inbox.popleft()
        if message.kind is Kind.EOS:
            self.writer.send_end()
        else:
            self.host.busy()
            self._handle(message)
            self.host.idle()
        return True

    def _keep_the_newest(self) -> None:
        data = [message for message in self._inbox if message.kind is not Kind.EOS]
        for message in data[:-1]:
            self.reader.drop(message, "superseded")
        ends = [message for message in self._inbox if message.kind is Kind.EOS]
        self._inbox = deque((*data[-1:], *ends[-1:]))

    def _handle(self, message: Received) -> None:
        try:
            if message.kind is Kind.FAIL:
                self._emit(Output(Kind.FAIL, unpack_fail(message.body), None))
                self.reader.done(message)
                return
            header = header_of(message)
            if message.kind is not self.stage.takes:
                raise WireError(f"kind: {message.kind.name}; expected {self.stage.takes.name}")
        except WireError as error:
            self.host.log_refusal(f"{self.stage.name}: {error}")
            self.reader.drop(message, "invalid")
            return
        self._process(message, header)

    def _process(self, message: Received, header: Any) -> None:
        frame = frame_of(header)
        begun_ns = self.host.clock.now_ns()
        self._wait.record(begun_ns - (frame.stamps[-1].done_ns if frame.stamps else frame.capture_ns))
        try:
            output = self.stage.process(message, header)
        except Drop as drop:
            self._answer_with_failure(message, frame, drop.cause, drop.told)
            return
        except (EndostreamError, StageBroken):
            raise  # the frame is lost with the stage, or in every-frame mode sent again
        except Exception as error:
            self._take_error(message, frame, error)
            return
        self._errors_in_a_row = 0
        done_ns = self.host.clock.now_ns()
        self._service.record(done_ns - begun_ns)
        self._processed.add()
        stamp = Stamp(self.stage.name, begun_ns, done_ns)
        self._emit(replace(output, header=stamped(output.header, stamp)))
        self.reader.done(message)

    def _take_error(self, message: Received, frame: FrameHeader, error: Exception) -> None:
        self._errors.add()
        self._errors_in_a_row += 1
        cause = f"{self.stage.name}: {type(error).__name__}: {error}"
        if self._errors_in_a_row == 1:  # the same again would only hide what else is said
            self.host.log(cause)
        self._answer_with_failure(message, frame, "stage_error", cause)
        if self._errors_in_a_row >= _ERRORS_IN_A_ROW:
            raise StageBroken(f"{cause} ({_ERRORS_IN_A_ROW} in a row)") from error

    def _answer_with_failure(self, message: Received, frame: FrameHeader, drop: str, told: str) -> None:
        comes_again = drop == "overwritten" and self.host.board.value("capture.restarts")
        if (self._every_frame and not comes_again) or told:
            self._emit(Output(Kind.FAIL, (frame, told or drop), None))
        self.reader.drop(message, drop)

    def _emit(self, output: Output) -> None:
        if self._every_frame and not self.writer.can_send:
            self._waiting = output
        else:
            self._send(output)

    def _flush(self) -> bool:
        """Send what waits for credit; False if some still does."""
        while self._again and self.writer.can_send:
            self._resent.add()
            self._send(self._again.popleft())
        if self._waiting is not None and self.writer.can_send:
            self._send(self._waiting)
            self._waiting = None
        return self._waiting is None and not self._again

    def _send(self, output: Output) -> None:
        body = pack_fail(*output.header) if output.kind is Kind.FAIL else output.header.pack()
        self.writer.send(output.kind, body, output.payload, token=output)
