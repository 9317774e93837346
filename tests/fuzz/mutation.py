"""Damage to a stream: what disks, networks and broken devices do, and what nobody would send on purpose.

Separate from the streams and from playing them. The same seed gives the same damage. It holds no test.
"""

import random
from collections.abc import Callable

from .corpus import Sample

_INTEGERS = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutated(sample: Sample, seed: int) -> tuple[bytes, tuple[str, ...]]:
    """The stream with one to three kinds of damage, and their names."""
    dice = random.Random(f"{sample.kind}-{seed}")
    names = tuple(dice.choice(list(MUTATIONS)) for _ in range(dice.choice((1, 1, 2, 3))))
    data = sample.data
    for name in names:
        data = MUTATIONS[name](data, sample, dice)
    return data, names


def _place(data: bytes, sample: Sample, dice: random.Random) -> int:
    """Where something happens: half the time on the border of a block, where the stream has blocks."""
    place = dice.randrange(len(data) + 1)
    return place // sample.block * sample.block if sample.block and dice.random() < 0.5 else place


def _piece(data: bytes, sample: Sample, dice: random.Random) -> tuple[int, int]:
    """Begin and end of a piece: 1 byte to a quarter of the stream, short ones more often."""
    begin = _place(data, sample, dice)
    length = max(1, int(len(data) // 4 * dice.random() ** 4))
    if sample.block and dice.random() < 0.5:
        length = -(-length // sample.block) * sample.block
    return begin, min(begin + length, len(data))


def _flip_bits(data: bytes, sample: Sample, dice: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(dice.choice((1, 1, 8, 64, 512)) if damaged else 0):
        damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
    return bytes(damaged)


def _overwrite(data: bytes, sample: Sample, dice: random.Random) -> bytes:
    begin, end = _piece(data, sample, dice)
    filling = dice.choice((bytes(end - begin), b"\xff" * (end - begin), dice.randbytes(end - begin)))
    return data[:begin] + filling + data[end:]


def _truncate(data: bytes, sample: Sample, dice: random.Random) -> bytes:
    return data[: _place(data, sample, dice)]


def _insert(data: bytes, sample: Sample, dice: random.Random) -> bytes:
    place = _place(data, sample, dice)
    begin, end = _piece(data, sample, dice)
    return data[:place] + dice.choice((dice.randbytes(end - begin), data[begin:end])) + data[place:]


def _remove(data: bytes, sample: Sample, dice: random.Random) -> bytes:
    begin, end = _piece(data, sample, dice)
    return data[:begin] + data[end:]


def _reorder(data: bytes, sample: Sample, dice: random.Random) -> bytes:
    """Two pieces that lie beside each other change places."""
    first, second = sorted((_place(data, sample, dice), _place(data, sample, dice)))
    end = min(second + max(1, second - first), len(data))
    return data[:first] + data[second:end] + data[first:second] + data[end:]


def _edit_header(data: bytes, sample: Sample, dice: random.Random) -> bytes:
    """Numbers near the beginning, where sizes, counts and offsets stand, become extreme."""
    damaged = bytearray(data)
    for _ in range(dice.choice((1, 2, 4))):
        width = dice.choice((1, 2, 4))
        place = dice.randrange(max(1, min(len(damaged), dice.choice((64, 512, 4096))) - width))
        number = dice.choice(_INTEGERS) & ((1 << 8 * width) - 1)
        damaged[place : place + width] = number.to_bytes(width, dice.choice(("big", "little")))
    return bytes(damaged)


def _change_size(data: bytes, sample: Sample, dice: random.Random) -> bytes:
    """From somewhere on it is the stream of another size, from its beginning or from as far."""
    place = _place(data, sample, dice)
    return data[:place] + sample.other[dice.choice((0, 0, place)) :]


def _begin_again(data: bytes, sample: Sample, dice: random.Random) -> bytes:
    return data[: _place(data, sample, dice)] + data


MUTATIONS: dict[str, Callable[[bytes, Sample, random.Random], bytes]] = {
    "bits flipped": _flip_bits,
    "piece overwritten": _overwrite,
    "cut off": _truncate,
    "piece inserted": _insert,
    "piece removed": _remove,
    "pieces reordered": _reorder,
    "header edited": _edit_header,
    "size changed": _change_size,
    "begun again": _begin_again,
}
