"""Where the command ``endostream`` begins, and ``python -m endostream.pipeline``.

Separate from ``cli.py``, whose own imports take a quarter of a second: who presses Ctrl-C meanwhile gets no traceback.
Nothing is decided here.
"""

import sys
from typing import NoReturn

_INTERRUPTED = 130


def main() -> NoReturn:
    """Entry point of the command ``endostream``."""
    try:
        from .cli import main as command

        command()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
