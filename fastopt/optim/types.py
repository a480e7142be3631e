"""What constructors of optimizers are given."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Arrays = np.ndarray | Sequence[np.ndarray] | Mapping[str, np.ndarray]
Groups = Sequence[Mapping[str, Any]]
Params = Arrays | Groups

Number = float | Callable[[int], float]  # or a schedule of it
Pair = tuple[Number, Number]
Triple = tuple[Number, Number, Number]
Hyperparameters = Mapping[str, Any]  # of one step, by name
