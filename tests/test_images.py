"""Albums of pictures: splits that hold, archives from strangers, what cannot be read; and the verb that draws some."""

import io
import json
import struct
import zipfile
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

import framefill
from framefill.checkpoint import Card
from framefill.cli import training
from framefill.errors import BadInput, MediaError
from framefill.recipes.nonisotropic import TINY
from framefill.recipes.recipe import to_fields
from framefill.video.files import read_clip
from framefill.video.images.album import MOST_BYTES, Album, _split

SPLITS = ("train", "val", "test")
NAMES = [f"{kind}/{i:03d}.png" for kind in ("cat", "dog") for i in range(60)]


def colour(i: int, size=(8, 8)) -> Image.Image:
    return Image.new("RGB", size, (i % 256, 2 * i % 256, 255 - i % 256))


def png(i: int, size=(8, 8)) -> bytes:
    buffer = io.BytesIO()
    colour(i, size).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    for i, name in enumerate(NAMES):
        place = tmp_path / "pictures" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        colour(i).save(place)
    return tmp_path / "pictures"


@pytest.fixture
def taken(tmp_path):
    """Opens an album of 8x8 pixels with a cache of its own; `said` are the lines it told."""

    def run(data, split="train", **wishes):
        said: list[str] = []
        size = {"height": 8, "width": 8, "channels": 3} | wishes
        made = Album.open(
            data, split, cache=tmp_path / "cache", progress=lambda done, of, what: said.append(what), **size
        )
        return made, said

    return run


def zipped(path, members) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)


# ---- splits --------------------------------------------------------------------------------------------------------


def test_splits_are_disjoint_and_whole_and_do_not_move_when_pictures_are_added():
    parts = _split(NAMES)
    assert sorted(name for names in parts.values() for name in names) == sorted(NAMES)
    assert all(parts[split] for split in SPLITS)
    more = _split([*NAMES, *(f"bird/{i}.png" for i in range(500))])
    assert all(set(parts[split]) <= set(more[split]) for split in SPLITS)
    assert [round(len(more[split]) / 620, 1) for split in SPLITS] == [0.8, 0.1, 0.1]


def test_folders_called_like_splits_are_the_splits():
    train = [f"set/train/cat/{i}.png" for i in range(1000)]
    rest = ["set/Test/cat/0.png", "set/test/dog/1.png"]
    parts = _split(train + rest)
    assert parts["test"] == rest
    assert set(parts["train"]) | set(parts["val"]) == set(train)
    assert 5 < len(parts["val"]) < 40  # one in 50 is held out where there is no folder for them
    parts = _split([*train, *rest, "set/val/9.png"])
    assert parts == {"train": train, "val": ["set/val/9.png"], "test": rest}
    assert _split(["a/train.png/b.png"])["train"] + _split(["a/train.png/b.png"])["val"]  # no folder of that name


def test_an_album_holds_the_pictures_of_its_names(folder, taken):
    for split in SPLITS:
        pictures = taken(folder, split)[0].pictures()
        wanted = sorted(_split(NAMES)[split])
        assert [tuple(p[0, 0]) for p in pictures] == [colour(NAMES.index(n)).getpixel((0, 0)) for n in wanted]


def test_a_folder_and_its_archive_are_the_same_album(folder, taken, tmp_path):
    zipped(tmp_path / "all.ZIP", [(name, (folder / name).read_bytes()) for name in reversed(NAMES)])
    for split in SPLITS:
        assert np.array_equal(taken(folder, split)[0].pictures(), taken(tmp_path / "all.ZIP", split)[0].pictures())


def test_samples_are_pure_functions_of_the_seed_and_half_are_mirrored(tmp_path, taken):
    ramp = np.tile(np.arange(8, dtype=np.uint8)[None, :, None] * 30, (8, 1, 3))
    (tmp_path / "one" / "train").mkdir(parents=True)
    Image.fromarray(ramp).save(tmp_path / "one" / "train" / "2.png")
    made = taken(tmp_path / "one", flip=True)[0]
    drawn = [made.sample(seed) for seed in range(64)]
    assert all(np.array_equal(made.sample(seed), drawn[seed]) for seed in (0, 63))
    mirrored = [np.array_equal(x[0], ramp[:, ::-1]) for x in drawn]
    assert all(m or np.array_equal(x[0], ramp) for m, x in zip(mirrored, drawn, strict=True))
    assert 20 < sum(mirrored) < 44


def test_pictures_are_covered_cropped_and_given_the_channels_asked_for(tmp_path, taken):
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = (10, 20, 30)  # the middle third is all that a square crop shows
    (tmp_path / "wide" / "train").mkdir(parents=True)
    Image.fromarray(wide).save(tmp_path / "wide" / "train" / "0.png")
    assert (taken(tmp_path / "wide")[0].pictures() == (10, 20, 30)).all()
    grey = taken(tmp_path / "wide", channels=1)[0].pictures()
    assert grey.shape == (1, 8, 8, 1)
    assert (grey == round(0.299 * 10 + 0.587 * 20 + 0.114 * 30)).all()


# ---- strangers -----------------------------------------------------------------------------------------------------


def test_names_that_lead_out_of_an_archive_are_left_out_and_told(tmp_path, taken):
    hostile = ["../../up.png", "/etc/root.png", "train/../test/x.png", "a\\..\\b.png", "C:\\x.png"]
    hidden = ["__MACOSX/._0.png", ".secret/0.png"]
    good = [f"train/{i}.png" for i in range(40)]
    zipped(tmp_path / "bad.zip", [(name, png(1)) for name in (*hostile, *hidden, *good, "train/notes.txt")])
    before = sorted(tmp_path.rglob("*.png"))
    made, said = taken(tmp_path / "bad.zip")
    assert len(made) == len(_split(good)["train"])
    told = [line for line in said if "leads out of the archive" in line]
    assert len(told) == len(hostile)
    assert sorted(tmp_path.rglob("*.png")) == before  # nothing was unpacked, here or above
    assert not (tmp_path.parent.parent / "up.png").exists()


def test_what_cannot_be_read_is_left_out_and_told_now_and_later(folder, taken, tmp_path):
    first, second, third = _split(NAMES)["train"][:3]
    (folder / first).write_bytes(b"not a picture")
    (folder / second).write_bytes((folder / second).read_bytes()[:45])
    head = png(0)
    (folder / third).write_bytes(head[:16] + struct.pack(">II", 10**6, 10**6) + head[24:])  # claims 10^12 pixels
    made, said = taken(folder)
    assert len(made) == len(_split(NAMES)["train"]) - 3
    for name in (first, second, third):
        assert sum(line.startswith(f"{name} is left out: ") for line in said) == 1
    assert said[-1] == "3 pictures cannot be read and are left out"
    assert taken(folder)[1] == ["3 pictures cannot be read and are left out"]  # from the cache


def test_a_member_that_lies_about_its_size_or_its_content_is_left_out(tmp_path, taken, monkeypatch):
    members = [(f"train/{i}.png", png(i)) for i in range(20)]
    zipped(tmp_path / "x.zip", members)
    content = bytearray((tmp_path / "x.zip").read_bytes())
    place = content.find(b"IDAT")
    content[place + 6] ^= 0xFF  # its CRC no longer fits
    (tmp_path / "x.zip").write_bytes(content)
    assert len(taken(tmp_path / "x.zip")[0]) == len(_split([n for n, _ in members])["train"]) - 1
    monkeypatch.setattr("framefill.video.images.album.MOST_BYTES", 100)
    zipped(tmp_path / "y.zip", [*members, ("train/big.png", png(0) + bytes(10**6))])
    said = taken(tmp_path / "y.zip")[1]
    assert "train/big.png is left out: it is larger than 100 bytes" in said
    assert MOST_BYTES > 10**8


def empty(place):
    place.mkdir()


def other(place):
    place.mkdir()
    (place / "a.txt").write_text("x")


def lonely(place):
    place.mkdir()
    colour(0).save(place / "001.png")


def broken(place):
    (place / "train").mkdir(parents=True)
    (place / "train" / "2.png").write_bytes(b"x")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda place: None, "no such folder or .zip"),
        (empty, "there are no pictures in it"),
        (other, "there are no pictures in it"),
        (lonely, "no picture of it belongs to the split"),
        (broken, "none of 1 pictures can be used: train/2.png: "),
    ],
)
def test_folders_without_pictures_say_so_in_one_line(tmp_path, taken, make, says):
    make(tmp_path / "data")
    split = "val" if make is lonely and _split(["001.png"])["train"] else "train"
    with pytest.raises(MediaError) as caught:
        taken(tmp_path / "data", split)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_archive_and_no_size_is_refused(tmp_path, taken):
    (tmp_path / "x.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(MediaError, match=r"cannot be read as a \.zip"):
        taken(tmp_path / "x.zip")
    for wrong in ({"height": 0}, {"channels": 2}):
        with pytest.raises(BadInput, match="at least 1x1"):
            taken(tmp_path, **wrong)
    with pytest.raises(BadInput, match="one of train, val, test"):
        taken(tmp_path, "all")


# ---- the command line ----------------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path):
    recipe = replace(TINY, features=8, multipliers=(1, 1), attention=(False, False), height=16, width=16)
    torch.manual_seed(0)
    path = tmp_path / "pictures.safetensors"
    card = Card("nonisotropic", "tiny", to_fields(recipe))
    framefill.save(recipe.product(recipe.model().eval(), card=card), path)
    return path


def test_generate_writes_numbered_pictures_and_a_sheet(model, call, tmp_path):
    words = ("generate", "-m", model, "-o", tmp_path / "made", "-n", 3, "--calls", 2)
    assert call(*words)[0] == 0
    frames = read_clip(tmp_path / "made", limit=None, fps=Fraction(1)).frames
    direct = framefill.load(model)
    assert np.array_equal(frames, replace(direct, sampler=replace(direct.sampler, steps=2)).generate(3))
    assert Image.open(tmp_path / "made-sheet.png").width > 3 * 64
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert "exists already" in err or "is there already" in err
    assert call(*words, "--overwrite", "--seed", 1)[0] == 0
    assert not np.array_equal(frames, read_clip(tmp_path / "made", limit=None, fps=Fraction(1)).frames)


def test_generate_refuses_what_only_clips_have(model, call, tmp_path):
    for more, says in (
        (("--fps", "25"), "--fps says how to make a clip"), (("--keep", 1), "--keep says"),
        (("--strength", 0.5), "--strength says"), (("-o", tmp_path / "x.mp4"), "or on one sheet"),
        (("--guidance", 2), "knows no guidance"), (("--label", "cat"), "no class 'cat'; this model has none"),
        (("-n", 0), "--samples must be at least 1"), (("--calls", 0), "--calls must be at least 1"),
        (("--guidance", "nan", "--label", "0"), "must be a finite number"), (("--frames", 4), "--frames is how long"),
    ):  # fmt: skip
        code, out, err = call("generate", "-m", model, "-o", tmp_path / "new", *more)
        assert (code, out) == (2, ""), more
        assert says in err
        assert len(err.splitlines()) == 1
    code, out, err = call("predict", tmp_path, "-m", model, "--dry-run")
    assert code == 2
    assert call("generate", "-m", model, "-o", tmp_path / "new", "--dry-run")[0] == 0
    assert not (tmp_path / "new").exists()


def test_training_on_a_folder_draws_a_sheet_and_goes_on(folder, call, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (folder / "cat" / "999.png").write_bytes(b"x")
    words = ["train", "nonisotropic", folder, "--preset", "tiny-ni", "-o", tmp_path / "run", "--json"]
    for field in ("features=8", "multipliers=1,1", "attention=false,false", "height=8", "width=8", "batch_size=2"):
        words += ["--set", field]
    for steps in (1, 2):
        code, out, err = call(*words, "--steps", steps)
        assert code == 0, err
        assert json.loads(out)["steps"] == steps
        assert (tmp_path / "run" / "samples" / f"step-{steps:08d}.png").stat().st_size > 1000
    assert framefill.load(tmp_path / "run").card.preset == "tiny-ni"
    for data, says in ((tmp_path / "nowhere", "no such folder or .zip"), (tmp_path / "cache", "no pictures in it")):
        code, out, err = call(*words[:2], data, *words[3:])
        assert (code, out) == (2, "")
        assert says in err
        assert len(err.splitlines()) == 1


def test_names_from_an_archive_do_not_change_the_terminal(capsys):
    training._reading(1, 2, "a\x1b[2Jb\nc.png", False)
    assert capsys.readouterr().err == "reading: 1 of 2 (a\\x1b[2Jb c.png)\n"
