"""The benchmark of fastopt.torch: every targeted case is there, and right."""

import sys

import pytest
from beside import torch
from helpers import ROOT

sys.path.append(str(ROOT))  # last: the fastopt that is tested stays the one that is installed

from benchmarks import in_torch, measure, targets

SETUP = measure.Setup(threads=[1], peers={"torch": torch})
SPECS = list(in_torch.specs(SETUP))


def test_every_targeted_case_exists():
    wanted = {name for target in targets.TARGETS for name in target.cases if name.startswith("torch: ")}
    assert wanted <= {spec.name for spec in SPECS}
    assert len(wanted) >= 9


@pytest.mark.parametrize("spec", [s for s in SPECS if s.group in ("MLP", "tiny")], ids=lambda spec: spec.name)
def test_every_side_is_right(spec):
    right, _, wrong = measure._check(spec.build(), spec.name)
    assert not wrong
    assert {"fastopt", "torch"} <= {side.name for side in right}
