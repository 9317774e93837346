"""The commands ``endostream service print`` and ``service install``: live video as a systemd service.

Separate from ``cli.py``, which is about playing, and from the unit itself (``service.py``), which is imported on use.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from endostream.configs.errors import ConfigError

User = Annotated[str, typer.Option("--user", metavar="NAME", help="Whom the service runs as; not root.")]
_ANY_OPTIONS = {"allow_extra_args": True, "ignore_unknown_options": True}
_group = typer.Typer(
    help="Run live video as a systemd service: see docs/service.md.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


def add_to(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(_group, name="service")


@_group.command("print", context_settings=_ANY_OPTIONS)
def print_unit(ctx: typer.Context, user: User = "endostream") -> None:
    """Print the unit for endostream live with the arguments given: DEVICE_OR_URL and any of its options."""
    from .service import unit_text

    print(unit_text(_checked(ctx.args, user), user), end="")


@_group.command(context_settings=_ANY_OPTIONS)
def install(
    ctx: typer.Context,
    user: User = "endostream",
    root: Annotated[Path, typer.Option(metavar="DIR", help="Write below this folder instead.")] = Path("/"),
) -> None:
    """Write the unit, and /etc/endostream.yaml where there is none; print what to do next."""
    from .service import install

    for line in install(_checked(ctx.args, user), user, root):
        print(line)


def _checked(arguments: Sequence[str], user: str) -> list[str]:
    """The arguments of ``endostream live``, with those that a service needs."""
    from .service import CONFIG_PATH
    from .source import is_live

    if not any(is_live(word) for word in arguments):
        raise ConfigError(
            "service: no source; expected what endostream live takes. Try: endostream service print /dev/video0"
        )
    if user in ("", "root", "0"):
        raise ConfigError(f"user: {user!r}; expected one without privileges. Try: --user endostream")
    always = {"--config": str(CONFIG_PATH), "--log-format": "json"}
    given = {word.partition("=")[0] for word in arguments}
    added = [word for option, value in always.items() if option not in given for word in (option, value)]
    quiet = [] if "--quiet" in given else ["--quiet"]
    return [*arguments, *added, *quiet]
