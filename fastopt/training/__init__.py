"""Training: `fit`, the `History` it returns, early stopping, and the learning-rate range test."""

from .._hints import unknown_names
from .callbacks import EarlyStopping, Run
from .history import History
from .loop import fit
from .plateau import ReduceOnPlateau
from .range_test import RangeTest, Suggestion, lr_range_test
from .step import TrainingStep

__all__ = [
    "EarlyStopping",
    "History",
    "RangeTest",
    "ReduceOnPlateau",
    "Run",
    "Suggestion",
    "TrainingStep",
    "fit",
    "lr_range_test",
]

globals()["__getattr__"] = unknown_names(__name__)
