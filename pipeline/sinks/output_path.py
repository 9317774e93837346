"""Names of output files, and whether they could be written at all.

Shared by the sinks that write files, so that they number the files of a restarted run alike and complain
alike. It opens nothing for good.
"""

import tempfile
from pathlib import Path

from endostream.configs.errors import SinkError

from ..sink import SinkSpec


def part_path(path: Path, part: int) -> Path:
    """Where part ``part`` of a run writes: ``o.mp4``, ``o.part1.mp4`` after the first restart, and so on."""
    return path.with_name(f"{path.stem}.part{part}{path.suffix}") if part else path


def size_path(path: Path, size_count: int) -> Path:
    """Where pictures of the next size go: ``o.mp4``, then ``o.size2.mp4``, and so on."""
    return path.with_name(f"{path.stem}.size{size_count}{path.suffix}") if size_count > 1 else path


def check_output_file(spec: SinkSpec, path: Path) -> None:
    """Raise SinkError unless a file can be written at ``path``; leaves everything as it was.

    It tries rather than reads permission bits: these do not bind root, and say nothing of a read-only disk.
    """
    if path.is_dir():
        raise SinkError(f"sink {spec.label}: {path} is a folder; expected the name of a file")
    _check_folder(spec, path.parent)
    existed = path.exists()
    try:
        with path.open("ab"):
            pass
    except OSError as error:
        raise cannot_write(spec, path, error) from error
    if not existed:
        path.unlink()


def check_output_folder(spec: SinkSpec, folder: Path) -> None:
    """Raise SinkError unless files can be written in ``folder``, which need not exist yet; leaves nothing."""
    if folder.exists() and not folder.is_dir():
        raise SinkError(f"sink {spec.label}: {folder} is a file; expected a folder")
    nearest = folder
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    _check_folder(spec, nearest)
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise cannot_write(spec, folder, error) from error


def cannot_write(spec: SinkSpec, path: Path, error: OSError) -> SinkError:
    """The error for an output at ``path`` that the system refuses."""
    reason = error.strerror or str(error) or type(error).__name__
    return SinkError(f"sink {spec.label}: cannot write {path} ({reason}). Try: another path, or free space")


def _check_folder(spec: SinkSpec, folder: Path) -> None:
    if folder.is_dir():
        return
    if folder.exists():
        raise SinkError(f"sink {spec.label}: {folder} is no folder; expected an existing folder")
    raise SinkError(f"sink {spec.label}: no folder {folder}; expected one. Try: mkdir -p {folder}")
