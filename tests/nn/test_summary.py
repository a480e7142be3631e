"""summary(): names, shapes and counts, and what it leaves alone."""

import numpy as np
import pytest

from fastopt import nn


class Flatten:
    def forward(self, x):
        self.shape, self.rows = x.shape, len(x)
        return x.reshape(len(x), -1)

    def backward(self, dy):
        return dy.reshape(self.shape)


def model():
    return nn.Sequential(
        nn.Tanh(),
        nn.Linear(4, 16),
        nn.BatchNorm(16),
        nn.Residual(nn.Sequential(nn.Linear(16, 8, bias=False), nn.ReLU()), shortcut=nn.Linear(16, 8)),
        nn.Highway(8, nn.Tanh()),
        nn.Dropout(0.25),
        nn.Linear(8, 1),
    )


def test_the_whole_table():
    assert (
        str(model().summary())
        == """\
name         layer                      output   parameters
0            Tanh()                     (N, 4)            0
1            Linear(4, 16)              (N, 16)          80
2            BatchNorm(16)              (N, 16)          32
3            Residual                   (N, 8)
3.body       Sequential                 (N, 8)
3.body.0     Linear(16, 8, bias=False)  (N, 8)          128
3.body.1     ReLU()                     (N, 8)            0
3.shortcut   Linear(16, 8)              (N, 8)          136
4            Highway                    (N, 8)
4.transform  Tanh()                     (N, 8)            0
4.gate       Linear(8, 8)               (N, 8)           72
5            Dropout(0.25)              (N, 8)            0
6            Linear(8, 1)               (N, 1)            9
total                                                   457
1,828 bytes of float32, and as many of gradients"""
    )


def test_counts_are_those_of_the_parameters():
    checked = model()
    lines = str(checked.summary()).splitlines()
    counts = {line.split()[0]: int(line.split()[-1]) for line in lines[1:-2] if line.split()[-1].isdigit()}
    for name, count in counts.items():
        assert count == sum(p.size for key, p in checked.parameters().items() if key.rpartition(".")[0] == name)
    assert sum(counts.values()) == sum(p.size for p in checked.parameters().values()) == 457


def test_it_shows_itself():
    summary = nn.Sequential(nn.Linear(1000, 500, dtype=np.float64)).summary()
    assert repr(summary) == str(summary)
    assert "500,500" in summary
    assert "4,004,000 bytes of float64" in summary


def test_inputs_of_more_dimensions_and_own_layers():
    flatten = Flatten()
    images = nn.Sequential(nn.BatchNorm(3), flatten, nn.Linear(75, 2))
    lines = images.summary((3, 5, 5)).splitlines()
    assert lines[1].split()[-5:] == ["(N,", "3,", "5,", "5)", "6"]
    assert lines[2].split() == ["1", "Flatten", "(N,", "75)", "0"]
    with pytest.raises(ValueError, match=r"Linear\(75, 2\) takes \(rows, 75\), and was given"):
        images.summary((3, 4, 4))
    with pytest.raises(ValueError, match=r"summary needs input_shape: what layer 1, .*Flatten.*, takes is not known"):
        nn.Sequential(nn.Dropout(), flatten, nn.Linear(75, 2)).summary()
    with pytest.raises(ValueError, match=r"summary needs input_shape: Sequential\(Tanh\(\)\) takes any"):
        nn.Sequential(nn.Tanh()).summary()


@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        (4, TypeError, r"input_shape must be a tuple of int, such as \(30,\), not 4"),
        ((), TypeError, "input_shape must be a tuple"),
        ((4.0,), TypeError, "input_shape must be an int, not float"),
        ((0,), ValueError, "input_shape must be at least 1, not 0"),
        ((5,), ValueError, r"Linear\(4, 16\) takes \(rows, 4\), and was given \(2, 5\)"),
    ],
)
def test_shapes_that_are_refused(shape, error, message):
    checked = model()
    with pytest.raises(error, match=message):
        checked.summary(shape)
    assert checked.training


def test_it_leaves_the_model_as_it_was():
    class Counts:
        def __init__(self):
            self.buffers = {"runs": np.zeros((), int)}

        def forward(self, x):
            self.buffers["runs"] += 1
            return x

        def backward(self, dy):
            return dy

    checked = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm(8), nn.Dropout(), Counts())
    x = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    dy = checked(x)
    checked[2].eval()
    modes, state = [part.training for part in checked.parts()], checked.state_dict()
    expected = checked.backward(dy)
    checked.summary()
    assert [part.training for part in checked.parts()] == modes
    for name, value in checked.state_dict().items():
        np.testing.assert_array_equal(value, state[name])
    np.testing.assert_array_equal(checked.backward(dy), expected)
