"""Data on its way into training: batches, and features brought to one scale."""

from .batches import minibatches
from .features import Standardizer
from .labels import LabelEncoder

__all__ = ["LabelEncoder", "Standardizer", "minibatches"]
