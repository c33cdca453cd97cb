"""The page's controls: each tells the desk what to do with the session, and shows what became of it.

Pages: Pose (handles) and Body are here; Ask (what handles leave open), Motion (time and files) and Photo come from
`ask` and `files`. What the program itself sets calls back too, in its own thread: `quietly`, those are not answered.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from framefill.errors import printable
from framefill.pose import characters
from framefill.pose.characters import Character
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
        self._joints: list[Any] = []
        self._given = session.state.given
        self.tabs = self.gui.add_tab_group()
        with self.tabs.add_tab("Pose"):
            self._pose()
        self._tab = self.tabs.add_tab("Body")
        with self._tab:
            self._choice()
            self._body()
        self.refresh()

    @contextlib.contextmanager
    def quietly(self) -> Iterator[None]:
        """While the program sets controls in this thread."""
        self._quiet = threading.get_ident()
        try:
            yield
        finally:
            self._quiet = None

    @property
    def chosen(self) -> str:
        """The name of the handle that is chosen. The session refuses it where there is none."""
        return str(self._grips.value)

    def refresh(self) -> None:
        """Brings the controls to the session as it is."""
        with self.quietly():
            if self._given is not self.session.state.given:
                self._recast()
            keys = tuple(grip.key for grip in self.session.state.grips) or (NONE,)
            if tuple(self._grips.options) != keys:
                self._grips.options = keys
            if self._grips.value not in keys:
                self._grips.value = keys[-1]
            self._show_grip()
            _put(self._stand, self.session.state.standing)
            self._show_body()
            lines = self.session.warnings()
            put_text(self._note, "\n\n".join(f"**{line}**" for line in lines))

    def choose(self, key: str) -> None:
        """The handle that the controls are about."""
        self.refresh()
        with self.quietly():
            _put(self._grips, key)
            self._show_grip()

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

    def joints(self, label: str, index: int) -> Any:
        """A list of the character's joints, whoever that is."""
        names = self.session.character.rig.skeleton.names
        listed = self.gui.add_dropdown(label, names, initial_value=names[min(index, len(names) - 1)])
        self._joints.append(listed)
        return listed

    def _pose(self) -> None:
        gui, session = self.gui, self.session
        gui.add_markdown("Click a dot to take hold of a joint, then drag its arrows.")
        self._kind = gui.add_dropdown("New handle", KINDS, initial_value=KINDS[0], hint="what a click on a dot makes")
        self._joint = self.joints("Joint", len(session.character.rig.skeleton) - 1)
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

    def _choice(self) -> None:
        """Who is posed."""
        hint = "a rig (.glb, .bvh, .asf) or your SMPL body (.npz, .pkl); Undo brings back the one before"
        upload = self.gui.add_upload_button("Load a character", mime_type=",".join(saved.CHARACTERS), hint=hint)

        @upload.on_upload
        def _(event: Any) -> None:
            self.load(event.target.value.name, event.target.value.content)

        self.on(self.gui.add_button("framefill's own body", hint="instead of this one"), self._own)

    def load(self, name: str, content: bytes) -> None:
        """The character in a file, in the place of this one; a file that has none is told of."""
        self.do(lambda: self._cast(saved.character(name, content), printable(name[: saved.LONGEST_NAME])))

    def _own(self) -> None:
        self._cast(characters.load(None), "framefill's body")

    def _cast(self, character: Character, name: str) -> None:
        self.session.load(character)
        count = len(character.rig.skeleton)
        self.tell(f"{name}: {count} joints, no handles and no keys yet; Undo brings the one before back")

    def _recast(self) -> None:
        """Controls for another character."""
        self._given = self.session.state.given
        names = self.session.character.rig.skeleton.names
        for listed in self._joints:
            listed.options = names
        for control in self._bodily:
            control.remove()
        with self._tab:
            self._body()

    def _body(self) -> None:
        gui, state = self.gui, self.session.state
        count = shapes(self.session)
        self._shapes: list[Any] = []
        self._bodily: list[Any] = []
        if not count:
            note = self.session.character.note()
            self._bodily = [gui.add_markdown(f"This skeleton has no shape to choose.\n\n{note}")]
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
        self._bodily = [self._gender, *self._shapes]

    def _wear(self, gesture: str | None = None) -> None:
        self.session.wear([slider.value for slider in self._shapes], self._gender.value, gesture=gesture)

    def _show_body(self) -> None:
        state = self.session.state
        if self._shapes:
            _put(self._gender, state.gender)
        for number, slider in enumerate(self._shapes):
            _put(slider, state.shape[number] if number < len(state.shape) else 0.0)


def _put(control: Any, value: Any) -> None:
    """Sets a control where it is not so already: a message saved, and no jump under the user's hand."""
    if control.value != value and not (isinstance(value, float) and np.isclose(control.value, value)):
        control.value = value


def put_text(markdown: Any, text: str) -> None:
    """Sets what a markdown says, where it does not say so already."""
    if markdown.content != text:
        markdown.content = text
