"""The verbs on data sets: files, bounds by name, and what is refused."""

import numpy as np
import pytest
import xarray as xr

from framefill import checkpoint, codecs
from framefill.cli import datasets
from framefill.errors import BadInput
from test_cli import refused


@pytest.fixture
def field(tmp_path):
    values = np.cumsum(np.random.default_rng(0).normal(0, 1, (6, 9, 11)), 0).astype(np.float32)
    values[2, 3, 4] = np.nan
    dataset = xr.Dataset({"tas": (("time", "y", "x"), values), "pr": (("time", "y", "x"), values * 1e-6)})
    dataset.to_netcdf(tmp_path / "in.nc", engine="h5netcdf")
    return tmp_path / "in.nc", values


def test_there_and_back_within_bounds_by_name(call, field, tmp_path, monkeypatch):
    path, values = field
    for module, name in ((codecs, "codec"), (checkpoint, "load"), (checkpoint, "read")):
        monkeypatch.setattr(module, name, None)  # no model is needed for fields
    small, back = tmp_path / "a.ffc", tmp_path / "b.nc"
    assert call("compress", path, "--max-error", "tas=0.1", "-o", small)[0] == 0
    assert "field" in call("info", small)[1]
    assert call("decompress", small, "-o", back)[0] == 0
    with xr.open_dataset(back) as found:
        assert 0 < np.nanmax(np.abs(found.tas.values - values)) <= 0.1
        assert np.array_equal(np.isnan(found.tas.values), np.isnan(values))
        assert np.array_equal(found.pr.values, (values * 1e-6).astype(np.float32), equal_nan=True)
    refused(call("decompress", small, "-o", back), "add --overwrite")
    assert call("decompress", small, "-o", back, "--overwrite")[0] == 0
    (tmp_path / "there.zarr").mkdir()
    for more in ([], ["--overwrite"]):
        refused(call("decompress", small, "-o", tmp_path / "there.zarr", *more), "a folder that is there already")
    refused(call("decompress", small, "-o", tmp_path / "c.nc", "--steps", "0"), "--steps is for pictures")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max-error", "much"], "cannot read the bound"),
        (["--max-error", "sst=1"], "no field is called sst"),
        (["--max-error", "tas=1,tas=2"], "names a field twice"),
        (["--relative", "1e-3", "-o", "-"], "not -"),
        (["--quality", "0"], "--quality is for pictures"),
        (["--size", "20k"], "--size is for pictures"),
        (["--steps", "2"], "--steps is for pictures"),
    ],
)
def test_other_bounds_and_places_are_refused(call, field, words, said):
    refused(call("compress", field[0], *words), said)


def test_bounds_as_they_are_written():
    assert datasets.bounds(None) == 0
    assert datasets.bounds("0.25") == 0.25
    assert datasets.bounds("a=1,b=2e-3") == {"a": 1, "b": 2e-3}
    assert datasets.whole_levels(None) is None
    assert datasets.whole_levels("3") == 3
    for text in ("0.5", "a=1", "nan", "inf"):
        with pytest.raises(BadInput, match="whole number of levels"):
            datasets.whole_levels(text)


def test_pictures_have_no_relative_bound(call, tmp_path):
    refused(call("compress", tmp_path / "a.png", "--relative", "0.1"), "for data sets")


def test_damage_is_told_and_folders_hold_fields_too(call, field, tmp_path):
    path, values = field
    small, out = tmp_path / "in" / "a.ffc", tmp_path / "out"
    assert call("compress", path, "-o", small)[0] == 0  # the folder is made
    data = bytearray(small.read_bytes())
    data[200] ^= 1
    small.with_name("b.ffc").write_bytes(data)
    code, _, said = call("decompress", small.with_name("b.ffc"), "-o", tmp_path / "b.nc")
    assert code == 0
    assert "b.ffc: 1 of 1 groups of tas are lost; they are NaN now" in said
    code, told, again = call("decompress", small.parent, "-o", out)
    assert code == 0
    assert "groups of tas are lost" in again
    assert "lost: 1 of 1 groups" in told
    with xr.open_dataset(out / "a.nc") as whole, xr.open_dataset(out / "b.nc") as part:
        assert np.array_equal(whole.tas.values, values, equal_nan=True)
        assert np.isnan(part.tas.values).all()
        assert np.array_equal(part.pr.values, whole.pr.values, equal_nan=True)
    refused(call("decompress", small, "-o", path / "c.nc"), "in.nc cannot be a folder")
