"""The thread that writes one sink of the record process, with a bounded queue of its own.

Separate from the record process's main thread, which takes frames from the links and never writes. A sink that fails
is closed, counted and reported; the other threads go on. After a restart of the process a sink goes on where its
predecessor's count stopped. It does not know what it writes: a job's content is the sink's own business.
"""

import contextlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from endostream.configs.errors import EndostreamError

from ..frame import FrameKey, ImageBgr
from ..host import StageHost
from ..link import LinkReader, Received

T = TypeVar("T")


@dataclass(slots=True)
class Delivery:
    """One message on its way through the sinks; ``open_jobs`` counts those not done with it.

    ``buffers`` were copied for it and are free again when all are done.
    """

    reader: LinkReader
    message: Received
    open_jobs: int
    buffers: list[ImageBgr] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def one_done(self) -> bool:
        """Count one sink as done; True for the last."""
        with self.lock:
            self.open_jobs -= 1
            return self.open_jobs == 0


@dataclass(frozen=True, slots=True)
class Job:
    """What one sink is to write: ``content`` is what its ``write`` takes.

    ``presented_ns`` is when it was shown, or came, from where ``write_delay`` counts. A ``light`` one holds no picture,
    so that many may wait.
    """

    delivery: Delivery
    content: Any
    key: FrameKey
    presented_ns: int
    synthetic: bool = False
    light: bool = False


class Writer(Protocol):
    """What a thread writes to; a ``Sink`` is one."""

    def write(self, content: Any, /) -> str | None:
        """Write one content; raises what is wrong with the output. Says why (a sink's cause) if it left it out."""

    def close(self) -> None:
        """Finish the output."""


Opener = Callable[[], Writer]


@dataclass(frozen=True, slots=True)
class Turn:
    """Put into the queue between jobs: finish the output, and with the next job begin another, if there is one."""

    opener: Opener | None


class SinkThread(threading.Thread):
    """Writes one sink. ``offer`` never waits; ``put`` does.

    Args:
        number: of the sink on the board.
        label: what the report calls it.
        host: the record process's surroundings.
        finished: called with each delivery when this thread is done with its job.
        opener: opens the output when the first job comes; None until a ``Turn`` brings one.
        room: jobs that may wait, None for what the configuration says.
        light_room: how many may wait, light ones among them, None for as many as others.
    """

    def __init__(
        self,
        number: int,
        label: str,
        host: StageHost,
        finished: Callable[[Delivery], None],
        opener: Opener | None = None,
        room: int | None = None,
        light_room: int | None = None,
    ) -> None:
        super().__init__(name=label, daemon=True)
        self.label = label
        self.failed = False
        self.give_up = False
        self.finished = finished
        self._host = host
        board = host.board
        self._cells = {name: board.cell(f"sink{number}.{name}") for name in board.group(f"sink{number}")}
        self._delay = board.histogram(f"sink{number}.write_delay")
        self._room = room or host.config.record.queue_frames
        self._jobs: queue.Queue[Job | Turn | None] = queue.Queue(light_room or self._room)
        self._opener = opener
        self._writer: Writer | None = None

    # For the main thread

    def offer(self, job: Job) -> bool:
        """Take ``job`` if there is room; otherwise count it as dropped, unless it is a picture of our own."""
        full = not job.light and self._jobs.qsize() >= self._room
        try:
            if not full:
                self._jobs.put_nowait(job)
                return True
        except queue.Full:
            pass
        if not job.synthetic:
            self._cells["dropped.sink_full"].add()
        return False

    def put(self, item: Job | Turn | None) -> None:
        """Take ``item``; waits for room, showing signs of life. None ends the thread and finishes the output."""
        while self.is_alive():
            try:
                self._jobs.put(item, timeout=0.1)
                return
            except queue.Full:
                self._host.beat()

    def turn(self, opener: Opener | None) -> None:
        """Have the output finished behind what is queued, and another begun if ``opener`` is given."""
        self.put(Turn(opener))

    def drop(self, cause: str) -> None:
        """Count one that is not written: for a sink's cause, or because it came while the recording was paused."""
        self._cells["paused" if cause == "paused" else f"dropped.{cause}"].add()

    def cut_short(self) -> None:
        """Have the thread end with the job it is at."""
        self.give_up = True
        with contextlib.suppress(queue.Full):  # it looks at give_up with its next job
            self._jobs.put_nowait(None)

    # The thread

    def run(self) -> None:
        """Open the output with the first job, write until the end, and finish it."""
        try:
            while (item := self._jobs.get()) is not None:
                if self.give_up:
                    self._leave(item)
                    self.leave_queued()
                    break
                if isinstance(item, Turn):
                    self._turn(item)
                else:
                    self._do(item)
                    self.finished(item.delivery)
        finally:
            self._close()

    def _turn(self, turn: Turn) -> None:
        self._close()
        self._opener, self.failed = turn.opener, False

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            self._guarded(writer.close)

    def _do(self, job: Job) -> None:
        if not self.failed and (job.synthetic or not self._written_before(job.key)):
            if self._writer is None and self._opener is not None:
                self._writer = self._guarded(self._opener)
            if self._writer is not None:
                self._write(self._writer, job)
        if self.failed and not job.synthetic:
            self._cells["dropped.sink_failed"].add()

    def _write(self, writer: Writer, job: Job) -> None:
        cause = self._guarded(lambda: writer.write(job.content))
        if self.failed:
            return
        if job.synthetic:
            self._cells["synthetic"].add()
            return
        self._cells["next_loop"].value = job.key.loop
        self._cells["next_source_id"].value = job.key.source_id
        self._cells["next_seq"].value = job.key.seq + 1
        self._cells[f"dropped.{cause}" if cause else "written"].add()
        self._delay.record(self._host.clock.now_ns() - job.presented_ns)

    def leave_queued(self) -> None:
        """Count what is queued as not written, since the run was cut short."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._leave(self._jobs.get_nowait())

    def _leave(self, item: Job | Turn | None) -> None:
        if isinstance(item, Job) and not item.synthetic and not self._written_before(item.key):
            self._cells["dropped.end_of_run"].add()

    def _written_before(self, key: FrameKey) -> bool:
        """Whether this sink, before a restart, wrote it already (every-frame mode sends again)."""
        cells = self._cells
        last = (cells["next_loop"].value, cells["next_source_id"].value, cells["next_seq"].value)
        return (key.loop, key.source_id, key.seq) < last

    def _guarded(self, action: Callable[[], T]) -> T | None:
        try:
            return action()
        except Exception as error:
            self.failed = True
            self._cells["failed"].value = 1
            message = str(error) if isinstance(error, EndostreamError) else f"{type(error).__name__}: {error}"
            self._host.say("sink_failed", sink=self.label, message=message)
            return None
