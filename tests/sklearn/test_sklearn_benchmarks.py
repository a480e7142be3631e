"""The benchmark of fastopt.sklearn: every targeted case is there, and its scores are compared before it is timed."""

import sys

import pytest

theirs = pytest.importorskip("sklearn.neural_network", reason="fastopt.sklearn is made for scikit-learn")

from helpers import ROOT  # noqa: E402

sys.path.append(str(ROOT))  # last: the fastopt that is tested stays the one that is installed

from benchmarks import in_sklearn, measure, targets  # noqa: E402

SETUP = measure.Setup(threads=[1], peers={"sklearn": theirs})


def test_every_targeted_case_exists():
    wanted = {name for target in targets.TARGETS for name in target.cases if name.startswith("sklearn: ")}
    assert wanted == {spec.name for spec in in_sklearn.specs(SETUP)}
    assert len(in_sklearn.SMALL) == 8


def test_a_case_is_right_and_a_wrong_one_is_not_timed():
    spec = next(in_sklearn.specs(SETUP))
    case = spec.build()
    right, errors, _ = measure._check(case, spec.name)
    assert [side.name for side in right] == ["fastopt", "sklearn"]
    assert errors["fastopt"] <= case.tolerance < 0.1
    case.reference = lambda: [0.5]
    with pytest.raises(AssertionError, match="it is not timed"):
        measure._check(case, spec.name)
