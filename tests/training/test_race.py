"""The picture of all optimizers over three surfaces."""

import sys

import numpy as np
import pytest
from helpers import OPTIMIZERS

from fastopt.examples import optimizer_race


def test_optimizers_race():
    """A new one may stay away."""
    racing = {optimizer for _, optimizer, *_ in optimizer_race.RACERS}
    assert racing <= {*OPTIMIZERS, "Muon"}
    assert len(racing) >= 20


@pytest.mark.parametrize("surface", optimizer_race.SURFACES, ids=lambda surface: surface.title)
def test_the_surfaces(surface):
    """The gradient is the loss's, which is 0 at the minima."""
    for point in surface.minima:
        assert surface.loss(*point) == pytest.approx(0, abs=1e-14)
        np.testing.assert_allclose(surface.gradient(*point), 0, atol=1e-13)
    x, y = surface.start
    difference = [
        (surface.loss(x + 1e-6, y) - surface.loss(x - 1e-6, y)) / 2e-6,
        (surface.loss(x, y + 1e-6) - surface.loss(x, y - 1e-6)) / 2e-6,
    ]
    np.testing.assert_allclose(surface.gradient(x, y), difference, rtol=1e-6)


@pytest.mark.parametrize("i", range(len(optimizer_race.SURFACES)))
def test_everyone_descends(i):
    surface = optimizer_race.SURFACES[i]
    for label, optimizer, options, rates, *_ in optimizer_race.RACERS:
        positions = optimizer_race.path(surface, optimizer, options, rates[i])
        assert positions.shape == (surface.steps + 1, 2)
        assert tuple(positions[0]) == surface.start
        assert surface.loss(*positions[-1]) < 0.02 * surface.loss(*surface.start), label


def test_labels_are_spread():
    placed = optimizer_race.spread([0.0, 0.5, 0.5, 0.51, 1.0], 0.1)
    np.testing.assert_allclose(placed, [0.0, 0.5, 0.6, 0.7, 1.0])
    assert np.diff(optimizer_race.spread([0.99, 0.99, 0.99], 0.1)).min() >= 0.1 - 1e-12
    assert optimizer_race.spread([0.99, 0.99, 0.99], 0.1).max() <= 1


@pytest.mark.slow
def test_draws_a_picture(tmp_path, capsys):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    picture = tmp_path / "race.png"
    optimizer_race.main(["--output", str(picture)])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert str(picture) in capsys.readouterr().out


def test_says_what_to_install_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(SystemExit, match=r"pip install fastopt\[examples\]"):
        optimizer_race.main([])
