"""The phantom as a source: a rendered, moving colon with polyps that come and go and the exact mask of every frame.

It is the example of ``endostream demo`` and the ground truth of tests. Separate from the rendering
(``phantom_render.py``), which knows no sources. It is no model of disease, and nothing should be trained on it alone.
"""

import math
from collections.abc import Iterator
from functools import partial
from types import TracebackType
from typing import Self

from endostream.configs.errors import ConfigError
from endostream.models.segmenter import Mask
from endostream.pipeline.frame import SourcePicture
from endostream.pipeline.source import SourceInfo, SourceOptions

from .phantom_render import Phantom
from .phantom_settings import PhantomSettings, settings_from

__all__ = ["Phantom", "PhantomSettings", "PhantomSource"]

TIME_TOLERANCE_S = 0.0005
"""A start given in milliseconds means the nearest picture, not the one after it."""


class PhantomSource:
    """The phantom as a source, of recorded type: each iteration plays from ``start_s`` again.

    Args:
        address: ``phantom:`` or ``phantom:WIDTHxHEIGHT@FPS``.
        options: ``extra["phantom"]`` has the settings, see PhantomSettings.

    Raises:
        ConfigError: an address or a setting that cannot be used, or ``start_s`` behind the end.
    """

    def __init__(self, address: str, options: SourceOptions | None = None) -> None:
        options = options or SourceOptions()
        settings = settings_from(address, options.extra.get("phantom", {}))
        fps = settings.fps
        self._start = max(0, math.ceil((options.start_s - TIME_TOLERANCE_S) * fps))
        if self._start >= settings.frame_count:
            raise ConfigError(
                f"start_s: {options.start_s:g}; expected less than {settings.duration_s:g}, what {address} lasts"
            )
        self._end = settings.frame_count
        if options.duration_s is not None:
            length = math.ceil((options.duration_s - TIME_TOLERANCE_S) * fps)
            self._end = min(self._end, self._start + max(1, length))
        self._phantom: Phantom | None = Phantom(settings=settings)
        self.info = SourceInfo(
            address=address,
            kind="phantom",
            size_hw=settings.size_hw,
            fps=fps,
            time_base=1 / fps,
            frame_count=settings.frame_count,
            duration_s=float(settings.frame_count / fps),
            codec="rendered",
            pixel_format="bgr24",
            colour_matrix="rgb",
            colour_range="full",
            seed=settings.seed,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[SourcePicture]:
        """Pictures from ``start_s`` to the end or ``duration_s``; rendered only when ``fill`` is called."""
        for index in range(self._start, self._end):
            fill = partial(self._open_phantom().render_image, index)
            yield SourcePicture(index - self._start, index, self.info.time_base, self.info.size_hw, fill)

    def truth(self, seq: int) -> Mask:
        """The exact mask of the picture with this ``seq`` (height × width, bool)."""
        return self._open_phantom().truth(self._start + seq)

    @property
    def faults(self) -> dict[str, int]:
        """None ever."""
        return {}

    def close(self) -> None:
        """Give the phantom's memory back; may be called twice."""
        self._phantom = None

    def _open_phantom(self) -> Phantom:
        if self._phantom is None:
            raise ValueError("phantom: closed; expected an open source")
        return self._phantom
