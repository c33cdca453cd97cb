"""`framefill pose studio`: the studio in the browser; the work is in `framefill.pose.studio`."""

import contextlib
import time
from functools import partial
from pathlib import Path

from framefill.cli.pose import OWN, Whose


def studio(
    *,
    port: int = 8080,
    no_open: bool = False,
    estimator: str = "",
    estimator_python: Path | None = None,
    who: Whose = OWN,
) -> None:
    """Pose a character in the browser: drag handles, keep keys, download the motion. Works offline.

    Args:
        port: Of this machine, which alone can see the page; 0 takes any that is free.
        no_open: Do not open the page in the browser.
        estimator: What sees the pose of a picture: a program and its words (docs/pose.md says what it must print).
        estimator_python: The Python interpreter that has mediapipe==0.10.21; else $FRAMEFILL_ESTIMATOR, else the one in
            ~/.cache/framefill/estimator.
    """
    from framefill.pose.extra import page_library

    page_library()
    character = who.load()
    from framefill.pose.estimator import command
    from framefill.pose.studio.server import Studio

    page = Studio(character, port, partial(command, estimator, estimator_python))
    print(f"{page.url}   (Ctrl-C ends it)", flush=True)
    if not no_open:
        import webbrowser

        webbrowser.open(page.url)
    with contextlib.closing(page):
        while True:
            time.sleep(3600)
