"""What benchmarks/pseudo_videos.py and hierarchies.py claim: nothing without intervals that do not overlap."""

import importlib.util
import math
from pathlib import Path

import pytest

from framefill import recipes
from framefill.recipes import PRESETS
from framefill.recipes.recipe import override

FOLDER = Path(__file__).parents[1] / "benchmarks"


def loaded(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)  # it imports another script of that folder
        return loaded("pseudo_videos")


def said(values, arm, kind="diffusion"):
    return {f"{kind}|{arm}": [{"FD": v, "steps": 7, "calls": 50} for v in values]}


def test_intervals_are_students(bench):
    mean, low, high = bench.interval([1.0, 2.0, 3.0])
    assert (mean, high - mean) == (2, pytest.approx(4.303 / math.sqrt(3), rel=1e-3))
    assert mean - low == pytest.approx(high - mean)
    assert bench.interval([5.0]) == (5, -math.inf, math.inf)


def test_an_ordering_is_claimed_only_where_intervals_are_apart(bench):
    clear = said([10, 10.1, 9.9], "high-order-4") | said([20, 20.1, 19.9], "still")
    assert "| 3 | diffusion | high-order-4 | still | reproduced | not run |" in bench.orderings(clear)
    turned = said([30, 30.1, 29.9], "high-order-4") | said([20, 20.1, 19.9], "still")
    assert "| still | not reproduced |" in bench.orderings(turned)
    for wide in (said([10], "high-order-4") | said([20], "still"),
                 said([10, 19, 14], "high-order-4") | said([20, 20.1, 19.9], "still")):  # fmt: skip
        assert "| still | undecided |" in bench.orderings(wide)
    assert "first-order" not in bench.orderings(clear)
    assert "after 7 to 7 steps" in bench.orderings(clear)
    assert "| diffusion | high-order-4 | 10.0 ± 0.2 |" in bench.table(clear)


def test_digits_are_held_against_each_other_by_the_judge_too_where_more_is_better(bench):
    def judged(distances, scores, arm):
        return {f"diffusion|{arm}": [{"FD": f, "DS": d, "steps": 7} for f, d in zip(distances, scores, strict=True)]}

    near = judged([10, 10.1, 9.9], [2, 2.1, 1.9], "high-order-4")
    far = judged([20, 20.1, 19.9], [5, 5.1, 4.9], "still")
    said = bench.orderings(near | far)
    assert "| here, by FD | on equal terms, by FD | here, by DS |" in said
    assert "| high-order-4 | still | reproduced | not run | not reproduced | not run |" in said
    assert "| diffusion | still | 20.0 ± 0.2 | 5.00 ± 0.25 |" in bench.table(near | far)


def test_what_is_compared_is_equal_where_it_says_so(bench):
    def bits(name):
        arm = bench.TOKENS[name]
        return bench.bits(override(PRESETS["tokenizer"][arm.preset].recipe, arm.changes))

    assert bits("still, same bits") == bits("blur-8") == bits("noise-8") == 4 * bits("still")
    assert bits("still") == bits("blur-8, bits of still") == bits("blur-18, bits of still") == bits("blur-18") / 9
    known = {*bench.TOKENS, *bench.DIFFUSION}
    assert all({better, worse} <= known for _, _, better, worse in bench.ORDERINGS)
    assert all({*pair, *stands_in} <= known for pair, stands_in in bench.EQUAL.items())
    asked = {(better, worse) for _, kind, better, worse in bench.ORDERINGS if kind != "diffusion"}
    assert all(pair in bench.EQUAL or bits(pair[0]) == bits(pair[1]) for pair in asked)
    assert all(bits(a) == bits(b) for pair, (a, b) in bench.EQUAL.items() if pair in asked)


def test_denoisers_that_are_said_to_be_of_one_size_are(bench):
    sizes = {
        name: recipes.parameters(override(PRESETS["video-diffusion"][arm.preset].recipe, arm.changes))
        for name, arm in bench.DIFFUSION.items()
    }
    asked = [pair[2:] for pair in bench.ORDERINGS if pair[1] == "diffusion"]
    for pair in asked:
        one, other = (sizes[name] for name in bench.EQUAL.get(pair, pair))
        assert one == pytest.approx(other, rel=0.01), pair
    assert sizes["high-order-4"] > 1.15 * sizes["still"]
    still, more = (bench.DIFFUSION[name].calls for name in ("still", "still, as many calls"))
    assert more == 3 * still  # a video of 4 frames and context 2 takes 3 runs


def test_an_ordering_has_its_answer_on_equal_terms_beside_it(bench):
    rows = said([10, 10.1, 9.9], "high-order-4") | said([20, 20.1, 19.9], "still")
    fair = {value: said([value, value + 0.1, value - 0.1], "still, same parameters") for value in (5.0, 10.0, 30.0)}
    ask = lambda value: bench.orderings(rows | fair[value]).split("high-order-4 | still |")[1].split("\n")[0]  # noqa: E731
    stand_in = "high-order-4 before still, same parameters |"
    assert ask(30.0) == f" reproduced | yes: {stand_in}"
    assert ask(5.0) == f" reproduced | no: {stand_in}"
    assert ask(10.0) == f" reproduced | undecided: {stand_in}"
    same = said([1, 1.1], "high-order-4") | said([2, 2.1], "high-order-8")
    assert "| 3 | diffusion | high-order-4 | high-order-8 | undecided | equal already |" in bench.orderings(same)


def test_one_command_makes_table_1_too_and_the_theorem_where_asked(bench, monkeypatch, capsys):
    given = []
    monkeypatch.setattr(bench.hierarchies, "main", given.extend)
    monkeypatch.setattr(bench, "theorem", lambda: "theorem 4.1")
    for parts, printed in ((["hierarchies"], ""), (["hierarchies", "theorem"], "theorem 4.1\n")):
        given.clear()
        monkeypatch.setattr("sys.argv", ["pseudo_videos.py", "digits", "-o", "out", "--steps", "3", "--part", *parts])
        bench.main()
        assert capsys.readouterr().out == printed
        told = dict(zip(given[::2], given[1::2], strict=True))
        assert (told["--output"], told["--steps"], "--budget" in told) == ("out/hierarchies", "3", False)
        assert vars(bench.hierarchies.arguments(given))["seeds"] == 3


def test_theorem_4_1_is_printed_by_formula_and_as_drawn(bench):
    """The gains of the facts, section 0.9: none of first order, 0.10 % and 0.38 % of high order."""
    lines = bench.theorem(pixels=2**18).splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    found = {name: [float(number) for number in numbers] for name, *numbers in cells}
    for name, gain in (("first-order-4", 0), ("first-order-8", 0), ("high-order-4", 0.10), ("high-order-8", 0.38)):
        known, error, exact, drawn = found[name]
        assert known == int(name[-1]) / 2
        assert error == pytest.approx(1e-4, rel=0.01)
        assert exact == pytest.approx(gain, abs=0.01)
        deviation = 200 * (exact / 100 / 2**18) ** 0.5  # of the drawn gain
        assert drawn == pytest.approx(exact, abs=4 * deviation + 0.005)


def test_hierarchies_are_ordered_by_their_ends():
    table = loaded("hierarchies").table
    row = lambda low, high: [{"DS": (low + high) / 2, "low": low, "high": high, "classes": 9}]  # noqa: E731
    assert table({"tiny": row(5, 6), "tiny-learned": row(2, 3)}).endswith(": reproduced")
    assert table({"tiny": row(5, 6), "tiny-learned": row(2, 5.1)}).endswith(": undecided")
    assert table({"tiny": row(1, 2), "tiny-learned": row(3, 4)}).endswith(": not reproduced")
