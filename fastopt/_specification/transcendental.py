"""The specification of the transcendental functions: the operations of ``csrc/kernels/math.inc`` in order.

``of(dtype)`` gives the functions for float32 or float64. They work on arrays, as the NumPy reference, and,
compiled by Numba, on scalars: one text serves both, so their bits agree. Only ``+ - * /``, fused multiply-add,
comparison and bit patterns occur, no libm, so the C core agrees with them on every instruction set.
"""

from functools import cache
from types import SimpleNamespace

import numpy as np

from . import fma as fused

# The activations: functions of every element, each with name_backward(dy, value) of what it gave, or what it was given.
OF_OUTPUT = "sigmoid", "tanh", "relu"
OF_INPUT = "softplus", "log_sigmoid", "silu", "gelu", "gelu_tanh", "leaky_relu", "elu"
# Losses of an output and a target each: name(z, y, scale) is the loss and, but for a factor, scale times its gradient.
OF_PAIRS = "logistic_loss", "mse_loss", "huber_loss"
WITH_NUMBER = "leaky_relu", "elu", "huber_loss"  # those among them that take a number of their own, after all else

_CONSTANTS = {
    "float32": SimpleNamespace(
        real=np.float32,
        integer=np.int32,
        shift=23,
        magic="0x1.8p23",
        log2_e="0x1.715476p+0",
        ln2_high="0x1.62e4p-1",
        ln2_low="0x1.7f7d1cp-20",
        exp_range=(-104.0, 89.0),
        offset=64,
        exp="0x1.fffffcp-2 0x1.555492p-3 0x1.5558f2p-5 0x1.1239e2p-7 0x1.6a247ap-10",
        log1p="-0x1.ffffd2p-2 0x1.554df0p-2 -0x1.ff26e2p-3 0x1.935ca0p-3 -0x1.3a7a82p-3 0x1.b579bep-4 -0x1.d86316p-5"
        " 0x1.4b0822p-6 -0x1.b2f55ep-9",
        phi_range=(2.0**-30, 16.0, 4.5),
        phi="0x1.dd9cdap-2 -0x1.82e518p-4 0x1.86a4a2p-6 0x1.36077ap-6 -0x1.f1b1b6p-6 0x1.728a00p-6"
        " -0x1.5b1044p-7 0x1.63b6bcp-9 0x1.000dc4p-13 -0x1.7a32e2p-12 0x1.fdffb4p-15 0x1.58bc86p-15",
    ),
    "float64": SimpleNamespace(
        real=np.float64,
        integer=np.int64,
        shift=52,
        magic="0x1.8p52",
        log2_e="0x1.71547652b82fep+0",
        ln2_high="0x1.62e42fefa3p-1",
        ln2_low="0x1.3de6af278ece6p-42",
        exp_range=(-746.0, 710.0),
        offset=512,
        exp="0x1.000000000000ap-1 0x1.55555555554fap-3 0x1.555555555087cp-5 0x1.1111111127beap-7"
        " 0x1.6c16c1842a18fp-10 0x1.a01a012a559b1p-13 0x1.a0199a0c5affep-16 0x1.71df255761395p-19"
        " 0x1.28ad72d3fa133p-22 0x1.ad7f6655531b5p-26",
        log1p="-0x1.fffffffffff9fp-2 0x1.555555555102ap-2 -0x1.fffffffdd3c40p-3 0x1.99999951e59cep-3"
        " -0x1.55554fbd1f893p-3 0x1.2491feccb75a9p-3 -0x1.fffa8b0f611e1p-4 0x1.c6f6a424096dap-4 -0x1.98d285ddf73fdp-4"
        " 0x1.712dc097d615bp-4 -0x1.4b019c69bab01p-4 0x1.202cf2a0704dbp-4 -0x1.d70e50ee8cdeep-5 0x1.5a859f74097dbp-5"
        " -0x1.b62c10c4c3d25p-6 0x1.c5762b36072dap-7 -0x1.6b45966523da8p-8 0x1.a24fdfb3dc414p-10"
        " -0x1.31ee9e721771ep-12 0x1.a8f68ef60cec3p-16",
        phi_range=(2.0**-60, 40.0, 6.0),
        phi="0x1.d0568f5d76666p-2 -0x1.5c438de6f0fe7p-4 0x1.46229bd016ff7p-5 -0x1.1e9d4130ecaedp-8"
        " -0x1.08766e432cdc2p-6 0x1.7227accaeb27dp-6 -0x1.43da9f73a07dcp-6 0x1.b212c02878ec4p-7"
        " -0x1.ceac1d87e5ab2p-8 0x1.80c840e15006bp-9 -0x1.c79a7d466341cp-11 0x1.f52d0b2bc0873p-14"
        " 0x1.3d0bea8c9f8d3p-15 -0x1.ba2301d06b70cp-16 0x1.281cd0bbdd031p-18 0x1.ded84ae764c37p-20"
        " -0x1.0c548efc57493p-20 -0x1.ff3b70739e381p-32 0x1.1c4611dc98730p-23 -0x1.57961a67cbf6ep-26"
        " -0x1.0c9e45582ff18p-26 0x1.931f41976d8adp-29 0x1.ae6e822ff7eeap-30",
    ),
}


@cache
def of(dtype: str, compiled=lambda function: function, select=np.where, fma=None) -> SimpleNamespace:
    """The functions for ``dtype``, "float32" or "float64"; Numba gives its own decorator, selection and ``fma``."""
    c = _CONSTANTS[dtype]
    fma = fma or getattr(fused, dtype)
    real, integer, shift = c.real, c.integer, c.shift
    magic, log2_e, ln2_high, ln2_low = (real(float.fromhex(x)) for x in (c.magic, c.log2_e, c.ln2_high, c.ln2_low))
    exp_min, exp_max = (real(x) for x in c.exp_range)
    exp_terms = tuple(real(float.fromhex(x)) for x in reversed(c.exp.split()))
    log1p_terms = tuple(real(float.fromhex(x)) for x in reversed(c.log1p.split()))
    phi_terms = tuple(real(float.fromhex(x)) for x in reversed(c.phi.split()))
    phi_min, phi_max, phi_middle = (real(x) for x in c.phi_range)
    density, cubic = real(float.fromhex("0x1.9884533d43651p-2")), real(float.fromhex("0x1.2444f2a4d8b4bp-4"))
    linear, cubic_slope = real(float.fromhex("0x1.9884533d43651p+0")), real(float.fromhex("0x1.b6676bf7450f0p-3"))
    saturated = real(32)
    zero, half, one, two, expm1_min, sigmoid_max = (real(x) for x in (0, 0.5, 1, 2, -64, 40))
    one_bits = one.view(integer)
    double_one_bits, fraction_mask = np.float64(1).view(np.int64), np.int64((1 << 52) - 1)
    two_to_minus_offset = real(2.0**-c.offset)
    offset_bits, minus_offset_bits = real(2.0**c.offset).view(integer), two_to_minus_offset.view(integer)

    @compiled
    def power_of_two(t, bits):
        """2**(k + offset) for t = k + magic and the bits of 2**offset; k + offset within the normal exponents."""
        return integer((real(t).view(integer) << shift) + bits).view(real)

    @compiled
    def exp_reduced(x):
        """exp(x) is 2**k exp(r), k = round(x / ln 2), r = x - k ln 2: this is exp(r) - 1, and k + magic."""
        shifted = fma(x, log2_e, magic)
        k = shifted - magic
        r = fma(k, -ln2_low, fma(k, -ln2_high, x))
        q = exp_terms[0]
        for term in exp_terms[1:]:
            q = fma(q, r, term)
        return fma(r * r, q, r), shifted

    @compiled
    def exp(x):
        """2**k stands in two factors, as k may lie one beyond the exponents of normal numbers, or far below."""
        x = select(x < exp_min, exp_min, x)
        x = select(x > exp_max, exp_max, x)
        y, shifted = exp_reduced(x)
        k = shifted - magic
        middle = k * half + magic
        rest = (k - (middle - magic)) + magic
        return (y + one) * power_of_two(middle, one_bits) * power_of_two(rest, one_bits)

    @compiled
    def exp_nonpositive(x):
        """exp(x) for x <= 0, in fewer operations: the second factor is constant, so that results may be subnormal."""
        y, shifted = exp_reduced(select(x < exp_min, exp_min, x))
        power = power_of_two(shifted, offset_bits)
        return fma(y, power, power) * two_to_minus_offset

    @compiled
    def expm1_nonpositive(x):
        """exp(x) - 1 for x <= 0; from -64 down it is -1. Where k = 0 nothing is added, so no digits are lost near 0."""
        y, shifted = exp_reduced(select(x < expm1_min, expm1_min, x))
        power = power_of_two(shifted, one_bits)
        return fma(power, y, power - one)

    @compiled
    def log1p_unit(x):
        """log(1 + x) for x in [0, 1]."""
        q = log1p_terms[0]
        for term in log1p_terms[1:]:
            q = fma(q, x, term)
        return fma(x * x, q, x)

    @compiled
    def sigmoid(x):
        """1 / (1 + exp(-x)), both sides of the fraction times 2**-offset, so that nothing overflows."""
        x = select(x < exp_min, exp_min, x)
        y, shifted = exp_reduced(-select(x > sigmoid_max, sigmoid_max, x))
        power = power_of_two(shifted, minus_offset_bits)
        return two_to_minus_offset / fma(y, power, power + two_to_minus_offset)

    @compiled
    def sigmoid_backward(dy, y):
        return dy * ((one - y) * y)

    @compiled
    def tanh(x):
        """With m = exp(-2 abs(x)) - 1, the size of it is -m / (2 + m)."""
        m = expm1_nonpositive(-two * abs(x))
        return np.copysign(m / (two + m), x)

    @compiled
    def tanh_backward(dy, y):
        return dy * ((one - y) * (one + y))

    @compiled
    def relu(x):
        return select(x < zero, zero, x)

    @compiled
    def relu_backward(dy, y):
        return select(y <= zero, zero, dy)

    @compiled
    def softplus(x):
        """log(1 + exp(x)), as max(x, 0) + log(1 + exp(-abs(x))), which cannot overflow."""
        return select(x < zero, zero, x) + log1p_unit(exp_nonpositive(-abs(x)))

    @compiled
    def softplus_backward(dy, x):
        return dy * sigmoid(x)

    @compiled
    def log_sigmoid(x):
        return -softplus(-x)

    @compiled
    def log_sigmoid_backward(dy, x):
        return dy * sigmoid(-x)

    @compiled
    def silu(x):
        """x times its sigmoid (Elfwing, Uchibe & Doya 2018, equation 2)."""
        return x * sigmoid(x)

    @compiled
    def silu_backward(dy, x):
        """s (1 + x (1 - s)) times dy, with s the sigmoid of x."""
        s = sigmoid(x)
        return dy * (s * (one + x * (one - s)))

    @compiled
    def normal(x):
        """The distribution function Phi of the normal distribution, and its density.

        With t = abs(x), Phi(-t) exp(t**2 / 2) (1 + t) is smooth, and a polynomial in (t - c) / (t + c). The square is
        taken in two parts, or its rounding would be seen in the exponential.
        """
        t = abs(x)
        t = select(t < phi_min, phi_min, t)
        t = select(t > phi_max, phi_max, t)
        square = t * t
        rest = half * fma(t, t, -square)
        e = exp_nonpositive(-half * square)
        u = (t - phi_middle) / (t + phi_middle)
        q = phi_terms[0]
        for term in phi_terms[1:]:
            q = fma(q, u, term)
        ratio = q / (one + t)
        tail = e * fma(ratio, -rest, ratio)
        return select(x < zero, tail, one - tail), e * fma(density, -rest, density)

    @compiled
    def between(x, size):
        return select(x < -size, -size, select(x > size, size, x))

    @compiled
    def gelu(x):
        """x Phi(x) (Hendrycks & Gimpel 2016)."""
        return x * normal(x)[0]

    @compiled
    def gelu_backward(dy, x):
        """Phi(x) + x times the density, times dy."""
        phi, of_density = normal(x)
        return dy * (phi + between(x, phi_max) * of_density)

    @compiled
    def gelu_tanh(x):
        """x (1 + tanh(v)) / 2, v = sqrt(2 / pi) (x + 0.044715 x**3): that is x times the sigmoid of 2 v."""
        return x * sigmoid(x * (linear + cubic * (x * x)))

    @compiled
    def gelu_tanh_backward(dy, x):
        """With s that sigmoid, s (1 + x (1 - s) (2 v)') times dy."""
        x = between(x, saturated)
        square = x * x
        s = sigmoid(x * (linear + cubic * square))
        return dy * (s * (one + x * (one - s) * (linear + cubic_slope * square)))

    @compiled
    def leaky_relu(x, slope):
        return select(x > zero, x, slope * x)

    @compiled
    def leaky_relu_backward(dy, x, slope):
        return select(x > zero, dy, slope * dy)

    @compiled
    def elu(x, alpha):
        """alpha (exp(x) - 1) below 0 (Clevert, Unterthiner & Hochreiter 2016, equation 16)."""
        return select(x > zero, x, alpha * expm1_nonpositive(select(x > zero, zero, x)))

    @compiled
    def elu_backward(dy, x, alpha):
        return select(x > zero, dy, dy * (alpha * exp_nonpositive(select(x > zero, zero, x))))

    @compiled
    def add(x, y):
        return x + y

    @compiled
    def logistic_loss(z, y, scale):
        """The loss of logit z and target y, and scale * (sigmoid(z) - y).

        With e = exp(-abs(z)) and t the target's distance from the side z is on, the loss is
        abs(z) t + log(1 + e) and the gradient +-(t - e / (1 + e)): nothing overflows or cancels.
        0 * inf counts as 0: a logit of inf with target 1 loses nothing.
        """
        size = abs(z)
        e = exp_nonpositive(-size)
        t = select(z < zero, y, one - y)
        linear = select(t == zero, zero, size * t)
        slope = t - e / (one + e)
        return linear + log1p_unit(e), scale * select(z < zero, -slope, slope)

    @compiled
    def weighted_logistic_loss(z, y, w, p, scale):
        """The same where the part of the loss that y stands for weighs p, and all of it w."""
        size = abs(z)
        e = exp_nonpositive(-size)
        positive, negative = p * y, one - y
        both = positive + negative
        t = select(z < zero, positive, negative)
        linear = select(t == zero, zero, size * t)
        slope = t - both * (e / (one + e))
        return w * (linear + both * log1p_unit(e)), scale * (w * select(z < zero, -slope, slope))

    @compiled
    def mse_loss(z, y, scale):
        """The square of the difference, and scale times the difference."""
        d = z - y
        return d * d, scale * d

    @compiled
    def huber_loss(z, y, scale, delta):
        """Half the square of the difference up to delta, then a line (Huber 1964), and scale times its slope."""
        d = z - y
        size = abs(d)
        loss = select(size > delta, delta * (size - half * delta), half * d * d)
        return loss, scale * between(d, delta)

    @compiled
    def log_of_sum(s):
        """log(s) for a double s >= 1: with s = 2**k f and f in [1, 2), it is k ln 2 + log(1 + (f - 1)).

        f - 1 is exact, and keeps its digits where s is hardly above 1.
        """
        bits = np.float64(s).view(np.int64)
        fraction = np.int64((bits & fraction_mask) | double_one_bits).view(np.float64)
        k = real((bits >> 52) - 1023)
        return select(s == s, k * ln2_high + (k * ln2_low + log1p_unit(real(fraction - 1.0))), real(s))

    return SimpleNamespace(
        add=add,
        elu=elu,
        elu_backward=elu_backward,
        exp=exp,
        exp_nonpositive=exp_nonpositive,
        gelu=gelu,
        gelu_backward=gelu_backward,
        gelu_tanh=gelu_tanh,
        gelu_tanh_backward=gelu_tanh_backward,
        huber_loss=huber_loss,
        leaky_relu=leaky_relu,
        leaky_relu_backward=leaky_relu_backward,
        log1p_unit=log1p_unit,
        log_of_sum=log_of_sum,
        log_sigmoid=log_sigmoid,
        log_sigmoid_backward=log_sigmoid_backward,
        logistic_loss=logistic_loss,
        mse_loss=mse_loss,
        relu=relu,
        relu_backward=relu_backward,
        sigmoid=sigmoid,
        sigmoid_backward=sigmoid_backward,
        silu=silu,
        silu_backward=silu_backward,
        softplus=softplus,
        softplus_backward=softplus_backward,
        tanh=tanh,
        tanh_backward=tanh_backward,
        weighted_logistic_loss=weighted_logistic_loss,
    )
