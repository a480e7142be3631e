"""Records sklearn_standardizer.npz: what scikit-learn's StandardScaler makes of a few features (see README.md).

python tests/golden/record_standardizer.py, where scikit-learn is installed.
"""

from pathlib import Path

import numpy as np
import sklearn
from sklearn.preprocessing import StandardScaler


def main():
    rng = np.random.default_rng(2024)
    X = rng.standard_normal((60, 7))
    X[:, 1] = 100 + 0.01 * X[:, 1]  # its mean is 10^4 times its deviation
    X[:, 2] *= 1e6
    X[:, 3] = 0.1  # constant, and not a number of few bits
    X[:, 4] = 0
    X[:, 5] = X[:, 5] > 0
    recorded = {"version": sklearn.__version__, "X": X}
    for dtype in ("float64", "float32"):
        scaler = StandardScaler()
        recorded[f"{dtype}_Z"] = scaler.fit_transform(X.astype(dtype))
        recorded[f"{dtype}_mean"], recorded[f"{dtype}_scale"] = scaler.mean_, scaler.scale_
        recorded[f"{dtype}_inverse"] = scaler.inverse_transform(recorded[f"{dtype}_Z"][:5] + 1)
    np.savez_compressed(Path(__file__).with_name("sklearn_standardizer.npz"), **recorded)


if __name__ == "__main__":
    main()
