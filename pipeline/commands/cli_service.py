"""The commands ``endostream service print`` and ``service install``: live video as a systemd service.

Separate from ``cli.py``, which is about playing, and from the unit itself (``service.py``), which is imported on use.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from endostream.configs.errors import ConfigError

from .cli_options import ONLY_CHECK

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
    from ..service import unit_text

    print(unit_text(_checked(ctx, user), user), end="")


@_group.command(context_settings=_ANY_OPTIONS)
def install(
    ctx: typer.Context,
    user: User = "endostream",
    root: Annotated[Path, typer.Option(metavar="DIR", help="Write below this folder instead.")] = Path("/"),
) -> None:
    """Write the unit, and /etc/endostream.yaml where there is none; print what to do next."""
    from ..service import install

    for line in install(_checked(ctx, user), user, root):
        print(line)


def _checked(ctx: typer.Context, user: str) -> list[str]:
    """The arguments of ``endostream live``, with those that a service needs; what that would refuse is refused."""
    from ..service import CONFIG_PATH
    from ..source import is_live

    arguments = ctx.args

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
    whole = [*arguments, *added, *quiet]
    _try_live(ctx, whole)
    return whole


def _try_live(ctx: typer.Context, arguments: Sequence[str]) -> None:
    """Have ``endostream live`` read these arguments, without running; raises what it would.

    A configuration that is not there yet may come later, or be of another machine.
    """
    group: Any = ctx.find_root().command
    words = list(arguments)
    for index, word in enumerate(words):
        option, _, file = word.partition("=")
        width = 1 if file else 2
        if option == "--config" and not Path(file or "".join(words[index + 1 : index + 2])).exists():
            del words[index : index + width]
            break
    obj = {"arguments": words, ONLY_CHECK: True}
    group.commands["live"].main(words, "endostream live", standalone_mode=False, obj=obj)
