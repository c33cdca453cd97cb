"""The pose studio in a Chromium: how long from a drag to the new pose, a recorded animation and a picture.

    python benchmarks/pose_studio.py [--drags 30] [--pictures FOLDER]

Latency is measured in the page: from the moment it sends a gizmo's target to the moment it has the bones of the new
pose. Both pass through the page's worker, whose messages are listened to. Beside it, the processor time of the server
thread for the same, solve and messages together: on a busy machine the first is mostly waiting for a processor. Shadows
and surroundings are off: drawn by software, they take the processor that elsewhere a graphics card has.
"""

import argparse
import contextlib
import io
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from framefill.pose import characters
from framefill.pose.studio import drawn
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
    chromium.raise_arrow(browser, studio, drags, 90, pause=0.2)
    sent, came = json.loads(browser.run("JSON.stringify([window.sent, window.came])"))
    found = [min((c for c in came if c > s), default=np.nan) - s for s in sent]
    return np.array(found), 1000 * np.array(spent)


def dragged(browser, studio):
    """Frames while the mouse drags a wrist's arrow up, with the handle."""
    frames = [shot(browser)]
    chromium.raise_arrow(browser, studio, 12, -110, after=lambda: frames.append(shot(browser)))
    return [*frames, *settled(browser, studio, 4)]


def coloured(browser, studio):
    """The same pose in colours of uncertainty."""
    browser.press("Ask")
    browser.press("Uncertainty")
    return settled(browser, studio, 12)


def played(browser, studio):
    """Two keys and what is between them, as Play shows it, frame after frame."""
    browser.press("Uncertainty")
    browser.press("Motion")
    session, wrist = studio.session, studio.session.state.grips[0].key
    studio.do(lambda: session.key(0))
    studio.do(lambda: session.move(wrist, (0.25, 1.75, 0.2)))
    studio.do(lambda: session.key(0.7))
    studio.do(lambda: session.move(wrist, (0.45, 1.2, 0.35)))
    studio.do(lambda: session.key(1.4))
    studio.desk.drain()
    motion = session.motion(12.0)
    places, turned = motion.world()
    turns, frames = drawn.quaternions(turned.numpy()), []
    studio.do(session.clear)
    studio.desk.drain()
    for frame in range(len(motion)):
        with studio.server.atomic():
            studio.scene.pose(places[frame].numpy(), turns[frame])
        studio.server.flush()
        time.sleep(0.2)
        frames.append(shot(browser))
    return frames


def film(browser, studio, path):
    """A .gif: a hand is dragged, then what is known of the joints, then key frames played."""
    frames = dragged(browser, studio)
    unsure = coloured(browser, studio)
    frames = [one.resize((640, 400), Image.Resampling.LANCZOS) for one in (*frames, *unsure, *played(browser, studio))]
    both = Image.new("RGB", (640, 800))
    both.paste(frames[0], (0, 0))
    both.paste(unsure[0].resize((640, 400), Image.Resampling.LANCZOS), (0, 400))
    palette = both.quantize(128)
    small = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    small[0].save(path, save_all=True, append_images=small[1:], duration=100, loop=0, optimize=True)


def picture(browser, studio, path):
    """Two handles of two kinds, and which joints are known."""
    session = studio.session
    studio.do(session.clear)
    studio.do(lambda: studio.panel.choose(session.add("left_wrist")))
    studio.do(lambda: session.move("left_wrist:position", (0.45, 1.55, 0.35)))
    studio.do(lambda: studio.panel.choose(session.add("head", "look-at")))
    studio.do(lambda: session.move("head:look-at", (-0.5, 1.5, 1.0)))
    browser.press("Ask")
    browser.press("Uncertainty")
    settled(browser, studio, 1)[0].save(path, optimize=True)


def settled(browser, studio, count):
    """The same frame so many times, once the page shows all that is known."""
    studio.desk.drain()
    time.sleep(0.5)
    browser.drawn()
    return [shot(browser)] * count


def shot(browser):
    return Image.open(io.BytesIO(browser.picture())).convert("RGB")


def main():
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--drags", type=int, default=30)
    words.add_argument("--pictures", type=Path)
    told = words.parse_args()
    studio = Studio(characters.load(None), 0)
    chromium.plainly_lit(studio)
    with contextlib.closing(studio), chromium.Page(studio.url, size=(1120, 787)) as browser:
        browser.call("Page.addScriptToEvaluateOnNewDocument", source=LISTEN)
        browser.open()
        studio._clicked("left_wrist")
        studio.do(lambda: studio.session.move("left_wrist:position", (0.45, 1.2, 0.35)))
        studio.desk.drain()
        browser.drawn()
        waits, spent = latency(browser, studio, told.drags)
        for name, values in {"drag to new pose": waits, "its processor time": spent}.items():
            middle, late = np.nanpercentile(values, (50, 95))
            print(f"{name:20s} {len(values)} drags, median {middle:.1f} ms, 95th percentile {late:.1f} ms", flush=True)
        print("load of the last minute", os.getloadavg()[0], "on", os.cpu_count(), "cores")
        if told.pictures:
            film(browser, studio, told.pictures / "pose_studio.gif")
            picture(browser, studio, told.pictures / "pose_studio.png")


if __name__ == "__main__":
    main()
