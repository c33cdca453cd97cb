"""The training loop: resume to the bit, accumulation, averages, budgets, runs that only grow."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from framefill import checkpoint, training
from framefill.checkpoint import Card
from framefill.errors import BadInput, Failed
from framefill.recipes.recipe import to_fields
from framefill.training import Trainer, train
from framefill.video.digits import MovingDigits

SOURCE = MovingDigits("train")


def final(out: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read(sorted((out / "checkpoints").glob("*.safetensors"))[-1])[0]


def assert_same(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def run(recipe, card, out, **options):
    return list(train(recipe, SOURCE, out, card=card, **options))


def test_a_continued_run_is_the_uninterrupted_run(small, card, tmp_path):
    run(small, card, tmp_path / "whole", save_every=3)
    loop = train(small, SOURCE, tmp_path / "parts", card=card, save_every=3)
    for progress in loop:
        if progress.step == 5:  # two steps past the checkpoint: they are lost and done again
            break
    loop.close()
    rest = run(small, card, tmp_path / "parts", save_every=3)
    assert [p.step for p in rest] == [4, 5, 6, 7, 8]
    assert_same(final(tmp_path / "whole"), final(tmp_path / "parts"))


def test_accumulation_changes_memory_not_mathematics(small, card, tmp_path):
    # Dropout draws per part, so it is off here; sums in another order differ in the last bits.
    small = dataclasses.replace(small, dropout=0.0)
    card = dataclasses.replace(card, fields=to_fields(small))
    trainers = [Trainer(small, card, device="cpu") for _ in range(2)]
    for trainer in trainers:
        trainer.bf16 = False
    batch = small.batch(SOURCE, range(4))
    for trainer, parts in zip(trainers, (1, 4), strict=True):
        trainer.update(batch, 8, parts)
    gap = max((a - b).detach().abs().max().item() for a, b in zip(*(t.named.values() for t in trainers), strict=True))
    moved = max((p - q).detach().abs().max().item() for p, q in zip(trainers[0].named.values(),
                Trainer(small, card, device="cpu").named.values(), strict=True))  # fmt: skip
    assert gap < 0.05 * moved


def test_learning_rate_rises_stays_and_falls_to_zero(small, card):
    recipe = dataclasses.replace(small, learning_rate=1.0, warmup=10, cooldown=0.5)
    trainer = Trainer(recipe, card, device="cpu")
    rates = []
    for trainer.step in range(100):
        rates.append(trainer.rate_at(100))
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[49] == 1.0
    assert rates[75] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.02)


def test_average_is_the_recursion(small, card):
    trainer = Trainer(small, card, device="cpu")
    name = next(iter(trainer.named))
    expected = trainer.named[name].detach().clone()
    for step in range(3):
        trainer.update(small.batch(SOURCE, range(4)), 8, 1)
        decay = min(small.ema, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * trainer.named[name].detach()
    torch.testing.assert_close(trainer.average[name], expected)


def test_a_step_that_is_not_finite_changes_nothing_and_ten_stop_the_run(small, card, tmp_path):
    class NotANumber(type(small)):
        def loss(self, model, batch, rng):
            return super().loss(model, batch, rng) * float("nan")

    broken = NotANumber(**to_fields(small))
    trainer = Trainer(broken, card, device="cpu")
    before = {k: v.detach().clone() for k, v in trainer.named.items()}
    trainer.update(small.batch(SOURCE, range(4)), 8, 1)
    assert trainer.skipped == 1
    assert_same(before, {k: v.detach() for k, v in trainer.named.items()})
    with pytest.raises(Failed, match="10 steps in a row"):
        list(train(dataclasses.replace(broken, steps=50), SOURCE, tmp_path, card=card))


def test_a_budget_sets_the_steps_once(small, card, tmp_path, monkeypatch):
    loop = train(small, SOURCE, tmp_path, card=card, budget=60.0, save_every=5)
    seen = [p for _, p in zip(range(20), loop, strict=False)]
    loop.close()
    planned = seen[-1].steps
    assert 12 < planned < training.UNPLANNED
    assert {p.steps for p in seen[12:]} == {planned}
    assert json.loads((tmp_path / "config.json").read_text())["steps"] == planned
    assert next(train(small, SOURCE, tmp_path, card=card, budget=500.0)).steps == planned


def test_a_budget_is_of_the_clock_that_is_given(small, card, tmp_path):
    spent = []
    for _ in (loop := train(small, SOURCE, tmp_path, card=card, budget=60.0, now=lambda: 2.0 * len(spent))):
        spent.append(2)
        if len(spent) == 13:
            loop.close()
    # the plan is made at the end of the 12th step, after 11 whole ones of 2 seconds
    assert json.loads((tmp_path / "config.json").read_text())["steps"] == 12 + (60 - 22) // 2


def test_a_folder_belongs_to_one_run(small, card, tmp_path):
    run(small, card, tmp_path, steps=2)
    other = dataclasses.replace(small, learning_rate=1e-5)
    with pytest.raises(BadInput, match="fields differs"):
        run(other, dataclasses.replace(card, fields=to_fields(other)), tmp_path)
    with pytest.raises(BadInput, match="cannot use"):
        run(small, card, tmp_path / "config.json" / "below")


def test_a_damaged_checkpoint_is_passed_over(small, card, tmp_path):
    run(small, card, tmp_path / "a", save_every=3)
    newest = sorted((tmp_path / "a" / "checkpoints").glob("*"))[-1]
    data = bytearray(newest.read_bytes())
    data[-100] ^= 1
    newest.write_bytes(data)
    resumed = run(small, card, tmp_path / "a", save_every=3)
    assert resumed[0].step == 7
    run(small, card, tmp_path / "b", save_every=3)
    assert_same(final(tmp_path / "a"), final(tmp_path / "b"))


def test_logs_are_appended_and_two_checkpoints_kept(small, card, tmp_path):
    run(small, card, tmp_path, save_every=2, steps=6)
    before = (tmp_path / "metrics.jsonl").read_text()
    run(small, card, tmp_path, save_every=2, steps=8)
    after = (tmp_path / "metrics.jsonl").read_text()
    assert after.startswith(before)
    assert [json.loads(line)["step"] for line in after.splitlines()] == [2, 4, 6, 8]
    assert len(list((tmp_path / "checkpoints").glob("*"))) == 2


@pytest.mark.slow
def test_digits_are_learnt(small, card, tmp_path):
    small = dataclasses.replace(small, batch_size=8, steps=60, dropout=0.0, learning_rate=3e-3)
    losses = [p.loss for p in run(small, Card("mcvd", "tiny", to_fields(small)), tmp_path)]
    assert sum(losses[-10:]) < 0.85 * sum(losses[:10])
