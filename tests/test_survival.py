"""What goes wrong around a training (kills, signals, full and vanished disks, damaged files, hostile names), and what
is left then: the last good checkpoint, one line that says what to do, and a run that goes on to the same end."""

import ctypes
import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import framefill
from children import Poisoned, command, ended, learn, start, wait_until
from framefill import checkpoint, cli, runs, training
from framefill.checkpoint import Card
from framefill.curves import draw_losses
from framefill.errors import BadInput, CheckpointError, Failed
from framefill.recipes.recipe import to_fields
from framefill.runs import Run
from framefill.training import train
from framefill.video.digits import MovingDigits

SOURCE = MovingDigits("train")


@pytest.fixture
def tiny(small):
    """A step of which costs some 10 ms."""
    return dataclasses.replace(small, patch=8, batch_size=2, motion=False, multipliers=(1,), attention=(False,))


def digest(out: Path) -> str:
    """Of all numbers of the newest checkpoint."""
    tensors, card = checkpoint.read(sorted((out / "checkpoints").glob("step-*"))[-1])
    total = hashlib.sha256(str(card.step).encode())
    for name in sorted(tensors):
        total.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    return total.hexdigest()


def assert_whole(out: Path) -> None:
    for path in out.rglob("*.safetensors"):
        checkpoint.read(path)


# ---- kill -9 ------------------------------------------------------------------------------------------------------


def kills(recipe, tmp_path: Path, count: int) -> None:
    """Kills trainings at random moments, `count` times in all; each is begun again until it ends like the first."""
    options = {"save_every": 1, "steps": 10}
    for out in (tmp_path / "warm", tmp_path / "whole"):
        begin = time.monotonic()
        assert ended([start(learn, recipe, out, options, log=tmp_path / "log")]) == [0]
    whole, seconds = digest(tmp_path / "whole"), time.monotonic() - begin
    draw, killed, run = random.Random(0), 0, 0
    while True:
        out = tmp_path / f"run-{run}"
        child = start(learn, recipe, out, options, log=tmp_path / "log")
        child.join(draw.uniform(0, seconds) if killed < count else 60)
        if child.exitcode is None:
            child.kill()
            child.join()
            killed += 1
            assert_whole(out)
            continue
        assert child.exitcode == 0, (tmp_path / "log").read_text()
        assert digest(out) == whole
        assert not list(out.rglob(".*")), "what a kill left half written is cleared away"
        if killed == count:
            return
        run += 1


def test_three_kills(tiny, tmp_path):
    kills(tiny, tmp_path, 3)


@pytest.mark.slow
def test_five_hundred_kills(tiny, tmp_path):
    kills(tiny, tmp_path, 500)


# ---- signals ------------------------------------------------------------------------------------------------------

WORDS = ("train", "mcvd", "digits", "--set", "features=4", "--set", "multipliers=1,2", "--set", "attention=false,true",
         "--set", "head_width=4", "--set", "patch=8", "--set", "batch_size=2", "--set", "residual=0.0", "--set",
         "motion=false")  # fmt: skip


def sleepy(ready: Path, module_name: str, name: str, *words) -> None:
    """A command in which one function never ends."""
    import importlib

    def sleep(*arguments, **options):
        ready.touch()
        time.sleep(60)

    module = importlib.import_module(module_name)
    target, _, attribute = name.rpartition(".")
    setattr(getattr(module, target) if target else module, attribute, sleep)
    command(*words)


def interrupted(child, number: int, seconds: float = 5.0) -> int:
    """Exit code of a child after a signal, which it must obey in time."""
    os.kill(child.pid, number)
    begin = time.monotonic()
    (code,) = ended([child], 30)
    assert time.monotonic() - begin < seconds
    return code


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_training_after_the_step_with_a_checkpoint(tmp_path, number, code):
    log, words = tmp_path / "log", (*WORDS, "-o", tmp_path / "run", "--save-every", 100000)
    child = start(command, *words, "--steps", 100000, log=log)
    wait_until(lambda: (tmp_path / "run" / "metrics.jsonl").exists())
    assert interrupted(child, number) == code
    (path,) = (tmp_path / "run" / "checkpoints").iterdir()
    step = checkpoint.read_card(path).step
    assert log.read_text().splitlines()[-1] == f"framefill: stopped at step {step}; run again to go on"
    assert not (tmp_path / "run" / "samples").exists()

    for out in ("run", "whole"):  # what was stopped goes on as if it had not been
        again = start(command, *WORDS, "-o", tmp_path / out, "--save-every", 100000, "--steps", step + 2, log=log)
        assert ended([again]) == [0], log.read_text()
    assert digest(tmp_path / "run") == digest(tmp_path / "whole")


def test_a_signal_while_data_are_read(tmp_path):
    words = (*WORDS, "-o", tmp_path / "run")
    child = start(sleepy, tmp_path / "ready", "framefill.recipes.mcvd", "MCVD.source", *words, log=tmp_path / "log")
    wait_until((tmp_path / "ready").exists)
    assert interrupted(child, signal.SIGTERM) == 143
    assert (tmp_path / "log").read_text().splitlines()[-1] == "framefill: stopped"
    assert not (tmp_path / "run").exists()


def test_a_signal_while_a_sheet_is_drawn(tmp_path):
    words = (*WORDS, "-o", tmp_path / "run", "--save-every", 2, "--steps", 100000)
    child = start(sleepy, tmp_path / "ready", "framefill.video.report", "sample_sheet", *words, log=tmp_path / "log")
    wait_until((tmp_path / "ready").exists)
    assert interrupted(child, signal.SIGTERM) == 143
    assert (tmp_path / "log").read_text().splitlines()[-1] == "framefill: stopped at step 3; run again to go on"
    assert checkpoint.read_card(tmp_path / "run" / "model.safetensors").step == 3
    assert not list((tmp_path / "run").rglob("*.part"))


def test_a_stop_before_the_end_is_the_last_step(tiny, card, tmp_path):
    asked = iter([False, True])
    steps = list(train(tiny, SOURCE, tmp_path, card=card, steps=9, stop=lambda: next(asked)))
    assert [(p.step, p.stopped, p.saved is not None) for p in steps] == [(1, False, False), (2, True, True)]


# ---- disks --------------------------------------------------------------------------------------------------------


def own_disk(place: Path, size: int) -> bool:
    """Mounts a disk of `size` bytes that only this process sees; False where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(0x10000000 | 0x00020000):  # new user and mount namespaces
        return False
    for name, text in (("uid_map", f"0 {user} 1"), ("setgroups", "deny"), ("gid_map", f"0 {group} 1")):
        Path("/proc/self", name).write_text(text)
    return not libc.mount(b"none", os.fsencode(place), b"tmpfs", 0, f"size={size}".encode())


def read_only(place: Path) -> None:
    assert not ctypes.CDLL(None).mount(b"none", os.fsencode(place), b"tmpfs", 32 | 1, None)


def attempt(recipe, out: Path, steps: int) -> str:
    """What a training has to say when it fails."""
    card = Card("mcvd", "tiny", to_fields(recipe), seed=3)
    try:
        list(train(recipe, SOURCE, out, card=card, steps=steps, save_every=2))
    except Failed as error:
        return str(error)
    return "done"


def fill_the_disk(recipe, place: Path) -> None:
    """Trains, fills the disk, tries to go on, and prints what is left and what was said."""
    if not own_disk(place, 3_000_000):
        print("null")
        return
    out = place / "run"
    told = [attempt(recipe, out, 4)]
    before = {p.name: p.stat().st_size for p in out.rglob("*") if p.is_file()}
    free = shutil.disk_usage(place).free
    (place / "ballast").write_bytes(b"x" * (free - max(before.values()) // 2))
    told.append(attempt(recipe, out, 8))
    Run.check_space = lambda self, size: None
    told.append(attempt(recipe, out, 8))
    after = {p.name: p.stat().st_size for p in out.rglob("*") if p.is_file()}
    (place / "ballast").unlink()
    told.append(attempt(recipe, out, 8))
    step = checkpoint.read_card(out / "model.safetensors").step
    read_only(place)
    told.append(attempt(recipe, out, 10))
    print(json.dumps([told, before, after, step]))


def test_a_disk_that_is_full_or_read_only(tiny, tmp_path):
    (tmp_path / "disk").mkdir()
    assert ended([start(fill_the_disk, tiny, tmp_path / "disk", log=tmp_path / "log")]) == [0], (
        tmp_path / "log"
    ).read_text()
    found = json.loads((tmp_path / "log").read_text().splitlines()[-1])
    if found is None:
        pytest.skip("this machine lets nobody mount a disk")
    (done, refused, full, done_again, locked), before, after, step = found
    assert (done, done_again, step) == ("done", "done", 8)
    assert "MB free, and this run needs" in refused
    assert "No space left on device" in full
    assert "it needs" in full
    assert before == after
    assert "Read-only file system" in locked


def limited(recipe, out: Path) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    print(attempt(recipe, out, 4))


def test_a_file_that_may_not_grow(tiny, tmp_path):
    """The same where nobody may mount: a limit on the size of files."""
    assert ended([start(limited, tiny, tmp_path / "run", log=tmp_path / "log")]) == [0]
    assert (tmp_path / "log").read_text().startswith(f"cannot write {tmp_path}/run/checkpoints/step-00000002")
    assert [p.name for p in (tmp_path / "run").rglob("*") if p.is_file()] == ["config.json"]


@pytest.mark.parametrize("gone", ["", "checkpoints"])
def test_a_folder_that_vanishes(tiny, card, tmp_path, gone):
    loop = train(tiny, SOURCE, tmp_path / "run", card=card, save_every=2, steps=8)
    next(loop)
    shutil.rmtree(tmp_path / "run" / gone)
    with pytest.raises(Failed, match=r"cannot write .*No such file or directory"):
        list(loop)


def test_a_log_that_cannot_be_written(tiny, card, tmp_path):
    run = Run.open(tmp_path, card)
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(Failed, match=r"cannot write .*metrics.jsonl: No space left"):
        run.log({"step": 1})


def test_too_little_space_is_said_before_training(tiny, card, tmp_path, monkeypatch):
    monkeypatch.setattr(runs.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 1000))
    with pytest.raises(Failed, match=r"has 0\.0 MB free, and this run needs \d\.\d MB for its checkpoints"):
        next(train(tiny, SOURCE, tmp_path, card=card))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(Failed, match="cannot be written to; allow it"):
        next(train(tiny, SOURCE, tmp_path, card=card))


# ---- damaged files ------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path) -> Path:
    card = Card("mcvd", "tiny", {"learning_rate": 2e-05, "ema": 0.999}, step=7, about={"data": "Vögel"})
    draw = torch.Generator().manual_seed(0)
    tensors = {f"model.{i}.weight": torch.randn(5, 3 + i, generator=draw) for i in range(4)}
    checkpoint.write(tmp_path / "m.safetensors", tensors, card)
    return tmp_path / "m.safetensors"


def test_a_thousand_flipped_bits_are_refused(file):
    whole, draw = file.read_bytes(), random.Random(0)
    for _ in range(1000):
        data = bytearray(whole)
        data[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        file.write_bytes(data)
        with pytest.raises(CheckpointError):
            checkpoint.read(file)


def test_letters_of_the_other_case_are_refused(file):
    """2E-05 is the number that 2e-05 is, and \\u00F6 the letter; the file is not as written all the same."""
    whole = file.read_bytes()
    assert b"2e-05" in whole
    for place, byte in enumerate(whole):
        if chr(byte).isalpha() and byte < 128:
            file.write_bytes(whole[:place] + bytes([byte ^ 32]) + whole[place + 1 :])
            with pytest.raises(CheckpointError):
                checkpoint.read(file)


def test_a_thousand_truncations_are_refused(file):
    whole, draw = file.read_bytes(), random.Random(1)
    for length in [*range(100), *(draw.randrange(len(whole)) for _ in range(900))]:
        file.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            checkpoint.read(file)


def test_a_folder_of_damaged_checkpoints_is_not_begun_anew(tiny, card, tmp_path):
    list(train(tiny, SOURCE, tmp_path, card=card, save_every=1, steps=2))
    for path in (tmp_path / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* can be used: .*damaged.*delete them to begin anew"):
        next(train(tiny, SOURCE, tmp_path, card=card))


def test_a_checkpoint_of_another_run_is_not_taken(tiny, card, tmp_path):
    for name, seed in (("a", 3), ("b", 4)):
        list(train(tiny, SOURCE, tmp_path / name, card=dataclasses.replace(card, seed=seed), save_every=1, steps=1))
    (taken,) = (tmp_path / "b" / "checkpoints").iterdir()
    shutil.copy(taken, tmp_path / "a" / "checkpoints" / taken.name)
    with pytest.raises(CheckpointError, match="is of another run"):
        next(train(tiny, SOURCE, tmp_path / "a", card=card))


@pytest.mark.parametrize("text", ["{", "[]", "\xff", ""])
def test_a_config_that_cannot_be_read(tiny, card, tmp_path, text):
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(BadInput, match=r"config\.json (cannot be read|is not the config of a run)"):
        next(train(tiny, SOURCE, tmp_path, card=card))


def test_a_line_that_was_cut_off_spoils_no_other(card, tmp_path):
    run = Run.open(tmp_path, card)
    run.log({"step": 1, "loss": 1.0, "gradient": 1.0})
    with (tmp_path / "metrics.jsonl").open("a") as log:
        log.write('{"step": 2, "lo')
    run.log({"step": 2, "loss": 0.5, "gradient": 1.0})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in (lines[0], lines[2])] == [1, 2]
    draw_losses(tmp_path / "metrics.jsonl", tmp_path / "loss.png")
    assert (tmp_path / "loss.png").exists()


# ---- numbers that are not finite ----------------------------------------------------------------------------------


class AlwaysPoisoned(Poisoned):
    bad = frozenset((step, 0) for step in range(3, 40))


def test_ten_steps_in_a_row_stop_the_run_and_the_good_weights_stay(tiny, card, tmp_path):
    poisoned = AlwaysPoisoned(**to_fields(tiny))
    with pytest.raises(Failed, match="stopped at step 13: 10 steps in a row"):
        list(train(poisoned, SOURCE, tmp_path / "run", card=card, save_every=1, steps=40))
    loop = train(tiny, SOURCE, tmp_path / "good", card=card, save_every=1, steps=40)
    assert [next(loop).step for _ in range(3)] == [1, 2, 3]
    loop.close()
    good, kept = (checkpoint.read(tmp_path / name / "model.safetensors")[0] for name in ("good", "run"))
    for name, value in good.items():
        assert torch.equal(value, kept[name]), name
    with pytest.raises(Failed, match="stopped at step 13"):  # the nine before are not forgotten
        list(train(poisoned, SOURCE, tmp_path / "run", card=card, save_every=1, steps=40))


def test_a_skipped_step_leaves_no_trace_in_the_next(tiny, card):
    """With accumulation too: what the good parts of a skipped batch have added up is dropped."""
    both = [training.Trainer(recipe, card, device="cpu") for recipe in (Poisoned(**to_fields(tiny)), tiny)]
    for step in range(3):
        batch = tiny.batch(SOURCE, [10 * step, 10 * step + 1])
        if step == 1:
            both[0].update(batch, 8, 2)
            both[1].step += 1
        else:
            for trainer in both:
                trainer.update(batch, 8, 2)
    assert (both[0].skipped, both[1].skipped) == (1, 0)
    for (name, a), b in zip(both[0].state().items(), both[1].state().values(), strict=True):
        assert torch.equal(a, b), name


def test_numbers_that_are_not_finite_are_never_written(card, tmp_path):
    for bad in (float("nan"), float("inf")):
        with pytest.raises(Failed, match="b holds numbers that are not finite"):
            checkpoint.write(tmp_path / "m", {"a": torch.zeros(2), "b": torch.tensor([0.0, bad])}, card)
    assert list(tmp_path.iterdir()) == []


# ---- the rest -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_same_seed_same_bits(tiny, tmp_path, threads):
    for name in ("a", "b"):
        child = start(learn, tiny, tmp_path / name, {"steps": 3}, threads, log=tmp_path / "log")
        assert ended([child]) == [0]
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_no_test_talks_to_another_machine():
    for address in (("192.0.2.1", 80), ("example.org", 80)):
        with pytest.raises(AssertionError, match="wants to connect"), socket.socket() as one:
            one.connect(address)


NAMES = [
    "a\nb",
    "-rf",
    os.fsdecode(b"\xff\xfe"),
    "n" * 255,
    "é" * 127,
    " ",
    "$(touch x);|&",
    "%s{0}[red]",
    "\x1b[31m",
    "...",
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:12]))
def test_names_that_want_to_be_something_else(tmp_path, monkeypatch, capfd, name):
    """Run folders and model files of any name that the file system takes."""
    for folder in (tmp_path / "in", tmp_path / "work"):
        folder.mkdir()
    monkeypatch.chdir(tmp_path / "work")
    out = Path("..", "in", name)
    for words in (
        (*WORDS, "-o", out, "--steps", "1"),
        ("info", out / "model.safetensors"),
        ("info", out / "model.safetensors", "--json"),
    ):
        monkeypatch.setattr("sys.argv", ["framefill", *map(str, words)])
        cli.main()
    told = capfd.readouterr().out
    assert name in told or json.dumps(name)[1:-1] in told
    framefill.save(framefill.load(out / "model.safetensors"), out / name)
    assert np.isfinite(framefill.load(out / name).generate(1, seed=0).frames).all()
    assert os.listdir("../in") == [name]
    assert os.listdir(".") == []
