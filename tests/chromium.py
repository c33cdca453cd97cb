"""A headless Chromium by its DevTools protocol: pages, pictures, the mouse; no package but websockets (viser's own)."""

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-background-networking", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader", "--no-first-run", "--remote-debugging-port=0", "--mute-audio",
    "--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows",
    "--disable-background-timer-throttling",
)  # fmt: skip
PATIENCE = 60  # seconds for one answer of the browser


class Page:
    """One page of a browser of its own, which ends with the with-block whatever happens in it."""

    def __init__(self, url, *, size=(1280, 800)):
        self.url, self.socket, self.down = url, None, False
        self.number, self.events, self.session = 0, [], None
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        profile = Path(self.folder.name)
        self.downloads = profile / "downloads"
        self.downloads.mkdir()
        window = f"--window-size={size[0]},{size[1]}"
        self.process = subprocess.Popen(
            [PROGRAM, *FLAGS, window, f"--user-data-dir={profile}", "about:blank"],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._connect(profile / "DevToolsActivePort")
        except BaseException:
            self.close()
            raise

    def _connect(self, told):
        from websockets.sync.client import connect

        self._until(lambda: told.exists() and len(told.read_text().splitlines()) == 2, 60)
        port, path = told.read_text().splitlines()
        self.socket = connect(f"ws://127.0.0.1:{port}{path}", max_size=None, open_timeout=30)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network"):
            self.call(f"{domain}.enable")
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends the browser and its helpers, which are a group of processes of their own."""
        try:
            if self.socket is not None:
                self.socket.close()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)
            self.folder.cleanup()

    def open(self):
        """Goes to the page and waits until the studio is there, without the notice on slow drawing."""
        self.call("Page.navigate", url=self.url)
        self.wait("!!document.querySelector('canvas') && document.body.textContent.includes('Add handle')")
        self.drawn()
        self.run("document.querySelectorAll('.mantine-Notification-closeButton').forEach(one => one.click())")
        self.wait("!document.querySelector('.mantine-Notification-root')")
        self.drawn()

    def drawn(self):
        """Waits until the page has drawn what it knows now."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.socket.send(json.dumps(message))
        end = time.monotonic() + PATIENCE
        while True:
            answer = json.loads(self.socket.recv(timeout=max(0.0, end - time.monotonic())))
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(answer["error"])
                return answer["result"]
            self.events.append(answer)

    def run(self, script):
        """What a script gives; promises are waited for."""
        told = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in told:
            raise RuntimeError(told["exceptionDetails"])
        return told["result"].get("value")

    def wait(self, script, seconds=60):
        return self._until(lambda: self.run(script), seconds)

    def picture(self):
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def mouse(self, kind, x, y):
        button = "none" if kind == "mouseMoved" and not self.down else "left"
        self.down = {"mousePressed": True, "mouseReleased": False}.get(kind, self.down)
        self.call(
            "Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, clickCount=0 if button == "none" else 1,
            buttons=1 if self.down else 0,
        )  # fmt: skip

    def press(self, text):
        """Clicks on the button, tab or label of that text."""
        script = f"""(() => {{
          const all = [...document.querySelectorAll('button, label, [role=tab], [role=option]')];
          const found = all.find(e => e.textContent.trim() === {json.dumps(text)} && e.offsetParent);
          if (!found) return null;
          const box = found.getBoundingClientRect();
          return [box.x + box.width / 2, box.y + box.height / 2]; }})()"""
        self.click(*self.wait(script, 30))

    def click(self, x, y):
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.mouse(kind, x, y)
            time.sleep(0.1)

    def upload(self, path, which=0):
        """Gives a file to one of the page's file inputs."""
        found = self.call("Runtime.evaluate", expression=f"document.querySelectorAll('input[type=file]')[{which}]")
        self.call("DOM.setFileInputFiles", files=[str(path)], objectId=found["result"]["objectId"])

    def asked(self):
        """Every address that the page has asked for."""
        return [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]

    @staticmethod
    def _until(ask, seconds):
        end = time.monotonic() + seconds
        while not (found := ask()):
            if time.monotonic() > end:
                raise TimeoutError("the browser did not get there")
            time.sleep(0.1)
        return found


def plainly_lit(studio):
    """Takes shadows and surroundings away: by software they cost a second a frame, and half a minute at the start."""
    studio.server.scene.configure_default_lights(cast_shadow=False)
    studio.server.scene.configure_environment_map(hdri=None)


def seen_at(studio, place):
    """Where a place in the world is in the browser's window, in pixels."""
    import numpy as np
    import viser.transforms

    camera = next(iter(studio.server.get_clients().values())).camera
    x, y, z = viser.transforms.SO3(camera.wxyz).as_matrix().T @ (np.array(place) - camera.position)
    size = camera.image_height / 2 / np.tan(camera.fov / 2)
    return camera.image_width / 2 + size * x / z, camera.image_height / 2 + size * y / z


def raise_arrow(browser, studio, steps, pixels, pause=0.05, tries=3, after=lambda: None):
    """Drags the upward arrow of the first handle, `after` each step; a grasp that misses is tried again."""
    for _ in range(tries):
        x, y, z = before = studio.session.state.grips[0].target
        a, b = seen_at(studio, (x, y + 0.12, z))
        browser.mouse("mouseMoved", a, b)
        browser.drawn()
        browser.mouse("mousePressed", a, b)
        browser.drawn()
        try:
            for step in range(1, steps + 1):
                browser.mouse("mouseMoved", a, b - pixels * step / steps)
                time.sleep(pause)
                after()
                if step == 2 and not _moved(studio, before):
                    break
        finally:
            browser.mouse("mouseReleased", a, b - pixels * step / steps)
        if step == steps:
            Page._until(lambda: studio.session._gesture is None and studio.desk.drain(), 30)
            return
    raise TimeoutError("the gizmo could not be grasped")


def _moved(studio, before):
    with contextlib.suppress(TimeoutError):
        return Page._until(lambda: studio.session.state.grips[0].target != before, 10)
