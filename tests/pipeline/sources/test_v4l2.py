"""The kernel's structures and numbers against what a C compiler makes of the kernel's own header."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from endostream.pipeline.sources import v4l2

STRUCTURES = {
    "v4l2_capability": v4l2.Capability,
    "v4l2_fmtdesc": v4l2.FormatDescription,
    "v4l2_frmsizeenum": v4l2.FrameSize,
    "v4l2_frmivalenum": v4l2.FrameInterval,
    "v4l2_format": v4l2.Format,
    "v4l2_streamparm": v4l2.StreamParameters,
    "v4l2_requestbuffers": v4l2.RequestBuffers,
    "v4l2_buffer": v4l2.Buffer,
    "v4l2_input": v4l2.Input,
    "v4l2_event": v4l2.Event,
    "v4l2_event_subscription": v4l2.EventSubscription,
}
PLACES = {
    "v4l2_format, fmt.pix.ycbcr_enc": v4l2.Format.fmt.offset + v4l2.PixelFormat.ycbcr_enc.offset,
    "v4l2_streamparm, parm.capture.timeperframe": v4l2.StreamParameters.parm.offset
    + v4l2.CaptureParameters.timeperframe.offset,
    "v4l2_buffer, timestamp": v4l2.Buffer.seconds.offset,
    "v4l2_buffer, sequence": v4l2.Buffer.sequence.offset,
    "v4l2_buffer, m": v4l2.Buffer.m.offset,
    "v4l2_buffer, length": v4l2.Buffer.length.offset,
    "v4l2_input, status": v4l2.Input.status.offset,
    "v4l2_event, u": v4l2.Event.data.offset,
    "v4l2_frmsizeenum, stepwise": v4l2.FrameSize.size.offset,
    "v4l2_frmivalenum, stepwise": v4l2.FrameInterval.interval.offset,
}
NUMBERS = (
    "QUERYCAP",
    "ENUM_FMT",
    "G_FMT",
    "S_FMT",
    "REQBUFS",
    "QUERYBUF",
    "QBUF",
    "DQBUF",
    "STREAMON",
    "STREAMOFF",
    "G_PARM",
    "S_PARM",
    "ENUMINPUT",
    "G_INPUT",
    "ENUM_FRAMESIZES",
    "ENUM_FRAMEINTERVALS",
    "DQEVENT",
    "SUBSCRIBE_EVENT",
)
CONSTANTS = {
    "V4L2_BUF_TYPE_VIDEO_CAPTURE": v4l2.BUF_TYPE_VIDEO_CAPTURE,
    "V4L2_CAP_VIDEO_CAPTURE_MPLANE": v4l2.CAP_VIDEO_CAPTURE_MPLANE,
    "V4L2_CAP_STREAMING": v4l2.CAP_STREAMING,
    "V4L2_CAP_DEVICE_CAPS": v4l2.CAP_DEVICE_CAPS,
    "V4L2_EVENT_SOURCE_CHANGE": v4l2.EVENT_SOURCE_CHANGE,
    "V4L2_BUF_FLAG_ERROR": v4l2.BUF_FLAG_ERROR,
    "V4L2_BUF_FLAG_TIMESTAMP_MASK": v4l2.BUF_FLAG_TIMESTAMP_MASK,
    "V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC": v4l2.BUF_FLAG_TIMESTAMP_MONOTONIC,
    "V4L2_IN_ST_NO_POWER": v4l2.INPUT_NO_POWER,
    "V4L2_IN_ST_NO_SIGNAL": v4l2.INPUT_NO_SIGNAL,
    "V4L2_IN_ST_NO_SYNC": v4l2.INPUT_NO_SYNC,
    "V4L2_IN_ST_NO_H_LOCK": v4l2.INPUT_NO_LOCK,
    "V4L2_COLORSPACE_REC709": v4l2.COLORSPACE_REC709,
    "V4L2_COLORSPACE_JPEG": v4l2.COLORSPACE_JPEG,
    "V4L2_COLORSPACE_BT2020": v4l2.COLORSPACE_BT2020,
    "V4L2_YCBCR_ENC_601": v4l2.YCBCR_601,
    "V4L2_YCBCR_ENC_709": v4l2.YCBCR_709,
    "V4L2_YCBCR_ENC_XV601": v4l2.YCBCR_XV601,
    "V4L2_YCBCR_ENC_XV709": v4l2.YCBCR_XV709,
    "V4L2_YCBCR_ENC_BT2020": v4l2.YCBCR_BT2020,
    "V4L2_QUANTIZATION_FULL_RANGE": v4l2.QUANTIZATION_FULL,
    "V4L2_QUANTIZATION_LIM_RANGE": v4l2.QUANTIZATION_LIMITED,
    "V4L2_FIELD_INTERLACED": v4l2.FIELD_INTERLACED[0],
    "V4L2_FIELD_INTERLACED_BT": v4l2.FIELD_INTERLACED[-1],
    "V4L2_FIELD_ALTERNATE": v4l2.FIELD_ALTERNATE,
    "V4L2_PIX_FMT_YUYV": v4l2.fourcc("YUYV"),
    "V4L2_PIX_FMT_BGR24": v4l2.fourcc("BGR3"),
    "V4L2_PIX_FMT_YUV420": v4l2.fourcc("YU12"),
}


@pytest.fixture(scope="module")
def by_the_compiler(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """What the kernel's header says, by the expression asked."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not Path("/usr/include/linux/videodev2.h").exists():
        pytest.skip("no C compiler or no kernel headers to compare with")
    asked = [f"sizeof(struct {name})" for name in STRUCTURES]
    asked += [f"offsetof(struct {place})" for place in PLACES]
    asked += [*(f"VIDIOC_{name}" for name in NUMBERS), *CONSTANTS]
    folder = tmp_path_factory.mktemp("v4l2")
    lines = "".join(f'printf("%lu\\n", (unsigned long)({expression}));\n' for expression in asked)
    code = f"#include <linux/videodev2.h>\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {{\n{lines}}}\n"
    (folder / "ask.c").write_text(code)
    subprocess.run([compiler, "-o", folder / "ask", folder / "ask.c"], check=True, timeout=60)
    said = subprocess.run([folder / "ask"], capture_output=True, text=True, check=True, timeout=10).stdout
    return dict(zip(asked, map(int, said.split()), strict=True))


def test_every_structure_has_the_kernels_size(by_the_compiler: dict[str, int]) -> None:
    ours = {name: ctypes.sizeof(structure) for name, structure in STRUCTURES.items()}
    assert ours == {name: by_the_compiler[f"sizeof(struct {name})"] for name in STRUCTURES}


def test_every_field_that_is_read_lies_where_the_kernel_puts_it(by_the_compiler: dict[str, int]) -> None:
    assert {place: by_the_compiler[f"offsetof(struct {place})"] for place in PLACES} == PLACES


def test_every_ioctl_and_constant_has_the_kernels_number(by_the_compiler: dict[str, int]) -> None:
    ours = {name: getattr(v4l2, name) for name in NUMBERS}
    assert ours == {name: by_the_compiler[f"VIDIOC_{name}"] for name in NUMBERS}
    assert {name: by_the_compiler[name] for name in CONSTANTS} == CONSTANTS


def test_a_fourcc_is_its_name_and_back() -> None:
    assert v4l2.fourcc("YUYV") == 0x56595559
    assert [v4l2.fourcc_name(v4l2.fourcc(name)) for name in ("YUYV", "MJPG", "Y8")] == ["YUYV", "MJPG", "Y8"]
    assert v4l2.fourcc_name(0x00010203) == "????"
