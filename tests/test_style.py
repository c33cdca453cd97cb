"""The house rules, kept by counting: who may import whom, how long things are, what is written down."""

import ast
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "framefill"
MODULES = sorted(SOURCE.rglob("*.py"))
# One direction: a room may import itself and rooms of a smaller number; rooms of the same number do not meet.
ROOMS = {
    "errors": 0, "arrays": 1, "atomic": 1, "device": 1, "unpickle": 1, "distributed": 1, "signals": 1, "diffusion": 2,
    "flows": 2, "metrics": 2, "nets": 3, "latents": 4, "features": 4, "video": 5, "codec": 5, "climate": 5, "pose": 5,
    "recipes": 6, "checkpoint": 7, "codecs": 7.5, "curves": 7, "accessor": 8, "convert": 8, "evaluate": 8, "runs": 8,
    "pillow": 8, "training": 9, "cli": 10, "apps": 10, "__main__": 11, "density": 1.5, "films": 6,
}  # fmt: skip

# Forbidden, since these pickle: modules that write it, processes that are spoken to by it, collectives of objects.
FORBIDDEN = (
    "import torchvision", "import pickle", "torch.load(", "torch.save(", "allow_pickle=True", "multiprocessing",
    "ProcessPoolExecutor", "import shelve", "import marshal", "import joblib", "_object_list(", "num_workers",
)  # fmt: skip
# What others wrote as pickles is read in three places, each closed: numpy arrays by our own list of operations,
# tensors by torch's restricted one.
FOREIGN = {"unpickle.py": ("import pickle",), "imagenet.py": ("torch.load(",), "convert.py": ("torch.load(",)}


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> list[str]:
    """The rooms of framefill that a module imports, inside functions too."""
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{a.name}" for a in node.names] if node.module == "framefill" else [node.module]
        found += [name.split(".")[1] for name in names if name.startswith("framefill.")]
    return found


def functions(path: Path) -> list[tuple[str, int]]:
    """Name and length of every function, without its docstring."""
    sizes = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            lines = node.end_lineno - node.lineno + 1
            first = node.body[0]
            if ast.get_docstring(node):
                lines -= first.end_lineno - first.lineno + 1
            sizes.append((f"{path.name}:{node.name}", lines))
    return sizes


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent != SOURCE or p.name != "__init__.py"], ids=str)
def test_imports_go_one_way(path):
    here = room(path)
    for other in imports(ast.parse(path.read_text())):
        if other in ("__version__", here):
            continue
        allowed = ROOMS[other] < ROOMS[here]
        if here == "metrics":
            allowed = other in ("arrays", "errors")
        assert allowed, f"{path.relative_to(SOURCE)} must not import {other}"


def test_functions_and_files_stay_short():
    sizes = [size for path in MODULES for size in functions(path)]
    lengths = sorted(n for _, n in sizes)
    longest = max(sizes, key=lambda s: s[1])
    files = {p: len(p.read_text().splitlines()) for p in MODULES}
    assert statistics.median(lengths) <= 8
    assert lengths[int(0.95 * len(lengths))] <= 40
    assert longest[1] <= 70, longest
    assert max(files.values()) <= 400, max(files, key=files.get)


def test_no_torchvision_no_pickle_no_utils():
    for path in MODULES:
        text = path.read_text()
        for word in FORBIDDEN:
            assert word not in text or word in FOREIGN.get(path.name, ()), f"{path.name}: {word}"
        assert text.count("torch.load(") <= text.count("weights_only=True"), path.name
        assert path.name not in ("utils.py", "helpers.py", "misc.py")


def test_every_module_opens_with_its_idea():
    for path in MODULES:
        assert ast.get_docstring(ast.parse(path.read_text())), path


def figures() -> str:
    """The figures of the closing note: run `python tests/test_style.py`."""
    lengths = sorted(n for path in MODULES for _, n in functions(path))
    count = lambda paths: sum(len(p.read_text().splitlines()) for p in paths)  # noqa: E731
    code, tests = count(MODULES), count(sorted((ROOT / "tests").rglob("*.py")))
    biggest = max(MODULES, key=lambda p: len(p.read_text().splitlines()))
    return (
        f"{len(MODULES)} files, {code} lines; functions: median {statistics.median(lengths):g}, 95th percentile "
        f"{lengths[int(0.95 * len(lengths))]}, longest {lengths[-1]}; longest file {biggest.name} "
        f"({len(biggest.read_text().splitlines())}); {tests / code:.2f} test lines per line of code"
    )


if __name__ == "__main__":
    print(figures())


def test_every_recipe_has_what_the_command_line_asks_for():
    from framefill.recipes import RECIPES

    for name, kind in RECIPES.items():
        for method in ("model", "suited", "source", "about", "batch", "loss", "sheet", "product"):
            assert callable(getattr(kind, method, None)), f"{name} has no {method}"
