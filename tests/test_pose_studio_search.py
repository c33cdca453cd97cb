"""Long questions in a process of their own: answers, errors, what is given up, and the page that asks them."""

import json
import os
import sys
import tempfile
import threading
import time
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from framefill.errors import BadInput, Failed, NotInstalled
from framefill.pose import characters, habits, kinematics
from framefill.pose.estimator import Person
from framefill.pose.motion import Motion
from framefill.pose.studio import questions
from framefill.pose.studio.search import Search, answer
from framefill.pose.studio.session import HOLDS, Session

OWN = characters.load(None)
NAMES = OWN.rig.skeleton.names


def until(ask, seconds=60.0):
    end = time.monotonic() + seconds
    while not (found := ask()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def gone(number):
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    return open(f"/proc/{number}/stat").read().rpartition(")")[2].split()[0] == "Z"


@pytest.fixture
def search():
    """A search whose answers are used at once; errors are kept."""
    errors = []

    def put(work):
        try:
            work()
        except Exception as error:
            errors.append(error)

    made = Search(put)
    made.errors = errors
    yield made
    made.close()


def quiet(seconds):
    pass


@pytest.mark.slow
def test_one_process_answers_question_after_question_and_errors_are_raised_where_answers_are_used(search):
    seen = []
    for _ in range(2):
        search.ask(os.getpid, seen.append, quiet)
        until(lambda: not search.busy)
    until(lambda: len(seen) == 2)
    assert seen[0] == seen[1] != os.getpid()
    search.ask(partial(int, "x"), seen.append, quiet)
    assert isinstance(until(lambda: search.errors)[0], Failed)
    assert len(seen) == 2


@pytest.mark.slow
def test_what_is_given_up_ends_at_once_with_its_program_and_folder(search, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code = f"import os,time; open({str(tmp_path / 'id')!r},'w').write(f'{{os.getpid()}} '); time.sleep(100)"
    seen, ticks = [], []
    pixels = np.zeros((8, 8, 3), np.uint8)
    search.ask(partial(questions.pictured, pixels, [sys.executable, "-c", code], OWN), seen.append, ticks.append)
    program = until(lambda: (tmp_path / "id").exists() and (tmp_path / "id").read_text().strip())
    process = search._process
    assert search.cancel()
    assert not search.cancel()
    process.join(20)
    until(lambda: gone(int(program)), 20)
    assert not list(tmp_path.glob("framefill-*"))
    assert ticks
    search.ask(os.getpid, seen.append, quiet)  # and a new process is there for the next
    assert until(lambda: seen) != [process.pid]
    assert search.errors == []


@pytest.mark.slow
def test_a_process_that_dies_is_told(search):
    search.ask(partial(os._exit, 3), quiet, quiet)
    assert "without an answer" in str(until(lambda: search.errors)[0])


def test_errors_travel_as_their_message(capsys):
    assert isinstance(answer(partial(_raise, NotInstalled("no viser"))), BadInput)
    assert str(answer(partial(_raise, Failed("disk full")))) == "disk full"
    assert isinstance(answer(partial(_raise, KeyError("x"))), Failed)
    assert "KeyError" in capsys.readouterr().err


def _raise(error):
    raise error


def test_a_picture_poses_the_character_as_its_largest_person(tmp_path):
    world = Motion(OWN.rig.skeleton, habits.drawn(2), torch.zeros(2, 3).double()).world()[0]
    people = [
        {"space": one.tolist(), "picture": [[size * x + 50, 50 - size * y] for x, y, _ in one.tolist()]}
        for one, size in zip(world, (20.0, 40.0), strict=True)
    ]
    program = tmp_path / "double.py"
    program.write_text(f"print({json.dumps({'layout': 'smpl', 'people': people})!r})")
    pixels = np.asarray(Image.new("RGB", (20, 20)))
    motion = questions.pictured(pixels, [sys.executable, str(program)], OWN)
    apart = (motion.world()[0][0] - motion.root[0]) - (world[1] - world[1, 0])
    other = (motion.world()[0][0] - motion.root[0]) - (world[0] - world[0, 0])
    assert apart.norm(dim=1).mean() < 0.03 < other.norm(dim=1).mean()
    assert questions.size(Person({}, {})) == 0


def test_a_pose_from_elsewhere_is_taken_whole_and_held_where_an_animator_would():
    session = Session(OWN)
    local, root = habits.drawn(1), torch.tensor([[0.3, 0.9, 0.1]]).double()
    session.pose_as(Motion(OWN.rig.skeleton, local, root))
    torch.testing.assert_close(session.state.local, local[0])
    assert [grip.joint for grip in session.state.grips] == list(HOLDS)
    places = kinematics.forward(OWN.rig.skeleton, local[0], root[0])[0]
    for grip in session.state.grips:
        np.testing.assert_allclose(grip.target, places[NAMES.index(grip.joint)], atol=1e-9)
    assert session.undo()
    assert session.state.grips == ()


# The page


@pytest.fixture(scope="module")
def studio():
    pytest.importorskip("viser", reason="viser is not installed")
    from framefill.pose.studio.server import Studio

    made = Studio(OWN, 0, lambda: _raise(NotInstalled("get an estimator; so and so")))
    made.told = []
    made.tell = made.panel.tell = made.told.append
    yield made
    made.close()


def test_a_drag_stops_the_search_and_does_not_wait_for_it(studio, monkeypatch):
    studio.do(lambda: studio.panel.add("left_wrist"))
    monkeypatch.setattr(studio.session, "other_poses", lambda count: partial(time.sleep, 100))
    studio.do(studio.ask._find)
    assert studio.desk.drain()
    assert studio.search.busy
    assert "Looking for other poses: 0 s" in studio.ask._line.content
    studio.do(lambda: None)
    assert studio.desk.drain()
    assert studio.search.busy  # what changes nothing stops nothing
    process = studio.search._process
    grip = studio.session.state.grips[0]
    studio._moved(grip, (0.4, 1.2, 0.3), "update")
    studio._moved(grip, (0.4, 1.2, 0.3), "end")
    assert studio.desk.drain(20)
    assert not studio.search.busy
    assert "stopped" in studio.told[-1]
    assert studio.ask._line.content == ""
    process.join(20)
    assert not process.is_alive()


def test_answers_arrive_on_the_desk_unless_the_pose_has_changed(studio, monkeypatch):
    waiting = threading.Event()
    monkeypatch.setattr(studio.search, "ask", lambda question, then, progress: studio.do(lambda: then(question())))
    state = studio.session.state
    other = (state.local, state.root + 0.5)
    monkeypatch.setattr(studio.session, "other_poses", lambda count: lambda: [other] * count)
    studio.do(studio.ask._find)
    assert studio.desk.drain()
    assert len(studio.ask.poses) == 4
    studio.ask._poses.value = "pose 2"
    assert studio.desk.drain()
    torch.testing.assert_close(studio.session.state.root, other[1])
    studio.ask.poses = []
    studio.do(lambda: waiting.wait(5))
    studio.do(studio.ask._find)
    studio.do(studio.session.undo)  # waits before the answer does
    waiting.set()
    assert studio.desk.drain()
    assert studio.ask.poses == []


def test_without_an_estimator_the_page_says_how_to_get_it(studio, tmp_path, monkeypatch):
    studio.do(studio.photo._pose)
    assert studio.desk.drain()
    assert "no picture yet" in studio.told[-1]
    Image.new("RGB", (40, 20), (200, 30, 30)).save(tmp_path / "p.png")
    studio.do(lambda: studio.photo.bring((tmp_path / "p.png").read_bytes()))
    studio.do(studio.photo._pose)
    assert studio.desk.drain()
    assert studio.photo._line.content == "get an estimator; so and so"
    monkeypatch.setattr(studio.photo, "_words", list)
    monkeypatch.setattr(studio.search, "ask", lambda question, then, progress: studio.do(lambda: then(posed)))
    posed = Motion(OWN.rig.skeleton, habits.drawn(1), torch.zeros(1, 3).double())
    studio.do(studio.photo._pose)
    assert studio.desk.drain()
    torch.testing.assert_close(studio.session.state.local, posed.local[0])
    assert len(studio.session.state.grips) == 6
    assert studio.photo._line.content == ""
