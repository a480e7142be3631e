"""What fastopt.fit refuses, before anything changes."""

import numpy as np
import pytest
from fitting import network, problem

import fastopt as fo
from fastopt import nn

X, Y = problem()
NAN, INFINITE = X.copy(), X.copy()
CROSS_ENTROPY = {"loss": "cross_entropy"}
LABELS = np.digitize(X[:, 0], [-0.5, 0.5])
ONE_HOT = np.eye(3, dtype=int)[LABELS]
THREE = {"model": nn.Sequential(nn.Linear(5, 3), rng=0)}
NAN[2, 0] = np.nan
INFINITE[3, 2] = np.inf


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"X": NAN}, ValueError, r"X holds NaN or infinity \(as float32\), first in row 2"),
        ({"X": INFINITE}, ValueError, "X holds NaN or infinity .* row 3"),
        ({"X": X.astype(np.float64) * 1e300}, ValueError, r"X holds NaN or infinity \(as float32\)"),
        ({"X": X[:, :4]}, ValueError, r"X has shape \(70, 4\), which the model does not take: Linear\(5, 9\)"),
        ({"X": X[:, 0]}, ValueError, r"X has shape \(70,\)"),
        ({"X": X[:0], "y": Y[:0]}, ValueError, r"X has shape \(0, 5\): it has no rows"),
        ({"X": X.astype(str)}, TypeError, "X must hold real numbers, not <U"),
        ({"X": X.astype(complex)}, TypeError, "X must hold real numbers, not complex128"),
        ({"X": [[1, 2], [3]]}, (TypeError, ValueError), None),
        ({"y": Y[:-1]}, ValueError, r"y has shape \(69, 1\), .* \(70, 1\)"),
        ({"y": np.stack([Y, Y], 1)}, ValueError, r"y has shape \(70, 2\), .* \(70, 1\)"),
        ({"y": Y * 2}, ValueError, r"y must be in \[0, 1\] .* from 0 to 2"),
        ({"y": np.where(Y, 1, -1)}, ValueError, r"y must be in \[0, 1\] .* from -1 to 1"),
        ({"y": np.where(Y, np.nan, 0)}, ValueError, r"y holds NaN or infinity .*, first in row"),
        ({"y": np.where(Y, "malignant", "benign")}, TypeError, "y must hold real numbers, not <U9"),
        ({"y": np.array([None] * 70)}, TypeError, "y must hold real numbers, not object"),
        ({"validation": (X[:, :4], Y)}, ValueError, r"validation X has shape \(70, 4\), X has \(70, 5\)"),
        ({"validation": (X, Y[1:])}, ValueError, r"validation y has shape \(69, 1\), .* \(70, 1\)"),
        ({"validation": (X, Y + 1)}, ValueError, r"validation y must be in \[0, 1\]"),
        ({"validation": (INFINITE, Y)}, ValueError, "validation X holds NaN"),
        ({"validation": (X[:0], Y[:0])}, ValueError, "validation X has shape .* no rows"),
        ({"validation": X}, TypeError, "validation must be a pair"),
        ({"epochs": -1}, ValueError, "epochs must be at least 0, not -1"),
        ({"epochs": 1.5}, TypeError, "epochs must be an int, not float"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, not 0"),
        ({"batch_size": "32"}, TypeError, "batch_size must be an int, not str"),
        ({"loss": "hinge"}, ValueError, "loss must be one of 'logistic', .*, 'mse', 'huber', .* not 'hinge'"),
        ({"loss": None}, ValueError, "loss must be one of"),
        ({**CROSS_ENTROPY, "y": Y}, TypeError, "y must hold integer labels for the cross-entropy, not bool"),
        ({**CROSS_ENTROPY, "y": Y + 0.0}, TypeError, "y must hold integer labels .*, not float64"),
        ({**CROSS_ENTROPY, "y": Y + 0}, ValueError, r"y must be from 0 to 0, .* 1 outputs; it goes from 0 to 1"),
        ({**CROSS_ENTROPY, "y": Y - 1}, ValueError, "it goes from -1 to 0"),
        ({**CROSS_ENTROPY, "y": np.zeros((70, 1), int)}, ValueError, r"y has shape \(70, 1\), .* it is \(70,\)"),
        ({**CROSS_ENTROPY, "y": np.zeros(69, int)}, ValueError, r"y has shape \(69,\), .* 70 rows"),
        ({**CROSS_ENTROPY, "y": np.zeros(70, int), "validation": (X, Y + 0)}, ValueError, "validation y must be"),
        ({"loss": "mse", "y": np.where(Y, np.inf, 0)}, ValueError, r"y holds NaN or infinity \(as float32\), first"),
        ({"loss": "mse", "y": Y[1:]}, ValueError, r"y has shape \(69, 1\), .* \(70, 1\)"),
        ({**THREE, "y": LABELS}, ValueError, r"from 0 to 2; for labels of 3 classes, give loss=\"cross_entropy\""),
        ({**THREE, "y": LABELS, "loss": "mse"}, ValueError, r"has \(70, 3\); for labels of 3 classes, give loss="),
        ({"y": LABELS}, ValueError, "from 0 to 2; labels of classes need a model with an output for each"),
        ({**THREE, **CROSS_ENTROPY, "y": ONE_HOT * 2}, ValueError, r"probabilities, from 0 to 1, or labels .* \(70,\)"),
        ({**THREE, **CROSS_ENTROPY, "y": ONE_HOT / 2}, ValueError, "probabilities: row 0 adds up to 0.5, not 1"),
        ({**THREE, **CROSS_ENTROPY, "y": LABELS[:, None]}, ValueError, r"it is \(70,\); y.ravel\(\) has it"),
        ({**THREE, **CROSS_ENTROPY, "y": LABELS + 0.0}, TypeError, r"not float64; y.astype\(int\) makes labels of"),
        ({**THREE, **CROSS_ENTROPY, "y": LABELS + 0.5}, TypeError, "not float64$"),
        ({"shuffle": "x"}, TypeError, "shuffle must be True or False, not 'x'"),
        ({"shuffle": 1}, TypeError, "shuffle must be True or False, not 1"),
        ({"grad_norm": "no"}, TypeError, "grad_norm must be True or False, not 'no'"),
        ({"progress": 1}, TypeError, "progress must be True, False or None, not 1"),
        ({"validation": 0.0}, ValueError, "validation must be a fraction between 0 and 1, or data, not 0.0"),
        ({"validation": 1}, ValueError, "validation must be a fraction between 0 and 1, or data, not 1"),
        ({"validation": np.nan}, ValueError, "validation must be a finite number"),
        ({"validation": True}, TypeError, "validation must be a number, not bool"),
        ({"validation": "20%"}, TypeError, "validation must be a number, not str"),
        ({"validation": 0.001}, ValueError, "validation=0.001 of 70 rows: 0 to validate, 70 to train on"),
        ({"validation": 0.999}, ValueError, "validation=0.999 of 70 rows: 70 to validate, 0 to train on"),
        ({"validation": (X,)}, TypeError, "validation must be a pair"),
        ({"validation": (X, Y, np.ones(3))}, ValueError, r"validation sample_weight has shape \(3,\), for 70 rows"),
        ({"sample_weight": np.ones(69)}, ValueError, r"sample_weight has shape \(69,\), for 70 rows it is \(70,\)"),
        ({"sample_weight": np.ones((70, 1))}, ValueError, r"sample_weight has shape \(70, 1\)"),
        ({"sample_weight": np.arange(70) - 1.0}, ValueError, "sample_weight must be at least 0; in row 0 it is -1.0"),
        ({"sample_weight": np.full(70, np.nan)}, ValueError, "sample_weight holds NaN or infinity .* row 0"),
        ({"sample_weight": np.zeros(70)}, ValueError, "sample_weight are all 0, of the rows that count"),
        ({"sample_weight": ["a"] * 70}, TypeError, "sample_weight must hold real numbers"),
        ({"accumulate": 0}, ValueError, "accumulate must be at least 1, not 0"),
        ({"accumulate": 2.0}, TypeError, "accumulate must be an int, not float"),
        ({"clip_norm": 0}, ValueError, "clip_norm must be above 0, not 0"),
        ({"clip_norm_per_tensor": -1}, ValueError, "clip_norm_per_tensor must be above 0"),
        ({"clip_value": "1"}, TypeError, "clip_value must be a number, not str"),
        ({"clip_norm": 1, "clip_norm_per_tensor": 2}, ValueError, "clip_norm=1.0 and .*=2.0: give one"),
        ({"on_nonfinite": "ignored"}, ValueError, "on_nonfinite must be .*, not 'ignored'"),
        ({"ema": 1.0}, ValueError, r"ema must be a finite number in \[0, 1\), not 1.0"),
        ({"ema": "yes"}, TypeError, "ema must be a number, not str"),
        ({"rng": "seed"}, (TypeError, ValueError), None),
        ({"rng": -1}, ValueError, None),
        ({"progress": "yes"}, TypeError, "progress must be True, False or None, not 'yes'"),
        ({"optimizer": None}, TypeError, "optimizer must be one of fastopt.optim, not NoneType"),
        ({"model": nn.Sequential}, TypeError, "model must be a fastopt.nn.Layer"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_anything_changes(change, error, message):
    model = change.get("model")
    model = model if isinstance(model, nn.Layer) else network()
    opt = fo.optim.Adam(model.parameters())
    before = model.state_dict()
    arguments = {"model": model, "X": X, "y": Y, "optimizer": opt, "epochs": 2, **change}
    with pytest.raises(error, match=message):
        fo.fit(**arguments)
    assert opt.step_count == 0
    for name, param in model.parameters().items():
        np.testing.assert_array_equal(param, before[name])


def test_an_optimizer_over_other_parameters_is_refused():
    model, other = network(), network()
    before, theirs = model.state_dict(), other.state_dict()
    for params in (
        other.parameters(),
        {**model.parameters(), "more": np.zeros(3, np.float32)},
        {name: param.copy() for name, param in model.parameters().items()},
    ):
        with pytest.raises(ValueError, match=r"which is not of this model, whose parameters are '0\.weight'"):
            fo.fit(model, X, Y, optimizer=fo.optim.Adam(params), epochs=1)
    with pytest.raises(ValueError, match=r"the optimizer is over another model's '0\.weight', '0\.bias', "):
        fo.fit(model, X, Y, optimizer=fo.optim.Adam(other.parameters()), epochs=1)
    opt = fo.optim.Adam(model.parameters())
    wider = nn.Sequential(model, nn.Sigmoid())  # takes the parameters over
    with pytest.raises(ValueError, match="which is not of this model"):
        fo.fit(wider, X, Y, optimizer=opt, epochs=1)
    for values, network_ in ((before, model), (theirs, other)):
        for name, param in network_.parameters().items():
            np.testing.assert_array_equal(param, values[name])


def test_numbers_of_numpy_are_taken_where_pythons_are():
    model = network()
    opt = fo.optim.Adam(model.parameters())
    history = fo.fit(model, X, Y, optimizer=opt, epochs=np.int64(2), batch_size=np.uint8(16), accumulate=np.int32(2),
                     validation=np.float32(0.2), shuffle=np.True_, grad_norm=np.False_, ema=np.float64(0.5),
                     clip_norm=np.int8(1), checkpoint_every=np.int16(2), progress=np.False_,
                     rng=np.int64(3))  # fmt: skip
    assert len(history) == 2


def test_too_large_a_learning_rate_is_said_to_be_one():
    """First what to do, then a few of the names."""
    layers = [nn.Linear(5, 5) for _ in range(20)]
    model = nn.Sequential(*layers, nn.Linear(5, 1), rng=0)
    opt = fo.optim.SGD(model.parameters(), lr=1e9)
    with pytest.raises(
        FloatingPointError,
        match=r"^the gradients are not finite any more: lower the learning rate, 1e\+09, or clip .*"
        r"\(step \d+: gradients hold inf or NaN: '0\.weight', '0\.bias', '1\.weight', '1\.bias' and 38 more; nothing",
    ):
        fo.fit(model, X, X[:, 0], loss="mse", optimizer=opt, epochs=9)
