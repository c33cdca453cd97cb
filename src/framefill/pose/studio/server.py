"""The studio as a page at 127.0.0.1: viser's server, the scene, the controls, and one desk behind them."""

import contextlib
import io
import os
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

from framefill.errors import BadInput, FramefillError, one_line
from framefill.pose.characters import Character
from framefill.pose.estimator import command, open_picture
from framefill.pose.extra import page_library
from framefill.pose.studio.ask import Ask, Asked
from framefill.pose.studio.desk import Desk
from framefill.pose.studio.files import Files
from framefill.pose.studio.panel import Panel
from framefill.pose.studio.photo import Photo
from framefill.pose.studio.player import Player
from framefill.pose.studio.scene import Scene
from framefill.pose.studio.search import Search
from framefill.pose.studio.session import Session
from framefill.pose.studio.state import Grip, Three

HOST = "127.0.0.1"
WIDEST_PICTURE = 1600  # pixels that are sent to the page


class Studio:
    """A session in a page. Raises NotInstalled without viser, BadInput for a port that is taken or none.

    port: 1 to 65535, or 0 for any that is free; `url` says where the page is. estimator: gives the words that start it,
    or raises NotInstalled with how to get it.
    """

    def __init__(self, character: Character, port: int = 8080, estimator: Callable[[], list[str]] = command):
        library = page_library()
        _free(port)
        self.session = Session(character)
        self.server = _serving(library, port)
        self.url = f"http://{HOST}:{self.server.get_port()}"
        self.desk = Desk(self._failed)
        self.server.gui.configure_theme(show_logo=False, show_share_button=False)
        self.server.gui.main_panel.dock_right()
        self.scene = Scene(self.server, self.session, self._moved, self._clicked)
        self.panel = Panel(self.server, self.session, self.do, self.tell)
        self.search = Search(self.do)
        self.asked = Asked(self.panel, self.search)
        self.ask = Ask(self.panel, self.asked)
        self.player = Player(self.session, self._frame, self.desk.put, self._ended)
        self.files = Files(self.panel, self.player)
        self.photo = Photo(self.panel, self.asked, picture, self.scene.behind, estimator)
        self.server.scene.on_click()(self._labelled)
        self.server.on_client_disconnect(lambda _: self.do(self.player.stop))

    def do(self, work: Any, name: str | None = None) -> None:
        """Work for the desk; then the page shows what became of it."""
        self.desk.put(lambda: self._done(work), name)

    def tell(self, line: str) -> None:
        """A line for everyone who looks."""
        for client in self.server.get_clients().values():
            client.add_notification("framefill", line, auto_close_seconds=6.0)

    def close(self) -> None:
        """Ends the page."""
        self.player.close()
        self.search.close()
        self.desk.close()
        with contextlib.redirect_stdout(io.StringIO()):
            self.server.stop()

    def _done(self, work: Any) -> None:
        try:
            work()
        finally:
            self._shown()

    def _shown(self) -> None:
        self._checked()
        if not self.player.playing:  # else the page shows its frames
            self.scene.refresh()
        self.panel.refresh()
        self.files.refresh()
        self.ask.refresh()
        unsure = self.ask.unsure.value and self.session.state.grips
        self.scene.colour(self.session.uncertainty().numpy() if unsure else None)

    def _checked(self) -> None:
        """What goes on beside the desk ends where the session is not as it was."""
        self.asked.check()
        self.player.check()

    def _failed(self, error: Exception) -> None:
        if isinstance(error, FramefillError):
            self.tell(one_line(error))
            return
        traceback.print_exception(error, file=sys.stderr)
        self.tell(f"this did not work: {type(error).__name__}")

    def _moved(self, grip: Grip, target: Three, phase: str) -> None:
        if phase == "end":
            self.desk.put(self._let_go)
        elif phase == "update":
            self.desk.put(lambda: self._drag(grip.key, target), grip.key)

    def _drag(self, key: str, target: Three) -> None:
        """The short way: the body, and nothing else of the page."""
        self.scene.still = key
        self.session.move(key, target, gesture=f"drag {key}")
        self._checked()
        self.scene.refresh()

    def _let_go(self) -> None:
        self.session.settle()
        self.scene.still = None
        self._shown()

    def _clicked(self, joint: str) -> None:
        if not self.photo.labelling.value:
            self.do(lambda: self.panel.add(joint))

    def _labelled(self, event: Any) -> None:
        if self.photo.labelling.value:
            origin, along = event.ray_origin, event.ray_direction
            joint, slack = self.photo.label.value, float(self.photo.slack.value)
            self.do(lambda: self.panel.choose(self.session.sight(joint, origin, along, slack)))

    def _frame(self, places: np.ndarray, turns: np.ndarray) -> None:
        with self.server.atomic():
            self.scene.pose(places, turns)
        self.server.flush()

    def _ended(self) -> None:
        """The session again, where a motion was played."""
        self.scene.refresh()
        self.files.refresh()


def picture(content: bytes) -> np.ndarray:
    """The pixels (H, W, 3) of a picture, upright, at most 1600 wide or high. Errors as of `open_picture`."""
    image = open_picture(io.BytesIO(content), "this file")
    image.thumbnail((WIDEST_PICTURE, WIDEST_PICTURE))
    return np.asarray(image)


def _free(port: int) -> None:
    """Raises BadInput for a port that is out of range or taken: viser would quietly take the next."""
    if not 0 <= port <= 65535:
        raise BadInput(f"port {port}; give 1 to 65535, or 0 for any that is free")
    with socket.socket() as probe:
        if os.name == "posix":  # as the server itself does: what has just been closed is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise BadInput(f"port {port} cannot be used ({error.strerror}); give another with --port, or 0") from error


def _serving(library: Any, port: int) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a table of addresses
        return library.ViserServer(host=HOST, port=port, label="framefill pose studio", verbose=False)
