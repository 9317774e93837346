"""A shell command whose output we read, in a process group of its own that ends with us, however we end.

Separate from the pipe source, because ending is the hard part: a command may start others, ignore signals, or outlive
a capture process that was killed. So a second process, the guard, waits for the end of a pipe whose other end only we
hold, and then kills the whole group; it needs nothing but a shell.
"""

import contextlib
import os
import signal
import subprocess

_GUARD = 'read -r word; [ "$word" = done ] || kill -s KILL -- "-$1" 2>/dev/null'
_PATIENCE_S = 2.0


class ChildCommand:
    """Runs ``command`` by ``/bin/sh``; ``stdout`` and ``stderr`` are descriptors that do not block.

    It gets no terminal and an empty stdin. Raises OSError if there is no shell.
    """

    def __init__(self, command: str) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.stdout, self.stderr = self._process.stdout.fileno(), self._process.stderr.fileno()
        self.pid = self._process.pid
        self._guard: subprocess.Popen[bytes] | None = None
        try:
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, "guard", str(self.pid)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            os.set_blocking(self.stdout, False)
            os.set_blocking(self.stderr, False)
        except BaseException:
            self.close()
            raise

    def exit_code(self) -> int | None:
        """None while it runs; negative for the signal that ended it."""
        return self._process.poll()

    def close(self) -> None:
        """Kill the whole group and wait for it; may be called twice."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE_S)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        if self._guard is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired, OSError, ValueError):
            self._guard.communicate(b"done\n", timeout=_PATIENCE_S)
