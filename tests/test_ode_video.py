"""ODE video: published sizes, mended faults, paths against closed forms, and frames at any instant, in any order."""

import json
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

import framefill
from framefill import recipes
from framefill.arrays import Rng
from framefill.checkpoint import Card
from framefill.curves import draw_trajectories
from framefill.errors import BadInput
from framefill.nets.ode_video import Code, FrameEncoder, LatentODE, Layout, RecurrentEncoder, _narrow
from framefill.recipes.ode_video import PRESETS, TINY, ODEVideo, divergence
from framefill.recipes.recipe import from_fields, override, to_fields
from framefill.training import train
from framefill.video.clip import Clip
from framefill.video.digits import MovingDigits
from framefill.video.files import Writer, probe, read

pytest.importorskip("torchdiffeq", reason="pip install 'framefill[flows]'")
SMALL = replace(TINY, height=32, width=32, stages=(2, 2, 4, 4), hidden=8, latent=3, past=4, future=2, batch_size=3,
                steps=2, warmup=1, layers=0, method="dopri5")  # fmt: skip
EVEN = replace(SMALL, timed=False, shown=1.0)
ONE = replace(EVEN, variational=False)
RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (7, 32, 32, 1), np.uint8)


def lively(recipe=SMALL):
    """A model whose frames differ from time to time."""
    torch.manual_seed(2)
    model = recipe.model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        for parameter in model.motion.parameters():
            parameter.mul_(2)
    return recipe.product(model.eval(), card=Card("ode-video", "tiny", to_fields(recipe)))


def clip(count=7):
    return Clip(FRAMES[:count], Fraction(10))


def close(a, b, by=1):
    """Alike but for rounding and the solver's tolerance."""
    return np.abs(a.astype(int) - b.astype(int)).max() <= by


# ---- networks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "motion", "encoder", "decoder"),
    [("one-frame", 131_712, 447_842, 398_765), ("recurrent", 33_088, 136_882, 100_253),
     ("recurrent-small", 20_752, 63_082, 41_797)],
)  # fmt: skip
def test_the_sizes_are_those_of_the_authors_program(name, motion, encoder, decoder):
    recipe = recipes.find("ode-video", name).recipe
    with torch.device("meta"):
        model = recipe.model()
    found = [sum(p.numel() for p in part.parameters()) for part in (model.motion, model.encoder, model.decoder)]
    assert found == [motion, encoder, decoder]
    assert recipes.parameters(recipe) == sum(found)


@pytest.mark.parametrize("kind", [FrameEncoder, RecurrentEncoder])
def test_the_encoder_sees_brightness_and_contrast(kind):
    torch.manual_seed(0)
    encoder = kind(Layout((1, 32, 32), (2, 2, 4, 4), 8, 3))
    x = torch.rand(1, 2, 1, 32, 32) - 0.5
    times, shown = torch.arange(2.0)[None], torch.ones(1, 2, dtype=torch.bool)
    codes = [encoder(frames, times, shown).mean for frames in (x, 0.5 * x, x + 0.2)]
    assert float((codes[0] - codes[1]).abs().max()) > 1e-2
    assert float((codes[0] - codes[2]).abs().max()) > 1e-3
    encoder.features[0].before = nn.GroupNorm(1, 1)  # the published norm
    codes = [encoder(frames, times, shown).mean for frames in (x, 0.5 * x + 0.2)]
    assert float((codes[0] - codes[1]).detach().abs().max()) < 5e-3 * float(codes[0].detach().abs().max())


@pytest.mark.parametrize("channels", [1, 8])
def test_a_layer_of_few_channels_computes_what_it_would_in_any_layout(channels):
    torch.manual_seed(0)
    layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False).double()
    x = torch.randn(2, channels, 6, 5, dtype=torch.float64, requires_grad=True)
    found, wanted = _narrow(layer, x), layer(x)
    torch.testing.assert_close(found, wanted)
    out = torch.randn_like(found)
    ends = [torch.autograd.grad(y, [x, layer.weight], out) for y in (found, wanted)]
    for a, b in zip(*ends, strict=True):
        torch.testing.assert_close(a, b)


def test_the_recurrent_encoder_reads_what_is_shown_from_the_last_to_the_first():
    torch.manual_seed(0)
    encoder = RecurrentEncoder(Layout((1, 32, 32), (2, 2, 4, 4), 8, 3), timed=True)
    x, times = torch.rand(1, 4, 1, 32, 32), torch.tensor([[0.0, 1.0, 2.5, 3.0]])
    shown = torch.tensor([[True, False, True, True]])
    h, last = torch.zeros(1, 8), 3.0
    for i in (3, 2, 0):
        seen = encoder.features(x[:, i])
        h = encoder.cell(torch.cat([seen, h, torch.tensor([[last - float(times[0, i])]])], 1)).tanh()
        last = float(times[0, i])
    mean, log_variance = encoder.out(h).chunk(2, 1)
    found = encoder(x, times, shown)
    torch.testing.assert_close(found.mean, mean)
    torch.testing.assert_close(found.log_variance, log_variance)
    other = x.clone()
    other[:, 1] = 0
    torch.testing.assert_close(encoder(other, times, shown).mean, mean)  # what is not shown does not matter


def test_the_path_is_that_of_the_motion_in_both_directions_and_any_order():
    model = lively().model
    A = torch.tensor([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -0.3]])

    class Linear(nn.Module):
        def forward(self, t, z, cond=None):
            return z @ A.T

    model.motion.f = Linear()
    model.motion.solver = replace(model.motion.solver, rtol=1e-6, atol=1e-7)
    z, times = torch.randn(2, 3), [2.5, -3.0, 0.0, 10.0, 2.5, -0.25]
    found = model.path(z, times)
    for i, t in enumerate(times):
        torch.testing.assert_close(found[:, i], z @ torch.linalg.matrix_exp(A * t * model.rate).T, atol=1e-4, rtol=1e-4)


def test_layouts_and_frames_that_do_not_fit_are_refused():
    for size, stages in (
        ((1, 40, 32), (2, 2, 4, 4)),
        ((1, 32, 16), (2, 2, 4, 4)),
        ((1, 32, 32), (2, 2, 4)),
        ((0, 32, 32), (2,) * 4),
    ):
        with pytest.raises(BadInput, match=r"multiples of 16|4 stages"):
            LatentODE(Layout(size, stages, 8, 3))
    with pytest.raises(BadInput, match="frames of 1x32x64"):
        lively().model.code(torch.zeros(1, 2, 1, 32, 64), torch.zeros(1, 2))


# ---- recipe --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_fields_travel_through_json(name):
    recipe = PRESETS[name][0]
    assert from_fields(ODEVideo, json.loads(json.dumps(to_fields(recipe)))) == recipe


@pytest.mark.parametrize(
    ("words", "said"),
    [(["past=1", "future=0"], "learns 2 or more"), (["sigma=0"], "sigma and frame_time"),
     (["timed=false"], "timed=true"), (["shown=1", "variational=false"], "needs no times"),
     (["height=60"], "multiples of 16"), (["moving=64"], "from 1 to latent - 1"), (["layers=-1"], "0 or more"),
     (["variational=false", "timed=false", "shown=1"], "leave layers away"), (["placing=0"], "positive"),
     (["gradients=forward"], "'direct', 'adjoint' or 'auto'"), (["method=rk99"], "no ODE method")],
)  # fmt: skip
def test_fields_that_mean_nothing_are_refused(words, said):
    with pytest.raises(BadInput, match=said):
        override(TINY, words)


def batch(size=3):
    return torch.rand(size, 6, 1, 32, 32, generator=torch.Generator().manual_seed(5)) * 2 - 1


def test_the_loss_of_one_frame_is_equation_3_4_1_and_no_term_grows_with_the_batch():
    model, x = lively(ONE).model, batch()
    codes = model.encoder.each(x)
    path = model.path(codes[:, 0], range(6))
    missed = ((model.decode(path) - x) ** 2).sum((1, 2, 3, 4)) / (2 * 0.09)
    wanted = (missed + ((codes - path) ** 2).sum((1, 2))) / x[0].numel()
    found = ONE.loss(model, x, Rng.batch(0, 3))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    alone = ONE.loss(model, x[:1], Rng.batch(0, 1))
    torch.testing.assert_close(alone, found[:1], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(replace(ONE, matching=0.0).loss(model, x, Rng.batch(0, 3)), missed / x[0].numel(),
                               rtol=1e-4, atol=1e-5)  # fmt: skip


def test_the_loss_of_several_frames_is_equation_3_4_2():
    model, x = lively(EVEN).model, batch()
    code = model.code(x[:, :4], torch.arange(4.0).expand(3, -1))
    rng = Rng.batch(0, 3)
    rng.uniform((4,))  # which frames are shown comes first
    path = model.path(code.mean + (code.log_variance / 2).exp() * rng.normal((3,)), range(6))
    missed = ((model.decode(path) - x) ** 2).sum((1, 2, 3, 4)) / (2 * 0.09)
    wanted = (missed + 0.1 * divergence(code)) / x[0].numel()
    torch.testing.assert_close(EVEN.loss(model, x, Rng.batch(0, 3)), wanted, rtol=1e-4, atol=1e-5)
    assert EVEN.notes(model)["evaluations"] > 3
    normal = torch.distributions.Normal
    q = normal(code.mean, (code.log_variance / 2).exp())
    torch.testing.assert_close(divergence(code), torch.distributions.kl_divergence(q, normal(0, 1)).sum(1))
    assert float(divergence(Code(torch.zeros(1, 3), torch.zeros(1, 3)))) == 0


def test_frames_are_left_out_in_training_but_never_the_first():
    shown = replace(SMALL, shown=0.3)._shown(Rng.batch(0, 500), torch.zeros(1))
    assert bool(shown[:, 0].all())
    assert float(shown[:, 1:].float().mean()) == pytest.approx(0.3, abs=0.05)
    assert bool(EVEN._shown(Rng.batch(0, 50), torch.zeros(1)).all())


def test_training_and_validation_share_no_digit():
    recipe = PRESETS["recurrent"][0]
    assert recipe.source("digits", "train") == MovingDigits("train", count=1)
    assert recipe.source("digits", "val") == MovingDigits("val", count=1)
    assert PRESETS["recurrent-two"][0].source("digits", "val").count == 2
    assert recipe.batch(recipe.source("digits", "train"), [0, 1]).shape == (2, 10, 1, 64, 64)


@pytest.mark.parametrize("recipe", [SMALL, ONE], ids=["recurrent", "one frame"])
def test_training_learns_a_clip(recipe, tmp_path):
    class Blinking:
        """Half white, half black."""

        def sample(self, seed, *, length, strides=(1,)):
            frames = np.zeros((length, 32, 32, 1), np.uint8)
            frames[:, :16] = 255
            return frames

    recipe = replace(recipe, steps=25, learning_rate=0.02)
    card = Card("ode-video", "tiny", to_fields(recipe), seed=3)
    losses = [p.loss for p in train(recipe, Blinking(), tmp_path, card=card)]
    assert losses[-1] < 0.7 * losses[0]
    product = framefill.load(tmp_path)
    assert recipe.sheet(product, Blinking()).width > 6 * 32
    framefill.save(product, tmp_path / "m.safetensors")
    again = framefill.load(tmp_path / "m.safetensors")
    assert np.array_equal(again.at(clip(), [0.5, 9]), product.at(clip(), [0.5, 9]))


# ---- product -------------------------------------------------------------------------------------------------------


def test_frames_come_at_any_instant_in_any_order_and_depend_on_the_instant_alone():
    model = lively()
    times = [3.3, -2.0, 0.0, 8.75, 1.0, 3.3]
    made = model.at(clip(4), times)
    assert made.shape == (1, 6, 32, 32, 1)
    assert np.array_equal(made[:, 0], made[:, 5])
    assert close(model.at(clip(4), sorted(times)), made[:, np.argsort(times, kind="stable")])
    for i, t in enumerate(times):
        assert close(model.at(clip(4), [t])[:, 0], made[:, i])
    assert not close(made[:, 1], made[:, 3], by=5)
    near = model.at(clip(4), [2.0, 2.001])
    assert close(near[:, 0], near[:, 1])  # the path is continuous


def test_uneven_stamps_matter_where_the_model_is_told_them():
    model = lively()
    even = model.at(clip(4), [1.5], stamps=[0, 1, 2, 3])
    assert np.array_equal(even, model.at(clip(4), [1.5]))
    assert not np.array_equal(even, model.at(clip(4), [1.5], stamps=[0, 0.1, 0.2, 9.0]))
    later = model.at(clip(4), [101.5], stamps=[100, 101, 102, 103])
    assert close(later, even)  # only differences count
    for wrong in ([0, 1, 2], [0, 2, 1, 3], [0, 1, 1, 2], [0, 1, 2, np.nan]):
        with pytest.raises(BadInput, match="one finite time for each of 4 frames"):
            model.at(clip(4), [0], stamps=wrong)
    with pytest.raises(BadInput, match="even clock"):
        lively(EVEN).at(clip(4), [0], stamps=[0, 1, 2, 4])
    assert lively(ONE).at(clip(4), [0.5], stamps=[0, 1, 2, 4]).shape == (1, 1, 32, 32, 1)
    for times, samples in (([], 1), ([np.inf], 1), ([0.0], 0)):
        with pytest.raises(BadInput, match="one finite time or more"):
            model.at(clip(4), times, samples=samples)


def test_the_verbs_are_frames_at_the_times_they_say():
    model = lively()
    future, past = model.predict(clip(4), 3), model.predict_past(clip(4), 2)
    assert np.array_equal(future.frames[:, 4:], model.at(clip(4), [4, 5, 6]))
    assert np.array_equal(past.frames[:, :2], model.at(clip(4), [-2, -1]))
    assert np.array_equal(past.frames[0, 2:], FRAMES[:4])
    assert past.known.tolist() == [False] * 2 + [True] * 4
    between = model.interpolate(clip(4), 3)
    assert between.fps == 30
    assert between.known.tolist() == [i % 3 == 0 for i in range(10)]
    assert np.array_equal(between.frames[0, ::3], FRAMES[:4])
    wanted = [i / 3 for i in range(10) if i % 3]
    assert np.array_equal(between.frames[:, ~between.known], model.at(clip(4), wanted))
    for wrong in (lambda: model.interpolate(clip(4), 1), lambda: model.predict(clip(4), 0)):
        with pytest.raises(BadInput, match=r"times >= 2|at least 1"):
            wrong()


def test_samples_differ_and_do_not_depend_on_their_number():
    model = lively()
    several = model.at(clip(4), [6.0], samples=3, seed=1)
    assert not close(several[0], several[1])
    assert close(model.at(clip(4), [6.0], samples=1, seed=1), several[:1])
    one = lively(ONE).at(clip(4), [6.0], samples=2, seed=1)
    assert np.array_equal(one[0], one[1])


def test_a_prediction_is_told_from_the_last_frames_and_a_memory_from_the_first():
    model = lively()  # sees 4 of the 7
    assert np.array_equal(model.at(clip(7), [8.0]), model.at(Clip(FRAMES[3:], Fraction(10)), [5.0]))
    assert np.array_equal(model.at(clip(7), [-1.0]), model.at(clip(4), [-1.0]))


@pytest.mark.parametrize("count", [1, 3, 4, 7])
@pytest.mark.parametrize("step", [Fraction(1, 2), Fraction(2, 3), Fraction(3, 2), Fraction(1)])
def test_a_file_at_another_rate_lasts_as_long_and_keeps_what_it_has(count, step):
    model = lively()
    made = list(model.retimed(iter(FRAMES[:count]), step))
    assert len(made) == math.ceil(count / step)
    for k, (frames, given) in enumerate(made):
        t = k * step
        assert given == (t.denominator == 1)
        if given:
            assert np.array_equal(frames[0], FRAMES[int(t)])
    if count <= 4:
        fresh = [k for k, (_, given) in enumerate(made) if not given]
        direct = model.at(clip(count), [float(k * step) for k in fresh]) if fresh else np.zeros((1, 0))
        assert all(close(made[k][0], direct[:, i]) for i, k in enumerate(fresh))


def test_a_file_with_an_uneven_clock_is_told_when_its_frames_were():
    model = lively()
    places = [Fraction(0), Fraction(1, 2), Fraction(2), Fraction(7, 2), Fraction(4)]
    made = list(model.retimed(iter(FRAMES[:4]), Fraction(1, 2), place=places.__getitem__))
    assert [given for _, given in made] == [True, True, False, False, True, False, False, True]
    stamps = [float(p) for p in places[:4]]
    assert close(made[5][0], model.at(clip(4), [2.5], stamps=stamps)[:, 0])
    with pytest.raises(BadInput, match="step from frame to frame"):
        list(model.retimed(iter(FRAMES), Fraction(0)))
    assert list(model.retimed(iter([]), Fraction(1))) == []


def test_a_file_is_retold_at_any_rising_times_as_far_as_it_lasts():
    model = lively()
    times = [Fraction(1, 3), Fraction(2), Fraction(13, 5), Fraction(15, 4), Fraction(9)]
    made = list(model.retold(iter(FRAMES[:4]), iter(times)))
    assert [given for _, given in made] == [False, True, False, False]  # the fourth frame lasts until 4
    assert np.array_equal(made[1][0][0], FRAMES[2])
    fresh = np.stack([frames[0] for frames, given in made if not given])
    assert close(fresh, model.at(clip(4), [1 / 3, 2.6, 3.75])[0])
    assert len(list(model.retold(iter(FRAMES), times))) == 4


def test_as_windows_it_predicts_the_same_and_draws_from_nothing():
    model = lively()
    windows = model.windows()
    torch.manual_seed(0)
    filled = windows.predict(clip(4), 4, seed=1)
    assert np.array_equal(filled.frames[0, :4], FRAMES[:4])
    assert filled.frames.shape == (1, 8, 32, 32, 1)
    made = windows.generate(8, samples=2, seed=1).frames
    assert not close(made[0], made[1])
    one = lively(ONE).windows()
    assert close(one.predict(clip(4), 4).frames[:, 4:], lively(ONE).at(clip(4), [4, 5, 6, 7]))
    with pytest.raises(BadInput, match="makes nothing from nothing"):
        one.generate(3)
    known = np.array([True, False, True, True, False, False])
    with pytest.raises(BadInput, match="known frames must follow each other"):
        lively(EVEN).windows().complete(clip(6), known)
    assert windows.complete(clip(6), known).frames.shape == (1, 6, 32, 32, 1)


def test_a_trajectory_is_the_path_that_is_decoded(tmp_path):
    model = lively()
    times = [0.0, 0.5, 3.0, 6.0]
    path = model.trajectory(clip(4), times)
    assert path.shape == (4, 3)
    decoded = model.model.decode(torch.from_numpy(path)[None])[0, :, 0].detach().numpy()
    assert np.abs((decoded + 1) * 127.5 - model.at(clip(4), times)[0, ..., 0]).max() < 1
    assert draw_trajectories({"one": path, "flat": path[:, :1] * np.ones(3)}, tmp_path / "paths.png")
    assert (tmp_path / "paths.png").stat().st_size > 1000


# ---- the verbs -----------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    framefill.save(lively(), tmp_path / "m.safetensors")
    with Writer(tmp_path / "clip.mp4", Fraction(10)) as writer:
        for frame in FRAMES:
            writer.write(frame.repeat(3, -1))
    return tmp_path / "clip.mp4", tmp_path / "m.safetensors"


def test_the_command_line_predicts_and_changes_the_rate(files, tmp_path, call):
    clip, model = files
    code, out, err = call("predict", clip, "-m", model, "--frames", 3, "-o", tmp_path / "next.npy", "--json")
    assert code == 0, err
    assert np.load(tmp_path / "next.npy").shape[0] == 10
    code, out, err = call("interpolate", clip, "-m", model, "--fps", "15", "-o", tmp_path / "fast.mp4", "--json")
    assert code == 0, err
    assert json.loads(out)["model"] == str(model)
    assert probe(tmp_path / "fast.mp4").fps == 15
    assert len(list(read(tmp_path / "fast.mp4"))) == 11  # 0.7 seconds
    code, out, err = call("interpolate", clip, "-m", model, "-n", 2, "-o", tmp_path / "x.npy", "--json")
    assert code == 0, err
    assert len(np.load(tmp_path / "x-1.npy")) == 14
    assert not np.array_equal(np.load(tmp_path / "x-1.npy"), np.load(tmp_path / "x-2.npy"))
    for words, said in (
        (("interpolate", clip, "-m", model, "--at", "0.5,0.25"), "fractions that increase"),
        (("interpolate", clip, "-m", model, "--at", "0.5", "--preview", "1s"), "leave --preview"),
        (("predict", clip, "-m", model, "--calls", 3), "are for diffusion"),
    ):
        code, _, err = call(*words)
        assert (code, said in err) == (2, True)
