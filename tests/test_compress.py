"""The verbs compress, decompress and info, and the Pillow plugin, as a user meets them."""

import io
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import framefill.pillow
from codec_double import Double, codec
from framefill import checkpoint, codecs
from framefill.cli.compress import size_of
from framefill.codec.container import unpack
from framefill.codec.header import MAGIC
from framefill.codec.picture_codec import PictureCodec
from framefill.codec.pictures import Picture, read, write
from framefill.errors import BadInput
from test_cli import refused
from test_picture_codec import error, scene


@pytest.fixture(autouse=True)
def double(monkeypatch) -> PictureCodec:
    """The stand-in is the codec at hand."""
    made = codec()
    monkeypatch.setattr(codecs, "codec", lambda model="", *, device="cpu": made)
    return made


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    write(scene(60, 80), path)
    return path


def pipe(monkeypatch, data: bytes) -> io.BytesIO:
    """Standard input of `data`, and what comes out."""
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=out, write=lambda text: None, flush=lambda: None))
    return out


def test_there_and_back(call, photo, tmp_path, double):
    small, back = tmp_path / "small.ffc", tmp_path / "back.tif"
    code, out, _ = call("compress", photo, "-o", small, "--quality", 3)
    assert (code, out.split()[:3]) == (0, [str(small), str(small.stat().st_size), "bytes,"])
    assert small.read_bytes() == double.compress(read(photo), quality=3)
    code, out, _ = call("decompress", small, "-o", back, "--json")
    assert code == 0
    assert json.loads(out) == {"source": str(small), "output": str(back), "pixels": "80x60"}
    assert error(read(back), read(photo)) < 0.05


def test_without_o_the_result_lies_here_and_is_not_replaced(call, photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call("compress", photo)[0] == 0
    before = (tmp_path / "photo.ffc").read_bytes()
    refused(call("compress", photo, "-q", 0), "photo.ffc is there already")
    assert (tmp_path / "photo.ffc").read_bytes() == before
    assert call("compress", photo, "-q", 0, "--force")[0] == 0
    assert len((tmp_path / "photo.ffc").read_bytes()) < len(before)
    refused(call("decompress", tmp_path / "photo.ffc"), "photo.png is there already")
    (tmp_path / "out").mkdir()
    assert call("decompress", tmp_path / "photo.ffc", "-o", tmp_path / "out", "--suffix", ".webp")[0] == 0
    assert read(tmp_path / "out" / "photo.webp").size == (60, 80)


def test_a_folder_is_mirrored_and_one_bad_file_does_not_stop_the_others(call, tmp_path):
    source, out, back = (tmp_path / name for name in ("in", "out", "back"))
    (source / "deep" / ".hidden").mkdir(parents=True)
    for name in ("a.png", "twin.png", "twin.jpg", "deep/b.webp", "deep/.hidden/c.png"):
        write(scene(20, 30), source / name)
    (source / "broken.png").write_bytes(b"not a picture")
    (source / "notes.txt").write_text("nothing to do with it")
    code, text, err = call("compress", source, "-o", out)
    assert code == 2
    assert f"{source / 'broken.png'} is not a picture" in err
    assert "4 of 5 files are done" in err
    names = sorted(str(p.relative_to(out)) for p in out.rglob("*.*"))
    assert names == ["a.ffc", "deep/b.ffc", "twin.jpg.ffc", "twin.png.ffc"]
    assert len(text.splitlines()) == 4
    before = (out / "a.ffc").stat().st_mtime_ns
    assert "4 were there already" in call("compress", source, "-o", out)[2]
    assert (out / "a.ffc").stat().st_mtime_ns == before
    assert call("decompress", out, "-o", back, "--suffix", ".jpg")[0] == 0
    assert read(back / "deep" / "b.jpg").size == (20, 30)
    (out / "a.ffc").write_bytes(b"\xf1FC")
    code, _, err = call("decompress", out, "-o", back, "-y")
    assert code == 2
    assert f"{out / 'a.ffc'}: the file ends inside its header" in err
    refused(call("compress", tmp_path / "back" / "deep", "-o", photo_file(tmp_path)), "give a folder with -o")
    (tmp_path / "empty").mkdir()
    refused(call("compress", tmp_path / "empty"), "nothing to do")


def photo_file(folder):
    path = folder / "one.png"
    write(scene(8, 8), path)
    return path


def test_pipes(call, photo, monkeypatch, double):
    out = pipe(monkeypatch, photo.read_bytes())
    framefill_main(monkeypatch, "compress", "-")
    data = out.getvalue()
    assert data == double.compress(read(photo))
    out = pipe(monkeypatch, data)
    framefill_main(monkeypatch, "decompress", "-", "--suffix", ".webp")
    np.testing.assert_array_equal(read(io.BytesIO(out.getvalue())).pixels, double.decompress(data).pixels)
    out = pipe(monkeypatch, b"")
    with pytest.raises(SystemExit) as left:
        framefill_main(monkeypatch, "compress", "-")
    assert (left.value.code, out.getvalue()) == (2, b"")


def framefill_main(monkeypatch, *words: str) -> None:
    from framefill import cli

    monkeypatch.setattr(sys, "argv", ["framefill", *words])
    cli.main()


def test_sizes_are_kept(call, photo, tmp_path, double):
    files = [len(double.compress(read(photo), quality=q)) for q in range(4)]
    out = tmp_path / "a.ffc"
    for words in (
        ("--size", files[2] + 3),
        ("--bpp", (files[2] + 3) * 8 / 4800),
        ("--size", f"{(files[2] + 3) / 1000}k"),
    ):
        assert call("compress", photo, "-o", out, "-y", *words)[0] == 0
        assert len(out.read_bytes()) == files[2]
    refused(call("compress", photo, "-o", out, "-y", "--size", 30), "the smallest file of this picture has")
    refused(call("compress", photo, "--size", 30, "--bpp", 1.0), "give one of them")
    refused(call("compress", photo, "--bpp", -1.0), "--bpp is more than 0")
    for text in ("many", "0", "-3k", "k"):
        with pytest.raises(BadInput, match="--size"):
            size_of(text)


@pytest.mark.parametrize("bound", [0, 4])
def test_the_largest_error_is_kept(call, photo, tmp_path, bound):
    small, back = tmp_path / "a.ffc", tmp_path / "a.png"
    assert call("compress", photo, "-o", small, "--max-error", bound)[0] == 0
    assert call("decompress", small, "-o", back)[0] == 0
    assert np.abs(read(back).pixels.astype(int) - read(photo).pixels).max() <= bound
    refused(call("compress", photo, "-o", small, "-y", "--max-error", -1), "a bound of -1 levels")
    refused(call("compress", photo, "-o", small, "-y", "--max-error", 1, "--steps", 2), "leave the steps away")
    refused(call("decompress", small, "-o", back, "-y", "--steps", 2), "leave the steps away")


def test_steps_and_seed_on_either_side(call, photo, tmp_path, double):
    small, back = tmp_path / "a.ffc", tmp_path / "a.png"
    call("compress", photo, "-o", small, "--steps", 2, "--seed", 5)
    for words, options in (((), {}), (("--steps", 0), {"steps": 0}), (("--seed", 6), {"seed": 6})):
        assert call("decompress", small, "-o", back, "-y", *words)[0] == 0
        expected = double.decompress(small.read_bytes(), **options)
        np.testing.assert_array_equal(read(back).pixels, expected.pixels)


def test_what_was_invented_is_a_map(call, photo, tmp_path, double):
    small, where = tmp_path / "a.ffc", tmp_path / "map.png"
    call("compress", photo, "-o", small)
    assert call("decompress", small, "-o", tmp_path / "b.png", "--invented", where, "-n", 4, "--steps", 1)[0] == 0
    spread = double.invented(small.read_bytes(), samples=4, steps=1)
    np.testing.assert_allclose(read(where).pixels[..., 0], np.minimum(spread / 0.25 * 255, 255), atol=0.51)
    refused(call("decompress", small, "-o", tmp_path / "c.png", "--invented", where), "map.png is there already")
    refused(call("decompress", small, "-o", tmp_path / "c.png", "--invented", tmp_path / "m.jpg"), "name it .png")
    refused(call("decompress", tmp_path, "--invented", tmp_path / "m.png"), "is a folder")


def test_damage_is_told_and_the_rest_is_written(call, photo, tmp_path):
    small, back = tmp_path / "a.ffc", tmp_path / "a.png"
    call("compress", photo, "-o", small)
    small.write_bytes(small.read_bytes()[:-5])
    code, out, err = call("decompress", small, "-o", back, "--json")
    assert code == 0
    assert "1 of 3 chunks, from layer 3 of 3 on" in json.loads(out)["lost"]
    assert f"framefill: warning: {small}: parts of the file are lost" in err
    assert read(back).size == (60, 80)


@pytest.mark.parametrize("data", [b"", b"hello world, " * 10])
def test_info_of_what_only_has_the_ending_says_so(call, tmp_path, data):
    (tmp_path / "a.ffc").write_bytes(data)
    refused(call("info", tmp_path / "a.ffc"), "codec file")


def test_info_says_what_a_file_holds(call, tmp_path, double):
    path = tmp_path / "a.ffc"
    path.write_bytes(
        double.compress(Picture(scene(60, 80, 4, np.uint16).pixels, exif=b"II*\0"), quality=1, steps=3, seed=9)
    )
    about = json.loads(call("info", path, "--json")[1])
    assert about["size"] == "80x60"
    assert (about["depth"], about["colour"], about["decode"]) == ("bits_16", "RGBA", "3 steps, seed 9")
    assert about["bytes"] == path.stat().st_size
    assert about["extras"].startswith("ALPHA ")
    assert about["extras"].endswith("EXIF 4")
    assert about["model"] == double.marks[1].hex()
    assert "lost         nothing" in call("info", path)[1]
    path.write_bytes(path.read_bytes()[:-60])
    assert json.loads(call("info", path, "--json")[1])["lost"] == "nothing"  # extras only


def test_bad_words_are_one_line(call, photo, tmp_path):
    absent = tmp_path / "absent.png"
    refused(call("compress", absent), f"there is no file or folder {absent}")
    refused(call("compress", photo, "-q", 9), "quality 9; this model has 0 (smallest file) to 3")
    refused(call("compress", photo, "--limit-pixels", 4799), "give --limit-pixels 4800")
    refused(call("decompress", photo), "not a framefill codec file")
    refused(call("decompress", photo, "-o", tmp_path / "a.xyz"), "cannot write pictures as .xyz")
    small = tmp_path / "a.ffc"
    call("compress", photo, "-o", small)
    refused(call("decompress", small, "-o", tmp_path / "b.png", "--limit-pixels", 100), "4800 pixels, over 100")
    for words, said in ((("--steps", 32), "32 steps; give 0"), (("--seed", -1), "seed -1; give 0 to 2^63 - 1")):
        refused(call("compress", photo, "-o", tmp_path / "c.ffc", *words), said)
        refused(call("decompress", small, "-o", tmp_path / "b.png", *words), said)
    for verb, source, name in (("compress", photo, "c.ffc"), ("decompress", small, "b.png")):
        refused(call(verb, source, "-o", small / name), "a.ffc cannot be a folder")
    pair = ("-o", tmp_path / "b.png", "--invented")
    refused(call("decompress", small, *pair, tmp_path / "m.png", "--samples", 1), "give two or more")
    refused(call("decompress", small, *pair, small / "m.png"), "a.ffc cannot be a folder")
    assert not (tmp_path / "b.png").exists()  # neither, or both
    small.write_bytes(b"")
    refused(call("decompress", small, "-o", tmp_path / "b.png"), "is empty")


def test_what_may_not_be_read_is_named_and_the_rest_is_done(call, photo, tmp_path, monkeypatch):
    closed, look, fetch = photo.parent / "closed", os.scandir, Path.open

    def scandir(path="."):
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    def opened(path, *args, **kwargs):
        if path.name == "mine.ffc":
            raise PermissionError(13, "Permission denied", str(path))
        return fetch(path, *args, **kwargs)

    closed.mkdir()
    (tmp_path / "mine.ffc").touch()
    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(Path, "open", opened)
    refused(call("compress", closed), f"cannot read the folder {closed}: Permission denied")
    code, _, said = call("compress", photo.parent, "-o", tmp_path / "out")
    assert code == 2
    assert f"cannot read the folder {closed}: Permission denied" in said
    assert (tmp_path / "out" / "photo.ffc").is_file()
    for verb in ("decompress", "info"):
        refused(call(verb, tmp_path / "mine.ffc"), "mine.ffc: Permission denied")


def test_films_and_data_sets_are_read_from_files(call, monkeypatch):
    for kind in (1, 2):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(MAGIC + bytes([16 + 4 * kind]))))
        refused(call("decompress", "-"), "standard input holds a film or a data set; write it to a file")


def test_pillow_opens_and_saves(tmp_path, double):
    picture = scene(40, 50, 4)
    path = tmp_path / "a.ffc"
    image = Image.fromarray(picture.pixels)
    image.save(path, quality=3, icc_profile=b"profile")
    assert path.read_bytes() == double.compress(Picture(picture.pixels, icc=b"profile"), quality=3)
    with Image.open(path) as found:
        assert (found.size, found.mode, found.format) == ((50, 40), "RGBA", "FFC")
        np.testing.assert_array_equal(np.asarray(found), double.decompress(path.read_bytes()).pixels)
        assert found.info["icc_profile"] == b"profile"
    smallest = len(double.compress(picture, quality=0))
    image.save(path, size=smallest + 40)
    assert len(path.read_bytes()) <= smallest + 40
    with pytest.raises(ValueError, match="quality 7"):
        image.save(path, quality=7)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_pillow_modes(mode, tmp_path):
    path = tmp_path / "a.ffc"
    image = Image.fromarray(scene(24, 24, 1).pixels[..., 0])
    image = Image.fromarray(scene(24, 24, 1, np.uint16).pixels[..., 0]) if mode == "I;16" else image.convert(mode)
    image.save(path, quality=3)
    with Image.open(path) as found:
        assert found.mode == {"1": "L", "P": "RGB"}.get(mode, mode)
        assert np.asarray(found).shape[:2] == (24, 24)


def test_pillow_reads_the_header_alone(tmp_path, monkeypatch, double):
    monkeypatch.setattr(PictureCodec, "decompress", lambda *a, **k: pytest.fail("decoded"))
    data = double.compress(scene(16, 30, 3, np.uint16))
    with Image.open(io.BytesIO(data)) as found:
        assert (found.size, found.mode) == ((30, 16), "RGB")


def test_pillow_says_what_is_wrong(double):
    data = double.compress(scene(16, 30))
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(io.BytesIO(data[:9]))
    with Image.open(io.BytesIO(data[:-3])) as cut, pytest.warns(match="parts of the file are lost"):
        cut.load()
    bad = bytearray(data)
    bad[6] ^= 1  # fingerprint
    with Image.open(io.BytesIO(bytes(bad))) as foreign, pytest.raises(OSError, match="which is not here"):
        foreign.load()


def test_codecs_at_hand(monkeypatch, tmp_path):
    monkeypatch.undo()
    models = {"first": Double(), "second": Double(seed=1), "third": Double(seed=2)}
    monkeypatch.setattr(checkpoint, "shipped", lambda: {name: tmp_path / name for name in ("first", "second", "film")})
    kinds = {"film": "mcvd"}
    monkeypatch.setattr(
        checkpoint, "read_card", lambda p: SimpleNamespace(recipe=kinds.get(p.name, "compression"), about={})
    )
    monkeypatch.setattr(checkpoint, "load", lambda p, device: PictureCodec(models[p]) if p in models else object())
    monkeypatch.setattr(checkpoint, "locate", lambda p: p)
    codecs._loaded.cache_clear()
    assert codecs.shipped() == ["first", "second"]
    usual = codecs.codec()
    assert (usual.model, usual.others) == (models["first"], (models["second"],))
    files = {name: PictureCodec(model).compress(scene(9, 9)) for name, model in models.items()}
    own = codecs.codec("third")
    assert own.model is models["third"]
    for data in files.values():
        assert own.decompress(data).size == (9, 9)
    with pytest.raises(BadInput, match="film is no codec"):
        codecs.codec("film")
    monkeypatch.setattr(checkpoint, "shipped", dict)
    with pytest.raises(BadInput, match="no codec comes with this framefill"):
        codecs.codec()
    codecs._loaded.cache_clear()
    assert framefill.pillow.FORMAT == "FFC"
    assert unpack(files["first"]).header.layers == 1, "it is small"


def test_a_shipped_model_is_loaded_when_one_of_its_files_comes(monkeypatch, tmp_path):
    monkeypatch.undo()
    models, loaded = {"shipped": Double(), "own": Double(seed=1)}, []
    marks = [mark.hex() for mark in PictureCodec(models["shipped"]).marks]
    card = SimpleNamespace(recipe="compression", about={"fingerprints": marks})

    def load(name, device):
        loaded.append(name)
        return PictureCodec(models[name])

    monkeypatch.setattr(checkpoint, "shipped", lambda: {"shipped": tmp_path / "shipped"})
    monkeypatch.setattr(checkpoint, "read_card", lambda p: card)
    monkeypatch.setattr(checkpoint, "load", load)
    monkeypatch.setattr(checkpoint, "locate", lambda p: p)
    codecs._loaded.cache_clear()
    codec, files = codecs.codec("own"), {name: PictureCodec(m).compress(scene(9, 9)) for name, m in models.items()}
    codec.decompress(files["own"])
    assert loaded == ["own"]
    found = codec.decompress(files["shipped"])
    assert loaded == ["own", "shipped"]
    np.testing.assert_array_equal(found.pixels, PictureCodec(models["shipped"]).decompress(files["shipped"]).pixels)
    codecs._loaded.cache_clear()


def test_the_card_of_a_shipped_codec_has_its_fingerprints(monkeypatch):
    monkeypatch.undo()
    for name in codecs.shipped():
        said = checkpoint.read_card(checkpoint.shipped()[name]).about["fingerprints"]
        assert said == [mark.hex() for mark in checkpoint.load(name).marks]


def test_what_a_file_says_is_told_without_any_model(call, photo, tmp_path, monkeypatch):
    assert call("compress", photo, "-o", tmp_path / "a.ffc")[0] == 0
    for module, name in ((codecs, "codec"), (checkpoint, "load"), (checkpoint, "read")):
        monkeypatch.setattr(module, name, None)
    code, out, _ = call("info", tmp_path / "a.ffc", "--json")
    assert (code, json.loads(out)["size"]) == (0, "80x60")
