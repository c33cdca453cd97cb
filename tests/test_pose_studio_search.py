"""Long questions in a process of their own: answers, errors, what is given up, and the page that asks them."""

import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from framefill.errors import BadInput, Failed, NotInstalled
from framefill.pose import characters, habits, kinematics
from framefill.pose.effectors import Look, Place, Turn
from framefill.pose.estimator import Person
from framefill.pose.motion import Motion
from framefill.pose.studio import answering, letters, questions
from framefill.pose.studio.questions import Question
from framefill.pose.studio.search import Search
from framefill.pose.studio.session import HOLDS, Session

OWN = characters.load(None)
NAMES = OWN.rig.skeleton.names
# Seconds for what takes a moment, in a process that gives way (nice 10) on a machine that may be busy; the program that
# is to end would sleep far longer.
PATIENCE, SLEEP = 120, 1000


def until(ask, seconds=PATIENCE):
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


def reaching():
    """A session with one handle, whose questions have answers."""
    session = Session(OWN)
    session.move(session.add("left_wrist"), (0.35, 1.15, 0.35))
    return session


@pytest.mark.slow
def test_one_process_answers_question_after_question_and_errors_are_raised_where_answers_are_used(search):
    seen, processes, question = [], [], reaching().other_poses(2)
    for _ in range(2):
        search.ask(question, seen.append, quiet)
        processes.append(search._process.pid)
        until(lambda: not search.busy)
    until(lambda: len(seen) == 2)
    assert processes[0] == processes[1] != os.getpid()
    for found, true in zip(seen[0], question(), strict=True):  # the very numbers that are found here
        assert torch.equal(found[0], true[0])
        assert torch.equal(found[1], true[1])
    search.ask(Question("several", (*question.told[:3], 0, 0)), seen.append, quiet)
    error = until(lambda: search.errors)[0]
    assert isinstance(error, BadInput)
    assert "0 samples" in str(error)
    assert len(seen) == 2
    with pytest.raises(BadInput, match="cannot be sent"):
        search.ask(Question("several", (object(),)), seen.append, quiet)
    assert not search.busy


@pytest.mark.slow
def test_what_is_given_up_ends_at_once_with_its_program_and_folder(search, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code = f"import os,time; open({str(tmp_path / 'id')!r},'w').write(f'{{os.getpid()}} '); time.sleep({SLEEP})"
    seen, ticks = [], []
    pixels = np.zeros((8, 8, 3), np.uint8)
    search.ask(Question("pictured", (pixels, [sys.executable, "-c", code], OWN)), seen.append, ticks.append)
    program = until(lambda: (tmp_path / "id").exists() and (tmp_path / "id").read_text().strip())
    process = search._process
    assert search.cancel()
    assert not search.cancel()
    process.wait(PATIENCE)
    until(lambda: gone(int(program)), PATIENCE)
    assert not list(tmp_path.glob("framefill-*"))
    assert ticks
    search.ask(reaching().other_poses(1), seen.append, quiet)  # and a new process is there for the next
    assert search._process.pid != process.pid
    assert until(lambda: seen)
    assert search.errors == []


@pytest.mark.slow
def test_a_process_that_dies_is_told(search, tmp_path):
    (tmp_path / "torch.py").write_text("raise SystemExit('a stranger')")  # the user's folder is not imported from
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        search.ask(reaching().other_poses(64), quiet, quiet)
    until(lambda: "answering" in Path(f"/proc/{search._process.pid}/cmdline").read_text())
    search._process.kill()
    assert "without an answer" in str(until(lambda: search.errors)[0])
    assert gone(search._process.pid)


@pytest.mark.slow
def test_the_process_ends_with_its_input():
    command = [sys.executable, "-P", "-m", "framefill.pose.studio.answering"]
    done = subprocess.run(command, input=b"no letter\n", capture_output=True, timeout=60)
    assert done.returncode == 0
    with pytest.raises(BadInput, match="no letter"):
        answering.understood(done.stdout)


def test_errors_travel_as_their_message(monkeypatch, capsys):
    def said(error):
        monkeypatch.setitem(questions.ANSWERS, "several", lambda: _raise(error))
        return answering.answer(answering.asked(Question("several", ())))

    for error, kind in ((NotInstalled("no viser"), BadInput), (Failed("disk full"), Failed), (KeyError("x"), Failed)):
        with pytest.raises(kind) as caught:
            answering.understood(said(error))
        assert type(caught.value) is kind
    assert "KeyError" in capsys.readouterr().err
    with pytest.raises(BadInput, match="no question 'system'"):
        answering.understood(answering.answer(answering.asked(Question("system", ("ls",)))))
    for line in (b"", b'["answer"', b"7", letters.write(["answer", [1, 2]])[:-3].encode()):
        with pytest.raises(Failed, match="without an answer"):
            answering.understood(line)


def test_lines_are_answered_until_nobody_reads(monkeypatch):
    monkeypatch.setitem(questions.ANSWERS, "several", lambda number: number + 1)
    lines = "".join(answering.asked(Question("several", (number,))) + "\n" for number in (1, 2))
    out = io.BytesIO()
    answering.serve(io.BytesIO(lines.encode()), out)
    assert [answering.understood(line) for line in out.getvalue().splitlines()] == [2, 3]

    class Gone(io.BytesIO):
        def write(self, data):
            raise BrokenPipeError

    answering.serve(io.BytesIO(lines.encode()), Gone())


def same(a, b):
    """Whether two values are the same, arrays bit by bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and same(a.numpy(), b.numpy())
    if isinstance(a, np.ndarray):
        return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and same(list(a.values()), list(b.values()))
    if hasattr(a, "__dataclass_fields__"):
        return type(a) is type(b) and all(same(getattr(a, n), getattr(b, n)) for n in a.__dataclass_fields__)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def test_values_come_back_as_they_went():
    third = torch.tensor([1 / 3, -0.0, 1e-300]).double()
    session = reaching()
    values = [
        None, True, 3, 1 / 3, "gr\u00fcn\n", [1, (2.0, [])], {"a": (1,), "tuple": 2}, Path("a b"), third,
        torch.tensor(7), np.arange(6, dtype=np.uint8).reshape(2, 3), np.zeros((0, 3)), np.arange(4.0)[::-2],
        Place("head", third, 0.1, 0.2), Turn("head", torch.eye(3)), Look("head", third), OWN, OWN.manner,
        session.found, session.motion(), session.telling_handles(1)(),
    ]  # fmt: skip
    for value in values:
        line = letters.write(value)
        assert "\n" not in line
        assert same(letters.read(line), value), value
    assert letters.read(letters.write(OWN)).manner is OWN.manner  # the shipped one: nothing is fitted anew


@pytest.mark.parametrize(
    "line",
    ["", "{", "{}", '{"Place": 3}', '{"Place": {"joint": "head"}}', '{"system": ["ls"]}', '{"tuple": 3}', "[" * 100000,
     '{"Place": {}, "Turn": {}}', '{"array": ["|O", [1], ""]}', '{"array": ["<f8", [1000000000000], ""]}',
     '{"array": ["<f8", [2], "AAAA"]}', '{"array": 7}', '{"Path": "x"}', '{"dict": []}'],
)  # fmt: skip
def test_other_lines_make_nothing(line):
    with pytest.raises(BadInput, match="no letter"):
        letters.read(line)


@pytest.mark.parametrize("value", [object(), len, {1: 2}, np.array([None]), np.array(["x"]), {1}, b"x"])
def test_what_is_not_plain_is_not_sent(value):
    with pytest.raises(BadInput, match="cannot be sent"):
        letters.write([value])


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
    sleep = [sys.executable, "-c", "import time; time.sleep(100)"]
    slow = Question("pictured", (np.zeros((8, 8, 3), np.uint8), sleep, OWN))
    studio.do(lambda: studio.panel.add("left_wrist"))
    monkeypatch.setattr(studio.session, "other_poses", lambda count: slow)
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
    assert process.wait(PATIENCE) is not None


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
