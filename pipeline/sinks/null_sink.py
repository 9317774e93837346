"""The sink ``null``: presents nothing, for measuring and for machines without a screen.

As the presenting sink it stands for "the finished picture is complete"; nothing is drawn and nothing is
kept.
"""

from types import TracebackType
from typing import Self

from ..frame import Presented
from ..sink import SinkContext, SinkSpec


class NullSink:
    """Takes frames and forgets them."""

    def __init__(self, spec: SinkSpec, context: SinkContext) -> None:
        """Open it; there is nothing to open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def check(spec: SinkSpec) -> None:
        """It can always be written."""

    def write(self, presented: Presented) -> None:
        """Take one frame."""

    def close(self) -> None:
        """Nothing is held."""
