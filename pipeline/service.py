"""The systemd unit for ``endostream live``: ``endostream service print`` and ``install``.

Separate from running, which needs no systemd. The unit is written for this installation (its paths) and for the
command that is given; why each line is there stands in it. It makes no user and starts nothing: the commands that
do are printed.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from endostream.configs.errors import SinkError

NAME = "endostream"
UNIT_PATH = Path("/etc/systemd/system/endostream.service")
CONFIG_PATH = Path("/etc/endostream.yaml")
_TEMPLATE = Path(__file__).with_name("endostream.service")
_FIRST_CONFIG = """\
# endostream as a service: what differs from the default. All settings: endostream config --template
live:
  wait_at_start: true  # the tower may be switched on later
record:
  at_start: false  # true: every run records a session, from its start, in a folder of its own
  folder: /var/lib/endostream/recordings
"""


def unit_text(arguments: Sequence[str], user: str = NAME, executable: Sequence[str] = ()) -> str:
    """The unit that runs ``endostream live`` with ``arguments``."""
    command = [*(executable or _executable()), "live", *arguments]
    homes = ("/home/", "/root/", "/run/user/")
    home = "read-only" if str(Path(command[0]).absolute()).startswith(homes) else "true"
    text = _TEMPLATE.read_text(encoding="utf-8")
    values = {"COMMAND": " ".join(quoted(word) for word in command), "USER": user, "PROTECT_HOME": home}
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def quoted(word: str) -> str:
    """A word of a command as a unit's ExecStart takes it: systemd.service(5), "Command lines"."""
    if word in (";", ""):
        return f'"{word}"'
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    escaped = escaped.replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"' if any(c in word for c in " '\"\\\n\t;") else escaped


def _executable() -> list[str]:
    """How this installation is run."""
    beside = Path(sys.executable).with_name(NAME)
    return [str(beside)] if beside.exists() else [sys.executable, "-P", "-m", "endostream.pipeline"]


def install(arguments: Sequence[str], user: str, root: Path = Path("/")) -> list[str]:
    """Write the unit, and a configuration where there is none; returns what to do next, a line each.

    Raises:
        SinkError: one of them cannot be written.
    """
    unit, config = (root / path.relative_to("/") for path in (UNIT_PATH, CONFIG_PATH))
    _write(unit, unit_text(arguments, user))
    if not config.exists():
        _write(config, _FIRST_CONFIG)
    return [
        f"# written: {unit}, settings in {config}",
        f"id {user} 2>/dev/null || useradd --system --groups video --home-dir /var/lib/{NAME} "
        f"--shell /usr/sbin/nologin {user}",
        "systemctl daemon-reload",
        f"systemctl enable --now {NAME}",
        f"journalctl -u {NAME} -o cat -f",
    ]


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SinkError(
            f"service: {path}; cannot be written ({reason}). Try: sudo, or endostream service print"
        ) from error
