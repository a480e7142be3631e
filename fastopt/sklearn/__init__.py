"""scikit-learn's multi-layer perceptrons, trained by fastopt: ``from fastopt.sklearn import MLPClassifier``.

`MLPClassifier` and `MLPRegressor` take scikit-learn's place without another change: its parameters by name, default and
meaning, its attributes, methods, exceptions and warnings. What its users miss comes as further parameters, by keyword:
class weights, dropout, batch norm, schedules, validation data, callbacks, and every optimizer of `fastopt.optim`.

They compute in float32, unless ``dtype=None`` asks for the type of X, as scikit-learn has it. In float64, and without
what scikit-learn lacks, they begin with its weights, take its batches and so follow its loss curve, up to rounding.
"""

from .._hints import unknown_names

try:
    from ._classifier import MLPClassifier
    from ._regressor import MLPRegressor
except ImportError as error:
    raise ImportError(f"fastopt.sklearn needs scikit-learn: pip install fastopt[sklearn] ({error})") from error

__all__ = ["MLPClassifier", "MLPRegressor"]

globals()["__getattr__"] = unknown_names(__name__)
