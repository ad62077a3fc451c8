"""The pieces that the tests of joining share; a test that changes one copies it first (`copied`)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.operations.joining.study import COLLECTED, DRAWN, made

Copied = Callable[..., list[Path]]


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study run whole, with everything drawn."""
    return made(tmp_path_factory.mktemp("whole") / "whole", (*COLLECTED, *DRAWN))


@pytest.fixture(scope="session")
def by_seed(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("by_seed")
    return [made(folder / f"seed{seed}", suite=f"seed{seed}", seeds=[seed]) for seed in (0, 1)]


@pytest.fixture(scope="session")
def by_row(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Split by optimiser, so that the rows of the grid are not one piece's after the other's."""
    folder = tmp_path_factory.mktemp("by_row")
    return [
        made(folder / name, suite=name, runs=[{"methods": ["GradDiff", "NPO"], "optimizers": [name]}])
        for name in ("adamw", "sophia")
    ]


@pytest.fixture
def copied(tmp_path: Path) -> Copied:
    """Copies of pieces that a test may change."""

    def copy(pieces: list[Path], *names: str) -> list[Path]:
        there = [tmp_path / name for name in names or [piece.name for piece in pieces]]
        for piece, place in zip(pieces, there, strict=True):
            shutil.copytree(piece, place)
        return there

    return copy
