"""Data parallel training over MPI: the same bits for any number of processes."""

from .team import Traffic, traffic

__all__ = ["Traffic", "traffic"]
