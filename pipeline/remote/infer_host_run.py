"""The command ``endostream infer-host``: checks, signals, lines on stderr, and the host between them.

Separate from the host itself, which is run in tests with none of these. Its lines go where every command's go
(``log_lines.py``).
"""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import zmq

from endostream.configs.errors import ConfigError
from endostream.configs.schema import Config
from endostream.models.runtimes import check_runtime_name
from endostream.models.segmenter import Segmenter, load_segmenter, segmenter_input_hw

from ..clock import MonotonicClock
from .curve_keys import check_host_keys
from .host_address import require_keys
from .infer_host import HostPlace, InferHost
from .remote_wire import Terms

logger = logging.getLogger("endostream")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def serve(listen: str, config: Config) -> dict[str, Any]:
    """Serve until a signal comes; returns what was served.

    Raises:
        ConfigError: an address off the loopback without keys, or keys that will not do; before any socket opens.
        ModelError: the segmenter cannot be opened here.
    """
    infer = config.infer
    if infer.host is not None:
        raise ConfigError(f"infer.host: {infer.host}; an infer host computes itself. Try: leave it out here")
    require_keys("listen", listen, infer.keys)
    keys = None if infer.keys is None else Path(infer.keys)
    if keys is not None:
        check_host_keys(keys)
    check_runtime_name(infer.runtime)
    input_hw = segmenter_input_hw(infer.segmenter, infer.options)
    terms = Terms(infer.segmenter, input_hw, metadata.version("endostream"))

    def opened() -> Segmenter:
        segmenter = load_segmenter(infer.segmenter, infer.options, infer.runtime, _tell_building)
        segmenter.warm_up()
        return segmenter

    with _signals() as asked, zmq.Context() as context:
        host = InferHost(context, HostPlace(listen, keys), opened, terms, _say, MonotonicClock())
        try:
            _say(f"{infer.segmenter} on {host.terms.runtime}, {input_hw[0]} × {input_hw[1]}, {_guard(keys)}")
            _say(f"listening at {' and '.join(host.endpoints)}")
            host.run(lambda: bool(asked))
            _say(f"ends on {signal.Signals(asked[0]).name}")
            return host.totals()
        finally:
            host.close()


def _tell_building(what: str, percent: int) -> None:
    if percent % 10 == 0:
        _say(f"{what} {percent} %")


def _guard(keys: Path | None) -> str:
    return "loopback only, no keys" if keys is None else f"keys of {keys}"


def _say(line: str) -> None:
    logger.info("infer-host: %s", line)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals that came, in a list that grows."""
    came: list[int] = []
    previous = {number: signal.signal(number, lambda number, _: came.append(number)) for number in _SIGNALS}
    try:
        yield came
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
