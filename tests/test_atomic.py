"""A file is whole or not there."""

import errno
import os

import pytest

from framefill.atomic import replacing
from framefill.errors import Failed, NotWritten


def test_what_was_written_takes_the_place(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
        assert part.parent == tmp_path  # a rename across file systems would be a copy
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "new"


def break_down_at(part):
    part.write_text("half")
    raise ZeroDivisionError


def test_after_an_exception_the_old_file_is_there_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as part:
        break_down_at(part)
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with (
        pytest.raises(NotWritten, match=r"cannot write .*missing/a.txt: No such file"),
        replacing(tmp_path / "missing" / "a.txt") as part,
    ):
        part.write_text("new")
    with pytest.raises(NotWritten, match="cannot write"), replacing(tmp_path / "b.txt"):
        pass  # nothing was written


@pytest.mark.parametrize(("number", "kind"), [(errno.EROFS, NotWritten), (errno.ENOSPC, Failed), (errno.EIO, Failed)])
def test_a_place_that_takes_no_files_is_bad_input_and_a_full_disk_a_failure(tmp_path, number, kind):
    with pytest.raises(kind, match="cannot write"), replacing(tmp_path / "a.txt"):
        raise OSError(number, os.strerror(number))
