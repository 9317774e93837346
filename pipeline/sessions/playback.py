"""Whether what is to be replayed are recorded sessions, and what follows from that for the run.

A session is played with the masks that were recorded, each frame with its own and none left out, unless a segmenter is
asked for: then its video is a source like any other. Separate from the command line, so that the rule stands in one
place. It starts nothing.
"""

from collections.abc import Sequence
from pathlib import Path

from endostream.configs.errors import ConfigError
from endostream.configs.load import Override

from ..source import source_kind
from .session import read_session

_ORIGIN = "recorded session"


def plays_recorded_masks(addresses: Sequence[str], segmenter: str | None, settings: Sequence[str]) -> bool:
    """Whether recorded masks stand in for the network; raises ConfigError for sessions among other sources."""
    sessions = [address for address in addresses if source_kind(address) == "session"]
    if not sessions or segmenter is not None or any(text.startswith("infer.segmenter=") for text in settings):
        return False
    if len(sessions) != len(addresses):
        other = next(address for address in addresses if address not in sessions)
        raise ConfigError(
            f"replay: {sessions[0]} is a recorded session and {other} is none; expected one kind. "
            "Try: two runs, or --segmenter NAME for both"
        )
    return True


def playback_overrides(addresses: Sequence[str], mode: str | None, settings: Sequence[str]) -> list[Override]:
    """What is set where recorded masks are shown: each frame waits for its own, and the segmenter's name is theirs."""
    segmenter = str(read_session(Path(addresses[0])).get("segmenter", "unknown"))
    overrides = [Override("infer.segmenter", segmenter, _ORIGIN)]
    if mode is None and not any(text.startswith("replay.mode=") for text in settings):
        overrides.append(Override("replay.mode", "every-frame", _ORIGIN))
    return overrides
