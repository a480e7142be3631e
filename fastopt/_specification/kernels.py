"""What an instruction of a program may be, by name: the kernels of csrc/kernels/kernels.def."""

from .transcendental import OF_INPUT, OF_OUTPUT, OF_PAIRS, WITH_NUMBER

ACTIVATIONS = (*OF_OUTPUT, *OF_INPUT)
UNARY = ("exp", "log1p_unit", *ACTIVATIONS)
ELEMENTWISE = (*UNARY, "add", *(f"{name}_backward" for name in ACTIVATIONS))
# Those among them that take a number after their arrays.
NUMBERED = (*WITH_NUMBER, *(f"{name}_backward" for name in WITH_NUMBER))
KERNELS = (
    *ELEMENTWISE, "bias_add", "bias_relu", "bias_sigmoid", "bias_tanh", "scale_rows", "column_sums", "matmul",
    "softmax", "batch_norm", "batch_norm_backward", "layer_norm", "layer_norm_backward", "dropout", "dropout_forward",
    "dropout_backward", "highway", "highway_backward", "arithmetic", "row_sums", "store_sum", "copy", "move_average",
    "gather_rows", "add_up", *OF_PAIRS, "weighted_logistic_loss", "softmax_cross_entropy", "soft_cross_entropy",
)  # fmt: skip
# How a layer's dropout runs: in training, with elements that are kept, dropped by chance, or dropped; or not.
DROP_NOTHING, DROP_SOME, DROP_ALL, EVALUATE = range(4)
