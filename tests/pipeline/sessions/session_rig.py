"""What the tests of recorded sessions look at: packets, pictures, lines and parts of a session on disk. No tests."""

import json
from pathlib import Path
from typing import Any

import av
import numpy as np

from endostream.models.segmenter import Mask
from endostream.pipeline.frame import ImageBgr
from endostream.pipeline.sessions.session_log import answer_of


def session_json(folder: Path) -> dict[str, Any]:
    """What ``session.json`` says."""
    content: dict[str, Any] = json.loads((folder / "session.json").read_text())
    return content


def files_of(folder: Path, stream: str) -> list[Path]:
    """The files of a stream in order, over all parts."""
    return [folder / name for part in session_json(folder)["parts"] for name in part[stream]]


def packets_of(*videos: Path) -> list[bytes]:
    """Every packet, in the order of the files."""
    packets = []
    for video in videos:
        with av.open(str(video)) as container:
            packets += [bytes(packet) for packet in container.demux(video=0) if packet.size]
    return packets


def pictures_of(*videos: Path) -> list[ImageBgr]:
    """Every picture that can be decoded, in the order of the files."""
    pictures = []
    for video in videos:
        with av.open(str(video)) as container:
            pictures += [picture.to_ndarray(format="bgr24") for picture in container.decode(video=0)]
    return pictures


def times_ms_of(*videos: Path) -> list[int]:
    """Presentation time of every picture that can be decoded, in the order of the files."""
    times = []
    for video in videos:
        with av.open(str(video)) as container:
            times += [round(picture.time * 1000) for picture in container.decode(video=0)]
    return times


def begins_with_a_key_frame(video: Path) -> bool:
    """Whether the first packet is one."""
    with av.open(str(video)) as container:
        return next(container.demux(video=0)).is_keyframe


def coded_slices(video: Path, annex_b: bool) -> list[bytes]:
    """The coded pictures of an H.264 stream (NAL units 1 and 5), whatever the container wraps them in."""
    slices = []
    for packet in packets_of(video):
        units = _annex_b_units(packet) if annex_b else _length_units(packet)
        slices += [unit for unit in units if unit[0] & 0x1F in (1, 5)]
    return slices


def _annex_b_units(packet: bytes) -> list[bytes]:
    units = packet.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]
    return [unit.rstrip(b"\0") for unit in units if unit]


def _length_units(packet: bytes) -> list[bytes]:
    units = []
    while len(packet) > 4:
        length = int.from_bytes(packet[:4], "big")
        units.append(packet[4 : 4 + length].rstrip(b"\0"))
        packet = packet[4 + length :]
    return units


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of the session's log."""
    path = folder / "frames.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def mask_of(line: dict[str, Any]) -> Mask:
    """The mask in a line, at the network's size."""
    logged = answer_of(line)
    assert logged.mask is not None
    height, width = logged.mask.size_hw
    bits = np.unpackbits(np.frombuffer(logged.packed, np.uint8), count=height * width)
    return bits.reshape(height, width).astype(np.bool_)
