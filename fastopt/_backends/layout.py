"""How the arrays of an operation with broadcasting lie: as planes, rows and columns, with strides."""

import numpy as np


def layout(a: np.ndarray, b: np.ndarray | None, out: np.ndarray) -> tuple[int, ...] | None:
    """Three lengths and, for a, b and out, three strides in elements; None if three axes are too few.

    Axes of length 1 are left out, and neighbours that all arrays go through in one stride are taken together.
    """
    item, shape = out.itemsize, out.shape
    arrays = [np.broadcast_to(a, shape), np.broadcast_to(a if b is None else b, shape), out]
    strides = [x.strides for x in arrays]
    if any(stride % item for each in strides for stride in each):
        return None
    axes: list[tuple[int, list[int]]] = []
    for k, n in enumerate(shape):
        if n == 1:
            continue
        steps = [each[k] // item for each in strides]
        if axes and all(before == n * step for before, step in zip(axes[-1][1], steps, strict=True)):
            axes[-1] = axes[-1][0] * n, steps
        else:
            axes.append((n, steps))
    if len(axes) > 3:
        return None
    axes = [(1, [0, 0, 0])] * (3 - len(axes)) + axes
    return (*(n for n, _ in axes), *(steps[i] for i in range(3) for _, steps in axes))
