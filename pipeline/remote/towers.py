"""The towers an infer host serves: what each asked for, whose turn it is, and what became of it all.

Separate from the host so that fairness and counts can be tested without a socket. Of each tower the newest tensor
alone is kept (newest wins, bounded), and towers take turns: one that asks ten times as often is not served more than
another that waits too.
"""

from collections import OrderedDict
from dataclasses import asdict, dataclass, field

MOST_TOWERS = 64
"""More are refused: each may hold a tensor in memory."""


@dataclass(slots=True)
class TowerCounts:
    """Of one connection: ``received`` = ``answered`` + ``failed`` + ``superseded`` + ``lost`` + what waits (0 or 1)."""

    received: int = 0
    answered: int = 0
    failed: int = 0
    superseded: int = 0
    lost: int = 0
    refused_messages: int = 0

    def add(self, other: "TowerCounts") -> None:
        """Add the counts of another connection."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class Tower:
    """One connection of a tower: its socket's identity, who it says or is known to be, its epoch, what it waits for."""

    identity: bytes
    name: str
    epoch: int
    waiting: tuple[int, bytes] | None = None
    counts: TowerCounts = field(default_factory=TowerCounts)


class Towers:
    """All that are connected, in the order in which they are to be served."""

    def __init__(self) -> None:
        self._towers: OrderedDict[bytes, Tower] = OrderedDict()
        self._gone: dict[str, TowerCounts] = {}

    def __len__(self) -> int:
        return len(self._towers)

    def all(self) -> list[Tower]:
        """Those connected now."""
        return list(self._towers.values())

    def get(self, identity: bytes) -> Tower | None:
        """The tower behind a socket's identity."""
        return self._towers.get(identity)

    def add(self, identity: bytes, name: str, epoch: int) -> Tower | None:
        """A new connection, or a new epoch of one; None if there are too many."""
        known = self._towers.get(identity)
        if known is not None:
            known.epoch = epoch
            return known
        if len(self._towers) >= MOST_TOWERS:
            return None
        self._towers[identity] = tower = Tower(identity, name, epoch)
        return tower

    def remove(self, tower: Tower) -> None:
        """It is gone; what it waited for is lost, its counts are kept."""
        self._towers.pop(tower.identity, None)
        tower.counts.lost += tower.waiting is not None
        tower.waiting = None
        self._gone.setdefault(tower.name, TowerCounts()).add(tower.counts)

    def ask(self, tower: Tower, number: int, payload: bytes) -> int | None:
        """Take in a tensor; returns the number of the older one whose place it takes, None if there is none."""
        older, tower.waiting = tower.waiting, (number, payload)
        tower.counts.received += 1
        if older is None:
            return None
        tower.counts.superseded += 1
        return older[0]

    def next(self) -> tuple[Tower, int, bytes] | None:
        """Whose tensor is to be computed now; that tower then stands behind all others."""
        for tower in self._towers.values():
            if tower.waiting is not None:
                (number, payload), tower.waiting = tower.waiting, None
                self._towers.move_to_end(tower.identity)
                return tower, number, payload
        return None

    def totals(self) -> dict[str, dict[str, int]]:
        """Counts by name of tower, of all its connections so far."""
        found: dict[str, TowerCounts] = {}
        for name, counts in (*self._gone.items(), *((tower.name, tower.counts) for tower in self.all())):
            found.setdefault(name, TowerCounts()).add(counts)
        return {name: asdict(counts) for name, counts in sorted(found.items())}
