"""The pose studio in a Chromium: how long from a drag to the new pose, a recorded animation and a picture.

    python benchmarks/pose_studio.py [--drags 30] [--pictures FOLDER]

Latency is measured in the page: from the moment it sends a gizmo's target to the moment it has the bones of the new
pose. Both pass through the page's worker, whose messages are listened to. Beside it, the processor time of the server
thread for the same, solve and messages together: on a busy machine the first is mostly waiting for a processor.
"""

import argparse
import io
import json
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from framefill.pose import characters
from framefill.pose.studio.server import Studio

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import chromium

LISTEN = """
window.sent = []; window.came = [];
const Plain = window.Worker;
window.Worker = class extends Plain {
  constructor(...words) {
    super(...words);
    this.addEventListener('message', event => {
      const all = event.data.messages || [];
      if (all.some(one => one.type === 'SetBonePositionMessage' || one.type === 'SetBoneOrientationMessage'))
        window.came.push(performance.now());
    });
  }
  postMessage(message, ...rest) {
    const kind = message && message.message && message.message.type;
    if (kind === 'TransformControlsUpdateMessage') window.sent.push(performance.now());
    return super.postMessage(message, ...rest);
  }
};
"""


def watched(studio):
    """The processor seconds of every drag that the desk works on, as they come."""
    spent, plain = [], studio._drag

    def drag(key, target):
        begin = time.thread_time()
        plain(key, target)
        spent.append(time.thread_time() - begin)

    studio._drag = drag
    return spent


def latency(browser, studio, drags):
    """Milliseconds (n,) from each target sent to the next bones received, and processor milliseconds (n,)."""
    spent = watched(studio)
    chromium.raise_arrow(browser, studio, drags, 90, pause=0.4)
    sent, came = json.loads(browser.run("JSON.stringify([window.sent, window.came])"))
    found = [min((c for c in came if c > s), default=np.nan) - s for s in sent]
    return np.array(found), 1000 * np.array(spent)


def pictures(browser, studio, folder):
    """pose_studio.png, and pose_studio.gif of a drag."""
    session = studio.session
    frames, wrist = [], session.state.grips[0].key
    way = [(0.45 - 0.25 * np.sin(a / 2) ** 2, 1.2 + 0.4 * np.sin(a), 0.35) for a in np.linspace(0, 2 * np.pi, 15)[:-1]]
    for target in way:
        studio.do(lambda target=target: session.move(wrist, target, gesture="film"))
        studio.desk.drain()
        time.sleep(0.5)
        frames.append(shot(browser).resize((640, 400), Image.Resampling.LANCZOS))
    palette = frames[0].quantize(96)
    small = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    small[0].save(
        folder / "pose_studio.gif", save_all=True, append_images=small[1:], duration=90, loop=0, optimize=True
    )
    studio.do(lambda: studio.panel.choose(session.add("head", "look-at")))
    studio.do(lambda: session.move("head:look-at", (0.7, 1.5, 0.9)))
    studio.do(lambda: studio.panel.choose(session.add("right_wrist")))
    studio.do(lambda: session.move("right_wrist:position", (-0.2, 0.95, 0.35)))
    studio.ask.unsure.value = True
    studio.desk.drain()
    time.sleep(4)
    shot(browser).save(folder / "pose_studio.png", optimize=True)


def shot(browser):
    return Image.open(io.BytesIO(browser.picture())).convert("RGB")


def main():
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--drags", type=int, default=30)
    words.add_argument("--pictures", type=Path)
    told = words.parse_args()
    studio = Studio(characters.load(None), 0)
    with chromium.Page(studio.url, size=(1280, 900)) as browser:
        browser.call("Page.addScriptToEvaluateOnNewDocument", source=LISTEN)
        browser.open()
        browser.wait("!!document.querySelector('canvas') && document.body.textContent.includes('Add handle')")
        time.sleep(5)
        browser.run("document.querySelectorAll('.mantine-Notification-closeButton').forEach(one => one.click())")
        studio._clicked("left_wrist")
        studio.do(lambda: studio.session.move("left_wrist:position", (0.45, 1.2, 0.35)))
        studio.desk.drain()
        time.sleep(8)
        waits, spent = latency(browser, studio, told.drags)
        for name, values in {"drag to new pose": waits, "its processor time": spent}.items():
            middle, late = np.nanpercentile(values, (50, 95))
            print(f"{name:20s} {len(values)} drags, median {middle:.1f} ms, 95th percentile {late:.1f} ms", flush=True)
        if told.pictures:
            pictures(browser, studio, told.pictures)
    studio.close()


if __name__ == "__main__":
    main()
