"""Shared by all tests: one thread, no network, and a recipe small enough to train in a second."""

import sys
from dataclasses import replace

import pytest
import torch

import offline
from framefill import cli
from framefill.checkpoint import Card
from framefill.recipes.mcvd import MCVD, TINY
from framefill.recipes.recipe import to_fields

torch.set_num_threads(1)
offline.stay()


@pytest.fixture
def small() -> MCVD:
    """Our recipe on 64x64 digits with a network of 4 channels."""
    return replace(TINY, features=4, multipliers=(1, 2), attention=(False, True), head_width=4, patch=4, batch_size=4,
                   past=2, current=2, future=1, warmup=2, steps=8, dropout=0.1, residual=0.0)  # fmt: skip


@pytest.fixture
def card(small: MCVD) -> Card:
    """The card of a run of `small`."""
    return Card("mcvd", "tiny", to_fields(small), seed=3, about={"data": "digits"})


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs framefill with words in this process; gives exit code, standard output and standard error."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["framefill", *map(str, words)])
        try:
            cli.main()
            code = 0
        except SystemExit as error:
            code = error.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return run
