"""The supervisor's rings: it creates them, hands them out by file descriptor, and keeps them for restarted stages.

A new picture size opens a new ring of the same role; the one before stays until the next, for readers that are
still at it. How many slots a ring has follows from a byte budget, and from that how far capture may look ahead and
how many frames may be in flight.
"""

from dataclasses import dataclass

from endostream.configs.errors import ConfigError
from endostream.configs.schema import Config

from .frame import SizeHW
from .host import CAPTURED, PRESENTED
from .ring import Block, RingShape

READERS = {CAPTURED: ("overlay", "preprocess", "record"), PRESENTED: ("record",)}
_FEWEST_SLOTS = 4
_MIB = 1 << 20


@dataclass(slots=True)
class KeptRing:
    """A ring the supervisor holds."""

    role: str
    shape: RingShape
    block: Block
    lookahead_frames: int
    window_frames: int


def plan_ring(config: Config, role: str, size_hw: SizeHW, ring_id: int) -> tuple[RingShape, int, int]:
    """Shape of a ring for pictures of ``size_hw``, frames to look ahead, frames in flight; raises ConfigError."""
    budget_bytes = config.capture.ring_budget_mib * _MIB // len(READERS)
    wanted = config.capture.ring_slots if role == CAPTURED else config.links.window_frames + 2
    slot_bytes = RingShape(0, size_hw, 1).slot_bytes
    slots = min(wanted, max(_FEWEST_SLOTS, budget_bytes // slot_bytes))
    if slots * slot_bytes > 4 * budget_bytes:
        needed = _FEWEST_SLOTS * slot_bytes * len(READERS) // _MIB + 1
        raise ConfigError(
            f"capture.ring_budget_mib: {config.capture.ring_budget_mib}; pictures of {size_hw[1]} × {size_hw[0]} "
            f"need more. Try: --set capture.ring_budget_mib={needed}"
        )
    lookahead = min(config.capture.lookahead_frames, max(1, slots // 4))
    window = max(1, min(config.links.window_frames, slots - lookahead - 1))
    return RingShape(ring_id, size_hw, slots), lookahead, window


class RingKeeper:
    """All rings of a run."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._rings: dict[str, list[KeptRing]] = {CAPTURED: [], PRESENTED: []}
        self._next_id = 0

    def newest(self, role: str, size_hw: SizeHW) -> KeptRing | None:
        """The newest ring of ``role`` if it is of this size: a restarted writer goes on with it."""
        rings = self._rings[role]
        return rings[-1] if rings and rings[-1].shape.size_hw == size_hw else None

    def open(self, role: str, size_hw: SizeHW) -> tuple[KeptRing, list[int]]:
        """A new ring, and the numbers of those that are retired by it."""
        shape, lookahead, window = plan_ring(self._config, role, size_hw, self._next_id)
        self._next_id += 1
        block = Block.create(shape.total_bytes, f"{role}{shape.ring_id}")
        kept = KeptRing(role, shape, block, lookahead, window)
        rings = self._rings[role]
        rings.append(kept)
        retired = []
        while len(rings) > 2:
            old = rings.pop(0)
            retired.append(old.shape.ring_id)
            old.block.close()
        return kept, retired

    def readable_by(self, stage: str) -> list[KeptRing]:
        """All rings that ``stage`` reads, oldest first."""
        return [ring for role, readers in READERS.items() if stage in readers for ring in self._rings[role]]

    def all(self) -> list[KeptRing]:
        """Every ring there is; may be called from any thread."""
        return [ring for role in self._rings for ring in tuple(self._rings[role])]

    def close(self) -> None:
        """Let go of all."""
        for rings in self._rings.values():
            for ring in rings:
                ring.block.close()
            rings.clear()
