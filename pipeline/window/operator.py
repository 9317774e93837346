"""What the person at the window asks for: the end, a snapshot, recording, another view. Each is logged.

Separate from presenting, which only calls it between frames and after one is shown, and from the window, which knows
nothing of the run.
"""

from collections.abc import Callable
from pathlib import Path

from ..frame import ImageBgr, SizeHW
from ..handover import RecordingState
from ..host import StageHost
from .snapshot import SnapshotWriter
from .window_sink import WindowRequest, WindowSink

_PATIENCE_NS = 1_000_000_000


class Operator:
    """Turns requests from the window into what the run does.

    Args:
        host: the display process's surroundings.
        window: the presenting window.
        ask_recording: has the recording of the session started or stopped.
        recording: what is known of it.
    """

    def __init__(
        self,
        host: StageHost,
        window: WindowSink,
        ask_recording: Callable[[bool], None],
        recording: Callable[[], RecordingState],
    ) -> None:
        self._host = host
        self._window = window
        self._ask_recording = ask_recording
        self._recording = recording
        self._told = RecordingState()
        self._snapshots = SnapshotWriter(Path(host.config.window.snapshot_folder))
        self._snapshot_asked_ns = 0
        host.watch_fd(window.fileno())

    def expect(self, size_hw: SizeHW) -> None:
        """Make ready for pictures of ``size_hw``."""
        self._window.expect(size_hw)
        self._snapshots.expect(size_hw)

    def service(self) -> None:
        """Do what was asked for, show what became of it; waits for nothing."""
        self._window.service()
        for request in self._window.take_requests():
            self._do(request)
        for level, text in self._window.take_notes():
            self._host.log(text, level)
        for level, text in self._snapshots.take_said():
            self._host.log(text, level)
            self._window.say(text)
        if self._recording() != self._told:
            self._told = self._recording()
            self._window.tell_recording(self._told.on, self._told.reason)
        if self._snapshot_asked_ns and self._host.clock.now_ns() - self._snapshot_asked_ns > _PATIENCE_NS:
            self._snapshot_asked_ns = 0
            self._window.say("no snapshot: no picture came")

    def _do(self, request: WindowRequest) -> None:
        words = request.words
        if request.what == "quit":
            self._host.say("quit")
        elif request.what == "snapshot":
            self._snapshot_asked_ns = self._host.clock.now_ns()
        elif request.what == "record":
            wanted = not self._recording().on
            words = f"recording {'on' if wanted else 'off'}"
            self._ask_recording(wanted)
        self._host.log(f"window: {words} (key {request.key})", "info")

    def keep_picture(self, image_bgr: ImageBgr, copy_raw: Callable[[ImageBgr], bool]) -> None:
        """Take the snapshot that was asked for, if one was: the finished picture, and the one as captured."""
        if not self._snapshot_asked_ns:
            return
        self._snapshot_asked_ns = 0
        self._snapshots.expect((image_bgr.shape[0], image_bgr.shape[1]))
        pair = self._snapshots.take()
        if pair is None:
            self._window.say("no snapshot: the last one is still being written")
            return
        pair.overlay_bgr[:] = image_bgr
        pair.has_raw = copy_raw(pair.raw_bgr)
        self._snapshots.write(pair)

    def close(self) -> None:
        """Finish the snapshots; say if the window was away at the end."""
        self._snapshots.close()
        for level, text in self._snapshots.take_said():
            self._host.log(text, level)
        if self._window.missed:
            self._host.log(f"window: {self._window.missed} pictures were not shown", "info")
        if self._window.lost_because:
            message = f"window: not there at the end of the run: {self._window.lost_because}"
            self._host.say("sink_failed", sink="window", message=message)
