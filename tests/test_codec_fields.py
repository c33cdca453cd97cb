"""Data sets come back with every name, attribute and bit; fields within their bounds; damage costs one group."""

import json
import zlib

import numpy as np
import pytest

from framefill.codec import fields
from framefill.codec.container import PartLost, pack, unpack
from framefill.codec.fields import compress_dataset, decompress_dataset, open_compressed
from framefill.errors import BadInput, CodecError, MediaError

xr = pytest.importorskip("xarray")
pytest.importorskip("dask")
pytest.importorskip("h5netcdf")


@pytest.fixture
def dataset():
    rng = np.random.default_rng(0)
    shape = (8, 12, 14)
    air = np.cumsum(rng.normal(0, 1, shape), 2).astype(np.float32)
    sea = np.cumsum(rng.normal(0, 1, shape), 1)
    sea[:, :4, :5] = np.nan
    deep = np.cumsum(rng.normal(0, 1, (8, 3, 12, 14)), 3).astype(np.float32)
    deep[:, 2, 5] = 1e20
    coords = {
        "time": ("time", np.arange(8) * 30.5, {"units": "days since 1990-01-01", "calendar": "360_day"}),
        "lat": ("lat", np.linspace(-50, 60, 12).astype(np.float32), {"units": "degrees_north"}),
        "lon": ("lon", np.linspace(0, 350, 14), {"units": "degrees_east"}),
        "place": ("lat", np.array([f"row {i}" for i in range(12)], object)),
    }
    variables = {
        "air": (("time", "lat", "lon"), air, {"units": "K", "levels": np.array([1, 2], np.int16), "factor": 0.1}),
        "sea": (("time", "lat", "lon"), sea),
        "deep": (("time", "level", "lat", "lon"), deep, {"_FillValue": np.float32(1e20)}),
        "class": (("time", "lat", "lon"), rng.integers(0, 5, shape).astype(np.int16), {"scale_factor": 0.5}),
        "orog": (("lat", "lon"), rng.normal(0, 1, shape[1:])),
        "crs": ((), np.int32(7), {"name": "WGS 84"}),
    }
    return xr.Dataset(variables, coords, {"title": "a test", "version": np.int32(3)})


BOUNDS = {"air": 0.05, "sea": 1e-3, "deep": 0.1}


def same_but_for_bounds(found, expected):
    assert {*found.variables} == {*expected.variables}
    assert {*found.coords} == {*expected.coords}
    assert found.attrs == expected.attrs
    for name, variable in expected.variables.items():
        got = found.variables[name]
        assert got.dims == variable.dims
        assert {*got.attrs} == {*variable.attrs}
        for key, value in variable.attrs.items():
            assert (
                got.attrs[key] == value
                if isinstance(value, str)
                else np.array_equal(np.float64(got.attrs[key]), np.float64(value), True)
            )
        if name in BOUNDS:
            apart = np.abs(got.values.astype(float) - variable.values)
            assert np.nanmax(apart) <= BOUNDS[name]
            assert np.nanmax(apart) > 0
            assert np.array_equal(np.isnan(got.values), np.isnan(variable.values))
        else:
            assert np.array_equal(got.values, variable.values), name
        if variable.dtype.kind not in "OT":
            assert got.dtype == variable.dtype


@pytest.mark.parametrize("ending", ["nc", *(pytest.param(end, marks=pytest.mark.slow) for end in ("zarr", None))])
def test_a_data_set_comes_back(tmp_path, dataset, ending, monkeypatch):
    monkeypatch.setattr(fields, "GROUP", 5 * 12 * 14)
    source = dataset if ending is None else tmp_path / f"in.{ending}"
    if ending == "nc":
        dataset.to_netcdf(source, engine="h5netcdf", unlimited_dims=["time"])
    elif ending:
        dataset.to_zarr(source, consolidated=False)
    expected = dataset if ending is None else fields._opened(source).load()
    out = compress_dataset(source, tmp_path / "a.ffc", max_error=BOUNDS)
    contents = unpack(out.read_bytes())
    assert len(contents.chunks) == 2 + 2 + 6 + 2 + 2 + 4
    found = open_compressed(out)
    same_but_for_bounds(found, expected)
    assert np.all(found["deep"].values[:, 2, 5] == np.float32(1e20))
    for back in ("b.nc", "b.zarr") if ending == "nc" else ():
        again = fields._opened(decompress_dataset(out, tmp_path / back)).load()
        again["place"] = found["place"]  # libraries give texts back as types of their own
        same_but_for_bounds(again, expected)
    assert str(xr.decode_cf(found)["time"].values[1]) == "1990-02-01 12:00:00"


def test_decoded_data_sets_are_taken_too(tmp_path, dataset):
    decoded = xr.decode_cf(dataset)
    found = xr.decode_cf(open_compressed(compress_dataset(decoded, tmp_path / "a.ffc", max_error=0.01)))
    assert np.array_equal(found["time"].values, decoded["time"].values)
    assert float(np.nanmax(np.abs(found["sea"] - decoded["sea"]))) <= 0.01


def test_a_relative_bound_is_a_share_of_the_range(tmp_path, dataset):
    out = compress_dataset(dataset, tmp_path / "a.ffc", relative={"deep": 1e-3})
    found, real = open_compressed(out)["deep"].values, dataset["deep"].values
    good = real < 1e19
    span = np.ptp(real[good])
    assert 0 < np.abs(found - real)[good].max() <= 1e-3 * span
    assert np.array_equal(open_compressed(out)["air"].values, dataset["air"].values)


@pytest.mark.filterwarnings("ignore::framefill.codec.container.PartLost")
def test_a_flipped_byte_costs_one_group_and_is_named(tmp_path, dataset, monkeypatch):
    monkeypatch.setattr(fields, "GROUP", 2 * 12 * 14)
    data = bytearray(compress_dataset(dataset[["air"]], tmp_path / "a.ffc", max_error=0.05).read_bytes())
    whole = open_compressed(bytes(data))["air"].values
    start = data.index(unpack(bytes(data)).chunks[1])
    data[start + 5] ^= 4
    with pytest.raises(CodecError, match="air is damaged: 1 groups of 4"):
        open_compressed(bytes(data))
    with pytest.warns(PartLost, match="1 of 4 groups of air are lost; they are NaN now"):
        found = open_compressed(bytes(data), partial=True)["air"].values
    lost = np.isnan(found).any((1, 2))
    assert lost.sum() == 2
    assert np.array_equal(found[~lost], whole[~lost])
    for place in range(0, len(data), 211):
        bad = bytearray(data)
        bad[place] ^= 0x10
        try:
            other = open_compressed(bytes(bad), partial=True)["air"].values
        except CodecError:
            continue
        assert np.array_equal(other[~np.isnan(other)], whole[~np.isnan(other)])


def test_reading_one_group_decodes_one_group(tmp_path, dataset, monkeypatch):
    monkeypatch.setattr(fields, "GROUP", 2 * 12 * 14)
    found = open_compressed(compress_dataset(dataset, tmp_path / "a.ffc", max_error=BOUNDS))
    calls = []
    real = fields.decode_field
    monkeypatch.setattr(fields, "decode_field", lambda *given: calls.append(1) or real(*given))
    assert found["air"].isel(time=3).values.shape == (12, 14)
    assert len(calls) == 1


def test_an_index_that_does_not_fit_is_refused(tmp_path, dataset):
    contents = unpack(compress_dataset(dataset, tmp_path / "a.ffc").read_bytes())
    index = json.loads(zlib.decompress(contents.extras[0].data))

    def held(text):
        extra = fields.Extra(fields.INDEX, zlib.compress(text.encode()))
        return pack(contents.header, [[chunk] for chunk in contents.chunks], [extra])

    def forged(change):
        made = json.loads(json.dumps(index))
        change(made["variables"][0])
        return held(json.dumps(made))

    for change in (
        lambda v: v.update(shape=[10**6, 10**6, 10**6]), lambda v: v.update(rows=1), lambda v: v.update(rows=-1),
        lambda v: v.update(dtype="O8|x"), lambda v: v.pop("attrs"), lambda v: v.update(shape="abc"),
        lambda v: v.update(shape=[8, 12]), lambda v: v.update(more=1), lambda v: v.update(dtype="<f16"),
        lambda v: v.update(shape=[10**11, 1, 1], rows=1), lambda v: v.update(attrs={"a": {}}),
        lambda v: v.update(attrs=[]), lambda v: v.update(dims=v["dims"][:1] * len(v["dims"])),
        lambda v: v.update(name=index["variables"][1]["name"]),
    ):  # fmt: skip
        with pytest.raises(CodecError, match="index"):
            open_compressed(forged(change))
    for text in ("[" * 10**5, json.dumps(index | {"attrs": 5}), json.dumps(index | {"unlimited": 5})):
        with pytest.raises(CodecError, match="index"):
            open_compressed(held(text))
    with pytest.raises(CodecError, match="neither copy"):
        open_compressed(pack(contents.header, [[chunk] for chunk in contents.chunks]))
    picture = fields.replace(contents.header, kind=fields.Kind.IMAGE)
    with pytest.raises(CodecError, match="images, not fields"):
        open_compressed(pack(picture, [[b"x"]]))


def test_bad_requests_are_one_line(tmp_path, dataset):
    with pytest.raises(BadInput, match=r"no field is called orog; .* air, sea, deep, class"):
        compress_dataset(dataset, tmp_path / "a.ffc", max_error={"orog": 1.0})
    with pytest.raises(BadInput, match="bound"):
        compress_dataset(dataset, tmp_path / "a.ffc", max_error=-1.0)
    with pytest.raises(BadInput, match="no variables"):
        compress_dataset(xr.Dataset(), tmp_path / "a.ffc")
    with pytest.raises(MediaError, match="no such file"):
        compress_dataset(tmp_path / "none.nc", tmp_path / "a.ffc")
    (tmp_path / "bad.nc").write_bytes(b"not a file")
    with pytest.raises(MediaError, match="cannot be opened"):
        compress_dataset(tmp_path / "bad.nc", tmp_path / "a.ffc")
    out = compress_dataset(dataset, tmp_path / "a.ffc")
    with pytest.raises(BadInput, match="written as"):
        decompress_dataset(out, tmp_path / "a.csv")
    (tmp_path / "b.zarr").mkdir()
    with pytest.raises(BadInput, match="there already"):
        decompress_dataset(out, tmp_path / "b.zarr")
    strange = xr.Dataset({"a": ("x", np.array([{}, 1], object))})
    with pytest.raises((BadInput, TypeError, ValueError)):
        compress_dataset(strange, tmp_path / "a.ffc")
