"""The run directory: where the links' sockets lie, private to the user, gone after the run, swept after a crash.

Each run holds a lock on its own folder; the next run removes every folder whose lock nobody holds, so that even a
SIGKILL of the whole process group leaves nothing for longer than that. Besides them lies the socket at which the run
tells how it goes (``metrics_socket.py``); nothing else is ever put there.
"""

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from endostream.configs.errors import EndostreamError

_LONGEST_BASE = 60
"""A socket's path may have 107 bytes; the longest link name and the folder's own take some 40."""


def base_directory() -> Path:
    """Folder of all runs of this user, made if need be, mode 0700; raises EndostreamError if it is not ours."""
    runtime, temporary = os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir()
    own = bool(runtime) and len(os.fsencode(runtime)) <= _LONGEST_BASE and os.access(runtime, os.W_OK)
    if len(os.fsencode(temporary)) > _LONGEST_BASE:
        temporary = "/tmp"
    base = Path(runtime) / "endostream" if own else Path(temporary) / f"endostream-{os.getuid()}"
    try:
        with contextlib.suppress(FileExistsError):
            base.mkdir(mode=0o700)
        status = base.lstat()
    except OSError as error:
        raise EndostreamError(
            f"run directory: {base}; cannot be made ({error.strerror}). Try: TMPDIR=FOLDER, a short path"
        ) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise EndostreamError(f"run directory: {base}; expected a folder of this user. Try: remove it")
    base.chmod(0o700)
    return base


class RunDirectory:
    """A folder for one run's sockets; a context manager that removes it."""

    def __init__(self) -> None:
        base = base_directory()
        with (base / "lock").open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)  # against a run that sweeps between our mkdtemp and our lock
            sweep(base)
            self.path = Path(tempfile.mkdtemp(prefix="run-", dir=base))
            self._lock = (self.path / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def is_alive(folder: Path) -> bool:
    """Whether a run holds this run directory; one that was killed holds its lock no more."""
    try:
        with (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def sweep(base: Path) -> int:
    """Remove the folders of runs that are over; returns how many."""
    swept = 0
    for folder in base.glob("run-*"):
        try:
            with (folder / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
                swept += 1
        except FileNotFoundError:
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # its run is alive
    return swept
