"""The page of what handles leave open: uncertainty, where to take hold next, other poses, the handles that tell a pose.

What takes seconds is asked beside the desk (`search`): the page says how long it has been looking, and whoever changes
the pose meanwhile, by a drag for instance, stops it.
"""

from collections.abc import Callable
from typing import Any

from framefill.pose.recover import Recovered
from framefill.pose.studio.panel import Panel, put_text
from framefill.pose.studio.questions import Pose, Question
from framefill.pose.studio.search import Search
from framefill.pose.studio.state import State


class Asked:
    """A question about the state as it is; another state makes it void."""

    def __init__(self, panel: Panel, search: Search):
        self.panel, self.search = panel, search
        self._state: State | None = None
        self._line: Any = None

    def ask(self, about: str, line: Any, question: Question, then: Callable[[Any], None]) -> None:
        """Asks; `line`, a markdown, says how it goes. `then` comes on the desk, if nothing has changed by then."""
        state = self.panel.session.state
        self._state, self._line = state, line

        def progress(seconds: float) -> None:
            put_text(line, f"{about}: {seconds:.0f} s; a drag stops it.")

        def use(answer: Any) -> None:
            if self.panel.session.state is state:
                then(answer)

        progress(0)
        self.search.ask(question, use, progress)

    def check(self) -> None:
        """Stops the search if the state is another than it was asked about, and clears what it said if it failed."""
        if self.search.busy and self.panel.session.state is not self._state and self.search.cancel():
            self.panel.tell("the search was stopped: the pose has changed")
        if self._line is not None and not self.search.busy:
            put_text(self._line, "")
            self._line = None


class Ask:
    """The controls of the page."""

    def __init__(self, panel: Panel, asked: Asked):
        self.panel, self.session, self.asked = panel, panel.session, asked
        self.poses: list[Pose] = []
        self._given = self.session.state.given
        with panel.tabs.add_tab("Ask"):
            self._page()

    def refresh(self) -> None:
        """Forgets the poses of another character."""
        if self._given is not self.session.state.given:
            self._given, self.poses = self.session.state.given, []
            with self.panel.quietly():
                self._poses.options = ("none",)

    def _page(self) -> None:
        gui, on = self.panel.gui, self.panel.on
        gui.add_markdown("What the handles leave open.")
        self.unsure = gui.add_checkbox("Uncertainty", False, hint="blue is known, orange 15 cm or more")
        on(self.unsure, lambda: None)
        on(gui.add_button("Next handle", hint="takes hold of the joint of which least is known"), self._next)
        self._count = gui.add_slider("How many", 2, 8, 1, 4)
        on(gui.add_button("Find alternatives"), self._find)
        self._poses = gui.add_dropdown("Alternative", ("none",), initial_value="none")
        on(self._poses, self._take)
        on(gui.add_button("Recover handles", hint="the few handles that tell this pose"), self._recover)
        self._line = gui.add_markdown("")

    def _next(self) -> None:
        joint = self.session.next_handle()
        self.panel.choose(self.session.add(joint))
        self.panel.tell(f"least is known of {joint}: drag it")

    def _find(self) -> None:
        question = self.session.other_poses(int(self._count.value))
        self.asked.ask("Looking for other poses", self._line, question, self._found)

    def _found(self, poses: list[Pose]) -> None:
        self.poses = poses
        with self.panel.quietly():
            self._poses.options = tuple(f"pose {number + 1}" for number in range(len(poses)))
        self.panel.tell(f"{len(poses)} poses meet these handles: choose under Alternative")

    def _take(self) -> None:
        number = str(self._poses.value).removeprefix("pose ")
        if number.isdigit() and int(number) <= len(self.poses):
            self.session.take(*self.poses[int(number) - 1])

    def _recover(self) -> None:
        question = self.session.telling_handles()
        self.asked.ask("Looking for the handles that tell this pose", self._line, question, self._recovered)

    def _recovered(self, told: Recovered) -> None:
        self.session.hold(told)
        curve = ", ".join(f"{error:.0f}" for error in told.errors)
        self.panel.tell(f"{len(told.errors)} handles tell this pose; mm left after each: {curve}")
