"""From a picture to a posed character: the estimator's interface with doubles, points without depth, refusals."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from framefill import cli
from framefill.errors import BadInput, Failed, MediaError, NotInstalled
from framefill.pose import characters, estimator, flat, habits, imaged, inversion, keypoints, mediapipe_people
from framefill.pose.effectors import Place
from framefill.pose.human import human
from framefill.pose.motion import Motion

OWN = characters.load(None)
NAMES = OWN.rig.skeleton.names
SEEN = [name for name in keypoints.COCO if name in NAMES]
SHAPE = (1.5, -1.0)


def places(count=6):
    """World places (N, 24, 3) of the body in usual poses, turned about the vertical."""
    local = habits.drawn(count)
    for pose, yaw in enumerate(torch.linspace(-0.6, 0.6, count).double()):
        c, s = yaw.cos(), yaw.sin()
        turn = torch.stack([c, 0 * c, s, 0 * c, 0 * c + 1, 0 * c, -s, 0 * c, c]).reshape(3, 3)
        local[pose, 0] = turn @ local[pose, 0]
    return Motion(OWN.rig.skeleton, local, torch.zeros(count, 3).double()).world()[0]


def main(words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["framefill", *words])
        cli.main()


def as_program(tmp_path, answer, code=0):
    """A program that prints an answer, whatever it is asked."""
    told = answer if isinstance(answer, str) else json.dumps(answer)
    (tmp_path / "double.py").write_text(f"import sys\nprint({told!r})\nsys.stderr.write('odd\\n')\nsys.exit({code})")
    return [sys.executable, str(tmp_path / "double.py")]


def told(world, layout="smpl"):
    return {"layout": layout, "people": [{"space": [point.tolist() for point in one]} for one in world]}


@pytest.fixture
def photo(tmp_path):
    Image.new("RGB", (60, 40), (9, 90, 9)).save(tmp_path / "p.png")
    return tmp_path / "p.png"


def test_points_of_a_picture_give_the_pose_they_were_seen_from():
    """Known size apart, the picture is met to a centimetre or two, and depth better than if all were flat."""
    worst, flatter, found_depth = [], [], []
    for world in places():
        seen = {name: 300 * world[NAMES.index(name), :2] * torch.tensor([1.0, -1.0]) + 400 for name in SEEN}
        lifted = flat.lifted(seen, OWN)
        assert all(place[2] == 0 for place in lifted.values())
        made = OWN.solve(keypoints.handles(lifted, OWN, depth=flat.OPEN)).positions[0]
        made, true = made - made[0], world - world[0]
        worst.append((made - true)[:, :2].norm(dim=1).mean())
        found_depth.append((made - true)[:, 2].abs().mean())
        flatter.append(true[:, 2].abs().mean())
        assert flat.pixel(seen, OWN) == pytest.approx(1 / 300, rel=0.12)
    assert np.median(worst) < 0.03
    assert np.median(found_depth) < 0.8 * np.median(flatter)


def test_a_place_with_depth_is_met_across_and_free_along_z():
    target = OWN.rest("left_wrist") + torch.tensor([-0.2, 0.1, 4.0]).double()
    found = OWN.solve([Place("left_wrist", target, 0.0, 9.0), Place("pelvis", OWN.rest("pelvis"))])
    wrist = found.positions[0, NAMES.index("left_wrist")]
    assert (wrist - target)[:2].norm() < 2e-3
    assert found.misses[0, 0] < 2e-3
    with pytest.raises(BadInput, match="tolerance of -1"):
        Place("left_wrist", target, 0.0, -1.0)


def test_pixels_without_a_bone_are_refused():
    with pytest.raises(BadInput, match="no bone has both"):
        flat.lifted({"left_wrist": torch.zeros(2), "right_wrist": torch.ones(2)}, OWN)
    with pytest.raises(BadInput, match="some 3"):
        keypoints.read([[1, 2], [1, 2, 3], None])
    assert keypoints.read([[1, 2], None]).shape == (1, 2, 2)


def test_shape_comes_back_from_the_bones_of_a_posed_body():
    body = human()
    lengths = {}
    joints = body.rest(SHAPE).double()
    points = {name: 0.5 * joints[i] for i, name in enumerate(body.names)}  # half as large: proportions alone count
    lengths = imaged.bones(points)
    found, scale = inversion.by_lengths(lengths, body)
    made = body.rest(found).double()
    for (a, b), length in lengths.items():
        there = (made[body.names.index(a)] - made[body.names.index(b)]).norm() * scale
        assert there == pytest.approx(length, abs=6e-3)
    assert 0.4 < scale < 0.6
    assert imaged.shape({"left_hip": torch.zeros(3)}, body) == ()
    with pytest.raises(BadInput, match="four or more"):
        inversion.by_lengths({("left_hip", "left_knee"): 0.4}, body)


def test_everybody_becomes_a_file_from_left_to_right(tmp_path, photo, capsys):
    world = places(2)
    world[0, :, 0] += 2
    words = as_program(tmp_path, told(world))
    main(["pose", "from-image", str(photo), "-o", str(tmp_path / "o.json"), "--estimator", " ".join(words)])
    assert capsys.readouterr().out.split() == [str(tmp_path / "o-1.json"), str(tmp_path / "o-2.json")]
    for name, true in (("o-1", world[1]), ("o-2", world[0])):
        made = json.loads((tmp_path / f"{name}.json").read_text())["poses"][0]["positions"]
        made = torch.tensor([made[joint] for joint in NAMES]).double()
        assert ((made - made[0]) - (true - true[0])).norm(dim=1).mean() < 0.03
        assert made[:, 1].min() == pytest.approx(OWN.stands[:, 1].min().item(), abs=1e-4)
    main(["pose", "from-image", str(photo), "-o", str(tmp_path / "o.png"), "--estimator", " ".join(words),
          "--person", "2"])  # fmt: skip
    with Image.open(tmp_path / "o.png") as drawn:
        assert drawn.size == (720 + 960, 480)
        assert drawn.convert("RGB").getpixel((100, 100)) == (9, 90, 9)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--person", "3"], "person 3 of 1"),
        (["--most", "0"], "at most 0 people"),
        (["--estimator", "/no/such/program"], "cannot start the estimator"),
        (["--estimator", "'"], "cannot read the estimator"),
        (["--estimator-python", "/no/python"], "pip install mediapipe==0.10.21"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_2(tmp_path, photo, capsys, words, message):
    given = ["--estimator", " ".join(as_program(tmp_path, told(places(1))))] if words[0][:11] != "--estimator" else []
    with pytest.raises(SystemExit) as ended:
        main(["pose", "from-image", str(photo), "-o", str(tmp_path / "o.json"), *given, *words])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_nobody_in_the_picture_and_no_picture(tmp_path, photo, capsys):
    with pytest.raises(BadInput, match="sees nobody"):
        estimator.people(Image.new("RGB", (9, 9)), as_program(tmp_path, {"layout": "coco", "people": []}))
    (tmp_path / "bad.png").write_bytes(photo.read_bytes()[:50])
    for name in ("bad.png", "absent.png"):
        with pytest.raises(MediaError, match="cannot read"):
            estimator.open_picture(tmp_path / name)
    with pytest.raises(SystemExit) as ended:
        main(["pose", "from-image", str(photo)])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    "answer",
    ["", "{", "[]", '{"people": 3}', '{"layout": "coco", "people": [{"space": [[1, 2, 3]]}]}',
     '{"layout": "odd", "people": [{"space": [[1, 2, 3]]}]}', '{"layout": "coco", "people": [7]}',
     json.dumps({"layout": "coco", "people": [{"space": [[1, 2]] * 17}]}),
     json.dumps({"layout": "coco", "people": [{"picture": "text"}]}), "[" * 100000],
)  # fmt: skip
def test_answers_that_break_the_interface_fail_in_one_line(tmp_path, answer):
    with pytest.raises(Failed, match="answer cannot be used") as caught:
        estimator.people(Image.new("RGB", (9, 9)), as_program(tmp_path, answer))
    assert "\n" not in str(caught.value)


def test_a_program_that_fails_or_hangs(tmp_path, monkeypatch):
    with pytest.raises(Failed, match="ended with 3: odd"):
        estimator.people(Image.new("RGB", (9, 9)), as_program(tmp_path, "", 3))
    monkeypatch.setattr(estimator, "SECONDS", 0.2)
    with pytest.raises(Failed, match="took more than"):
        estimator.people(Image.new("RGB", (9, 9)), [sys.executable, "-c", "import time; time.sleep(9)"])
    monkeypatch.setattr(estimator, "LARGEST", 10)
    monkeypatch.setattr(estimator, "SECONDS", 60)
    with pytest.raises(Failed, match="longer than 10 bytes"):
        estimator.people(Image.new("RGB", (9, 9)), as_program(tmp_path, "x" * 11))
    monkeypatch.setattr(estimator, "MOST_PIXELS", 10)
    Image.new("RGB", (9, 9)).save(tmp_path / "p.png")
    with pytest.raises(BadInput, match="at most 10"):
        estimator.open_picture(tmp_path / "p.png")


def test_the_interpreter_comes_from_option_variable_or_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(estimator.VARIABLE, raising=False)
    with pytest.raises(NotInstalled, match="python3 -m venv"):
        estimator.command()
    (tmp_path / "framefill/estimator/bin").mkdir(parents=True)
    (tmp_path / "framefill/estimator/bin/python").touch()
    assert estimator.command()[0] == str(tmp_path / "framefill/estimator/bin/python")
    monkeypatch.setenv(estimator.VARIABLE, sys.executable)
    assert estimator.command()[0] == sys.executable
    assert estimator.command("a 'b c'") == ["a", "b c"]


def test_windows_cover_the_picture():
    for size in ((640, 480), (100, 100), (1000, 200), (90, 250)):
        covered = np.zeros(size[::-1], bool)
        for x, y, right, bottom in mediapipe_people.windows(*size)[1:] or [(0, 0, *size)]:
            assert 0 <= x < right <= size[0]
            assert 0 <= y < bottom <= size[1]
            covered[y:bottom, x:right] = True
        assert covered.all()


def test_the_program_imports_nothing_of_ours():
    """It runs by another interpreter: help is asked of it in isolation, without its own libraries."""
    done = subprocess.run([sys.executable, "-I", "-S", str(estimator.MEDIAPIPE), "x", "1"], capture_output=True)
    assert b"numpy" in done.stderr
    assert b"framefill" not in done.stderr.replace(str(estimator.MEDIAPIPE).encode(), b"")
