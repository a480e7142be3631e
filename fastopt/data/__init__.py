"""Data on its way into training: batches, and features brought to one scale."""

from .batches import minibatches
from .features import Standardizer

__all__ = ["Standardizer", "minibatches"]
