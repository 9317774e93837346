"""The CURVE keys of infer hosts and towers: a folder of key files, made, shown, checked and read.

Separate so that host, tower and command line agree on what lies where. ZeroMQ's own file format and random numbers
are used; nothing here encrypts. A folder holds, of each as far as it is there::

    host.key_secret    the infer host's pair; stays on the infer host
    host.key           its public half; on the infer host and on every tower
    tower.key_secret   a tower's pair; stays on that tower
    towers/NAME.key    public halves of the towers that the host lets in

Secret files are for their owner alone (0600), the folder too (0700); other modes are refused, as ssh does.
"""

import os
import stat
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import zmq
import zmq.auth
from zmq.utils import z85

from endostream.configs.errors import ConfigError

ROLES = ("host", "tower")
_PLACES = {"host": Path("host.key"), "tower": Path("towers/tower.key")}
_KEY_LENGTH = 40


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A public and a secret key, Z85. The secret half is left out of what is printed."""

    public: bytes
    secret: bytes = field(repr=False)


def make_keys(folder: Path, roles: Sequence[str] = ROLES) -> list[Path]:
    """Make pairs for ``roles`` in ``folder``; returns the files made. Refuses to overwrite any.

    Raises:
        ConfigError: a file is there already, the folder cannot be made, or this ZeroMQ has no CURVE.
    """
    if not zmq.has("curve"):
        raise ConfigError(
            "keys: this ZeroMQ was built without CURVE. Try: pip install --force-reinstall pyzmq"
        )
    places = [place for role in roles for place in (_PLACES[role], Path(f"{role}.key_secret"))]
    for place in places:
        if os.path.lexists(folder / place):
            raise ConfigError(f"keys: {folder / place}; is there already. Try: another folder, or remove it")
    try:
        _private_folder(folder)
        for role in roles:
            _make_pair(folder, role)
    except OSError as error:
        raise ConfigError(
            f"keys: {folder}; cannot be written ({error.strerror}). Try: another folder"
        ) from error
    return [folder / place for place in places]


def _private_folder(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(mode=0o700, parents=True)
    folder.chmod(0o700)
    (folder / "towers").mkdir(mode=0o700, exist_ok=True)


def _make_pair(folder: Path, role: str) -> None:
    """Made in a private folder first: a secret is never readable by others, and a link never overwrites."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as private:
        public, secret = map(Path, zmq.auth.create_certificates(private, role))
        for made, place in ((public, _PLACES[role]), (secret, Path(f"{role}.key_secret"))):
            made.chmod(0o600)
            (folder / place).hardlink_to(made)


def host_pair(folder: Path) -> KeyPair:
    """The infer host's own pair; raises ConfigError."""
    return _pair(folder / "host.key_secret")


def tower_pair(folder: Path) -> KeyPair:
    """This tower's own pair; raises ConfigError."""
    return _pair(folder / "tower.key_secret")


def host_public(folder: Path) -> bytes:
    """The public key of the infer host that this tower trusts; raises ConfigError."""
    return _read(folder / "host.key")[0]


def towers_let_in(folder: Path) -> dict[bytes, str]:
    """Names of the towers that the host lets in, by public key; read anew for each that knocks."""
    return {_read(file)[0]: file.stem for file in sorted((folder / "towers").glob("*.key"))}


def check_host_keys(folder: Path) -> None:
    """Raise ConfigError unless ``folder`` has what an infer host needs."""
    host_pair(folder)
    if not towers_let_in(folder):
        raise ConfigError(f"keys: {folder / 'towers'}; no NAME.key; expected the public key of each tower")


def check_tower_keys(folder: Path) -> None:
    """Raise ConfigError unless ``folder`` has what a tower needs."""
    tower_pair(folder)
    host_public(folder)


def _pair(file: Path) -> KeyPair:
    public, secret = _read(file)
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        raise ConfigError(f"keys: {file}; mode {mode:04o}; expected 0600. Try: chmod 600 {file}")
    if secret is None:
        raise ConfigError(f"keys: {file}; holds no secret key. Try: endostream keys new DIR")
    if zmq.curve_public(secret) != public:
        raise ConfigError(f"keys: {file}; its halves do not belong together. Try: endostream keys new DIR")
    return KeyPair(public, secret)


def _read(file: Path) -> tuple[bytes, bytes | None]:
    try:
        public, secret = zmq.auth.load_certificate(file)
    except (OSError, ValueError) as error:
        problem = "cannot be read" if file.exists() else "not there"
        raise ConfigError(
            f"keys: {file}; {problem}; expected a key file. Try: endostream keys show {file.parent}"
        ) from error
    if not all(_is_key(key) for key in (public, secret) if key is not None):
        raise ConfigError(f"keys: {file}; damaged; expected keys of {_KEY_LENGTH} characters (Z85)")
    return public, secret


def _is_key(key: bytes) -> bool:
    try:
        return len(key) == _KEY_LENGTH and len(z85.decode(key)) == 32
    except (KeyError, ValueError, struct.error):
        return False


def keys_text(folder: Path) -> str:
    """What lies in ``folder``, public halves only, and which role it serves; raises ConfigError."""
    if not folder.is_dir():
        raise ConfigError(f"keys: {folder}; no such folder. Try: endostream keys new {folder}")
    lines = []
    for file in (*(folder / f"{role}.key_secret" for role in ROLES), folder / "host.key"):
        if file.exists():
            lines.append(f"{file.name:18}{_read(file)[0].decode()}")
    lines += [f"towers/{name + '.key':11}{key.decode()}" for key, name in towers_let_in(folder).items()]
    for role, check in (("infer host", check_host_keys), ("tower", check_tower_keys)):
        try:
            check(folder)
            lines.append(f"serves as {role}")
        except ConfigError as error:
            lines.append(f"not for {role}: {error}")
    return "\n".join(lines) + "\n"
