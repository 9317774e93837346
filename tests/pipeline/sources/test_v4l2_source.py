"""Our V4L2 source on the emulated device: formats, times, faults, and every way of not being there."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import pytest

from endostream.pipeline.sources import v4l2
from endostream.pipeline.sources.v4l2_source import matrix_of, range_of

from .live_rig import DEVICE, HERE, Emulator, paint

CAPTURE = f"""
import json, sys
import numpy as np
sys.path.insert(0, {str(HERE.parents[2])!r})
from endostream.configs.errors import EndostreamError
from endostream.configs.schema import LiveSettings
from endostream.pipeline.source import SourceOptions, open_source
from endostream.pipeline.sources.v4l2_source import V4l2Source
from tests.pipeline.sources.live_rig import read_pattern
count, settings = int(sys.argv[1]), json.loads(sys.argv[2])
found = {{"numbers": [], "age_ms": [], "seqs": [], "corner": [], "error": "", "faults": {{}}}}
try:
    with V4l2Source({DEVICE!r}, SourceOptions(extra={{"live": settings}})) as source:
        info = source.info
        found |= {{"pixel_format": info.pixel_format, "size_hw": info.size_hw, "fps": float(info.fps or 0),
                  "colour": [info.colour_matrix, info.colour_range]}}
        found["buffers"] = len(source._device._maps)
        for picture in source:
            image = np.zeros((*picture.size_hw, 3), np.uint8)
            picture.fill(image)
            number, ms = read_pattern(image)
            found["numbers"].append(number)
            found["seqs"].append(picture.seq)
            found["corner"].append(image[-1, -1].tolist())
            found["age_ms"].append((picture.arrival_ns // 1_000_000 & 0xFFFF_FFFF) - ms)
            found["faults"] = source.faults
            if len(found["seqs"]) == count:
                break
except EndostreamError as error:
    found["error"] = f"{{type(error).__name__}}: {{error}}"
print(json.dumps(found))
"""


def capture(device: Emulator, count: int = 5, **settings: object) -> dict[str, Any]:
    """Numbers, ages and more of the first pictures."""
    found: dict[str, Any] = device.ask(CAPTURE, str(count), json.dumps(settings))
    return found


def grows(numbers: list[int]) -> bool:
    return len(numbers) > 0 and all(later > earlier for earlier, later in pairwise(numbers))


@pytest.mark.parametrize(
    ("fourcc", "pixel_format"),
    [
        ("BGR3", "bgr24"),
        ("RGB3", "rgb24"),
        ("NV12", "nv12"),
        ("YU12", "yuv420p"),
        ("YUYV", "yuyv422"),
        ("UYVY", "uyvy422"),
        ("GREY", "gray"),
    ],
)
def test_every_raw_format_gives_the_pattern_in_order(tmp_path: Path, fourcc: str, pixel_format: str) -> None:
    found = capture(Emulator(tmp_path, f"{fourcc}:320x240@50"))
    assert found["pixel_format"] == pixel_format
    assert found["size_hw"] == [240, 320]
    assert grows(found["numbers"])
    assert grows(found["seqs"])
    assert found["buffers"] == 3


def test_the_drivers_time_is_the_pictures(tmp_path: Path) -> None:
    found = capture(Emulator(tmp_path))
    assert found["age_ms"] == [0] * 5


@pytest.mark.parametrize("clock", ["realtime", "zero", "late"])
def test_a_time_of_another_clock_is_replaced_by_that_of_the_dequeue(tmp_path: Path, clock: str) -> None:
    found = capture(Emulator(tmp_path, clock=clock))
    assert all(0 <= age_ms < 1000 for age_ms in found["age_ms"])


def test_motion_jpeg_is_decoded_and_noise_between_is_counted_and_left_out(tmp_path: Path) -> None:
    images = [paint(number, 0) for number in range(1, 9)]
    stream = b"".join(cv2.imencode(".jpg", image)[1].tobytes() for image in images)
    (tmp_path / "pictures.mjpg").write_bytes(stream)
    device = Emulator(tmp_path, "MJPG:320x240@50", jpeg=tmp_path / "pictures.mjpg", garbage_every=4)
    found = capture(device, 8)
    assert found["pixel_format"] == "mjpeg"
    assert found["faults"]["corrupt_picture"] >= 1
    assert set(found["numbers"]) <= set(range(1, 9))
    assert grows(found["seqs"])


def test_a_device_that_gives_nothing_but_noise_is_lost_like_a_silent_one(tmp_path: Path) -> None:
    """Else it would never be opened anew, which is what brings a device back that has lost its place."""
    (tmp_path / "pictures.mjpg").write_bytes(cv2.imencode(".jpg", paint(1, 0))[1].tobytes())
    device = Emulator(tmp_path, "MJPG:320x240@50", jpeg=tmp_path / "pictures.mjpg", garbage_every=1)
    found = capture(device, 8, silence_s=0.3)
    assert found["error"] == "SourceLost: source: /dev/video42; no picture for 0.3 s"
    assert found["numbers"] == []


def test_lost_flagged_and_short_pictures_are_gaps_in_seq_counted_by_cause(tmp_path: Path) -> None:
    device = Emulator(tmp_path, "YUYV:320x240@50", lose_every=5, error_every=7, short_every=9)
    found = capture(device, 30)
    assert grows(found["numbers"])
    faults = found["faults"]
    assert faults["lost_by_driver"] >= 4
    assert faults["flagged_broken"] >= 3
    assert faults["short_picture"] >= 2
    assert found["seqs"][-1] - found["seqs"][0] + 1 - len(found["seqs"]) <= sum(faults.values())


def test_ranges_of_sizes_and_rates_are_read(tmp_path: Path) -> None:
    device = Emulator(tmp_path, "UYVY:160x120-1920x1080@5-60")
    found = capture(device, 2, width=720, height=576, fps=50)
    assert (found["size_hw"], found["fps"]) == ([576, 720], 50)


def test_the_format_that_reaches_the_rate_wins(tmp_path: Path) -> None:
    device = Emulator(tmp_path, "YUYV:320x240@10,NV12:320x240@30,BGR3:320x240@5")
    assert capture(device, 1)["pixel_format"] == "nv12"
    assert capture(device, 1, fps=5)["pixel_format"] == "bgr24"
    assert capture(device, 1, pixel_format="yuyv")["pixel_format"] == "yuyv422"


def test_the_drivers_matrix_and_range_decide_the_colours(tmp_path: Path) -> None:
    device = Emulator(
        tmp_path, "NV12:320x240@30", ycbcr_enc=v4l2.YCBCR_709, quantization=v4l2.QUANTIZATION_FULL
    )
    found = capture(device, 1)
    assert found["colour"] == ["bt709", "full"]
    assert found["corner"] == [[128, 128, 128]]
    device.set(ycbcr_enc=v4l2.YCBCR_601, quantization=v4l2.QUANTIZATION_LIMITED)
    found = capture(device, 1)
    assert found["colour"] == ["bt601", "limited"]
    assert found["corner"] == [[130, 130, 130]]  # (128 - 16) × 255 / 219


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    device = Emulator(tmp_path)
    assert capture(device, 1, width=999, height=99)["error"] == (
        "ConfigError: source: /dev/video42; live.width, live.height: 999x99; "
        "expected a size the device offers: 320x240"
    )
    device.set(nosignal=1)
    assert capture(device)["error"] == "SourceLost: source: /dev/video42; no signal at its input"
    device.set(nosignal=0, stalled=1)
    said = capture(device, silence_s=0.3)["error"]
    assert said == "SourceLost: source: /dev/video42; no picture for 0.3 s"


def test_a_device_with_compressed_formats_only_is_left_to_ffmpeg(tmp_path: Path) -> None:
    device = Emulator(tmp_path, "H264:320x240@30")
    said = capture(device)["error"]
    assert said.startswith(
        "UnreadableFormats: source: /dev/video42; pixel formats: H264; expected one of BGR3"
    )


LIST = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from endostream.pipeline.sources.v4l2_device import V4l2Device, list_devices
listed = list_devices(Path(sys.argv[1]), lambda path: V4l2Device("/dev/" + Path(path).name))
print(json.dumps([{**asdict(found), "modes": [str(mode) for mode in found.modes]} for found in listed]))
"""


def test_devices_are_listed_with_their_modes_or_what_is_wrong(tmp_path: Path) -> None:
    for name in ("video42", "video7", "video-other", "vbi0"):
        (tmp_path / name).touch()
    device = Emulator(tmp_path, "YUYV:640x480@25/30,MJPG:1920x1080@60")
    found = device.ask(LIST, str(tmp_path))
    assert [(each["card"], each["modes"]) for each in found] == [
        ("", []),
        ("Emulated grabber", ["YUYV 640x480 at 25, 30 fps", "MJPG 1920x1080 at 60 fps"]),
    ]
    assert found[0]["problem"] == "no such device. Try: endostream doctor"
    device.set(output=1)
    assert len(device.ask(LIST, str(tmp_path))) == 1


@pytest.mark.parametrize(
    ("colorspace", "encoding", "quantization", "expected"),
    [
        (0, 0, 0, ("", "")),
        (8, 0, 0, ("bt601", "limited")),  # sRGB, what most webcams say
        (1, 0, 0, ("bt601", "limited")),
        (v4l2.COLORSPACE_REC709, 0, 0, ("bt709", "limited")),
        (v4l2.COLORSPACE_REC709, v4l2.YCBCR_601, 0, ("bt601", "limited")),
        (v4l2.COLORSPACE_JPEG, 0, 0, ("bt601", "full")),
        (v4l2.COLORSPACE_BT2020, 0, v4l2.QUANTIZATION_FULL, ("bt2020", "full")),
    ],
)
def test_what_the_driver_leaves_open_follows_the_kernels_rule(
    colorspace: int, encoding: int, quantization: int, expected: tuple[str, str]
) -> None:
    pix = v4l2.PixelFormat(colorspace=colorspace, ycbcr_enc=encoding, quantization=quantization)
    assert (matrix_of(pix), range_of(pix, "nv12")) == expected


def test_rgb_is_full_range_unless_the_driver_says_otherwise() -> None:
    assert range_of(v4l2.PixelFormat(), "bgr24") == "full"
    assert range_of(v4l2.PixelFormat(quantization=v4l2.QUANTIZATION_LIMITED), "bgr24") == "limited"
