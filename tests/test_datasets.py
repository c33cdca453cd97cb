"""Published data sets: tiny ones of the true layout are read exactly, and split without sharing a subject or clip."""

import gzip
import os
import struct
import warnings
from dataclasses import replace

import av
import numpy as np
import pytest
from PIL import Image

from framefill import cli
from framefill.errors import BadInput, MediaError
from framefill.recipes.mcvd import PRESETS, SMMNIST
from framefill.video import datasets
from framefill.video.datasets.mnist import HELD_OUT, LARGEST_COUNT, read_idx
from framefill.video.datasets.recordings import ACTIONS
from framefill.video.digits import MovingDigits, digits
from tfrecords import example, record

SPLITS = ("train", "val", "test")


def noise(length, size, seed=0, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (length, *size, channels), np.uint8)


def write_video(path, frames, codec="ffv1", layout="bgr0"):
    """An AVI; ffv1 keeps every bit of colour (bgr0) and of grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], layout
        for frame in frames:
            pixels = frame[..., 0] if frame.shape[-1] == 1 else frame
            picture = av.VideoFrame.from_ndarray(pixels, format="gray" if frame.shape[-1] == 1 else "rgb24")
            container.mux(stream.encode(picture.reformat(format=layout)))
        container.mux(stream.encode())


def write_pictures(folder, names, seed=0, size=(16, 24)):
    folder.mkdir(parents=True, exist_ok=True)
    frames = noise(len(names), size, seed)
    for name, frame in zip(names, frames, strict=True):
        Image.fromarray(frame).save(folder / name)
    return frames


def runs(name, root, split, size=(16, 24), channels=3, **options):
    found = datasets.find(name, root)
    height, width = size
    return datasets.runs(
        found, split, height=height, width=width, channels=channels, cache=root.parent / "cache", **options
    )


def pixels(found):
    return [run.frames() for run in found]


# KTH


def kth_name(person, action, scene=1):
    return f"person{person:02d}_{action}_d{scene}"


@pytest.fixture
def kth(tmp_path):
    """Persons 1, 19, 20 and 25, one clip of six 120x160 frames per action, of which the list takes 2 to 3 and 5."""
    text = ["Training:   person11, 12, 13", "", "person13_handclapping_d3\t*missing*"]
    for action in ACTIONS:
        for person in (1, 19, 20, 25):
            name = kth_name(person, action)
            frames = noise(6, (120, 160), person * 10 + ACTIONS.index(action), 1)
            write_video(tmp_path / "kth" / action / f"{name}_uncomp.avi", frames, layout="gray")
            text.append(f"{name}\tframes\t2-3, 5-5")
    (tmp_path / "kth" / "00sequences.txt").write_text("\r\n".join(text))
    return tmp_path / "kth"


def test_kth_keeps_the_listed_frames_of_the_persons_of_a_split(kth):
    persons = {split: {run.name.split("/")[1][:8] for run in runs("kth", kth, split)} for split in SPLITS}
    assert persons == {"train": {"person01"}, "val": {"person19", "person20"}, "test": {"person25"}}
    found = runs("kth", kth, "train", (120, 160), 1)
    assert [run.name for run in found[::2]] == [f"{action}/{kth_name(1, action)}" for action in ACTIONS]
    for number in range(6):
        frames = noise(6, (120, 160), 10 + number, 1)
        first, second = pixels(found[2 * number : 2 * number + 2])
        assert (first == frames[1:3]).all()
        assert (second == frames[4:5]).all()


def test_kth_whole_takes_every_frame_and_needs_no_list(kth):
    (kth / "00sequences.txt").unlink()
    found = runs("kth-whole", kth, "test", (120, 160), 1)
    assert [len(run) for run in found] == [6] * 6
    assert (found[0].frames() == noise(6, (120, 160), 250, 1)).all()


def test_kth_is_squeezed_not_cropped(kth):
    """A mark at the left edge is still there: 160x120 becomes 64x64 as in the paper."""
    frames = np.zeros((3, 120, 160, 1), np.uint8)
    frames[:, :, :10] = 255
    write_video(kth / "boxing" / "person01_boxing_d1_uncomp.avi", frames, layout="gray")
    frame = runs("kth", kth, "train", (64, 64), 1)[0].frames()[0, ..., 0]
    assert frame.shape == (64, 64)
    assert frame[:, :3].min() > 230
    assert frame[:, 6:].max() < 25


def test_kth_as_its_distributor_codes_it(kth):
    """The true files are MPEG-4 (DivX): lossy, but the frames are the right ones."""
    ramp = np.broadcast_to(np.arange(6, dtype=np.uint8)[:, None, None, None] * 40, (6, 120, 160, 1))
    write_video(kth / "boxing" / "person01_boxing_d1_uncomp.avi", ramp, "mpeg4", "yuv420p")
    levels = [frame.mean() for run in runs("kth", kth, "train", (64, 64), 1)[:2] for frame in run.frames()]
    assert np.abs(np.array(levels) - [40, 80, 160]).max() < 4


def test_ranges_past_the_end_are_cut_and_overlaps_not_taken_twice(kth):
    name = kth_name(1, "boxing")
    listed = (kth / "00sequences.txt").read_text().replace(f"{name}\tframes\t2-3, 5-5", f"{name}\tframes\t5-9, 1-2,2-3")
    (kth / "00sequences.txt").write_text(listed)
    frames = noise(6, (120, 160), 10, 1)
    found = pixels(runs("kth", kth, "train", (120, 160), 1))[:3]
    for got, wanted in zip(found, (frames[:2], frames[2:3], frames[4:]), strict=True):
        assert (got == wanted).all()


def test_a_damaged_recording_is_used_up_to_the_damage(kth):
    path = kth / "boxing" / "person01_boxing_d1_uncomp.avi"
    write_video(path, noise(60, (120, 160), 7, 1), layout="gray")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(UserWarning, match=r"damaged after frame \d+.*are used"):
        found = runs("kth-whole", kth, "train", (120, 160), 1)
    frames = found[0].frames()
    assert 5 < len(frames) < 60
    assert (frames == noise(60, (120, 160), 7, 1)[: len(frames)]).all()


def test_kth_that_is_not_all_there(kth):
    def refused(words, name="kth"):
        with pytest.raises(BadInput, match=words) as caught:
            runs(name, kth, "test")
        assert "csc.kth.se" in str(caught.value)
        assert "\n" not in str(caught.value)

    lost = kth / "running" / "person25_running_d1_uncomp.avi"
    lost.unlink()
    refused("has no running/person25_running_d1_uncomp.avi; fetch the six zips")
    (kth / "running" / "person01_running_d1_uncomp.avi").unlink()
    refused("has no running/person01_running_d1_uncomp.avi and 1 more of 24")
    for file in (kth / "running").iterdir():
        file.unlink()
    refused("has no running/person01_running_d1_uncomp.avi;", "kth-whole")
    (kth / "00sequences.txt").write_text("nothing of the kind")
    refused("lists no frames of boxing")
    (kth / "00sequences.txt").unlink()
    refused("has no 00sequences.txt")


@pytest.mark.parametrize("ranges", ["", "3", "5-4", "0-0", "x-y"])
def test_a_line_of_kth_without_frames(kth, ranges):
    with (kth / "00sequences.txt").open("a") as file:
        file.write(f"\nperson02_boxing_d1 frames {ranges}\n")
    with pytest.raises(BadInput, match="there are no frames in 'person02_boxing_d1"):
        runs("kth", kth, "test")


def test_a_recording_shorter_than_its_list(kth):
    write_video(kth / "boxing" / "person25_boxing_d1_uncomp.avi", noise(1, (120, 160), 0, 1), layout="gray")
    with pytest.raises(MediaError, match=r"boxing/person25_boxing_d1 cannot be used.*none of the listed frames"):
        runs("kth", kth, "test")
    (kth / "boxing" / "person25_boxing_d1_uncomp.avi").write_text("no video")
    with pytest.raises(MediaError, match=r"^kth: boxing/person25_boxing_d1 cannot be used.*cannot be read"):
        runs("kth", kth, "test")


# UCF-101


@pytest.fixture
def ucf(tmp_path):
    """Two classes; lists in the form of the distributor, where only the training list has labels."""
    root = tmp_path / "ucf"
    train = [f"{c}/v_{c}_g{g:02d}_c01.avi" for c in ("ApplyEyeMakeup", "YoYo") for g in (1, 2, 24, 25)]
    test = [f"YoYo/v_YoYo_g{g}_c{c:02d}.avi" for g in (15, 16) for c in range(1, 7)]
    for number, name in enumerate(train + test):
        write_video(root / "UCF-101" / name, noise(4, (24, 32), number))
    (root / "ucfTrainTestlist").mkdir()
    (root / "ucfTrainTestlist" / "trainlist03.txt").write_text("".join(f"{name} 1\n" for name in train))
    (root / "ucfTrainTestlist" / "testlist03.txt").write_text("".join(f"{name}\r\n" for name in test))
    return root, train, test


def test_ucf_takes_the_third_lists_and_every_tenth_test_clip(ucf):
    root, train, test = ucf
    names = {split: [f"{run.name}.avi" for run in runs("ucf101", root, split)] for split in SPLITS}
    assert names["train"] == [name for name in train if "_g0" in name]
    assert names["val"] == [name for name in train if "_g2" in name]
    assert names["test"] == [test[0], test[10]]
    found = runs("ucf101", root, "test", (24, 32))
    assert (found[1].frames() == noise(4, (24, 32), len(train) + 10)).all()


def test_ucf_is_cropped_to_the_centre(ucf):
    """Of 32x24 the middle 24x24; a square of it is what the thesis says (7.4.2)."""
    root = ucf[0]
    frame = runs("ucf101", root, "test", (24, 24))[0].frames()[0]
    assert (frame == noise(4, (24, 32), 8)[0, :, 4:28]).all()


def test_ucf_that_is_not_all_there(ucf):
    root, train, _ = ucf
    (root / "UCF-101" / train[0]).unlink()
    with pytest.raises(BadInput, match=r"has no UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi; fetch UCF101.rar"):
        runs("ucf101", root, "val")
    (root / "ucfTrainTestlist" / "testlist03.txt").unlink()
    with pytest.raises(BadInput, match=r"has no ucfTrainTestlist/testlist03.txt; fetch"):
        runs("ucf101", root, "test")


@pytest.mark.parametrize("line", ["../../secret.avi", "/etc/passwd", "YoYo/v_YoYo_g01_c01.avi 1 2", "a/v_b_g1_c01.avi"])
def test_a_list_names_nothing_but_clips(ucf, line):
    root = ucf[0]
    (root / "ucfTrainTestlist" / "trainlist03.txt").write_text(line)
    with pytest.raises(BadInput, match="cannot read the line"):
        runs("ucf101", root, "train")


def test_a_list_has_a_largest_size(ucf, monkeypatch):
    monkeypatch.setattr("framefill.video.datasets.dataset.LARGEST_LIST", 10)
    with pytest.raises(BadInput, match="no list of clips"):
        runs("ucf101", ucf[0], "train")


# Cityscapes


def shot(city, sequence, frames):
    return [f"{city}_{sequence:06d}_{frame:06d}_leftImg8bit.png" for frame in frames]


@pytest.fixture
def cityscapes(tmp_path):
    top = tmp_path / "cs" / "leftImg8bit_sequence"
    write_pictures(top / "train" / "aachen", [*shot("aachen", 0, range(3)), *shot("aachen", 1, range(9, 12))], 1)
    write_pictures(top / "train" / "ulm", [*shot("ulm", 0, [5, 6]), *shot("ulm", 0, [8, 9, 10])], 2)
    write_pictures(top / "val" / "lindau", shot("lindau", 0, range(2)), 3)
    write_pictures(top / "test" / "berlin", shot("berlin", 0, range(2)), 4)
    return tmp_path / "cs"


def test_cityscapes_snippets_are_unbroken_runs(cityscapes):
    found = runs("cityscapes", cityscapes, "train")
    assert [(run.name, len(run)) for run in found] == [
        ("train/aachen", 3), ("train/aachen", 3), ("train/ulm", 2), ("train/ulm", 3),
    ]  # fmt: skip
    assert (np.concatenate(pixels(found)) == np.concatenate([noise(6, (16, 24), 1), noise(5, (16, 24), 2)])).all()
    assert (runs("cityscapes", cityscapes, "val")[0].frames() == noise(2, (16, 24), 3)).all()
    assert [run.name for run in runs("cityscapes", cityscapes, "test")] == ["test/berlin"]


def test_cityscapes_takes_the_centre_square(cityscapes):
    frame = runs("cityscapes", cityscapes, "val", (16, 16))[0].frames()[0]
    assert (frame == noise(2, (16, 24), 3)[0, :, 4:20]).all()


def test_a_new_picture_is_seen(cityscapes):
    before = runs("cityscapes", cityscapes, "val")
    folder = cityscapes / "leftImg8bit_sequence" / "val" / "lindau"
    write_pictures(folder, shot("lindau", 0, [2]), 9)
    after = runs("cityscapes", cityscapes, "val")
    assert [len(run) for run in (*before, *after)] == [2, 3]


def test_cityscapes_that_is_not_all_there(cityscapes):
    folder = cityscapes / "leftImg8bit_sequence" / "test"
    for file in (folder / "berlin").iterdir():
        file.rename(file.with_suffix(".jpg"))
    with pytest.raises(BadInput, match=r"there is no test clip in .*cityscapes-dataset.com"):
        runs("cityscapes", cityscapes, "test")
    (folder / "berlin").rename(cityscapes / "elsewhere")
    folder.rmdir()
    with pytest.raises(BadInput, match="has no leftImg8bit_sequence/test; fetch"):
        runs("cityscapes", cityscapes, "train")


def test_a_damaged_picture_is_named(cityscapes):
    file = cityscapes / "leftImg8bit_sequence" / "val" / "lindau" / "lindau_000000_000001_leftImg8bit.png"
    file.write_bytes(file.read_bytes()[:-300])
    with pytest.raises(MediaError, match=r"^cityscapes: val/lindau cannot be used: .*000001_leftImg8bit.png"):
        runs("cityscapes", cityscapes, "val")


# Vimeo-90k


@pytest.fixture(params=[3, 7])
def vimeo(request, tmp_path):
    kind, length = {3: "triplet", 7: "septuplet"}[request.param], request.param
    top = tmp_path / "vimeo" / f"vimeo_{kind}"
    train, test = ["00001/0002", "00001/0001", "00020/0001", "00021/0007"], ["00001/0003", "00022/0001"]
    for seed, name in enumerate(train + test):
        write_pictures(top / "sequences" / name, [f"im{i + 1}.png" for i in range(length)], seed)
    (top / f"{kind[:3]}_trainlist.txt").write_text("\n".join(train) + "\n\n")
    (top / f"{kind[:3]}_testlist.txt").write_text("\n".join(test) + "\n")
    return "vimeo90k" if length == 3 else "vimeo90k-septuplet", tmp_path / "vimeo", length


def test_vimeo_sequences_are_runs_of_their_lists(vimeo):
    name, root, length = vimeo
    clips = {split: pixels(runs(name, root, split)) for split in SPLITS}
    seeds = {"train": (1, 0, 3), "val": (2,), "test": (4, 5)}  # in the order of their names
    for split in SPLITS:
        for clip, seed in zip(clips[split], seeds[split], strict=True):
            assert (clip == noise(length, (16, 24), seed)).all()


def test_sequences_that_look_alike_are_not_confused(vimeo):
    """The files of two splits in one folder, with the same names, sizes and times."""
    name, root, _ = vimeo
    for picture in root.glob("*/sequences/00001/000[23]/*.png"):
        Image.fromarray(np.full((16, 24, 3), int(picture.parent.name), np.uint8)).save(picture, compress_level=0)
        os.utime(picture, ns=(1, 1))
    top = next(root.iterdir())
    next(top.glob("*_trainlist.txt")).write_text("00001/0002")
    next(top.glob("*_testlist.txt")).write_text("00001/0003")
    assert [runs(name, root, split)[0].frames().mean() for split in ("train", "test")] == [2, 3]


def test_vimeo_that_is_not_all_there(vimeo):
    name, root, _ = vimeo
    top = next(root.iterdir())
    (top / "sequences" / "00001" / "0001" / "im2.png").unlink()
    with pytest.raises(BadInput, match=r"has no vimeo_\w+/sequences/00001/0001/im2.png; fetch vimeo_triplet.zip"):
        runs(name, root, "train")
    next(top.glob("*_trainlist.txt")).write_text("00001/0002\n../../../etc/0001\n")
    with pytest.raises(BadInput, match="cannot read the line"):
        runs(name, root, "train")


# BAIR


def trajectory(seed, length=30):
    return noise(length, (64, 64), seed)


def bair_record(frames):
    features = {f"{i}/image_aux1/encoded": frame.tobytes() for i, frame in enumerate(frames)}
    return example(features | {"0/image_main/encoded": bytes(64 * 64 * 3)}, also=True)


@pytest.fixture
def bair(tmp_path):
    """Four files of one or two records; their names sort otherwise as text than as numbers."""
    top = tmp_path / "bair" / "softmotion30_44k"
    files = {"train/traj_0_to_255": (0, 1), "train/traj_256_to_511": (2,), "train/traj_1024_to_1279": (3,)}
    for name, seeds in (files | {"test/traj_0_to_255": (4,)}).items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        contents = b"".join(record(bair_record(trajectory(seed))) for seed in seeds)
        (top / f"{name}.tfrecords").write_bytes(contents)
    return tmp_path / "bair"


def test_bair_trajectories_are_runs_of_thirty(bair):
    seeds = {"train": (0, 1, 2), "val": (3,), "test": (4,)}
    for split in SPLITS:
        found = pixels(runs("bair", bair, split, (64, 64)))
        for clip, seed in zip(found, seeds[split], strict=True):
            assert (clip == trajectory(seed)).all()


def test_bair_records_that_are_damaged(bair):
    path = bair / "softmotion30_44k" / "test" / "traj_0_to_255.tfrecords"
    whole = path.read_bytes()
    for content, words in {
        whole[:-1]: "fails its checksum|claims",
        whole[:100] + b"!" + whole[101:]: "record 0 fails its checksum",
        record(b"\x0a\x05abc"): "record 0 is no tf.train.Example",
        record(bair_record(trajectory(0, 29))): "record 0 has 0 bytes of 29/image_aux1/encoded",
        record(bair_record(noise(30, (64, 63)))): "record 0 has 12096 bytes of 0/image_aux1",
        b"": "no frames",
    }.items():
        path.write_bytes(content)
        with pytest.raises(MediaError, match=f"^bair: test/traj_0_to_255.tfrecords cannot be used.*({words})"):
            runs("bair", bair, "test", (64, 64))


def test_bair_that_is_not_all_there(bair):
    for file in (bair / "softmotion30_44k" / "train").glob("traj_[12]*"):
        file.unlink()
    with pytest.raises(BadInput, match=r"there is no train clip in .*bair_robot_pushing_dataset_v0.tar"):
        runs("bair", bair, "train")
    (bair / "softmotion30_44k" / "test" / "traj_0_to_255.tfrecords").unlink()
    (bair / "softmotion30_44k" / "test").rmdir()
    with pytest.raises(BadInput, match="has no softmotion30_44k/test; fetch"):
        runs("bair", bair, "train")


# MNIST


def idx(images, magic=0x00000803, count=None):
    return struct.pack(">4I", magic, len(images) if count is None else count, 28, 28) + images.tobytes()


@pytest.fixture
def mnist(tmp_path):
    """Digits that say who they are; the test file is packed."""
    train = np.arange(HELD_OUT + 40, dtype=np.int64)[:, None, None] * np.ones((1, 28, 28), np.int64) % 251
    root = tmp_path / "mnist"
    root.mkdir()
    (root / "train-images-idx3-ubyte").write_bytes(idx(train.astype(np.uint8)))
    (root / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(np.full((3, 28, 28), 255, np.uint8))))
    return root


def test_smmnist_moves_the_digits_of_its_split(mnist):
    found = datasets.find("smmnist", mnist)
    assert {split: len(digits(split, found)) for split in SPLITS} == {"train": 40, "val": HELD_OUT, "test": 3}
    assert [int(d[0, 0]) for d in digits("train", found)] == list(range(40))
    assert int(digits("val", found)[0, 0, 0]) == 40
    clip = SMMNIST.source(f"smmnist:{mnist}", "test").sample(0, length=4, strides=(1,))
    assert (clip == MovingDigits("test", mnist=found).sample(0, length=4)).all()
    assert set(np.unique(clip)) == {0, 255}
    assert (clip == 255).sum() <= 4 * 2 * 32 * 32
    assert (clip != MovingDigits("test").sample(0, length=4)).any()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        idx(np.zeros((2, 28, 28), np.uint8))[:-1],
        idx(np.zeros((2, 28, 28), np.uint8)) + b"!",
        idx(np.zeros((2, 28, 28), np.uint8), magic=0x00000801),
        idx(np.zeros((2, 28, 28), np.uint8), count=2**32 - 1),
        struct.pack(">4I", 0x00000803, 1, 2**31, 2**31),
    ],
)
def test_idx_files_that_are_none(tmp_path, content):
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(MediaError, match="is not the IDX file"):
        read_idx(path)


def test_packed_files_do_not_fill_the_memory(tmp_path):
    path = tmp_path / "bomb.gz"
    head = idx(np.zeros((0, 28, 28), np.uint8), count=LARGEST_COUNT)  # all that is read would fit this header
    path.write_bytes(gzip.compress(head + bytes(LARGEST_COUNT * 28 * 28 + 100)))
    assert path.stat().st_size < 100_000
    with pytest.raises(MediaError, match="is not the IDX file"):
        read_idx(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(MediaError, match=r"is not the IDX file|cannot be unpacked"):
        read_idx(path)
    path.write_bytes(b"not packed")
    with pytest.raises(MediaError, match="cannot be unpacked"):
        read_idx(path)


def test_smmnist_that_is_not_all_there(mnist):
    (mnist / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(BadInput, match=r"has no t10k-images-idx3-ubyte.gz; fetch"):
        digits("test", datasets.find("smmnist", mnist))
    (mnist / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((9, 28, 28), np.uint8)))
    with pytest.raises(BadInput, match="9 training digits"):
        datasets.find("smmnist", mnist).digits("val")


def test_moving_mnist_is_for_testing(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    with pytest.raises(BadInput, match=r"has no mnist_test_seq.npy; fetch"):
        runs("moving-mnist", root, "test")
    clips = noise(20, (3, 64, 64))[..., 0]
    np.save(root / "mnist_test_seq.npy", clips)
    found = pixels(runs("moving-mnist", root, "test", (64, 64), 1))
    assert len(found) == 3
    for number, clip in enumerate(found):
        assert (clip[..., 0] == clips[:, number]).all()
    with pytest.raises(BadInput, match="train on smmnist"):
        runs("moving-mnist", root, "train")
    for bad in (clips[0], clips.astype(np.float32), np.array([{}], object)):
        np.save(root / "mnist_test_seq.npy", bad, allow_pickle=True)
        with pytest.raises(MediaError, match=r"it should be uint8|is no NumPy array"):
            runs("moving-mnist", root, "test", (64, 64), 1)


# All of them


@pytest.mark.parametrize("name", datasets.DATASETS)
def test_an_absent_data_set_says_what_to_fetch_and_where_to_put_it(name, tmp_path):
    with pytest.raises(BadInput) as caught:
        datasets.find(name, tmp_path / "nowhere")
    about = datasets.DATASETS[name](tmp_path).about
    message = str(caught.value)
    for part in (f"no folder {tmp_path / 'nowhere'}", about.files, about.url, about.size, about.layout):
        assert part in message
    assert "\n" not in message
    if name not in ("smmnist", "moving-mnist"):
        with pytest.raises(BadInput, match="fetch"):
            runs(name, tmp_path, "train")


def test_names_and_folders_are_told_apart(tmp_path, kth, monkeypatch):
    assert datasets.named(str(kth)) is None
    assert datasets.named("clips") is None
    assert datasets.named("C:/clips") is None
    assert datasets.named(f"kth:{kth}") == datasets.find("kth", kth)
    monkeypatch.setenv("HOME", str(kth.parent))
    assert datasets.named("kth:~/kth").root == kth
    with pytest.raises(BadInput, match=r"unknown data set 'kht'; choose one of smmnist, moving-mnist, kth"):
        datasets.named(f"kht:{kth}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kth:x").mkdir()
    assert datasets.named("kth:x") is None


def test_impossible_wishes(kth):
    with pytest.raises(BadInput, match="unknown split 'all'"):
        runs("kth", kth, "all")
    for options in ({"size": (0, 5)}, {"channels": 2}):
        with pytest.raises(BadInput, match="at least 1x1"):
            runs("kth", kth, "test", **options)


def test_only_the_split_is_decoded_and_only_once(kth, monkeypatch):
    seen, decoded = [], []
    module = datasets.recordings
    read = module.read
    monkeypatch.setattr(module, "read", lambda path, **options: decoded.append(path) or read(path, **options))
    first = runs("kth", kth, "test", progress=lambda *report: seen.append(report))
    assert runs("kth", kth, "test") == first
    assert len(decoded) == 6
    assert all("person25" in path.name for path in decoded)
    assert seen[-1] == (6, 6, "walking/person25_walking_d1")


def test_a_recipe_trains_on_a_named_data_set(kth, ucf, tmp_path):
    cache = tmp_path / "cache"
    recipe = replace(PRESETS["kth"][0], past=1, current=1, batch_size=2)
    source = recipe.source(f"kth:{kth}", "train", cache=cache)
    assert recipe.batch(source, [0, 1]).shape == (2, 2, 1, 64, 64)
    assert {source.windows.runs[0].name.split("/")[0]} <= set(ACTIONS)
    assert (source.flip, recipe.source(f"kth:{kth}", "val", cache=cache).flip) == (True, False)
    ucf101 = replace(PRESETS["ucf"][0], past=1, current=1)
    train, test = (ucf101.source(f"ucf101:{ucf[0]}", split, cache=cache) for split in ("train", "test"))
    assert train.windows.runs[0].frames().shape[1:] == (64, 85, 3)  # cropped at random, as the authors do
    assert test.windows.runs[0].frames().shape[1:] == (64, 64, 3)


def test_the_command_says_in_one_line_what_to_fetch(tmp_path, monkeypatch, capsys):
    words = ["train", "mcvd", f"kth:{tmp_path}", "--preset", "kth", "-o", tmp_path / "run", "--json"]
    monkeypatch.setattr("sys.argv", ["framefill", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    out, err = capsys.readouterr()
    assert (caught.value.code, out) == (2, "")
    assert err.startswith(f"framefill: kth: {tmp_path} has no 00sequences.txt; fetch the six zips and 00sequences.txt")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_nothing_warns_when_all_is_well(kth):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runs("kth", kth, "test")
