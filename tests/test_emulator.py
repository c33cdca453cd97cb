"""Emulators: what they are asked and what comes back, with models whose answer is known; and how the recipe trains."""

import json
from base64 import b64encode
from dataclasses import replace

import numpy as np
import pytest
import torch

from framefill.arrays import Rng
from framefill.errors import BadInput, CheckpointError

xr = pytest.importorskip("xarray", reason="the climate extra is not installed")
cftime = pytest.importorskip("cftime", reason="the climate extra is not installed")

from framefill import checkpoint  # noqa: E402
from framefill.checkpoint import Card  # noqa: E402
from framefill.climate.archive import open_archive  # noqa: E402
from framefill.climate.calendars import Step, following  # noqa: E402
from framefill.climate.drift import drift  # noqa: E402
from framefill.climate.emulator import Emulator  # noqa: E402
from framefill.climate.fields import describe  # noqa: E402
from framefill.climate.learned import Learned  # noqa: E402
from framefill.climate.statistics import Statistics, lines, variables_of  # noqa: E402
from framefill.climate.transforms import Identity, Log1p, Monotone, Scaling, Sqrt  # noqa: E402
from framefill.climate.windows import FieldWindows, by_year, gather, years_of  # noqa: E402
from framefill.diffusion.noise import White  # noqa: E402
from framefill.diffusion.sample import DDIM  # noqa: E402
from framefill.diffusion.schedule import cosine  # noqa: E402
from framefill.recipes.climate import Climate, tiles  # noqa: E402
from framefill.recipes.recipe import to_fields  # noqa: E402
from framefill.training import train  # noqa: E402

YEARS = 40
NORTH, EAST = np.linspace(40, 55, 4), np.linspace(0, 25, 6)
SMALL = Climate(height=4, width=6, past=2, current=3, features=8, multipliers=(1,), blocks=1, heads=1, head_width=8,
                published=False, calls=2, batch_size=2, steps=4, warmup=1)  # fmt: skip


def record(years=YEARS, *, land=False, seed=0) -> "xr.Dataset":
    """Annual fields: a line of its own slope at every cell, and noise."""
    draw = np.random.default_rng(seed)
    slope = draw.normal(size=(4, 6)) / 20
    values = 280 + slope * np.arange(years)[:, None, None] + draw.normal(size=(years, 4, 6))
    if land:
        values[:, 1, 2:4] = np.nan
    times = following(cftime.datetime(1899, 6, 1, calendar="360_day"), Step(months=12), years)
    made = xr.Dataset(
        {"tas": (("time", "lat", "lon"), values.astype(np.float32), {"units": "K"})},
        {"time": times, "lat": ("lat", NORTH, {"units": "degrees_north"}),
         "lon": ("lon", EAST, {"units": "degrees_east"})},
    )  # fmt: skip
    made["time"].encoding = {"units": "days since 1850-01-01", "calendar": "360_day"}
    return made


def values(dataset) -> np.ndarray:
    return dataset.tas.transpose(..., "time", "lat", "lon").values


def statistics(dataset, *, trend=0) -> Statistics:
    spec, _ = describe(dataset, ["tas"])
    never = np.isnan(values(dataset)).all(0)[None]
    spread = tuple((1 + np.arange(24) / 24).tolist()) if trend else ()
    absent = b64encode(np.packbits(never).tobytes()).decode() if never.any() else ""
    return Statistics(spec, Scaling((Identity(),), (280.0,), (2.0,)), spread, absent)


def still(sampler, x, known, rng, coarse):
    """The mean of what the network is taught: nothing beside the line."""
    return torch.where(known, x, 0.0)


def noisy(sampler, x, known, rng, coarse):
    return torch.where(known, x, rng.normal(x.shape[1:], x))


def emulator(draw, *, trend=0, dataset=None) -> Emulator:
    dataset = record() if dataset is None else dataset
    return Emulator(None, draw, statistics(dataset, trend=trend), 2, 3, trend, DDIM(2))


# ---- lines and statistics -----------------------------------------------------------------------------------------


def test_lines_are_those_of_least_squares_also_where_values_are_missing():
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(1, 9, 1, 2, 3)))
    x[0, [2, 5], 0, 1, 1] = torch.nan
    made = lines(x, 4, first=7)[0, :, 0].numpy()
    for i, j in np.ndindex(2, 3):
        y = x[0, :, 0, i, j].numpy()
        there = ~np.isnan(y)
        wanted = np.polyval(np.polyfit(np.arange(9)[there], y[there], 1), [7, 8, 9, 10])
        np.testing.assert_allclose(made[:, i, j], wanted, atol=1e-12)


@pytest.mark.parametrize("trend", [0, 7])
def test_decode_is_the_inverse_of_encode(trend):
    kept = statistics(record(), trend=trend)
    x = torch.from_numpy(values(record(10)))[None, :, None].double()
    encoded, line = kept.encode(x, trend, 2)
    wanted = x[:, trend - 2 :] if trend else x
    assert encoded.shape == wanted.shape
    torch.testing.assert_close(kept.decode(encoded, line), wanted, rtol=0, atol=1e-4)


def test_statistics_travel_as_json():
    kept = replace(statistics(record(land=True), trend=5), source="a", years=(1900, 1930), license="CC0")
    kept = replace(kept, scaling=Scaling((Log1p(0.1),), (1.0,), (2.0,)))
    kept = replace(kept, spec=replace(kept.spec, variables=(replace(kept.spec.variables[0], transform=Log1p(0.1)),)))
    back = Statistics.from_json(json.loads(json.dumps(kept.to_json())))
    assert back == kept
    assert back.never.sum() == 2
    torch.testing.assert_close(back.cells, kept.cells)


@pytest.mark.parametrize(
    "change",
    [{"mean": [1.0, 2.0]}, {"spread": [1.0]}, {"std": [0.0]}, {"variables": [["tas", "K", "wrong"]]}, {"step": 3},
     {"latitude": None}, {"years": []}, {"absent": "!!"}],
    ids=str,
)  # fmt: skip
def test_a_card_that_does_not_fit_is_refused(change):
    words = statistics(record()).to_json() | change
    with pytest.raises(CheckpointError, match="does not say what its fields are"):
        Statistics.from_json(words)
    with pytest.raises(CheckpointError, match="does not say what its fields are"):
        Statistics.from_json(None)


def test_variables_and_their_transforms_are_read_from_words():
    assert variables_of("") == ()
    assert variables_of("tas, pr:sqrt,q:log1p/0.5,r:learned") == (
        ("tas", Identity()), ("pr", Sqrt()), ("q", Log1p(0.5)), ("r", None),
    )  # fmt: skip
    with pytest.raises(BadInput, match="unknown transform 'cube'"):
        variables_of("pr:cube")
    with pytest.raises(BadInput, match="only log1p takes a number"):
        variables_of("pr:sqrt/2")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    place = tmp_path_factory.mktemp("fields") / "record.nc"
    record(land=True).to_netcdf(place, engine="h5netcdf")
    with open_archive(place, ["tas"]) as opened:
        yield opened


def test_training_years_alone_are_looked_at(archive):
    train, rest = years_of(archive, "train", 1920), years_of(archive, "val", 1920)
    assert (train, rest) == ((1900, 1920), (1921, 1929))
    assert years_of(archive, "test", 1920) == (1930, 1939)
    assert years_of(archive, "train", 0) == (1900, 1931)
    kept = gather(archive, by_year(archive, "train", 1920), trend=0, in_range=[False])
    seen = values(record(land=True))[:21].astype(np.float64)
    np.testing.assert_allclose(kept.scaling.mean, np.nanmean(seen), rtol=1e-12)
    np.testing.assert_allclose(kept.scaling.std, np.nanstd(seen), rtol=1e-9)
    assert kept.never.flatten().nonzero()[:, 0].tolist() == [8, 9]
    ranged = gather(archive, by_year(archive, "train", 1920), trend=0, in_range=[True])
    scaled = ranged.scaling.encode(torch.from_numpy(seen)[:, None])
    assert float(scaled.min()) == pytest.approx(-1, abs=1e-9)
    assert float(scaled.max()) == pytest.approx(1, abs=1e-9)
    assert by_year(archive, "val", 1920, before=3)(8) == [18, 19, 20, 21, 22]  # from 1921 on, and up to 1929
    assert by_year(archive, "val", 1936, before=3)(6) == [34]  # 1937 and 1938 are too short, 1939 is taken too
    with pytest.raises(BadInput, match="no 9 fields in a row of which all but 3 are in test"):
        by_year(archive, "test", 1935, before=3)(9)
    with pytest.raises(BadInput, match="leaves none for test"):
        years_of(archive, "test", 1938)
    with pytest.raises(BadInput, match="unknown split"):
        years_of(archive, "rest", 1938)


def test_the_spread_of_cells_is_that_of_their_noise(tmp_path):
    draw = np.random.default_rng(0)
    made = record(400)
    made["tas"] = made.tas * 0 + (280 + np.arange(1, 25).reshape(4, 6) * draw.normal(size=(400, 4, 6)))
    made.tas.attrs["units"] = "K"
    made.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with open_archive(tmp_path / "a.nc", ["tas"]) as opened:
        kept = gather(opened, by_year(opened, "train", 2299), trend=10, in_range=[False])
    found = kept.cells.flatten() * kept.scaling.std[0] / torch.arange(1, 25)
    assert float((found - 1).abs().max()) < 0.12  # 400 values: 3.5 % each


# ---- verbs --------------------------------------------------------------------------------------------------------


def test_without_anything_beside_it_a_forecast_is_the_line_through_the_past():
    known = record(12)
    made = emulator(still, trend=9).forecast(known, 3, members=2)
    x = values(known)[-9:]
    for i, j in np.ndindex(4, 6):
        wanted = np.polyval(np.polyfit(np.arange(9), x[:, i, j], 1), [9, 10, 11])
        np.testing.assert_allclose(values(made)[:, :, i, j], np.stack([wanted] * 2), atol=2e-3)
    assert [t.year for t in made.time.values] == [1912, 1913, 1914]
    assert made.tas.attrs["units"] == "K"


def test_of_a_long_record_only_the_end_is_read():
    known = record(30)
    broken = known.where(known.time > known.time[19])  # what is missing everywhere cannot be read
    broken.tas.attrs = known.tas.attrs
    model = emulator(noisy, trend=9)
    np.testing.assert_array_equal(values(model.forecast(broken, 3)), values(model.forecast(known, 3)))
    with pytest.raises(BadInput, match="missing everywhere"):
        emulator(noisy, trend=11).forecast(broken, 3)


def test_members_are_their_own_whatever_their_number():
    model = emulator(noisy, trend=9)
    many, few = (values(model.forecast(record(12), 7, members=n, seed=5)) for n in (11, 2))
    np.testing.assert_array_equal(many[:2], few)
    assert np.abs(many[0] - many[1]).max() > 0.1
    assert np.abs(values(model.forecast(record(12), 7, members=2, seed=6)) - few).max() > 0.1


def test_every_window_sees_what_was_drawn_before():
    def one_more(sampler, x, known, rng, coarse):
        """Each field is the last known one and one more for each step."""
        last = x[:, 1:2]
        return torch.where(known, x, last + torch.arange(-1, 4).view(1, 5, 1, 1, 1))

    made = values(emulator(one_more).forecast(record(5), 8, members=1))[0]
    last = values(record(5))[-1]
    np.testing.assert_allclose(made, last + 2 * np.arange(1, 9)[:, None, None], atol=1e-3)  # a unit is 2 K


def test_known_cells_come_back_and_missing_ones_are_filled():
    given = record(9)
    holes = np.random.default_rng(3).random((9, 4, 6)) < 0.8
    holes[4] = True
    sparse = given.where(xr.DataArray(~holes, dims=("time", "lat", "lon")))
    made = values(emulator(noisy).complete(sparse, members=2))
    np.testing.assert_array_equal(made[:, ~holes], np.stack([values(given)[~holes]] * 2))
    assert np.isfinite(made).all()


def test_states_between_are_drawn_at_the_steps_of_the_model():
    given = record(9).isel(time=[0, 4, 8])
    made = emulator(noisy).interpolate(given, members=2)
    assert [t.year for t in made.time.values] == list(range(1900, 1909))
    np.testing.assert_array_equal(values(made)[:, [0, 4, 8]], np.stack([values(given)] * 2))
    with pytest.raises(BadInput, match="missing everywhere"):
        emulator(noisy).interpolate(given.where(given.time != given.time[1]))


def test_land_stays_empty():
    given = record(12, land=True)
    made = values(emulator(noisy, trend=9, dataset=given).forecast(given, 5, members=2))
    assert np.isnan(made[:, :, 1, 2:4]).all()
    assert np.isnan(made).sum() == 2 * 5 * 2


def test_climatology_comes_from_nothing():
    made = emulator(noisy).climatology(record(3), 7, members=30)
    assert made.sizes["time"] == 7
    assert abs(float(made.tas.mean()) - 280) < 0.05
    assert abs(float(made.tas.std()) - 2) < 0.05
    with pytest.raises(BadInput, match="from nothing there is none"):
        emulator(noisy, trend=9).climatology(record(12))


def test_what_does_not_fit_is_one_line():
    model = emulator(noisy, trend=9)
    twice = xr.concat([record(12), record(12)], "member")
    for wrong, line in (
        (record(8), "give more of the record"),
        (record(12).isel(time=[0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]), "time has a gap"),
        (record(12).isel(lat=slice(0, 3)), "grid is not the model's"),
        (record(12).convert_calendar("noleap", align_on="year"), "calendar"),
        (record(1), "time has 1 step"),
        (twice, "2 members; choose one"),
    ):
        with pytest.raises(BadInput, match=line):
            model.forecast(wrong)
    with pytest.raises(BadInput, match="steps must be at least 1"):
        model.forecast(record(12), 0)
    with pytest.raises(BadInput, match="members must be at least 1"):
        model.forecast(record(12), 2, members=0)
    odd = record(12).assign_coords(time=[*record(12).time.values[:-1], cftime.datetime(1911, 9, 1, calendar="360_day")])
    with pytest.raises(BadInput, match="not a whole number of steps"):
        model.complete(odd)


class Normal(torch.nn.Module):
    """The exact denoiser of independent standard normal cells."""

    schedule = staticmethod(cosine(-12, 12))
    noise = White()

    def forward(self, x_t, t, cond=None):
        alpha, sigma = (v.view(-1, *[1] * (x_t.ndim - 1)).to(x_t) for v in self.schedule(t))
        return alpha * x_t / (alpha**2 + sigma**2)

    def bend(self, x):
        return x

    unbend = bend


@pytest.mark.parametrize("trend", [0, 7])
def test_a_finer_grid_has_the_means_it_was_given_and_its_own_spread_within(trend):
    recipe = replace(SMALL, published=True)
    given = record(12)
    model = replace(emulator(still, trend=trend), draw=lambda *a: recipe.draw(Normal(), *a), sampler=DDIM(40))
    past, later = given.isel(time=slice(0, 8)), given.isel(time=slice(8, 12))
    areas = xr.DataArray(model.spec.grid.areas, dims=("lat", "lon"))
    pooled = (later.tas * areas).coarsen(lat=2, lon=3).sum() / areas.coarsen(lat=2, lon=3).sum()
    coarse = pooled.to_dataset(name="tas").transpose("time", "lat", "lon")
    coarse.tas.attrs["units"] = "K"
    for name in ("lat", "lon"):
        coarse[name].attrs = given[name].attrs
    made = model.super_resolve(coarse, past, members=4 if trend else 100)  # many for the spread, judged without trend
    assert [t.year for t in made.time.values] == [1908, 1909, 1910, 1911]
    back = (made.tas * areas).coarsen(lat=2, lon=3).sum() / areas.coarsen(lat=2, lon=3).sum()
    assert float(np.abs(back.transpose("member", ...).values - coarse.tas.values).max()) < 0.02
    within = values(made).std(0) / (model.statistics.cells[0].numpy() * 2)
    shares = areas.values.reshape(2, 2, 2, 3).sum((1, 3)).repeat(2, 0).repeat(3, 1)
    if not trend:  # cells of one spread: of the sum of six only the share of each is taken away
        weights = areas.values / shares
        square = (weights**2).reshape(2, 2, 2, 3).sum((1, 3)).repeat(2, 0).repeat(3, 1)
        np.testing.assert_allclose(within.mean(0), np.sqrt(1 - weights**2 / square), atol=0.12)
    with pytest.raises(BadInput, match="not blocks of whole cells"):
        model.super_resolve(coarse.assign_coords(lon=coarse.lon + 2.5), past)


def test_drift_is_told():
    draw = np.random.default_rng(0)
    known, weights = draw.normal(size=(20, 8, 8)), np.full((8, 8), 1 / 64)
    fine = drift("tas", "K", known, draw.normal(size=(5, 8, 8, 8)), weights)
    smooth = drift("tas", "K", known, 0.5 * draw.normal(size=(5, 8, 8, 8)) + 3, weights)
    assert not fine.drifting
    assert smooth.drifting
    assert smooth.means[-1] == pytest.approx(3, abs=0.1)
    assert smooth.roughness[-1] == pytest.approx(0.25, abs=0.03)
    json.dumps(smooth.to_json())


# ---- recipe -------------------------------------------------------------------------------------------------------


def test_what_training_shows_is_what_verbs_ask_for():
    recipe = replace(SMALL, past=3, current=4)
    known = recipe.known(Rng.batch(0, 4000), (7, 4, 6))[:, :, 0]
    frames = known.all((2, 3))
    past = frames[:, :3].all(1) & ~known[:, 3:].any((1, 2, 3))
    assert 0.42 < past.float().mean() < 0.51  # 0.8 * 0.875 * 0.88 (none of the current by chance) * 0.75
    assert 0.1 < (~known.any((1, 2, 3))).float().mean() < 0.15
    assert not frames[:, 3:].all(1).any()
    share = known[:, 3:].float().mean((1, 2, 3))
    partly = (known & ~frames[:, :, None, None]).any((1, 2, 3)).float().mean()
    assert 0.2 < partly < 0.3
    assert float(share.max()) < 1


def test_the_loss_looks_at_unknown_cells_that_are_there():
    recipe, model = SMALL, SMALL.model()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.05)
    batch = torch.randn(2, 5, 1, 4, 6)
    known = recipe.known(Rng.batch(4, 2), (5, 4, 6))
    assert known.any()
    assert not known.all()
    seen = Rng.batch(4, 2)
    base = recipe.loss(model, batch, seen)
    holes = batch.clone()
    holes[0, -1, 0, 0, 0] = torch.nan
    assert recipe.loss(model, holes, Rng.batch(4, 2))[0].isfinite()
    assert recipe.loss(model, holes, Rng.batch(4, 2))[1] == base[1]
    assert recipe.loss(model, holes, Rng.batch(4, 2))[0] != base[0]


def test_rotations_of_two_windows_keep_the_covariance(archive):
    recipe = replace(SMALL, trend=6, mix=True, until=1930)
    source = replace_source(recipe, archive)
    plain = replace(recipe, mix=False).batch(source, range(400))
    mixed = recipe.batch(source, range(400))
    there = ~plain.isnan()
    assert (there == ~mixed.isnan()).all()
    one, two = (x.nan_to_num(0.0).square().mean((0, 2, 3, 4)) for x in (plain, mixed))
    assert float((two / one - 1).abs().max()) < 0.15
    assert float(mixed.nan_to_num(0.0).mean().abs()) < 0.02


def replace_source(recipe, archive):
    begins = by_year(archive, "train", 1930)
    return FieldWindows(archive, begins, gather(archive, begins, trend=recipe.trend, in_range=[False]))


def test_windows_are_functions_of_their_seed_and_stay_in_their_years(archive):
    source = replace_source(SMALL, archive)
    all_of_it = values(record(land=True))
    for seed in range(20):
        window = source.sample(seed, length=6)[:, 0]
        np.testing.assert_array_equal(window, source.sample(seed, length=6)[:, 0])
        starts = [i for i in range(26) if np.array_equal(all_of_it[i : i + 6], window, equal_nan=True)]
        assert len(starts) == 1


def test_learned_transforms_are_there_and_back():
    model = Learned(SMALL.model().model, [1])
    x = torch.rand(2, 5, 2, 4, 6) * 2 - 1
    bent = model.bend(x)
    torch.testing.assert_close(bent[:, :, 0], x[:, :, 0])
    assert float((bent[:, :, 1] - x[:, :, 1]).detach().abs().max()) > 0.01
    torch.testing.assert_close(model.unbend(bent), x, atol=1e-5, rtol=0)
    assert isinstance(model.maps["1"], Monotone)
    loss = model.stretch(x, -0.9)
    loss.backward()
    assert all(p.grad is not None for p in model.maps["1"].parameters())
    assert float(SMALL.model().stretch(x, 0.0)) == 0.0


def test_the_published_model_has_its_size_and_brings_known_cells_in_while_drawing():
    recipe = replace(SMALL, published=True)
    x = torch.randn(2, 5, 1, 4, 6)
    known = torch.zeros(2, 5, 1, 4, 6, dtype=torch.bool)
    known[:, :2] = True
    made = recipe.draw(Normal(), DDIM(10), x, known, Rng.batch(0, 2), None)
    torch.testing.assert_close(made[known], x[known])
    free = recipe.draw(Normal(), DDIM(10), x, torch.zeros_like(known), Rng.batch(0, 2), None)
    assert abs(float(free.std()) - 1) < 0.2


def test_training_ends_in_a_model_that_forecasts_and_resumes_to_the_bit(tmp_path):
    record().to_netcdf(tmp_path / "record.nc", engine="h5netcdf")
    recipe = replace(SMALL, trend=9, mix=True, variables="tas")
    source = recipe.source(tmp_path / "record.nc", "train")
    card = Card("climate", "tiny", to_fields(recipe), seed=1, about={"data": "record"} | recipe.about(source))
    for name, steps in (("one", (4,)), ("two", (2, 4))):
        for last in steps:
            list(train(recipe, source, tmp_path / name, card=card, steps=last))
    one, two = (checkpoint.read(tmp_path / n / "model.safetensors")[0] for n in ("one", "two"))
    assert all(torch.equal(one[k], two[k]) for k in one)
    model = checkpoint.load(tmp_path / "one")
    made = model.forecast(record(12), 4, members=2)
    assert np.isfinite(values(made)).all()
    sheet = recipe.sheet(model, recipe.source(tmp_path / "record.nc", "train"))
    assert sheet.size[0] > 5 * 6
    with pytest.raises(BadInput, match="--set channels=1 --set height=4 --set width=6"):
        replace(recipe, height=8).source(tmp_path / "record.nc", "train")


def test_colours_tell_below_from_above():
    picture = tiles(torch.tensor([-3.0, 0.0, 3.0, torch.nan]).view(1, 1, 1, 4), gap=0)
    assert picture[0].tolist() == [[0, 0, 255], [255, 255, 255], [255, 0, 0], [255, 255, 255]]
