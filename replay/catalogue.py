"""A catalogue of recordings to choose from by content: HyperKvasir's metadata CSV, or a folder of videos.

Separate from the sources, which play one address: this says which addresses there are. It looks for the files
of the list, and checks them against it by their headers. It plays nothing and prints nothing.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self

from endostream.configs.errors import SourceMissing
from endostream.pipeline.frame import SizeHW

from .catalogue_csv import find_metadata, is_metadata, read_metadata
from .catalogue_entry import CatalogueEntry, Selection, same_rate
from .video_probe import VideoFacts, probe_video

VIDEO_SUFFIXES = {
    *(".avi", ".mpg", ".mpeg", ".m2v", ".mp4", ".m4v", ".mov", ".mkv", ".webm"),
    *(".wmv", ".asf", ".ts", ".m2ts", ".mts", ".vob", ".dv", ".ogv", ".3gp"),
}


@dataclass(frozen=True, slots=True)
class CatalogueProblem:
    """Why an entry cannot be played, or not be trusted; ``what`` is "" for a missing file."""

    entry: CatalogueEntry
    kind: Literal["missing", "unreadable", "differs"]
    what: str = ""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All recordings of a list or folder.

    Attributes:
        root: the folder whose videos these are.
        metadata: the CSV, None for a plain folder.
        entries: in the order of the CSV, else by path.
        unlisted: videos under ``root`` that the CSV does not name.
    """

    root: Path
    metadata: Path | None
    entries: list[CatalogueEntry]
    unlisted: list[Path] = field(default_factory=list)

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open the catalogue of a folder, or of a CSV and the folder it lies in.

        Raises:
            SourceMissing: nothing there, or neither a metadata CSV nor a video.
            ConfigError: a CSV whose numbers are none.
        """
        if not directory.exists():
            raise SourceMissing(f"catalogue: {directory}; no such folder or CSV file")
        root = directory if directory.is_dir() else directory.parent
        videos, tables = _files_below(root)
        if directory.is_dir():
            metadata = find_metadata(root, videos, tables)
        elif is_metadata(directory):
            metadata = directory
        else:
            raise SourceMissing(f"catalogue: {directory}; expected a CSV with columns file-name and finding")
        if metadata is not None:
            entries = _with_paths(read_metadata(metadata), videos)
            named = {entry.path for entry in entries}
            return cls(root, metadata, entries, [path for path in videos if path not in named])
        if not videos:
            raise SourceMissing(f"catalogue: {directory}; expected a metadata CSV or videos, found neither")
        return cls(root, None, [_entry_from_file(root, path) for path in videos])

    def select(self, wanted: Selection | None = None) -> list[CatalogueEntry]:
        """The entries that match, missing files or not."""
        wanted = wanted or Selection()
        return [entry for entry in self.entries if wanted.matches(entry)][: wanted.limit]

    def playable(self, wanted: Selection | None = None) -> list[CatalogueEntry]:
        """The entries that match and whose files are there (``path`` is set); the limit counts only these.

        Raises:
            SourceMissing: none matches, or all that match are missing.
        """
        wanted = wanted or Selection()
        matching = self.select(replace(wanted, limit=None))
        present = [entry for entry in matching if entry.path is not None][: wanted.limit]
        if not matching:
            raise SourceMissing(f"catalogue: {self.root}; nothing matches. Try: endostream catalogue DIR")
        if not present:
            raise SourceMissing(
                f"catalogue: {self.root}; {len(matching)} match, but no file of them is there"
            )
        return present

    def check(self, entries: Iterable[CatalogueEntry] | None = None) -> list[CatalogueProblem]:
        """What is wrong with ``entries`` (default: all): missing, unreadable, not as listed. Opens each."""
        checked = (_check(entry) for entry in (self.entries if entries is None else entries))
        return [problem for problem in checked if problem is not None]


def _files_below(root: Path) -> tuple[list[Path], list[Path]]:
    """Videos and CSV files under ``root``, sorted; hidden folders are left out."""
    found: tuple[list[Path], list[Path]] = ([], [])
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            suffix = Path(name).suffix.lower()
            if suffix in VIDEO_SUFFIXES and not name.startswith("."):
                found[0].append(Path(folder, name))
            elif suffix == ".csv":
                found[1].append(Path(folder, name))
    return found


def _with_paths(entries: list[CatalogueEntry], videos: list[Path]) -> list[CatalogueEntry]:
    """The entries with the files found for them: by exact name, else whatever the capitals."""
    exact = {path.name: path for path in reversed(videos)}
    any_case = {path.name.casefold(): path for path in reversed(videos)}
    return [
        replace(entry, path=exact.get(entry.file_name) or any_case.get(entry.file_name.casefold()))
        for entry in entries
    ]


def _entry_from_file(root: Path, path: Path) -> CatalogueEntry:
    """A video of a plain folder, described by its header; an unreadable one is listed without numbers."""
    finding = path.parent.relative_to(root).as_posix()
    finding = root.resolve().name if finding == "." else finding
    entry = CatalogueEntry(path.name, finding, path=path, words=path.stem)
    try:
        facts = probe_video(path)
    except SourceMissing:
        return entry
    return replace(entry, size_hw=facts.size_hw, frames=facts.frames, fps=facts.fps, length_s=facts.length_s)


def _check(entry: CatalogueEntry) -> CatalogueProblem | None:
    """What is wrong with one entry, None if nothing is."""
    if entry.path is None:
        return CatalogueProblem(entry, "missing")
    try:
        differences = _differences(entry, probe_video(entry.path), entry.path.stat().st_size >> 10)
    except (SourceMissing, OSError) as error:
        return CatalogueProblem(entry, "unreadable", str(error))
    return CatalogueProblem(entry, "differs", "; ".join(differences)) if differences else None


def _differences(entry: CatalogueEntry, facts: VideoFacts, kilobytes: int) -> list[str]:
    """How the file differs from what is listed. A file that is only larger than listed is no difference."""
    differences = []
    if entry.size_hw not in (None, facts.size_hw):
        differences.append(f"size {_size_text(facts.size_hw)}, listed {_size_text(entry.size_hw)}")
    if entry.fps and not (facts.fps and same_rate(facts.fps, entry.fps)):
        differences.append(f"rate {facts.fps and round(facts.fps, 3)}, listed {entry.fps:g}")
    if entry.frames is not None and not _same_frames(facts, entry.frames):
        differences.append(f"frames {facts.frames}, listed {entry.frames}")
    if entry.kilobytes and kilobytes < 0.99 * entry.kilobytes:
        differences.append(f"file of {kilobytes} KiB, listed {entry.kilobytes} (cut off?)")
    return differences


def _same_frames(facts: VideoFacts, listed: int) -> bool:
    """Whether the frames are as many as listed: exactly, or to 1 % where they are only estimated."""
    if facts.frames is None:
        return False
    return abs(facts.frames - listed) <= (0 if facts.frames_exact else max(2, 0.01 * listed))


def _size_text(size_hw: SizeHW | None) -> str:
    """``WIDTHxHEIGHT``."""
    return f"{size_hw[1]}x{size_hw[0]}" if size_hw else "unknown"
