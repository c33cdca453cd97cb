"""The studio's page: what a gizmo, a click and a control do, bad ports and pictures; slowly, all in a Chromium."""

import contextlib
import io
import json
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from framefill.errors import BadInput, MediaError, NotInstalled
from framefill.pose import characters, tween

pytest.importorskip("viser", reason="viser is not installed")
import chromium
from framefill.pose.extra import page_library
from framefill.pose.files import bvh
from framefill.pose.motion import Motion
from framefill.pose.skeleton import Skeleton
from framefill.pose.studio import drawn
from framefill.pose.studio.player import Show
from framefill.pose.studio.scene import STILL
from framefill.pose.studio.server import Studio, picture


@pytest.fixture(scope="module")
def page():
    studio = Studio(characters.load(None), 0)
    yield studio
    studio.close()


@pytest.fixture
def studio(page):
    """The page, without handles, and the lines that it told."""
    page.do(page.session.clear)
    page.desk.drain()
    page.told = []
    page.tell = page.told.append
    page.panel.tell = page.told.append
    return page


def hold(studio, joint="left_wrist"):
    studio._clicked(joint)
    assert studio.desk.drain()
    return studio.session.state.grips[-1]


def bone(studio, joint):
    return studio.scene._mesh.bones[studio.session.character.rig.skeleton.index(joint)]


def test_a_click_takes_hold_and_a_drag_moves_the_bones(studio):
    grip = hold(studio)
    assert grip.key in studio.scene._gizmos
    assert studio.panel.chosen == grip.key
    depth = len(studio.session._past)
    for phase in ("start", "update", "update", "end"):
        studio._moved(grip, (0.4, 1.2, 0.3), phase)
    assert studio.desk.drain()
    np.testing.assert_allclose(bone(studio, "left_wrist").position, (0.4, 1.2, 0.3), atol=1e-3)
    assert len(studio.session._past) == depth + 1
    studio.do(studio.session.undo)
    assert studio.desk.drain()
    np.testing.assert_allclose(studio.scene._gizmos[grip.key].position, grip.target, atol=1e-6)
    assert studio.told == []


def test_only_bones_that_moved_are_sent_and_small_steps_add_up(studio, monkeypatch):
    places, turns = drawn.pose(studio.session)
    studio.scene.pose(places, turns)
    sent = []
    monkeypatch.setattr(studio.server._websock_server, "queue_message", lambda message: sent.append(message))
    before, joint = len(sent), 5
    for _ in range(10):
        places[joint] += 0.6 * STILL
        studio.scene.pose(places, turns)
    bones = [message for message in sent[before:] if "Bone" in type(message).__name__]
    assert {message.bone_index for message in bones} == {joint}
    assert len(bones) == 5
    np.testing.assert_allclose(studio.scene._mesh.bones[joint].position, places[joint], atol=STILL)


def test_a_ring_turns_the_joint(studio):
    studio.panel._kind.value = "rotation"
    grip = hold(studio, "head")
    studio.panel._kind.value = "position"
    studio._moved(grip, (0.0, 0.6, 0.0), "update")
    studio._moved(grip, (0.0, 0.6, 0.0), "end")
    assert studio.desk.drain()
    np.testing.assert_allclose(bone(studio, "head").wxyz, (np.cos(0.3), 0, np.sin(0.3), 0), atol=2e-3)


def test_controls_change_the_session_and_follow_it(studio):
    hold(studio)
    panel = studio.panel
    panel._pin.value = False
    assert studio.desk.drain()
    assert studio.session.state.grips[0].tolerance == panel._soft.value > 0
    assert not panel._soft.disabled
    panel._shapes[0].value = 2.0
    assert studio.desk.drain()
    assert studio.session.state.shape[0] == 2.0
    studio.do(studio.session.undo)
    assert studio.desk.drain()
    assert panel._shapes[0].value == 0.0
    studio.ask.unsure.value = True
    assert studio.desk.drain()
    assert studio.scene.spread is not None
    assert len({tuple(colour) for colour in studio.scene._dots.batched_colors}) > 5
    assert studio.scene._mesh.opacity < 0.3  # colours are seen through the body
    studio.ask.unsure.value = False
    assert studio.desk.drain()
    assert studio.scene.spread is None
    assert studio.scene._mesh.opacity > 0.5


def test_a_click_on_a_picture_is_a_keypoint(studio):
    studio.photo.labelling.value = True
    studio._labelled(SimpleNamespace(ray_origin=(0.0, 1.2, 4.0), ray_direction=(0.1, -0.02, -1.0)))
    studio._clicked("head")  # while labelling, dots are not taken hold of
    assert studio.desk.drain()
    studio.photo.labelling.value = False
    assert [grip.joint for grip in studio.session.state.grips] == [studio.photo.label.value]


def rig(tmp_path, count=7):
    """The first joints of framefill's body as a .bvh of the user's."""
    whole = characters.load(None).rig.skeleton
    skeleton = Skeleton([f"their_{name}" for name in whole.names[:count]], whole.parents[:count], whole.offsets[:count])
    path = tmp_path / "their rig.bvh"
    bvh.write(path, Motion(skeleton, torch.eye(3).double().expand(1, count, 3, 3), torch.zeros(1, 3).double()))
    return path


def test_another_character_has_its_own_controls_and_a_bad_file_changes_nothing(studio, tmp_path):
    given, panel = rig(tmp_path, 24), studio.panel
    hold(studio)
    studio.do(lambda: studio.ask._found([(studio.session.state.local, studio.session.state.root)]))
    panel.load("their\nrig.bvh", given.read_bytes())
    assert studio.desk.drain()
    names = tuple(studio.session.character.rig.skeleton.names)
    assert "their_left_wrist" in names
    assert tuple(panel._joint.options) == tuple(studio.photo.label.options) == names
    assert panel._joint.value in names
    assert (panel._shapes, tuple(studio.ask._poses.options), panel.chosen) == ([], ("none",), "no handle yet")
    assert studio.scene._gizmos == {}
    assert len(studio.scene._mesh.bones) == len(studio.scene._dots.batched_positions) == 24
    assert "24 joints" in studio.told[-1]
    assert "\n" not in studio.told[-1]
    before = studio.session.state
    panel.load("broken.glb", b"glTF")
    assert studio.desk.drain()
    assert studio.told[-1].startswith("broken.glb")
    assert studio.session.state is before
    studio._clicked("their_left_wrist")
    studio.do(panel._own)
    assert studio.desk.drain()
    assert len(panel._shapes) == 10
    assert studio.session.state.grips == ()
    studio.do(studio.session.undo)
    assert studio.desk.drain()
    assert tuple(panel._joint.options) == names
    assert list(studio.scene._gizmos) == ["their_left_wrist:position"]
    studio.do(panel._own)
    assert studio.desk.drain()


def test_a_picture_is_laid_behind_and_taken_away(studio):
    data = io.BytesIO()
    Image.new("RGB", (40, 20), (200, 30, 30)).save(data, "PNG")
    studio.photo.bring(data.getvalue())
    assert studio.scene._picture.position[2] < 0
    studio.photo._unlay()
    assert studio.scene._picture is None


def test_what_goes_wrong_is_told_and_the_studio_goes_on(studio, capsys):
    studio.do(studio.files._play)
    studio.do(lambda: studio.session.move("tail:position", (0, 0, 0)))
    studio.do(lambda: 1 / 0)
    assert studio.desk.drain()
    assert "nothing to play" in studio.told[0]
    assert "no handle 'tail:position'" in studio.told[1]
    assert "ZeroDivisionError" in studio.told[2]
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert hold(studio).joint == "left_wrist"


def keyed(studio, seconds):
    """A hand that goes up between two keys; where it is in both."""
    studio.do(lambda: studio.session.become(replace(studio.session.state, grips=(), keys=())))
    grip = hold(studio)
    studio.do(lambda: studio.session.move(grip.key, (0.45, 1.1, 0.3)))
    studio.do(lambda: studio.session.key(0))
    studio.do(lambda: studio.session.move(grip.key, (0.45, 1.5, 0.3)))
    studio.do(lambda: studio.session.key(seconds))
    assert studio.desk.drain()
    return grip


def playing(studio, monkeypatch):
    """Begins to play; the wrist's heights in the frames that were drawn, as they come."""
    heights, plain = [], studio.scene.pose
    wrist = studio.session.character.rig.skeleton.index("left_wrist")

    def pose(places, turns):
        heights.append(places[wrist, 1])
        plain(places, turns)

    monkeypatch.setattr(studio.scene, "pose", pose)
    studio.do(studio.files._play)
    chromium.Page._until(lambda: len(heights) > 3, 30)
    return heights


def over(studio):
    """Nothing is played, no clock asks for more, and the page shows the session and how to play."""
    chromium.Page._until(lambda: not studio.player.playing, 30)
    assert studio.desk.drain()
    assert studio.files._button.label == "Play"
    chromium.Page._until(lambda: not any(thread.name == "play" for thread in threading.enumerate()), 10)
    wrist = studio.session.character.rig.skeleton.index("left_wrist")
    np.testing.assert_allclose(bone(studio, "left_wrist").position, studio.session.world()[0][wrist], atol=1e-3)


def test_keys_are_played_to_their_end(studio, monkeypatch):
    keyed(studio, 0.5)
    heights = playing(studio, monkeypatch)
    over(studio)
    frames = [height for height in heights[:-1] if height < 1.499]
    assert frames == sorted(frames)  # forwards
    assert min(frames) < 1.3
    assert "0, 0.5" in studio.files._keys.content
    assert studio.told == []


def test_while_keys_are_played_the_rest_of_the_page_works(studio, monkeypatch):
    keyed(studio, 20.0)
    monkeypatch.setattr(Show, "frame", lambda show: 3)  # it does not end by itself
    playing(studio, monkeypatch)
    assert studio.files._button.label == "Stop"
    studio.panel._pin.value = bool(studio.panel._pin.value)
    studio.do(lambda: studio.tell("heard"))
    assert chromium.Page._until(lambda: studio.told == ["heard"], 10)
    assert studio.player.playing  # a word changes nothing
    studio.do(studio.files._play)  # the same button
    over(studio)


@pytest.mark.parametrize("change", ["drag", "key", "undo", "leave"])
def test_playing_ends_when_the_session_changes_or_somebody_leaves(studio, monkeypatch, change):
    grip = keyed(studio, 20.0)
    monkeypatch.setattr(Show, "frame", lambda show: 3)  # it does not end by itself
    playing(studio, monkeypatch)
    if change == "drag":
        studio._moved(grip, (0.45, 1.3, 0.3), "update")
        studio._moved(grip, (0.45, 1.3, 0.3), "end")
    elif change == "key":
        studio.do(lambda: studio.session.key(1.0))
    elif change == "undo":
        studio.do(studio.session.undo)
    else:
        for told in studio.server._client_disconnect_cb:
            told(None)
    over(studio)
    assert studio.told == []


def test_keys_that_cannot_be_played_are_told_once(studio, monkeypatch):
    keyed(studio, 20.0)
    monkeypatch.setattr("framefill.pose.studio.player.tweened", lambda *_: tween.between([], [0, 1], -1))
    studio.do(studio.files._play)
    over(studio)
    assert len(studio.told) == 1
    assert "0 keys and 2 times" in studio.told[0]


def test_a_clock_that_was_stopped_draws_no_more_and_a_new_one_begins_anew(studio, monkeypatch):
    keyed(studio, 20.0)
    monkeypatch.setattr(Show, "frame", lambda show: 3)  # it does not end by itself
    playing(studio, monkeypatch)
    first = studio.player._show
    studio.do(studio.player.start)  # while one is on: another begins in its place
    assert chromium.Page._until(lambda: studio.player._show not in (first, None), 10)
    assert first.over.is_set()
    drawn_by = []
    monkeypatch.setattr(studio.player, "_draw", lambda *pose: drawn_by.append(pose))
    studio.desk.put(lambda: studio.player._tick(first))  # one that waited on the desk
    studio.do(studio.player.stop)
    over(studio)
    count = len(drawn_by)
    studio.player._tick(first)
    assert len(drawn_by) == count
    studio.player.close()  # with nothing on: nothing to do


def test_pictures_are_read_upright_and_small_and_others_refused(monkeypatch):
    data = io.BytesIO()
    Image.new("L", (3200, 10)).save(data, "JPEG")
    assert picture(data.getvalue()).shape == (5, 1600, 3)
    for content in (b"", b"no picture", data.getvalue()[:50]):
        with pytest.raises(MediaError, match="no picture"):
            picture(content)
    monkeypatch.setattr("framefill.pose.estimator.MOST_PIXELS", 100)
    with pytest.raises(BadInput, match="3200x10"):
        picture(data.getvalue())


def test_bad_ports_and_a_missing_library_are_one_line(page, monkeypatch):
    character = characters.load(None)
    taken = int(page.url.rsplit(":", 1)[1])
    with pytest.raises(BadInput, match=f"port {taken} cannot be used"):
        Studio(character, taken)
    for port in (-1, 65536):
        with pytest.raises(BadInput, match="give 1 to 65535"):
            Studio(character, port)
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(NotInstalled, match=r"framefill\[studio\]"):
        page_library()


@pytest.mark.slow
def test_the_verb_refuses_in_one_line_with_code_2(tmp_path):
    broken = tmp_path / "broken.bvh"
    broken.write_text("HIERARCHY")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for words in (["--port", str(taken.getsockname()[1])], ["-c", str(broken)]):
            command = [sys.executable, "-m", "framefill", "pose", "studio", "--no-open", *words]
            told = subprocess.run(command, capture_output=True, text=True, timeout=120)
            assert told.returncode == 2
            assert told.stderr.startswith("framefill: ")
            assert told.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.skipif(chromium.PROGRAM is None, reason="there is no Chromium")
def test_in_a_browser_a_gizmo_is_dragged_the_joint_follows_and_files_come_back():
    studio = Studio(characters.load(None), 0)
    chromium.plainly_lit(studio)
    with contextlib.closing(studio), chromium.Page(studio.url, size=(900, 600)) as browser:
        browser.open()
        grip = hold(studio)
        browser.drawn()
        chromium.raise_arrow(browser, studio, 8, 60)
        target = studio.session.state.grips[0].target
        assert target[1] > grip.target[1] + 0.05  # the arrow that points up moves along y alone
        np.testing.assert_allclose([target[0], target[2]], [grip.target[0], grip.target[2]], atol=1e-6)
        np.testing.assert_allclose(bone(studio, "left_wrist").position, target, atol=2e-3)
        browser.press("Motion")
        browser.press("Download")
        saved = chromium.Page._until(lambda: list(browser.downloads.glob("pose*.json")), 30)[0]
        told = json.loads(saved.read_text())
        assert told["studio"]["handles"][0]["target"] == list(target)
        dragged = studio.session.world()[0]
        studio.do(studio.session.undo)
        studio.do(studio.session.undo)
        assert studio.desk.drain()
        assert studio.session.state.grips == ()
        browser.upload(saved)
        chromium.Page._until(lambda: studio.session.state.grips and studio.desk.drain(), 30)
        torch.testing.assert_close(studio.session.world()[0], dragged, atol=1e-6, rtol=0)
        assert all(url.startswith((studio.url, "data:", "blob:")) for url in browser.asked())


@pytest.mark.slow
@pytest.mark.skipif(chromium.PROGRAM is None, reason="there is no Chromium")
def test_in_a_browser_a_character_is_loaded_posed_and_left_for_the_one_before(tmp_path):
    studio = Studio(characters.load(None), 0)
    chromium.plainly_lit(studio)
    broken = tmp_path / "broken.bvh"
    broken.write_text("HIERARCHY")
    with contextlib.closing(studio), chromium.Page(studio.url, size=(900, 600)) as browser:
        browser.open()
        hold(studio)
        browser.press("Body")
        browser.wait("document.body.textContent.includes('stature')")
        browser.upload(broken)
        browser.wait("document.body.textContent.includes('broken.bvh is not a whole BVH file')")
        assert studio.session.character.body is not None
        browser.upload(rig(tmp_path))
        browser.wait("document.body.textContent.includes('no shape to choose')")
        assert studio.desk.drain()
        assert not browser.run("document.body.textContent.includes('stature')")
        assert len(studio.session.character.rig.skeleton) == 7
        browser.press("Pose")
        browser.press("Add handle")
        chromium.Page._until(lambda: studio.session.state.grips and studio.desk.drain(), 30)
        chromium.raise_arrow(browser, studio, 4, 40)
        assert studio.session.state.grips[0].joint.startswith("their_")
        browser.press("Body")
        browser.press("framefill's own body")
        browser.wait("document.body.textContent.includes('stature')")
        assert studio.session.character.body is not None
        assert not [event for event in browser.events if event.get("method") == "Runtime.exceptionThrown"]
