"""The HTTP server that ``--metrics HOST:PORT`` opens for Prometheus.

Separate from what is told (``exposition.py``). It runs in threads of the supervisor's process, which no picture passes
through; each scrape reads the board afresh, behind everything else that wants the processor. An address without a
host means this machine only. There is no password: what is reachable from outside is said in a warning.
"""

import ipaddress
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from endostream.configs.errors import ConfigError

from .exposition import families

if TYPE_CHECKING:
    from prometheus_client.core import Metric

logger = logging.getLogger("endostream")

_CLIENT_TIMEOUT_S = 5.0
_NICE = 10


def listen_address(text: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``, ``[IPV6]:PORT``, or ``PORT``, which means this machine only.

    Raises:
        ConfigError: none of these.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not port.isascii() or not port.isdigit() or int(port) > 65_535 or (":" in host and "[" not in text):
        raise ConfigError(f"metrics.listen: {text!r}; expected HOST:PORT. Try: --metrics 127.0.0.1:9464")
    return host or "127.0.0.1", int(port)


class _Handler(WSGIRequestHandler):
    """Answers without a word on stderr, and waits for nobody for long."""

    timeout = _CLIENT_TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each request; asks no name server for its own name."""

    daemon_threads = True

    def server_bind(self) -> None:
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is its own affair."""


class _SixServer(_Server):
    address_family = socket.AF_INET6


class MetricsServer:
    """Serves ``/metrics`` at ``listen``, as a context manager.

    Args:
        listen: see ``listen_address``; port 0 takes a free one.
        record: makes the record of the moment.

    Attributes:
        url: where the metrics are.

    Raises:
        ConfigError: the address is none, is not this machine's, or the port is in use.
    """

    def __init__(self, listen: str, record: Callable[[], dict[str, Any]]) -> None:
        from prometheus_client import CollectorRegistry, make_wsgi_app

        host, port = listen_address(listen)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collector(record))
        self._server = _bound(listen, host, port)
        self._server.set_app(make_wsgi_app(registry))
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_port}/metrics"
        serve = partial(self._server.serve_forever, poll_interval=0.1)
        self._thread = threading.Thread(target=serve, name="metrics", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        logger.info("metrics: %s", self.url, extra={"event": "metrics"})
        if not ipaddress.ip_address(str(self._server.server_address[0])).is_loopback:
            logger.warning(
                "metrics: %s can be read by everyone who reaches this machine, without password",
                self.url,
                extra={"event": "metrics"},
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(_CLIENT_TIMEOUT_S)


def _bound(listen: str, host: str, port: int) -> _Server:
    server = _SixServer if ":" in host else _Server
    try:
        return server((host, port), _Handler)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(
            f"metrics.listen: {listen}; cannot be listened on ({reason}). Try: --metrics 127.0.0.1:0"
        ) from error


class _Collector:
    """Gives the client the families of the moment."""

    def __init__(self, record: Callable[[], dict[str, Any]]) -> None:
        self._record = record

    def collect(self) -> "Iterator[Metric]":
        """Called for each scrape, in a thread of its own, which steps behind everything else."""
        if hasattr(os, "setpriority"):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        return families(self._record())
