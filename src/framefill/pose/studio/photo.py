"""The page of a picture: behind the body, to click on where joints are, or seen by an estimator that gives the pose."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from framefill.errors import BadInput, NotInstalled
from framefill.pose.motion import Motion
from framefill.pose.studio.ask import Asked
from framefill.pose.studio.panel import Panel, put_text
from framefill.pose.studio.questions import Question

Pixels = NDArray[np.uint8]


class Photo:
    """The controls of the page. `read` makes pixels of a file, `behind` shows them; `words` start an estimator."""

    def __init__(
        self,
        panel: Panel,
        asked: Asked,
        read: Callable[[bytes], Pixels],
        behind: Callable[[Pixels | None, float], None],
        words: Callable[[], list[str]],
    ):
        self.panel, self.session, self.gui, self.asked = panel, panel.session, panel.gui, asked
        self._read, self._behind, self._words = read, behind, words
        self._pixels: Pixels | None = None
        with panel.tabs.add_tab("Photo"):
            self._page()

    def _page(self) -> None:
        gui, on = self.gui, self.panel.on
        gui.add_markdown("Lay a picture behind the body and click on it where the joint is.")
        upload = gui.add_upload_button("Picture", mime_type="image/*")

        @upload.on_upload
        def _(event: Any) -> None:
            content = event.target.value.content
            self.panel.do(lambda: self.bring(content))

        on(gui.add_button("Pose from this picture", hint="by an estimator of keypoints"), self._pose)
        self._line = gui.add_markdown("")
        self.high = gui.add_slider("Height", 0.5, 4.0, 0.05, 1.9, hint="metres of the picture")
        on(self.high, self._lay, "picture")
        self.labelling = gui.add_checkbox("Clicks are keypoints", False)
        self.label = self.panel.joints("Of joint", 20)
        self.slack = gui.add_slider("Give way", 0.0, 0.1, 0.005, 0.01, hint="metres")
        on(gui.add_button("Take picture away"), self._unlay)

    def bring(self, content: bytes) -> None:
        """Lays a picture behind the body. Raises MediaError for a file that is none."""
        self._pixels = self._read(content)
        self._lay()

    def _lay(self) -> None:
        self._behind(self._pixels, self.high.value)

    def _unlay(self) -> None:
        self._pixels = None
        self._lay()

    def _pose(self) -> None:
        if self._pixels is None:
            raise BadInput("there is no picture yet; open one by the button Picture")
        try:
            words = self._words()
        except NotInstalled as error:
            put_text(self._line, str(error))  # it has commands to copy: it stays
            return
        question = Question("pictured", (self._pixels, words, self.session.character))
        self.asked.ask("Looking at the picture", self._line, question, self._seen)

    def _seen(self, motion: Motion) -> None:
        self.session.pose_as(motion)
        self.panel.tell("posed as in the picture, held at pelvis, head, wrists and ankles: drag what is wrong")
