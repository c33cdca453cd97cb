"""Recipes of tokenizers and token priors: what they learn from, what travels with them, and what they then do."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import framefill
from framefill import checkpoint
from framefill.arrays import Rng, derive
from framefill.checkpoint import Card
from framefill.cli.against import against
from framefill.curves import draw_losses
from framefill.errors import BadInput
from framefill.latents.adversarial import Adversarial
from framefill.latents.lattice import FiniteScalar, LookupFree
from framefill.latents.priors.masked import Criticised, Masked
from framefill.latents.priors.orders import Confidence, Halton, Order, Scattered
from framefill.latents.priors.prior import UNDECIDED
from framefill.latents.priors.spoken import Spoken
from framefill.recipes import token_prior, tokenizer
from framefill.recipes.recipe import from_fields, to_fields
from framefill.recipes.token_prior import TokenPrior
from framefill.recipes.tokenizer import Tokenizer
from framefill.training import train
from framefill.video.clip import levels, tensor
from framefill.video.images.stills import Stills
from framefill.video.images.tokens import ImageGenerator, TokenCoder
from framefill.video.pseudo.blocks import Blocks
from framefill.video.pseudo.blur import Blur
from framefill.video.pseudo.mixture import Mixture
from framefill.video.pseudo.noise import Noise
from framefill.video.pseudo.presets import PAPER, named

SMALL = replace(tokenizer.TINY, channels=1, height=8, width=8, codes=16, code_width=4, patience=3, features=16,
                head_width=8, spatial=1, batch_size=4, warmup=2, steps=4)  # fmt: skip
PRIOR = replace(token_prior.TINY, depth=1, prior_width=16, prior_heads=2, prior_head_width=8, batch_size=4, warmup=2,
                steps=4, calls=3)  # fmt: skip


def stills(count: int = 12, classes: int = 0) -> Stills:
    """Pictures of noise; of class 0 dark, of class 1 bright."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % max(classes, 1)
    pixels = rng.integers(0, 64, (count, 8, 8, 1)) + 190 * labels[:, None, None, None]
    return Stills(pixels.astype(np.uint8), False, labels if classes else None, ("dark", "bright")[:classes])


def learned(recipe, source, out, *, start=None, name="tokenizer"):
    card = Card(name, "tiny", to_fields(recipe), seed=1, about={"data": "noise"} | recipe.about(source))
    list(train(recipe, source, out, card=card, start=start, log_every=1))
    return framefill.load(out)


def followed(recipe: TokenPrior, run) -> tuple[TokenPrior, dict[str, torch.Tensor]]:
    tensors, card = checkpoint.read(checkpoint.locate(run))
    follower = recipe.after(card.fields)
    return follower, follower.taken(tensors)


# ---- what is learnt from -------------------------------------------------------------------------------------------


def test_pseudo_videos_have_names_of_any_length():
    assert named("high-order-8") is PAPER["high-order-8"]
    assert named("blur-5") == Blur(5, rate=0.05)
    assert named("blur-30") == Blur(30, rate=0.01)
    assert named("first-order-6") == Noise(6)
    assert named("blocks-3") == Blocks(3)
    assert named("blur-wrap-8") == Blur(8, rate=0.05, wrap=True)
    assert named("blur-wrap-18") == Blur(18, rate=0.01, wrap=True)
    assert named("blur-3+blocks-3+blocks-3") == Mixture((Blur(3, rate=0.05), Blocks(3), Blocks(3)))
    with pytest.raises(BadInput, match="same number of frames"):
        named("blur-3+blocks-4")
    for wrong in ("blur", "blur-", "fog-8", "blur-x", "blur-1", "first-order-2", "-4", "blur-4000", "blur-3+"):
        with pytest.raises(BadInput):
            named(wrong)
    with pytest.raises(BadInput, match="clips-FRAMES"):
        replace(SMALL, pseudo="clips-many")
    with pytest.raises(BadInput, match="1 frame or more"):
        replace(SMALL, pseudo="clips-0")
    with pytest.raises(BadInput, match="clips have no classes"):
        replace(SMALL, pseudo="clips-4", classes=3)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Pictures whose grey level says which they are: 2 classes of 3 splits."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for i, (split, kind, n) in enumerate(
        (s, k, n) for s in ("train", "val", "test") for k in ("b/x", "a") for n in (0, 1)
    ):
        place = tmp_path / "data" / split / kind
        place.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 10 + 20 * i).save(place / f"{n}.png")
    return tmp_path / "data"


def opened(folder, split="train", **more):
    return Stills.open(folder, split, height=8, width=8, channels=1, **more)


def test_labels_belong_to_their_pictures_and_mean_the_same_in_every_split(folder):
    for k, split in enumerate(("train", "val", "test")):
        source = opened(folder, split, classes=2)
        assert source.names == ("a", "b/x")
        seen = {(int(source.sample(seed)[0, 0, 0, 0]), source.label(seed)) for seed in range(40)}
        assert seen == {(10 + 20 * (4 * k + i), 1 if i < 2 else 0) for i in range(4)}


def test_pictures_without_labels_and_wrong_classes_are_refused(folder):
    with pytest.raises(BadInput, match="have no classes"):
        opened(folder).label(0)
    with pytest.raises(BadInput, match="the classes a, b/x: 2, not 3"):
        opened(folder, classes=3)
    for n in (0, 1):
        (folder / "val" / "a" / f"{n}.png").unlink()
    with pytest.raises(BadInput, match="no picture of the class 'a' is in the split 'val'"):
        opened(folder, "val", classes=2)
    (folder / "train" / "a" / "2.png").write_bytes(b"not a picture")
    with pytest.raises(BadInput, match="1 pictures of 'train' cannot be read"):
        opened(folder, classes=2)
    assert len(opened(folder)) == 4


def test_digits_are_labelled_and_mirrored_only_where_asked():
    source = Stills.open("digits", "train", height=32, width=32, channels=1, classes=10)
    assert len(source) == 4000
    assert np.bincount(source.labels).tolist() == [400] * 10
    ones, zeros = (source.pixels[source.labels == k].astype(float) for k in (1, 0))
    assert zeros[:, 14:18, 14:18].mean() < 20 < 100 < ones[:, 14:18, 14:18].mean()  # a zero has a hole
    with pytest.raises(BadInput, match="the digits are 32x32x1 of 10 classes"):
        Stills.open("digits", "train", height=28, width=28, channels=1)
    plain, flipped = stills(1), replace(stills(1), flip=True)
    seen = [np.array_equal(flipped.sample(s), plain.sample(s)) for s in range(60)]
    assert 15 < sum(seen) < 45
    assert all(np.array_equal(flipped.sample(s)[:, :, ::-1], plain.sample(s)) for s in range(60) if not seen[s])


@pytest.mark.parametrize("pseudo", ["still", "blur-4", "high-order-4", "blocks-3"])
def test_a_batch_ends_with_the_pictures_and_carries_their_labels(pseudo):
    recipe, source = replace(SMALL, pseudo=pseudo, classes=2), stills(classes=2)
    batch = recipe.batch(source, [3, 4, 5])
    clips, labels = recipe.unpacked(batch)
    assert clips.shape == (3, recipe.frames, 1, 8, 8)
    assert labels.tolist() == [source.label(s) for s in (3, 4, 5)]
    for row, seed in zip(clips, (3, 4, 5), strict=True):
        assert torch.equal(row[-1], tensor(source.sample(seed))[0])
    assert torch.equal(recipe.batch(source, [4]), batch[1:2])
    assert recipe.about(source) == {"classes": ["dark", "bright"]}


# ---- tokenizers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pseudo", "convolved"), [("still", False), ("blocks-4", True), ("high-order-3", False)])
def test_a_tokenizer_is_trained_logged_loaded_and_codes_pictures(tmp_path, pseudo, convolved):
    recipe = replace(SMALL, pseudo=pseudo, convolved=convolved, blocks=1, adversary=1.0, adversary_start=2,
                     judge_features=4, judge_layers=1)  # fmt: skip
    source = stills()
    coder = learned(recipe, source, tmp_path / "run")
    assert isinstance(coder, TokenCoder)
    assert isinstance(coder.model, Adversarial)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["codes_revived"] == 16  # all of a fresh book
    assert all(1 <= line["perplexity"] <= 16 and 0 < line["codes_in_use"] <= 1 for line in lines)
    assert lines[1]["adaptive_weight"] == 0 < lines[2]["adaptive_weight"]
    pictures = source.pixels[:3]
    films = coder.pseudo(pictures)
    tokens = coder.tokens(films)
    assert tokens.shape == (3, *coder.tokenizer.grid(recipe.frames, 8, 8))
    assert np.array_equal(coder.films(tokens)[:, -1], coder.reconstruct(pictures))
    assert np.array_equal(films[:, -1], pictures)
    one_by_one = replace(coder, batch=1)
    assert np.array_equal(one_by_one.tokens(one_by_one.pseudo(pictures)), tokens)
    assert isinstance(recipe.sheet(coder, source), Image.Image)


def test_the_curves_of_a_tokenizer_show_the_health_of_its_codes(tmp_path):
    line = {"loss": 1.0, "gradient": 2.0}
    health = {"perplexity": 5.0, "codes_in_use": 0.9, "codes_revived": 3}
    for name, more in (("without", {}), ("with", health)):
        log = "".join(json.dumps({"step": step, **line, **more}) + "\n" for step in (10, 20, 30))
        (tmp_path / "metrics.jsonl").write_text(log)
        draw_losses(tmp_path / "metrics.jsonl", tmp_path / f"{name}.png")
    sizes = {name: Image.open(tmp_path / f"{name}.png").width for name in ("without", "with")}
    assert sizes["with"] == pytest.approx(sizes["without"] * 5 / 2, abs=2)


def test_health_counts_codes():
    coder = TokenCoder(SMALL.model())
    health = coder.health(np.array([[[[0, 1]]], [[[2, 3]]]]))
    assert health == {"codes_used": 4 / 16, "perplexity": pytest.approx(4)}
    assert coder.health(np.array([5, 5, 5])) == {"codes_used": 1 / 16, "perplexity": pytest.approx(1)}


def test_codes_are_of_one_kind():
    assert isinstance(replace(SMALL, bits=5).model().quantiser, LookupFree)
    assert isinstance(replace(SMALL, levels=(4, 3)).model().quantiser, FiniteScalar)
    with pytest.raises(BadInput, match="codes are of one kind"):
        replace(SMALL, bits=5, levels=(4, 3)).model()


@pytest.mark.parametrize(("changes", "says"), [
    ({"height": 10}, "10x8"), ({"patch_time": 5}, "clips of 4 frames"),
    ({"adversary": 1.0, "judge_layers": 3}, "pictures of 8x8 for a discriminator that needs 32"),
])  # fmt: skip
def test_patches_that_do_not_divide_are_refused_with_the_recipe(changes, says):
    with pytest.raises(BadInput, match=says):
        replace(SMALL, pseudo="blocks-4", **changes).model()


def test_wrong_pictures_and_clips_are_refused():
    coder = TokenCoder(replace(SMALL, pseudo="clips-4").model())
    with pytest.raises(BadInput, match="taught real clips"):
        coder.pseudo(np.zeros((1, 8, 8, 1), np.uint8))
    for wrong in (np.zeros((1, 4, 8, 8, 3), np.uint8), np.zeros((1, 4, 8, 8, 1)), np.zeros((0, 4, 8, 8, 1), np.uint8)):
        with pytest.raises(BadInput, match="for a model of uint8"):
            coder.tokens(wrong)


def test_the_presets_are_the_papers_sizes():
    assert {n: r.frames for n, (r, _, _) in tokenizer.PRESETS.items()} | {} == {
        "cifar10-1": 1, "cifar10-8": 8, "cifar10-18": 18, "celeba-1": 1, "celeba-8": 8, "celeba-18": 18, "tiny": 4,
        "tiny-1": 1, "tiny-digits": 4, "tiny-faces": 4,
        "tiny-clips": 8,
    }  # fmt: skip
    for presets, kind in ((tokenizer.PRESETS, Tokenizer), (token_prior.PRESETS, TokenPrior)):
        for name, (recipe, _, _) in presets.items():
            assert from_fields(kind, json.loads(json.dumps(to_fields(recipe)))) == recipe, name
    with torch.device("meta"):
        sizes = {n: tokenizer.PRESETS[n][0].network(3, f) for n, f in (("cifar10-1", 1), ("cifar10-18", 18))}
        counts = {n: sum(p.numel() for p in m.network.parameters()) / 1e6 for n, m in sizes.items()}
        assert sizes["cifar10-18"].grid(18, 32, 32) == (9, 8, 8)
    assert counts == {"cifar10-1": pytest.approx(50.8, abs=0.2), "cifar10-18": pytest.approx(50.9, abs=0.1)}


def test_every_prior_of_table_2_fits_its_tokenizer_and_grows_with_the_frames():
    """Tokens of a picture as in the facts, section 1.2: 64, 256 and 576 at 32x32, four times that at 64x64."""
    tokens = {"cifar10-1": 64, "cifar10-8": 256, "cifar10-18": 576,
              "celeba-1": 256, "celeba-8": 1024, "celeba-18": 2304}  # fmt: skip
    scores = {name: row[2] for name, row in token_prior.PRESETS.items() if row[2]}
    assert sorted(scores) == sorted(f"{kind}-{over}" for kind in ("videogpt", "phenaki") for over in tokens)
    assert (scores["phenaki-cifar10-8"], scores["videogpt-celeba-18"]) == ("FID 35.50", "FID 28.08")
    for name in scores:
        recipe, over = token_prior.PRESETS[name][0], name.partition("-")[2]
        assert recipe.after(to_fields(tokenizer.PRESETS[over][0])) == recipe, name
        assert recipe.masked == name.startswith("phenaki")
        with torch.device("meta"):
            prior = recipe.model().prior
        assert (math.prod(prior.grid), prior.vocabulary) == (tokens[over], 1024), name


# ---- priors --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tokenizer of 4 frames that was trained for a moment."""
    place = tmp_path_factory.mktemp("tokenizer") / "run"
    learned(replace(SMALL, pseudo="blocks-4", adversary=0.5, judge_features=4, judge_layers=1), stills(), place)
    return place


@pytest.mark.parametrize("changes", [{}, {"masked": True}, {"masked": True, "critic": True}], ids=str)
def test_a_prior_travels_with_its_tokenizer_which_stays_as_it_was(run, tmp_path, changes):
    recipe, start = followed(replace(PRIOR, **changes), run)
    assert (recipe.pseudo, recipe.height, recipe.codes) == ("blocks-4", 8, 16)
    product = learned(recipe, stills(), tmp_path / "prior", start=start, name="token-prior")
    assert isinstance(product, ImageGenerator)
    assert isinstance(product.model.prior, Criticised if "critic" in changes else Masked if changes else object)
    before = framefill.load(run).tokenizer.state_dict()
    for name, value in product.model.tokenizer.state_dict().items():
        assert torch.equal(value, before[name]) or name == "quantiser.counts", name
    torch.manual_seed(1)
    fresh = recipe.model().prior.state_dict()
    assert any(not torch.equal(v, fresh[n]) for n, v in product.model.prior.state_dict().items())
    together = product.generate(4, seed=3)
    assert together.shape == (4, 8, 8, 1)
    assert np.array_equal(together, product.generate(4, seed=3, batch=1))
    assert isinstance(recipe.sheet(product, stills()), Image.Image)
    checkpoint.save(product, tmp_path / "kept.safetensors")
    assert np.array_equal(framefill.load(tmp_path / "kept.safetensors").generate(4, seed=3), together)


def test_a_prior_needs_a_tokenizer(run, tmp_path):
    with pytest.raises(BadInput, match="name its folder with --from"):
        learned(PRIOR, stills(), tmp_path / "none", name="token-prior")
    with pytest.raises(BadInput, match="has no codes; give one of the recipe tokenizer"):
        PRIOR.after({"channels": 1})
    with pytest.raises(BadInput, match="has no critic"):
        replace(followed(PRIOR, run)[0], critic=True).model()
    recipe = followed(PRIOR, run)[0]
    for wrong in ({"depth": 0}, {"calls": 0}):
        with pytest.raises(BadInput, match="give at least 1 of both"):
            replace(recipe, **wrong)
    other = replace(recipe, codes=32)
    with pytest.raises(BadInput, match="do not belong together"):
        Spoken(recipe.model().tokenizer, other.model().prior)


def generator(**changes) -> ImageGenerator:
    """A model of 4-frame clips in pairs, fresh but for its last layer, so that it draws all tokens."""
    told = to_fields(replace(SMALL, pseudo="blocks-4"))
    recipe = replace(PRIOR.after(told), **changes)
    torch.manual_seed(0)
    model = recipe.model().eval()
    torch.nn.init.normal_(model.tokenizer.quantiser.codebook)
    for name, layer in model.prior.named_parameters():
        if "head" in name:
            torch.nn.init.normal_(layer, std=0.3)
    return recipe.product(model)


@pytest.mark.parametrize("masked", [False, True])
def test_extension_keeps_what_is_there_and_goes_on_for_as_long_as_asked(masked):
    product = generator(masked=masked)
    films = next(product.films(2))
    longer = product.extend(films, 5, seed=1)
    assert longer.shape == (2, 9, 8, 8, 1)
    assert np.array_equal(longer[:, :4], films)
    assert np.array_equal(product.extend(films, 3, seed=1), longer[:, :7])
    assert not np.array_equal(product.extend(films, 5, seed=2)[:, 4:], longer[:, 4:])
    tokens = product.coder.tokens(longer[:, 2:4])
    with pytest.raises(BadInput, match="goes on from 2 frames"):
        product.extend(films[:, :1], 2)
    with pytest.raises(BadInput, match="of 8x8 pixels"):
        product.extend(films[:, :, :4], 2)
    assert tokens.shape == (2, 1, 2, 2)
    with pytest.raises(BadInput, match="goes on from 0 frames"):
        generator(masked=masked, pseudo="still").extend(films, 2)


def test_a_masked_prior_keeps_its_start_too():
    prior = generator(masked=True).model.prior
    start = torch.tensor([[3, 1, 4, 1], [5, 9, 2, 6]])
    for tokens in prior.sample((2, 2, 2), None, Rng([1, 2]), steps=3, start=start):
        assert torch.equal(tokens.flatten(1)[:, :4], start)
    assert int(tokens.min()) >= 0
    with pytest.raises(BadInput, match="less than 8"):
        next(prior.sample((2, 2, 2), None, Rng([1]), start=torch.zeros(1, 8, dtype=torch.int64)))


def test_what_cannot_be_drawn_is_refused():
    product = generator()
    for wrong in (lambda: product.generate(0), lambda: product.generate(1, batch=0)):
        with pytest.raises(BadInput, match="at least 1 of each"):
            wrong()
    with pytest.raises(BadInput, match="a model of 0 classes"):
        product.generate(1, label=0)


@pytest.mark.parametrize("masked", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_classes_are_learnt_and_guidance_has_both_answers(tmp_path, masked, call):
    source = stills(40, classes=2)
    first = replace(SMALL, pseudo="still", temporal=0, steps=150, learning_rate=5e-3, batch_size=8)
    learned(first, source, tmp_path / "tokenizer")
    recipe, start = followed(
        replace(PRIOR, masked=masked, classes=2, steps=120, batch_size=16, learning_rate=5e-3, withheld=0.3),
        tmp_path / "tokenizer",
    )
    product = learned(recipe, source, tmp_path / "prior", start=start, name="token-prior")
    means = [product.generate(40, label=label).mean((1, 2, 3)) for label in (0, 1)]
    # what is drawn may be unlikely, so not every one
    assert (means[0] < 120).mean() > 0.85
    assert (means[1] > 120).mean() > 0.85
    both = product.generate(40).mean((1, 2, 3)) > 120  # of no class: of either
    assert 5 < both.sum() < 35
    strong = replace(product, guidance=0.0).generate(40, label=0)
    assert np.array_equal(strong, product.generate(40))  # guidance 0 forgets the label
    words = (
        "generate",
        "-m",
        tmp_path / "prior",
        "-n",
        6,
        *(("--calls", 4) if masked else ()),
        "--label",
        "bright",
        "--guidance",
        1.5,
    )
    code, _, err = call(*words, "-o", tmp_path / "sheet.png")
    assert code == 0, err
    assert Image.open(tmp_path / "sheet.png").width > 6 * 64
    assert not (tmp_path / "sheet").exists()
    code, _, err = call("generate", "-m", tmp_path / "prior", "--guidance", 2, "-o", tmp_path / "x.png")
    assert (code, "say which with --label" in err) == (2, True)
    code, _, err = call("generate", "-m", tmp_path / "prior", "--label", "blue", "-o", tmp_path / "x.png")
    assert (code, "no class 'blue'; this model has dark, bright" in err) == (2, True)
    code, _, err = call("generate", "-m", tmp_path / "prior", "--sampler", "ddim", "-o", tmp_path / "x.png")
    assert (code, "draws without a --sampler" in err) == (2, True)


class Backwards(Order):
    """The last first."""

    def __call__(self, draft, rng):
        return torch.arange(draft.tokens.shape[1]).expand_as(draft.tokens).double()


def test_a_masked_prior_keeps_tokens_in_the_order_asked_for(tmp_path, call):
    product = generator(masked=True, pseudo="still", calls=4)
    drafts = product.model.prior.sample((1, 2, 2), None, Rng([derive(5, 0)]), steps=4, order=Backwards())
    *_, before, tokens = (draft.flatten() for draft in drafts)
    assert (before == UNDECIDED).tolist() == [True, False, False, False]
    chosen = replace(product, order=Backwards())
    wanted = levels(product.model.tokenizer.clips(tokens.view(1, 1, 2, 2)).detach().clamp(-1, 1))[:, -1]
    assert np.array_equal(chosen.generate(1, seed=5), wanted)
    assert not np.array_equal(product.generate(1, seed=5), wanted)
    with pytest.raises(BadInput, match="in no other order"):
        replace(generator(pseudo="still"), order=Halton()).generate(1)


def test_the_command_line_names_orders_and_refuses_what_means_nothing(tmp_path, call):
    recipe = replace(PRIOR.after(to_fields(replace(SMALL, pseudo="still"))), masked=True)
    card = Card("token-prior", "tiny", to_fields(recipe))
    product = replace(generator(masked=True, pseudo="still"), card=card)
    checkpoint.save(product, tmp_path / "m.safetensors")
    one = ("generate", "-m", tmp_path / "m.safetensors", "-n", 3, "--calls", 2)
    drawn = {}
    for name, order in (("halton", Halton()), ("scattered", Scattered()), ("confidence", Confidence())):
        code, _, err = call(*one, "--order", name, "-o", tmp_path / name)
        assert code == 0, err
        drawn[name] = np.stack([np.asarray(Image.open(p)) for p in sorted((tmp_path / name).glob("*.png"))])
        assert np.array_equal(drawn[name], replace(product, order=order, calls=2).generate(3)[..., 0])
    assert not np.array_equal(drawn["halton"], drawn["scattered"])
    plain = replace(generator(pseudo="still"), card=replace(card, fields=to_fields(replace(recipe, masked=False))))
    checkpoint.save(plain, tmp_path / "a.safetensors")
    for words, says in ((("--calls", 3), "as many steps"), (("--order", "halton"), "for masked token priors")):
        code, _, err = call("generate", "-m", tmp_path / "a.safetensors", *words, "-o", tmp_path / "x.png")
        assert (code, says in err, (tmp_path / "x.png").exists()) == (2, True, False), err


def test_a_model_of_clips_draws_whole_clips_on_a_sheet(tmp_path, call):
    product = generator(pseudo="clips-4")
    recipe = replace(PRIOR.after(to_fields(replace(SMALL, pseudo="clips-4"))))
    product = replace(product, card=Card("token-prior", "tiny", to_fields(recipe)))
    checkpoint.save(product, tmp_path / "m.safetensors")
    code, _, err = call("generate", "-m", tmp_path / "m.safetensors", "-n", 3, "-o", tmp_path / "folder")
    assert (code, "draws clips of 4 frames" in err) == (2, True)
    code, _, err = call("generate", "-m", tmp_path / "m.safetensors", "--against", "x", "-o", tmp_path / "one.png")
    assert (code, "--against compares pictures" in err) == (2, True)
    for words, said in ((("--label", "1"), "there is no class '1'"), (("--temperature", 0.5), "is for flows")):
        code, _, err = call("generate", "-m", tmp_path / "m.safetensors", *words, "-o", tmp_path / "one.png")
        assert (code, said in err) == (2, True), err
    code, _, err = call("generate", "-m", tmp_path / "m.safetensors", "-n", 3, "-o", tmp_path / "three.png")
    assert code == 0, err
    three = Image.open(tmp_path / "three.png")
    call("generate", "-m", tmp_path / "m.safetensors", "-n", 6, "-o", tmp_path / "six.png")
    assert Image.open(tmp_path / "six.png").height > 1.7 * three.height
    with pytest.raises(BadInput, match="taught real clips"):
        product.reconstruct(np.zeros((1, 8, 8, 1), np.uint8))


def test_what_was_drawn_is_held_against_what_was_learnt(tmp_path, call):
    """Drawn pictures that are the training pictures are copies, all of them; that are the test pictures, none."""
    recipe = PRIOR.after(to_fields(replace(SMALL, pseudo="still", temporal=0)))
    product = generator(pseudo="still", temporal=0)
    model = tmp_path / "m.safetensors"
    checkpoint.save(replace(product, card=Card("token-prior", "tiny", to_fields(recipe))), model)
    drawn, said = framefill.load(model).generate(3, seed=0)[..., 0], {}
    for own in ("train", "test"):
        for split in ("train", "test"):
            (tmp_path / own / split).mkdir(parents=True)
            for i, picture in enumerate(drawn if split == own else 255 - drawn):
                Image.fromarray(picture).save(tmp_path / own / split / f"{i}.pgm")
        words = ("generate", "-m", model, "-n", 3, "--against", tmp_path / own, "--json")
        code, out, err = call(*words, "-o", tmp_path / f"{own}.png")
        assert code == 0, err
        said[own] = json.loads(out)
    assert (said["train"]["copies"], said["test"]["copies"]) == (1, 0)
    assert (said["train"]["learnt"], said["train"]["held_out"]) == (3, 3)
    assert said["train"]["copies_of"] == "3 drawn; too few to tell, so draw 25 or more"
    learnt = Stills.open("digits", "train", height=32, width=32, channels=1).pixels
    report = against("digits", list(learnt[::40])).report
    assert (report["copies"], report["copies_of"]) == (1, "100 drawn; by heart from about 0.66 on")
    call("generate", "-m", model, "-n", 3, "-o", tmp_path / "plain.png")
    assert Image.open(tmp_path / "train.png").height > 2 * Image.open(tmp_path / "plain.png").height
    code, _, err = call("generate", "-m", model, "--against", tmp_path / "nowhere", "-o", tmp_path / "n.png")
    assert (code, "no such folder or .zip" in err) == (2, True)


def test_what_disagrees_with_the_tokenizer_is_refused_and_what_agrees_is_not(run, folder, tmp_path, call):
    words = ("train", "token-prior", folder, "--from", run, "-o", tmp_path / "prior", "--preset", "tiny", "--dry-run")
    code, _, err = call(*words, "--set", "codes=32")
    assert (code, "--set codes=32, but" in err, "has codes=16; leave it away" in err) == (2, True, True)
    code, _, err = call(*words, "--set", "codes=16", "--set", "depth=1")
    assert code == 0, err
    code, _, err = call(*words, "--preset", "phenaki-cifar10-18")
    assert (code, "is of pseudo=blur-18, but" in err, "has pseudo=blocks-4" in err) == (2, True, True), err
    assert call(*words, "--preset", "phenaki")[0] == 0
    code, _, err = call("generate", "-m", run, "--guidance", "2", "-o", tmp_path / "x.png")
    assert code == 2


def test_fewer_pictures_than_a_batch_are_refused(folder, monkeypatch, tmp_path):
    recipe = replace(SMALL, batch_size=5)
    with pytest.raises(BadInput, match="4 pictures to learn from are fewer than a batch of 5"):
        recipe.source(folder, "train", cache=tmp_path)
    assert len(replace(recipe, batch_size=4).source(folder, "train", cache=tmp_path)) == 4
    assert len(recipe.source(folder, "val", cache=tmp_path)) == 4
