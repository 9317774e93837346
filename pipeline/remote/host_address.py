"""Addresses of infer hosts: what they resolve to, and whether they may be used without keys.

Separate because the rule must be the same wherever an address comes from, and must be decided before any socket
opens: an address that leaves this machine needs CURVE keys. What counts are the addresses that a name resolves to,
all of them, not its spelling. It opens no socket.
"""

import ipaddress
import socket
from dataclasses import dataclass

from endostream.configs.errors import ConfigError
from endostream.configs.schema import tcp_address


@dataclass(frozen=True, slots=True)
class Resolved:
    """What an address resolves to: ZeroMQ endpoints of numbers only, and whether all are on the loopback."""

    endpoints: tuple[str, ...]
    loopback: bool


class Unresolved(OSError):
    """The name service knows no such host, now."""


def resolve(address: str) -> Resolved:
    """Resolve ``tcp://HOST:PORT``; asks the name service, which may take seconds.

    Raises:
        ConfigError: no address of this form.
        Unresolved: nobody knows that name.
    """
    try:
        host, port = tcp_address(address)
    except ValueError as error:
        raise ConfigError(f"address: {address}; expected tcp://HOST:PORT. Try: tcp://gpuhost:5555") from error
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unresolved(f"{host} cannot be resolved ({getattr(error, 'strerror', error)})") from error
    numbers = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    endpoints = tuple(f"tcp://[{it}]:{port}" if ":" in it else f"tcp://{it}:{port}" for it in numbers)
    return Resolved(endpoints, all(is_loopback(it) for it in numbers))


def is_loopback(number: str) -> bool:
    """Whether an address of numbers never leaves this machine; ``0.0.0.0`` and ``::`` are every interface."""
    address = ipaddress.ip_address(number.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def require_keys(what: str, address: str, keys: str | None) -> None:
    """Raise ConfigError if ``address`` may leave this machine and there are no keys; opens nothing.

    Args:
        what: name of the setting or option, for the message.
        address: as it was given.
        keys: folder of keys, None for none.
    """
    if keys is not None:
        return
    try:
        resolved = resolve(address)
    except Unresolved as error:
        raise ConfigError(
            f"{what}: {address}; {error}; expected a known host, or keys. Try: --keys DIR"
        ) from error
    refuse_off_loopback(what, address, resolved)


def refuse_off_loopback(what: str, address: str, resolved: Resolved) -> None:
    """Raise ConfigError unless all that ``address`` resolves to is on the loopback."""
    if not resolved.loopback:
        raise ConfigError(
            f"{what}: {address}; not on the loopback ({', '.join(resolved.endpoints)}), and no keys; expected "
            f"keys for everything that leaves this machine. Try: endostream keys new DIR, then --keys DIR"
        )
