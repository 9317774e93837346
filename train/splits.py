"""Which pictures train, validate and test: lists of names in ``configs/splits``, or drawn for other data.

Separate from ``kvasir.py``, which knows files. A list is a text file with one name a line, ``#`` for
remarks. The shipped splits keep near-duplicates on one side (``near-duplicates.txt``); so does a drawn one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from endostream.configs.errors import ConfigError

PARTS = ("train", "val", "test")
DRAWN = "drawn"
"""Name of a split that is drawn from the names there are, by the rule of ``draw_split``."""
DRAWN_SEED = 42


@dataclass(frozen=True, slots=True)
class Split:
    """Names of the pictures that train, validate and test; a part may be empty."""

    name: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...] = ()

    def part(self, name: str) -> tuple[str, ...]:
        """The part ``name``; raises ConfigError unless it is one of PARTS."""
        if name not in PARTS:
            raise ConfigError(f"part: {name!r}; expected one of {', '.join(PARTS)}")
        names: tuple[str, ...] = getattr(self, name)
        return names


def splits_folder() -> Path:
    """Where the shipped lists lie."""
    return Path(str(files("endostream.configs"))) / "splits"


def shipped_splits() -> list[str]:
    """Names of the shipped splits."""
    return sorted(path.name for path in splits_folder().iterdir() if path.is_dir())


def load_split(name: str) -> Split:
    """The shipped split ``name``, or the one in a folder ``name`` with train.txt, val.txt and perhaps
    test.txt.

    Raises:
        ConfigError: neither is there, or a list cannot be used.
    """
    folder = Path(name) if Path(name).is_dir() else splits_folder() / name
    if not (folder / "train.txt").is_file():
        known = ", ".join([*shipped_splits(), DRAWN])
        raise ConfigError(f"split: {name!r}; expected one of {known}, or a folder with train.txt and val.txt")
    parts = {
        part: tuple(read_list(folder / f"{part}.txt"))
        for part in PARTS
        if part != "test" or (folder / "test.txt").is_file()
    }
    return Split(name, **parts)


def read_list(path: Path) -> list[str]:
    """Names in a list file, suffixes dropped. Raises ConfigError if there is none, or a name comes twice."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"list: {path}; cannot be read ({error})") from error
    names = [Path(line).stem for line in (line.partition("#")[0].strip() for line in lines) if line]
    if not names:
        raise ConfigError(f"list: {path}; empty, expected one name a line")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"list: {path}; {twice} comes twice")
    return names


def near_duplicates() -> dict[str, str]:
    """Twin of each Kvasir-SEG picture that has one."""
    twins: dict[str, str] = {}
    for line in (splits_folder() / "near-duplicates.txt").read_text(encoding="utf-8").splitlines():
        names = line.partition("#")[0].split()
        if len(names) == 2:
            twins[names[0]], twins[names[1]] = names[1], names[0]
    return twins


def draw_split(names: Sequence[str]) -> Split:
    """An 80/10/10 split of any names: seed 42 over the sorted names, near-duplicates of Kvasir-SEG kept
    together.

    At least one name validates. Raises ConfigError for fewer than three names.
    """
    if len(names) < 3:
        raise ConfigError(f"data: {len(names)} pairs; expected at least 3 to split")
    groups = _groups(sorted(names))
    order = np.random.RandomState(DRAWN_SEED).permutation(len(groups))
    shuffled = [name for index in order for name in groups[index]]
    tenth = max(1, len(shuffled) // 10)
    bounds = [_group_end(shuffled, tenth), 0]
    bounds[1] = _group_end(shuffled, bounds[0] + tenth)
    test, val, train = shuffled[: bounds[0]], shuffled[bounds[0] : bounds[1]], shuffled[bounds[1] :]
    return Split(DRAWN, tuple(sorted(train)), tuple(sorted(val)), tuple(sorted(test)))


def _groups(names: Sequence[str]) -> list[list[str]]:
    twins, there, taken = near_duplicates(), set(names), set()
    groups: list[list[str]] = []
    for name in names:
        if name in taken:
            continue
        twin = twins.get(name)
        group = [name, twin] if twin in there and twin is not None else [name]
        taken.update(group)
        groups.append(group)
    return groups


def _group_end(names: Sequence[str], end: int) -> int:
    """``end``, or one further where it would part twins."""
    twins = near_duplicates()
    return end + 1 if end < len(names) and twins.get(names[end - 1]) == names[end] else end


def choose_split(name: str, names: Sequence[str], *, asked_for: bool) -> tuple[Split, str]:
    """The split ``name`` for a data set with these pictures, and a remark for the user ("" if there is none).

    A recipe's split that the data set does not have all of is drawn instead, which is said; a split the user
    asked for is not replaced.

    Raises:
        ConfigError: no such split, or pictures of a split that was asked for are missing.
    """
    if name == DRAWN:
        return draw_split(names), ""
    split = load_split(name)
    listed = {*split.train, *split.val, *split.test}
    absent = sorted(listed - set(names))
    if not absent:
        return split, ""
    what = f"split {name}: {len(absent)} of its {len(listed)} pictures are not there, the first {absent[0]}"
    if asked_for:
        raise ConfigError(f"{what}; expected all. Try: --split {DRAWN}, or a split of the pictures there are")
    return draw_split(names), f"{what}; drawing 80/10/10 by the same seed from the {len(names)} there are"
