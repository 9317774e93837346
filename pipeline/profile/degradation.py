"""Pixel for pixel: is the presented picture outside the drawn marks the captured one, over a whole replay?

The replay is run for real, every frame, with its marked pictures recorded losslessly (FFV1) and each frame's mask
beside them. Then the source is decoded a second time, and every byte of every presented picture outside the marks and
the HUD's panel is compared. Which pixels marks may touch is worked out afresh from the recorded mask. Separate from the
report, which only shows the result. What the decoder makes of the recording is the same on both sides and not judged.
"""

import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np

from endostream.configs.errors import EndostreamError
from endostream.configs.schema import Config
from endostream.models.segmenter import Mask

from ..draw import MarkStyle, marked_pixels
from ..frame import Box, FrameKey, ImageBgr
from ..overlay import answer_from_mask
from ..sessions.session import LOG_FILE, parts_of, read_session
from ..sessions.session_log import answer_of
from ..source import SourceOptions, open_source
from ..wire import FrameHeader, MaskHeader
from .cell_run import COMMAND

_EXAMPLES = 10


class DegradationFailed(EndostreamError, RuntimeError):
    """The replay could not be made or read, so nothing was compared."""


@dataclass(slots=True)
class Degradation:
    """What the comparison found. Pixels count once, whichever of their three bytes differ.

    Attributes:
        compared_px: outside marks and HUD, all frames.
        changed_px: of them, those that are not identical in all three channels: 0 is what must come out.
        most_levels: largest difference outside, in grey levels of one channel.
        marked_px, hud_px: that marks or the HUD may touch, and so were left out.
        frames_with_marks: frames in which anything was drawn but the HUD.
        changed_frames: numbers of the first frames with a difference.
        command: of the replay, outputs left out.
    """

    frames: int = 0
    compared_px: int = 0
    changed_px: int = 0
    most_levels: int = 0
    marked_px: int = 0
    hud_px: int = 0
    frames_with_marks: int = 0
    sizes: list[str] = field(default_factory=list)
    changed_frames: list[int] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def identical(self) -> bool:
        """Whether every compared pixel of at least one frame was identical."""
        return self.frames > 0 and self.changed_px == 0

    def to_json(self) -> dict[str, Any]:
        """As data."""
        return asdict(self) | {"identical": self.identical}


def measure_degradation(source: str, options: Sequence[str], folder: Path) -> Degradation:
    """Replay ``source`` into ``folder``, which must not exist, and compare; ``options`` are those of the replay."""
    words = ["replay", source, *options, "--speed", "fastest", "--mode", "every-frame"]
    report = folder.with_suffix(".json")
    outputs = ["--record", str(folder), "--set", "record.overlay=ffv1", "--set", "record.raw=off"]
    outputs += ["--report", str(report), "--quiet"]
    done = subprocess.run(
        [*COMMAND, *words, *outputs], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = " ".join(done.stderr.split())[-500:]
        raise DegradationFailed(
            f"replay for the pixel comparison: exit code {done.returncode}; expected 0 ({said})"
        )
    facts = json.loads(report.read_text(encoding="utf-8"))
    found = compare_session(folder, source, Config.model_validate(facts["config"]))
    found.command, found.report = ["endostream", *words], facts
    if found.frames != facts["frames"]["presented"]:
        presented = facts["frames"]["presented"]
        raise DegradationFailed(
            f"pixel comparison: {found.frames} frames; expected the {presented} presented"
        )
    return found


def compare_session(folder: Path, source: str, config: Config) -> Degradation:
    """Compare a recorded session of one source, played once, with that source decoded again."""
    found, style = Degradation(), mark_style(config)
    presented, captured = _presented(folder), _captured(source, config)
    for number, (line, marked_bgr) in enumerate(presented):
        captured_bgr = next(captured, None)
        if captured_bgr is None or captured_bgr.shape != marked_bgr.shape:
            raise DegradationFailed(f"pixel comparison: frame {number} of {source} is not what was recorded")
        _compare(
            found, number, captured_bgr, marked_bgr, touched(line, marked_bgr.shape, style, config), line
        )
    return found


def mark_style(config: Config) -> MarkStyle:
    """How overlay draws with this configuration."""
    overlay = config.overlay
    return MarkStyle(overlay.colour_bgr, overlay.fill_alpha, overlay.contour, overlay.box)


def touched(line: dict[str, Any], shape: tuple[int, ...], style: MarkStyle, config: Config) -> Mask:
    """The pixels (bool, H × W) that the marks of a logged frame may change."""
    size_hw, logged = (shape[0], shape[1]), answer_of(line)
    if logged.mask is None or not logged.annotation.state.drawn:
        return np.zeros(size_hw, np.bool_)
    key = FrameKey(line["source"], line["loop"], line["seq"])
    header = FrameHeader(key, 0, config.phantom.rate, 0, size_hw, 0, 0, 0)
    shape_of_mask = logged.mask
    mask = MaskHeader(header, shape_of_mask.transform, shape_of_mask.size_hw, 0, shape_of_mask.view)
    answer = answer_from_mask(mask, logged.packed, config.overlay.min_area_share)
    return marked_pixels(answer.marks, style, size_hw)


def _compare(
    found: Degradation,
    number: int,
    captured_bgr: ImageBgr,
    marked_bgr: ImageBgr,
    marks: Mask,
    line: dict[str, Any],
) -> None:
    """Count one frame."""
    hud = Box(*line["hud"]) if line.get("hud") else Box(0, 0, 0, 0)
    apart = marks.copy()
    apart[hud.y : hud.y + hud.height, hud.x : hud.x + hud.width] = True
    differs = (captured_bgr != marked_bgr).any(axis=2) & ~apart
    changed = int(np.count_nonzero(differs))
    found.frames += 1
    found.compared_px += int(apart.size - np.count_nonzero(apart))
    found.marked_px += int(np.count_nonzero(marks))
    found.hud_px += hud.width * hud.height
    found.frames_with_marks += bool(marks.any())
    size = f"{marks.shape[1]} × {marks.shape[0]}"
    if size not in found.sizes:
        found.sizes.append(size)
    if changed:
        levels = np.abs(captured_bgr[differs].astype(np.int16) - marked_bgr[differs].astype(np.int16))
        found.changed_px += changed
        found.most_levels = max(found.most_levels, int(levels.max()))
        if len(found.changed_frames) < _EXAMPLES:
            found.changed_frames.append(number)


def _presented(folder: Path) -> Iterator[tuple[dict[str, Any], ImageBgr]]:
    """Each frame's line of the log and its marked picture, in order; there must be as many of one as of the other."""
    files = [file for part in parts_of(folder, read_session(folder)) for file in part.files["overlay"]]
    with (folder / LOG_FILE).open(encoding="utf-8") as lines:
        records = (record for record in map(json.loads, lines) if not record["synthetic"])
        yield from zip(records, _decoded(files), strict=True)


def _decoded(files: Sequence[Path]) -> Iterator[ImageBgr]:
    for file in files:
        with av.open(str(file)) as container:
            for picture in container.decode(video=0):
                yield np.asarray(picture.to_ndarray(format="bgr24"), np.uint8)


def _captured(source: str, config: Config) -> Iterator[ImageBgr]:
    """The pictures as capture takes them, decoded afresh."""
    replay = config.replay
    extra = {
        "phantom": config.phantom.model_dump(),
        "memory": config.memory.model_dump(),
        "deinterlace": replay.deinterlace,
        "folder_fps": replay.folder_fps,
        "decode_threads": replay.decode_threads,
    }
    with open_source(source, SourceOptions(replay.start_s, replay.duration_s, extra)) as opened:
        for picture in opened:
            image_bgr = np.empty((*picture.size_hw, 3), np.uint8)
            picture.fill(image_bgr)
            yield image_bgr
