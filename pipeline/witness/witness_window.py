"""A window that shows a code and knows when: what the witness is calibrated with.

It puts a picture into an X window and waits for the server's answer, so that the time at which it became visible lies
between two stamps some hundred microseconds apart. What the witness says of the same picture, less their middle, is
the witness's own error. python-xlib and nothing of ours but the code, so that no toolkit's habits come in.
"""

import json
import random
import sys
import time
from dataclasses import dataclass

import numpy as np

from .witness_code import Code, draw_code

SIZE_WH = (288, 216)
"""Small enough for one X request."""
_TRIALS_SEED = 7
_LEAST_REST_S, _MOST_REST_S = 0.008, 0.03


@dataclass(frozen=True, slots=True)
class Shown:
    """Frame ``number`` became visible between the two monotonic times."""

    number: int
    before_ns: int
    after_ns: int


def show_codes(display_name: str | None, trials: int) -> list[Shown]:
    """Show ``trials`` codes, one after another, at irregular times."""
    from Xlib import X, display

    connection = display.Display(display_name)
    screen = connection.screen()
    width, height = SIZE_WH
    window = screen.root.create_window(
        40,
        40,
        width,
        height,
        0,
        screen.root_depth,
        background_pixel=screen.white_pixel,
        override_redirect=True,
    )
    window.map()
    connection.sync()
    context = window.create_gc()
    rest = random.Random(_TRIALS_SEED)
    shown = []
    for number in range(trials):
        luma = np.full((height, width), 128, np.uint8)
        draw_code(luma, Code(number, time.monotonic_ns() // 1000 % (1 << 32)))
        data = np.repeat(luma[:, :, None], 4, axis=2).tobytes()
        before_ns = time.monotonic_ns()
        window.put_image(context, 0, 0, width, height, X.ZPixmap, screen.root_depth, 0, data)
        connection.sync()
        shown.append(Shown(number, before_ns, time.monotonic_ns()))
        # The first stays long enough to be found on the screen.
        time.sleep(1.0 if number == 0 else rest.uniform(_LEAST_REST_S, _MOST_REST_S))
    window.destroy()
    connection.close()
    return shown


def main() -> None:
    """Entry point of the process: display, trials; prints a JSON line for each."""
    for each in show_codes(sys.argv[1] or None, int(sys.argv[2])):
        print(json.dumps([each.number, each.before_ns, each.after_ns]))


if __name__ == "__main__":
    main()
