"""The page's controls: each tells the desk what to do with the session, and shows what became of it.

Six pages: Pose (handles), Body, Ask (what handles leave open), Time, Files, and Picture (to label). What the program
itself sets calls back too, in its own thread: `_quiet` is that thread while it does so, and its calls are not answered.
"""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from framefill.pose.studio import saved
from framefill.pose.studio.session import WIDEST, Session, shapes
from framefill.pose.studio.state import KINDS

SHAPES = ("stature", "long legs", "arms", "shoulders", "hips", "girth", "thighs", "upper arms", "head", "hands, feet")
SOFTEST = 0.3  # metres or radians of the tolerance slider
NONE = "no handle yet"
Do = Callable[..., None]  # do(work, name): see `Desk.put`; the page is brought up to date afterwards


class Panel:
    """The controls of one page. `tell` shows a line to whoever is there; `send` gives a file to one browser."""

    def __init__(self, server: Any, session: Session, do: Do, tell: Callable[[str], None]):
        self.gui, self.session, self.do, self.tell = server.gui, session, do, tell
        self._quiet: int | None = None
        self.poses: list[Any] = []
        tabs = self.gui.add_tab_group()
        pages = (self._pose, self._body, self._explore)
        for title, fill in zip(("Pose", "Body", "Ask"), pages, strict=True):
            with tabs.add_tab(title):
                fill()
        self.tabs = tabs
        self.refresh()

    @property
    def chosen(self) -> str:
        """The name of the handle that is chosen. The session refuses it where there is none."""
        return str(self._grips.value)

    def refresh(self) -> None:
        """Brings the controls to the session as it is."""
        self._quiet = threading.get_ident()
        try:
            keys = tuple(grip.key for grip in self.session.state.grips) or (NONE,)
            if tuple(self._grips.options) != keys:
                self._grips.options = keys
            if self._grips.value not in keys:
                self._grips.value = keys[-1]
            self._show_grip()
            _put(self._stand, self.session.state.standing)
            self._show_body()
            lines = self.session.warnings()
            _content(self._note, "\n\n".join(f"**{line}**" for line in lines))
        finally:
            self._quiet = None

    def choose(self, key: str) -> None:
        """The handle that the controls are about."""
        self.refresh()
        self._quiet = threading.get_ident()
        _put(self._grips, key)
        self._show_grip()
        self._quiet = None

    def add(self, joint: str) -> None:
        """A handle of the chosen kind at a joint."""
        self.choose(self.session.add(joint, self._kind.value))

    def on(self, control: Any, work: Callable[[], None], name: str | None = None) -> None:
        """`work` on the desk whenever the user changes a control."""
        event = control.on_click if hasattr(control, "on_click") else control.on_update

        @event
        def _(_: Any) -> None:
            if self._quiet != threading.get_ident():
                self.do(work, name)

    def _pose(self) -> None:
        gui, session = self.gui, self.session
        names = session.character.rig.skeleton.names
        gui.add_markdown("Click a dot to take hold of a joint, then drag its arrows.")
        self._kind = gui.add_dropdown("New handle", KINDS, initial_value=KINDS[0], hint="what a click on a dot makes")
        self._joint = gui.add_dropdown("Joint", names, initial_value=names[-1])
        self.on(gui.add_button("Add handle"), lambda: self.add(self._joint.value))
        self._grips = gui.add_dropdown("Handle", (NONE,), initial_value=NONE)
        self._pin = gui.add_checkbox("Pinned", True, hint="met to a millimetre")
        self._soft = gui.add_slider("Tolerance", 0.0, SOFTEST, 0.005, 0.05, hint="metres, or radians", disabled=True)
        self.on(gui.add_button("Remove handle"), lambda: session.remove(self.chosen))
        self._stand = gui.add_checkbox("Feet stand", True, hint="while no handle is on pelvis, legs or feet")
        buttons = gui.add_button_group("History", ("Undo", "Redo"))
        self.on(buttons, lambda: self._travel(buttons.value))
        gui.add_command("Undo", hotkey="Z", modifier="cmd/ctrl").on_trigger(lambda _: self.do(session.undo))
        gui.add_command("Redo", hotkey="Y", modifier="cmd/ctrl").on_trigger(lambda _: self.do(session.redo))
        self._note = gui.add_markdown("")
        self.on(self._grips, self.refresh)
        self.on(self._pin, self._pinned)
        self.on(self._soft, self._softer, "tolerance")
        self.on(self._stand, lambda: session.stand(self._stand.value))

    def _travel(self, way: str) -> None:
        if not (self.session.undo() if way == "Undo" else self.session.redo()):
            self.tell(f"nothing to {way.lower()}")

    def _pinned(self) -> None:
        self.session.tolerate(self.chosen, 0.0 if self._pin.value else self._soft.value)

    def _softer(self) -> None:
        if not self._pin.value:
            self.session.tolerate(self.chosen, self._soft.value, gesture="tolerance")

    def _show_grip(self) -> None:
        grip = next((grip for grip in self.session.state.grips if grip.key == self._grips.value), None)
        if grip is None:
            return
        _put(self._pin, grip.tolerance == 0)
        if grip.tolerance:
            _put(self._soft, min(grip.tolerance, SOFTEST))
        self._soft.disabled = grip.tolerance == 0

    def _body(self) -> None:
        gui, state = self.gui, self.session.state
        count = shapes(self.session)
        self._shapes: list[Any] = []
        if not count:
            gui.add_markdown("This skeleton comes from a file and has no shape to choose.")
            return
        own = self.session.character.rig.skeleton.names[0] == "pelvis" and count == len(SHAPES)
        self._gender = gui.add_dropdown("Body", ("neutral", "female", "male"), initial_value=state.gender)
        self.on(self._gender, self._wear)
        for number in range(count):
            label = SHAPES[number] if own else f"shape {number + 1}"
            value = state.shape[number] if number < len(state.shape) else 0.0
            slider = gui.add_slider(label, -WIDEST, WIDEST, 0.1, value, hint="standard deviations")
            self._shapes.append(slider)
            self.on(slider, lambda: self._wear("shape"), "shape")

    def _wear(self, gesture: str | None = None) -> None:
        self.session.wear([slider.value for slider in self._shapes], self._gender.value, gesture=gesture)

    def _show_body(self) -> None:
        state = self.session.state
        if self._shapes:
            _put(self._gender, state.gender)
        for number, slider in enumerate(self._shapes):
            _put(slider, state.shape[number] if number < len(state.shape) else 0.0)

    def _explore(self) -> None:
        gui = self.gui
        gui.add_markdown("What the handles leave open.")
        self.unsure = gui.add_checkbox("Uncertainty", False, hint="blue is known, orange 15 cm or more")
        self.on(self.unsure, lambda: None)
        self.on(gui.add_button("Next handle", hint="takes hold of the joint of which least is known"), self._next)
        self._count = gui.add_slider("How many", 2, 8, 1, 4)
        self.on(gui.add_button("Find alternatives"), self._find)
        self._poses = gui.add_dropdown("Alternative", ("none",), initial_value="none")
        self.on(self._poses, self._take)
        self.on(gui.add_button("Recover handles", hint="the few handles that tell this pose"), self._recover)

    def _next(self) -> None:
        joint = self.session.next_handle()
        self.choose(self.session.add(joint))
        self.tell(f"least is known of {joint}: drag it")

    def _find(self) -> None:
        self.tell("looking for other poses: some seconds")
        self.poses = self.session.alternatives(int(self._count.value))
        self._quiet = threading.get_ident()
        self._poses.options = tuple(f"pose {number + 1}" for number in range(len(self.poses)))
        self._quiet = None
        self.tell(f"{len(self.poses)} poses meet these handles: choose under Alternative")

    def _take(self) -> None:
        number = str(self._poses.value).removeprefix("pose ")
        if number.isdigit() and int(number) <= len(self.poses):
            self.session.take(*self.poses[int(number) - 1])

    def _recover(self) -> None:
        self.tell("looking for the handles that tell this pose: some seconds")
        errors = self.session.recover()
        curve = ", ".join(f"{error:.0f}" for error in errors)
        self.tell(f"{len(errors)} handles tell this pose; mm left after each: {curve}")


class Files:
    """The page of time and files: keys, playing, downloads, uploads, and a picture to label."""

    def __init__(self, panel: Panel, play: Callable[[], None], behind: Callable[[bytes | None, float], None]):
        self.panel, self.session, self.gui = panel, panel.session, panel.gui
        self._play, self._behind = play, behind
        self._image: bytes | None = None
        with panel.tabs.add_tab("Time"):
            self._time_page()
        with panel.tabs.add_tab("Files"):
            self._files_page()
        with panel.tabs.add_tab("Picture"):
            self._picture_page()
        self.refresh()

    def refresh(self) -> None:
        """Brings the list of keys to the session as it is."""
        keys = self.session.state.keys
        listed = ", ".join(f"{key.seconds:g}" for key in keys) if keys else "none yet"
        _content(self._keys, f"Keys (seconds): {listed}")

    def _time_page(self) -> None:
        gui, session = self.gui, self.session
        self.time = gui.add_slider("Seconds", 0.0, 10.0, 0.1, 0.0)
        self._keys = gui.add_markdown("")
        self.panel.on(gui.add_button("Keep key"), lambda: session.key(self.time.value))
        self.panel.on(gui.add_button("Delete nearest key"), lambda: session.unkey(self.time.value))
        self.panel.on(gui.add_button("Go to this time"), lambda: session.show(self.time.value))
        self.panel.on(gui.add_button("Play"), self._play)
        self.rate = gui.add_slider("Frames per second", 10, 120, 5, 30)

    def _files_page(self) -> None:
        gui = self.gui
        self._form = gui.add_dropdown(
            "Form", saved.SUFFIXES, initial_value=saved.SUFFIXES[0], hint=".json keeps handles and keys"
        )
        button = gui.add_button("Download")

        @button.on_click
        def _(event: Any) -> None:
            self.panel.do(lambda: self._send(event.client))

        upload = gui.add_upload_button("Open", mime_type=",".join(saved.SUFFIXES))

        @upload.on_upload
        def _(event: Any) -> None:
            file = event.target.value
            self.panel.do(lambda: saved.bring(self.session, file.name, file.content))

    def _send(self, client: Any) -> None:
        suffix = self._form.value
        content = saved.export(self.session, suffix, float(self.rate.value))
        if client is not None:
            client.send_file_download(f"pose{suffix}", content, save_immediately=True)

    def _picture_page(self) -> None:
        gui = self.gui
        gui.add_markdown("Lay a picture behind the body and click on it where the joint is.")
        upload = gui.add_upload_button("Picture", mime_type="image/*")

        @upload.on_upload
        def _(event: Any) -> None:
            self._image = event.target.value.content
            self.panel.do(self._lay)

        names = self.session.character.rig.skeleton.names
        self.high = gui.add_slider("Height", 0.5, 4.0, 0.05, 1.9, hint="metres of the picture")
        self.panel.on(self.high, self._lay, "picture")
        self.labelling = gui.add_checkbox("Clicks are keypoints", False)
        self.label = gui.add_dropdown("Of joint", names, initial_value=names[min(20, len(names) - 1)])
        self.slack = gui.add_slider("Give way", 0.0, 0.1, 0.005, 0.01, hint="metres")
        self.panel.on(gui.add_button("Take picture away"), self._unlay)

    def _lay(self) -> None:
        self._behind(self._image, self.high.value)

    def _unlay(self) -> None:
        self._image = None
        self._lay()


def _put(control: Any, value: Any) -> None:
    """Sets a control where it is not so already: a message saved, and no jump under the user's hand."""
    if control.value != value and not (isinstance(value, float) and np.isclose(control.value, value)):
        control.value = value


def _content(markdown: Any, text: str) -> None:
    if markdown.content != text:
        markdown.content = text
