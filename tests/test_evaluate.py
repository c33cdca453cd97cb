"""Evaluation: closed forms of the table, sets that do not match, work that stops and goes on, shares of processes."""

import json
from fractions import Fraction

import numpy as np
import pytest

from framefill.distributed import Ranks
from framefill.errors import BadInput
from framefill.evaluate import page, parts, run
from framefill.evaluate.cases import Case, Cases, files
from framefill.evaluate.measure import Judges, measured
from framefill.evaluate.protocol import PROTOCOLS, Question
from framefill.evaluate.summary import figures, warnings
from framefill.features import Features
from framefill.metrics.image import psnr, ssim
from framefill.video.files import Writer

STRICT, MCVD = PROTOCOLS["strict"], PROTOCOLS["mcvd"]


def corners(levels):
    """A feature network that can be computed by hand: the level of three corners of the first frame."""
    first = levels[:, 0] if levels.ndim == 5 else levels
    return first[:, 0, [0, 0, -1], [0, -1, 0]].double()


CLIPS = Features("corners", 3, "00", "none", 2, corners)
PICTURES = Features("corners", 3, "00", "none", 0, corners)


def random_case(index, samples=4, known=(True, True, False, False, False)):
    rng = np.random.default_rng(index)
    truth = rng.integers(0, 256, (5, 16, 16, 1)).astype(np.uint8)
    made = rng.integers(0, 256, (samples, 5, 16, 16, 1)).astype(np.uint8)
    made[:, list(known)] = truth[list(known)]
    return Case(f"case {index}", truth, np.array(known), {"model": made, "hold": truth[None] // 2})


NOBODY = Judges()


def table_of(cases, protocol, judges=NOBODY):
    numbers = [measured(case, protocol, judges) for case in cases]
    table = figures(numbers, tuple(cases[0].made), protocol, 0)
    return {(figure.method, figure.score): figure for figure in table}


def test_scores_are_of_the_made_frames_and_means_over_clips():
    cases = [random_case(i) for i in range(5)]
    table = table_of(cases, STRICT)
    wanted = [psnr(case.made["model"][:, 2:], case.truth[2:], axes=4) for case in cases]
    assert table["model", "psnr"].value == pytest.approx(np.mean(wanted), rel=1e-6)
    alike = [ssim(case.made["hold"][:, 2:], case.truth[2:]).mean() for case in cases]
    assert table["hold", "ssim"].value == pytest.approx(np.mean(alike), rel=1e-6)
    figure = table["model", "psnr"]
    assert figure.low < figure.value < figure.high
    assert ("hold", "psnr, best of 1") not in table


def test_the_best_of_n_is_one_sample_or_one_for_each_score():
    """In the paper's choice every score takes its own best; in the strict one all take the sample of the best PSNR."""
    cases = [random_case(i) for i in range(6)]
    ratios = np.array([psnr(c.made["model"][:, 2:], c.truth[2:], axes=4) for c in cases])
    alike = np.array([ssim(c.made["model"][:, 2:], c.truth[2:]).mean(1) for c in cases])
    strict = table_of(cases, STRICT)["model", "ssim, best of 4"].value
    assert strict == pytest.approx(alike[np.arange(6), ratios.argmax(1)].mean(), rel=1e-6)
    black_and_white = np.array(
        [
            ssim(*((x >= 128).astype(np.uint8) * 255 for x in (c.made["model"][:, 2:], c.truth[2:]))).mean(1)
            for c in cases
        ]
    )
    assert table_of(cases, MCVD)["model", "ssim, best of 4"].value == pytest.approx(
        black_and_white.max(1).mean(), rel=1e-5
    )


def test_a_calibrated_ensemble_has_spread_skill_one():
    rng = np.random.default_rng(0)
    cases = []
    for index in range(40):
        draws = rng.normal(128, 30, (6, 4, 16, 16, 1)).clip(0, 255).round().astype(np.uint8)
        cases.append(Case(str(index), draws[0], np.zeros(4, bool), {"model": draws[1:]}))
    figure = table_of(cases, STRICT)["model", "spread-skill"]
    assert figure.value == pytest.approx(1, abs=0.01)
    assert figure.low < 1 < figure.high


def shifted(index, by):
    rng = np.random.default_rng(index)
    truth = rng.integers(40, 160, (4, 16, 16, 1)).astype(np.uint8)
    return Case(str(index), truth, np.zeros(4, bool), {"model": (truth + by)[None]})


@pytest.mark.parametrize("by", [0, 7])
def test_frechet_distance_of_shifted_sets_is_the_closed_form(by):
    """A shift by d of three features is a distance of 3 d^2 whatever the covariance; of equal sets it is 0."""
    cases = [shifted(i, by) for i in range(30)]
    table = table_of(cases, STRICT, Judges((CLIPS,), (PICTURES,)))
    assert table["model", "Frechet distance (corners)"].value == pytest.approx(3 * by**2, abs=1e-6)
    if by == 0:
        assert table["model", "precision"].value == 1


def test_known_frames_count_for_the_papers_video_distance_only():
    known = np.array([True, False, False])
    truth = np.random.default_rng(0).integers(0, 200, (3, 16, 16, 1)).astype(np.uint8)
    made = truth.copy()[None]
    made[:, 1:] += 50
    case = Case("a", truth, known, {"model": made})
    judges = Judges((CLIPS,))
    same, other = (measured(case, protocol, judges) for protocol in (MCVD, STRICT))
    assert (same["model/clips:corners"] == same["truth/clips:corners"]).all()
    assert (other["model/clips:corners"] != other["truth/clips:corners"]).all()


def test_few_samples_are_warned_of():
    numbers = [measured(random_case(i), STRICT, Judges((CLIPS,))) for i in range(4)]
    assert "few for 3 features" in warnings(numbers, ("model",))[0]
    assert warnings([numbers[0]] * 40, ("model",)) == []


def test_clips_from_nothing_are_not_paired():
    case = random_case(0, known=(False,) * 5)
    numbers = measured(Case(case.name, case.truth, case.known, case.made, paired=False), STRICT, Judges((CLIPS,)))
    assert set(numbers) == {f"{who}/clips:corners" for who in ("truth", "model", "hold")}


@pytest.mark.parametrize(("task", "known"), [("predict", "kk..."), ("interpolate", "kk...k"), ("generate", "...")])
def test_questions(task, known):
    assert [*Question.of(task, past=2, frames=3, future=1).known] == [c == "k" for c in known]


def test_questions_that_make_no_sense():
    with pytest.raises(BadInput, match="at least 1"):
        Question.of("predict", past=2, frames=0, future=0)
    with pytest.raises(BadInput, match="use predict"):
        Question.of("interpolate", past=2, frames=2, future=0)


# Work on disk


def counted(count=5):
    made = []

    def make(index):
        made.append(index)
        return random_case(index)

    return Cases(count, ("model", "hold"), make), made


def test_an_evaluation_goes_on_where_it_stopped(tmp_path):
    cases, made = counted()
    with pytest.raises(KeyboardInterrupt):
        run.evaluate(cases, STRICT, Judges(), tmp_path, card={}, each=stop_after(3))
    again = run.evaluate(cases, STRICT, Judges(), tmp_path, card={})
    assert made == [0, 1, 2, 3, 4]
    cases, _ = counted()
    whole = run.evaluate(cases, STRICT, Judges(), tmp_path / "whole", card={})
    assert again.table == whole.table
    assert (tmp_path / "result.json").read_bytes() == (tmp_path / "whole" / "result.json").read_bytes()


def stop_after(count):
    left = [count]

    def each():
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    return each


def test_damaged_parts_and_those_of_another_plan_are_measured_again(tmp_path):
    cases, made = counted(3)
    run.evaluate(cases, STRICT, Judges(), tmp_path, card={})
    path = tmp_path / "parts" / "case-000001.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    (tmp_path / "parts" / "case-000002.safetensors").write_bytes(b"nonsense")
    made.clear()
    run.evaluate(cases, STRICT, Judges(), tmp_path, card={})
    assert made == [1, 2]
    made.clear()
    run.evaluate(cases, STRICT, Judges(), tmp_path, card={}, seed=1)
    assert made == [0, 1, 2]


def test_processes_share_the_work_and_the_last_sums_up(tmp_path):
    cases, made = counted()
    assert run.evaluate(cases, STRICT, Judges(), tmp_path, card={}, ranks=Ranks(1, 2)) is None
    assert made == [1, 3]
    shared = run.evaluate(cases, STRICT, Judges(), tmp_path, card={}, ranks=Ranks(0, 2))
    assert sorted(made) == [0, 1, 2, 3, 4]
    cases, _ = counted()
    assert shared.table == run.evaluate(cases, STRICT, Judges(), tmp_path / "one", card={}).table


def test_parts_are_read_as_written(tmp_path):
    numbers = {"a/psnr": np.array([1.5, 2.5]), "a/crps": np.array(3.25)}
    parts.write(tmp_path / "p", "plan", numbers)
    back = parts.read(tmp_path / "p", "plan")
    assert all((back[k] == v).all() and back[k].shape == v.shape for k, v in numbers.items())
    assert parts.read(tmp_path / "p", "other") is None


def test_one_clip_is_not_enough(tmp_path):
    cases, _ = counted(1)
    with pytest.raises(BadInput, match="at least 2 clips"):
        run.evaluate(cases, STRICT, Judges(), tmp_path, card={})


def test_other_numbers_than_the_protocols_are_said():
    assert run.resized(STRICT, clips=None, samples=None) is STRICT
    changed = run.resized(STRICT, clips=8, samples=None)
    assert changed.clips == 8
    assert "here 8 clips and 10 samples for 256 and 10" in changed.says


# Folders


def clip(path, frames):
    path.parent.mkdir(parents=True, exist_ok=True)
    with Writer(path, Fraction(10)) as writer:
        for frame in frames:
            writer.write(frame)


def two_sets(folder):
    rng = np.random.default_rng(0)
    for name in ("a", "deep/b"):
        frames = rng.integers(0, 256, (4, 16, 16, 3)).astype(np.uint8)
        clip(folder / "real" / f"{name}.npy", frames)
        for sample in ("one", "two"):
            clip(folder / sample / f"{name}.h5", frames)
    return folder / "real", [folder / "one", folder / "two"]


def test_equal_folders_are_equal(tmp_path):
    cases = files(*two_sets(tmp_path))
    assert cases.count == 2
    table = table_of([cases.make(i) for i in range(2)], STRICT)
    assert table["made", "psnr"].value == 100
    assert table["made", "ssim"].value == pytest.approx(1)
    assert table["made", "crps"].value == 0


def test_sets_that_do_not_match(tmp_path):
    real, made = two_sets(tmp_path)
    (made[1] / "a.h5").unlink()
    with pytest.raises(BadInput, match="lacks a: 1 clips"):
        files(real, made)
    clip(made[1] / "a.npy", np.zeros((4, 16, 16, 3), np.uint8))
    clip(made[1] / "c.npy", np.zeros((4, 16, 16, 3), np.uint8))
    with pytest.raises(BadInput, match="has c too"):
        files(real, made)
    (made[1] / "c.npy").unlink()
    clip(made[1] / "a.gif", np.zeros((4, 16, 16, 3), np.uint8))
    with pytest.raises(BadInput, match="one name"):
        files(real, made)
    (made[1] / "a.gif").unlink()
    (made[1] / "a.npy").unlink()
    clip(made[1] / "a.npy", np.zeros((3, 16, 16, 3), np.uint8))
    with pytest.raises(BadInput, match="a: was made as"):
        files(real, made).make(0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="holds no clips"):
        files(tmp_path / "empty", made)
    with pytest.raises(BadInput, match="no such folder"):
        files(tmp_path / "absent", made)


# The page


def test_table_page_and_json_say_the_same(tmp_path):
    cases, _ = counted()
    result = run.evaluate(cases, STRICT, Judges((CLIPS,)), tmp_path, card={"task": "predict", "data": "<b>&"})
    text, markup = page.as_text(result.table), result.page.read_text()
    values = json.loads((tmp_path / "result.json").read_text())["figures"]
    for figure in result.table:
        shown = f"{figure.value:.{3 if abs(figure.value) < 10 else 2}f} ["
        assert shown in text
        assert shown in markup
        assert any(v["value"] == figure.value and v["score"] == figure.score for v in values)
    assert "&lt;b&gt;&amp;" in markup
    assert "<b>&" not in markup
    assert "few for 3 features" in markup
    assert all(f'src="case-{i:03d}.png"' in markup for i in range(5))
    assert (tmp_path / "case-000.png").is_file()
