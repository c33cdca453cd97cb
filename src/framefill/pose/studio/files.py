"""The page of time and files: keys, playing, downloads and uploads."""

from typing import Any

from framefill.pose.studio import saved
from framefill.pose.studio.panel import Panel, put_text
from framefill.pose.studio.player import Player

PLAY, STOP = "Play", "Stop"


class Files:
    """The controls of the page."""

    def __init__(self, panel: Panel, player: Player):
        self.panel, self.session, self.gui = panel, panel.session, panel.gui
        self.player = player
        with panel.tabs.add_tab("Motion"):
            self._time_page()
            self._files_page()
        self.refresh()

    def refresh(self) -> None:
        """Brings the list of keys and the button to the session as it is."""
        keys = self.session.state.keys
        listed = ", ".join(f"{key.seconds:g}" for key in keys) if keys else "none yet"
        put_text(self._keys, f"Keys (seconds): {listed}")
        label = STOP if self.player.playing else PLAY
        if self._button.label != label:
            self._button.label = label

    def _time_page(self) -> None:
        gui, session = self.gui, self.session
        self.time = gui.add_slider("Seconds", 0.0, 10.0, 0.1, 0.0)
        self._keys = gui.add_markdown("")
        self.panel.on(gui.add_button("Keep key"), lambda: session.key(self.time.value))
        self.panel.on(gui.add_button("Delete nearest key"), lambda: session.unkey(self.time.value))
        self.panel.on(gui.add_button("Go to this time"), lambda: session.show(self.time.value))
        self._button = gui.add_button(PLAY)
        self.panel.on(self._button, self._play)
        self.rate = gui.add_slider("Frames per second", 10, 120, 5, 30)

    def _play(self) -> None:
        if self.player.playing:
            self.player.stop()
        else:
            self.player.start()

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
