"""The verb for fields: forecasts, states between two, all cells from a few, a finer grid, as ensembles in NetCDF."""

import json
import sys
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from framefill.errors import BadInput

if TYPE_CHECKING:
    import xarray as xr

    from framefill.climate.emulator import Emulator

Task = Literal["forecast", "interpolate", "complete", "climatology", "super-resolve"]


def emulate(
    start: Annotated[str, tyro.conf.Positional] = "",
    /,
    *,
    task: Task = "forecast",
    model: Annotated[str, tyro.conf.arg(aliases=["-m"])] = "hadcm3",
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    steps: int = 10,
    members: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 20,
    like: str | None = None,
    stations: Path | None = None,
    calls: int | None = None,
    seed: int = 0,
    device: str = "auto",
    overwrite: Annotated[bool, tyro.conf.arg(aliases=["-y"])] = False,
    dry_run: bool = False,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """An ensemble of climate or weather fields. Without a file: the next ten years of the temperatures that ship.

    Args:
        start: What is known: a NetCDF file, a Zarr store, its address, or a folder of NetCDF files.
        task: forecast: the next steps. interpolate: steps that the file leaves out. complete: all cells, from
            those that are there. climatology: fields from nothing. super-resolve: a grid of which the file has means.
        model: A model file, a run folder, or the name of a shipped model.
        output: A file, .nc or .zarr; by default a name from the input, here. Maps are drawn beside it.
        steps: How many fields to make, for forecast and climatology.
        members: How many members the ensemble has.
        like: For super-resolve: a file on the model's grid, with the fields before, if the model needs some.
        stations: For complete: a CSV file of time,latitude,longitude and the variables, of times after the record.
        calls: Network calls per block: fewer is faster, more is finer.
        seed: Same seed, same fields.
        device: cpu, cuda, or auto.
        overwrite: Replace results that are already there.
        dry_run: Say what would be done, and do nothing.
        as_json: Print one JSON object instead of file names.
    """
    from framefill.cli.options import positive
    from framefill.climate.outlook import BEFORE
    from framefill.climate.stations import with_stations

    positive(steps=steps, members=members)
    if (task == "super-resolve") != (like is not None):
        raise BadInput("--like FILE belongs to --task super-resolve, and only there: a file on the model's grid")
    if stations is not None and task != "complete":
        raise BadInput("--stations FILE belongs to --task complete")
    emulator = emulator_of(model, device, calls)
    place = _place(output, start, task)
    pictures = place.with_name(f"{place.stem}-maps.png")
    _check(place, pictures, overwrite)
    plan = {"task": task, "model": model, "input": start or "the fields that ship", "members": members,
            "steps": steps, "fields": str(place), "maps": str(pictures)}  # fmt: skip
    if dry_run:
        print(json.dumps(plan))
        return
    known = _opened(start, emulator)
    if stations is not None:
        known = with_stations(known, emulator.spec, stations)
    if task == "forecast":
        known = emulator.recent(known, at_least=BEFORE)  # the picture shows more than the model needs
    made = _made(emulator, known, task, steps, members, seed, like)
    _write(made, place, model=model, seed=seed, start=start, overwrite=overwrite)
    result: dict[str, Any] = {"fields": str(place)}
    result |= _drawn(emulator, known, made, pictures)
    result["drift"] = [d.to_json() for d in _drifts(emulator, known, made)] if task == "forecast" else []
    _tell(result, as_json)


def emulator_of(model: str, device: str, calls: int | None) -> "Emulator":
    """The model of fields of that name, drawing in `calls` network calls. Raises BadInput for another kind."""
    from framefill.cli.options import Options, positive, product
    from framefill.climate.emulator import Emulator

    if calls is not None:
        positive(calls=calls)
    return product(Options(model=model, device=device, calls=calls), Emulator, "fields")


def _place(output: Path | None, start: str, task: str) -> Path:
    from framefill.climate.write import SUFFIXES

    if output is None:
        stem = Path(start.rstrip("/")).name.split(".")[0] if start else "hadcm3"
        return Path(f"{stem}-{task}.nc")
    if output.suffix not in SUFFIXES:
        raise BadInput(f"cannot write {output}: its suffix must be one of {', '.join(SUFFIXES)}")
    return output


def _check(place: Path, pictures: Path, overwrite: bool) -> None:
    there = [p for p in (place, pictures) if p.exists()]
    if there and not overwrite:
        raise BadInput(f"{there[0]} exists; use --overwrite, or another name with -o")
    if not place.parent.is_dir():
        raise BadInput(f"there is no folder {place.parent}; make it first, or choose another with -o")


def _opened(start: str, emulator: "Emulator") -> "xr.Dataset":
    """What is known, as far as the shipped example goes: up to where training of the model ended."""
    from framefill.climate.archive import open_dataset

    if start:
        return open_dataset(start)
    with as_file(files("framefill").joinpath("data/hadcm3.nc")) as path:
        whole = open_dataset(path).load()
    return whole.isel(time=[t.year <= emulator.statistics.years[1] for t in whole.time.values.tolist()])


def _made(
    emulator: "Emulator", known: "xr.Dataset", task: Task, steps: int, members: int, seed: int, like: str | None
) -> "xr.Dataset":
    from framefill.climate.archive import open_dataset

    if task == "forecast":
        return emulator.forecast(known, steps, members=members, seed=seed)
    if task == "climatology":
        return emulator.climatology(known, steps, members=members, seed=seed)
    if task == "super-resolve":
        return emulator.super_resolve(known, open_dataset(str(like)), members=members, seed=seed)
    verb = emulator.interpolate if task == "interpolate" else emulator.complete
    return verb(known, members=members, seed=seed)


def _write(made: "xr.Dataset", place: Path, *, model: str, seed: int, start: str, overwrite: bool) -> None:
    from framefill.checkpoint import locate
    from framefill.climate.write import provenance, write
    from framefill.features.packages import fingerprint

    file = locate(model)
    made.attrs = provenance(
        model=f"{file.name} (sha256 {fingerprint(file)[:16]})", seed=seed, members=made.sizes["member"],
        source=start or "framefill/data/hadcm3.nc",
    )  # fmt: skip
    write(made, place, overwrite=overwrite)


def _drifts(emulator: "Emulator", known: "xr.Dataset", made: "xr.Dataset") -> list[Any]:
    from framefill.climate.drift import drift

    weights = emulator.statistics.spec.grid.weights
    before, after = emulator.arrays(known)[0], emulator.arrays(made)
    return [drift(v.name, v.unit, before[:, i], after[:, :, i], weights) for i, v in enumerate(emulator.spec.variables)]


def _drawn(emulator: "Emulator", known: "xr.Dataset", made: "xr.Dataset", place: Path) -> dict[str, str]:
    """Pictures of the ensemble, one for each variable; none, with a word on it, without matplotlib."""
    from framefill.climate.canvas import save
    from framefill.climate.outlook import outlook
    from framefill.errors import NotInstalled

    before, after = emulator.arrays(known)[0], emulator.arrays(made)
    times = emulator.labels(known), emulator.labels(made)
    if before.shape[-2:] != after.shape[-2:]:  # means on a coarser grid, of which a map would say nothing
        before, times = before[:0, :, :1, :1], ([], times[1])
    drawn = []
    try:
        for i, variable in enumerate(emulator.spec.variables):
            figure = outlook(variable, emulator.spec.grid, before[:, i], after[:, :, i], times)
            name = place if len(emulator.spec.variables) == 1 else place.with_stem(f"{place.stem}-{variable.name}")
            drawn.append(str(save(figure, name)))
    except NotInstalled as error:
        print(f"framefill: no maps: {error}", file=sys.stderr)
    return {"maps": ", ".join(drawn)} if drawn else {}


def _tell(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(result))
        return
    for key in ("fields", "maps"):
        if key in result:
            print(f"{key:12s} {result[key]}")
    for one in result["drift"]:
        word = "DRIFTING: the last fields are far rougher or smoother than known ones" if one["drifting"] else "none"
        print(f"{'drift':12s} {word} ({one['name']}: mean {one['known_mean']} to {one['means'][-1]} {one['unit']}, "
              f"roughness x{one['roughness'][-1]})")  # fmt: skip
    sys.stdout.flush()
