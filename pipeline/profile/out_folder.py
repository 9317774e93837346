"""Where a profile is written: beside what an earlier one left in the same folder, which it replaces only at the end.

Separate from what is written. Runs take minutes, and what fails or is interrupted must not cost the profile that was
there: then what came of it lies in ``unfinished`` in that folder. Where there was none, it lies in the folder itself.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from endostream.configs.errors import EndostreamError, SinkError

NAMES = ("profile.html", "profile.json", "frames.csv", "frames.parquet", "trace.json")
UNFINISHED = "unfinished"


@contextmanager
def fresh_folder(out: Path) -> Iterator[Path]:
    """A new folder in ``out``, which is made; it and what was not put in place is gone afterwards.

    Raises:
        SinkError: it cannot be made, or the system refuses what is written in it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".profile-", dir=out))
    except OSError as error:
        raise SinkError(f"out: {out}; cannot be written in ({_reason(error)}). Try: --out DIR") from error
    try:
        yield fresh
    except OSError as error:
        if isinstance(error, EndostreamError):
            raise
        raise SinkError(f"out: {out}; cannot be written ({_reason(error)}). Try: --out DIR") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def put_in_place(fresh: Path, out: Path, whole: bool) -> Path:
    """Move what was written from ``fresh`` to ``out``, or to ``unfinished`` in it if an earlier profile is there and
    this one is not whole; returns where it lies now."""
    keep = not whole and (out / "profile.json").exists()
    place = out / UNFINISHED if keep else out
    place.mkdir(exist_ok=True)
    for name in NAMES:
        if (fresh / name).exists():
            (fresh / name).replace(place / name)
        else:
            (place / name).unlink(missing_ok=True)
    return place


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
