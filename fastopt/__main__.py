"""``python -m fastopt``: which backend, instruction set and number of threads are in use, and why."""

from .config import show_config

show_config()
