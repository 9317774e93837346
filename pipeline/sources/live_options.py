"""What every live source is told: its settings, and how to ask whether it is to stop and to say something.

Separate from the sources so that each reads ``SourceOptions.extra`` in the same way, and works without any of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from endostream.configs.schema import LiveSettings

Log = Callable[[str, str], None]
"""Called with one line and its level (``info``, ``warning``)."""


def _never() -> bool:
    return False


def _nothing(message: str, level: str) -> None:
    return None


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """From ``SourceOptions.extra``.

    Attributes:
        settings: the ``live`` section.
        stopping: whether the run is to end; asked at least ten times a second while a source waits.
        log: takes one line for the log.
        first_seq: number of the first picture: above 0 when capture was restarted.
        origin_ns: monotonic time of pts 0, None for the first picture's arrival.
        last_arrival_ns: of the last picture before capture was restarted, None if it was not.
    """

    settings: LiveSettings = field(default_factory=LiveSettings)
    stopping: Callable[[], bool] = _never
    log: Log = _nothing
    first_seq: int = 0
    origin_ns: int | None = None
    last_arrival_ns: int | None = None

    @classmethod
    def from_extra(cls, extra: dict[str, Any]) -> "LiveOptions":
        """Take what is there, defaults for the rest."""
        return cls(
            LiveSettings.model_validate(extra.get("live", {})),
            extra.get("stopping", _never),
            extra.get("log", _nothing),
            extra.get("first_seq", 0),
            extra.get("origin_ns"),
            extra.get("last_arrival_ns"),
        )
