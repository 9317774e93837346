"""A source that was decoded and resized beforehand and plays from memory: ``memory:SOURCE``.

What ``endostream profile`` plays, since decoding a file costs what a capture card does not. Pictures are decoded once,
when the source is opened, as many as ``memory.budget_mib`` holds, and then played over and over at an even rate until
``duration_s``, or once where there is none. Resizing keeps no proportions: the size asked for is the size played.
"""

import itertools
import math
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from types import TracebackType
from typing import Self

import cv2
import numpy as np

from endostream.configs.errors import ConfigError, SourceMissing
from endostream.configs.schema import MemorySettings
from endostream.pipeline.frame import ImageBgr, SizeHW, SourcePicture
from endostream.pipeline.source import Source, SourceInfo, SourceOptions, is_live, open_source

from .decoded import Decoded, keep, kept_path, load

SCHEME = "memory:"
_DEFAULT_FPS = Fraction(25)
_TIME_TOLERANCE_S = 0.0005


class MemorySource:
    """Plays what ``address`` names behind ``memory:``; settings are ``extra["memory"]``.

    Raises:
        ConfigError: a live source, which cannot be decoded beforehand, or pictures larger than the budget.
        SourceMissing: nothing to play.
    """

    def __init__(self, address: str, options: SourceOptions | None = None) -> None:
        options = options or SourceOptions()
        settings = MemorySettings.model_validate(options.extra.get("memory", {}))
        inner_address = address.removeprefix(SCHEME)
        if inner_address.startswith(SCHEME) or is_live(inner_address):
            raise ConfigError(f"source: {address}; expected memory: and a recording or phantom:")
        with open_source(inner_address, SourceOptions(options.start_s, None, options.extra)) as inner:
            self.info = _info_of(address, inner.info, settings)
            decoded = _decoded(inner, self.info.size_hw, settings.budget_mib << 20, options)
        self._images, self.faults = decoded.images, dict(decoded.faults)
        if not self._images:
            raise SourceMissing(f"source: {address}; no picture in it can be decoded")
        fps, length_s = self.info.fps, options.duration_s
        assert fps is not None
        self._first_pts = round(decoded.first_s * fps)
        self._frames = (
            len(self._images) if length_s is None else max(1, math.ceil((length_s - _TIME_TOLERANCE_S) * fps))
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[SourcePicture]:
        """Pictures in order, from the first again behind the last."""
        images = itertools.cycle(self._images)
        for seq, image in zip(range(self._frames), images, strict=False):
            pts, fill = self._first_pts + seq, partial(_copy, image)
            yield SourcePicture(seq, pts, self.info.time_base, self.info.size_hw, fill)

    def close(self) -> None:
        """Let go of the pictures; may be called twice."""
        self._images = []


def _info_of(address: str, inner: SourceInfo, settings: MemorySettings) -> SourceInfo:
    """What is played: the inner source in another size and rate; its length is not known beforehand."""
    fps = settings.rate or inner.fps or _DEFAULT_FPS
    return SourceInfo(
        address=address,
        kind="memory",
        size_hw=settings.size_hw or inner.size_hw,
        fps=fps,
        time_base=1 / fps,
        codec=inner.codec,
        pixel_format=inner.pixel_format,
        colour_matrix=inner.colour_matrix,
        colour_range=inner.colour_range,
        assumed=inner.assumed,
        seed=inner.seed,
    )


def _decoded(source: Source, size_hw: SizeHW, budget_bytes: int, options: SourceOptions) -> Decoded:
    """The first pictures of ``source`` in one size, as many as fit into the budget; from where they were kept."""
    most = budget_bytes // (size_hw[0] * size_hw[1] * 3)
    if not most:
        raise ConfigError(
            f"memory.budget_mib: {budget_bytes >> 20}; expected room for one picture of {size_hw[1]} × {size_hw[0]}"
        )
    path = kept_path(source.info.address, size_hw, most, options.start_s, options.extra)
    if path is not None and (kept := load(path)) is not None:
        return kept
    images: list[ImageBgr] = []
    first_s = 0.0
    for picture in itertools.islice(source, most):
        first_s = first_s if images else picture.time_s
        images.append(_resized(picture, size_hw))
    decoded = Decoded(images, first_s, dict(source.faults))
    if path is not None and images:
        keep(path, decoded)
    return decoded


def _resized(picture: SourcePicture, size_hw: SizeHW) -> ImageBgr:
    image_bgr = np.empty((*picture.size_hw, 3), np.uint8)
    picture.fill(image_bgr)
    if picture.size_hw == size_hw:
        return image_bgr
    smaller = size_hw[0] * size_hw[1] < picture.size_hw[0] * picture.size_hw[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image_bgr, (size_hw[1], size_hw[0]), interpolation=how), np.uint8)


def _copy(image_bgr: ImageBgr, into: ImageBgr) -> None:
    into[:] = image_bgr
