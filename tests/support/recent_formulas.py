"""The formulas of the optimizers that came after NAdam, LARS and LAMB, as test_optimizer_options.py has the others'."""

import math

import numpy as np


def adamax(p, g, s, t, lr, betas=(0.9, 0.999), eps=1e-8, eps_outside=False):
    m = s["exp_avg"] = betas[0] * s.get("exp_avg", 0) + (1 - betas[0]) * g
    u = s["exp_inf"] = np.maximum(betas[1] * s.get("exp_inf", 0), np.abs(g) + (0 if eps_outside else eps))
    return p - lr / (1 - betas[0] ** t) * m / (u + eps if eps_outside else u)


def rectification(beta2, t):
    """RAdam's r_t, or None where there is none."""
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * t * beta2**t / (1 - beta2**t)
    if length <= 5:
        return None
    return math.sqrt((length - 4) / (longest - 4) * (length - 2) / (longest - 2) * longest / length)


def radam(p, g, s, t, lr, betas=(0.9, 0.999), eps=1e-8, eps_hat=True):
    m = s["exp_avg"] = betas[0] * s.get("exp_avg", 0) + (1 - betas[0]) * g
    v = s["exp_avg_sq"] = betas[1] * s.get("exp_avg_sq", 0) + (1 - betas[1]) * g**2
    m, r = m / (1 - betas[0] ** t), rectification(betas[1], t)
    if r is None:
        return p - lr * m
    if eps_hat:
        return p - lr * r * math.sqrt(1 - betas[1] ** t) * m / (np.sqrt(v) + eps)
    return p - lr * r * m / (np.sqrt(v / (1 - betas[1] ** t)) + eps)


def adabelief(p, g, s, t, lr, betas=(0.9, 0.999), eps=1e-16, eps_root=1e-16, rectify=True):
    m = s["exp_avg"] = betas[0] * s.get("exp_avg", 0) + (1 - betas[0]) * g
    v = s["exp_avg_var"] = betas[1] * s.get("exp_avg_var", 0) + (1 - betas[1]) * (g - m) ** 2 + eps_root
    m = m / (1 - betas[0] ** t)
    if not rectify:
        return p - lr * m / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    r = rectification(betas[1], t)
    return p - lr * (m if r is None else r * math.sqrt(1 - betas[1] ** t) * m / (np.sqrt(v) + eps))


def adan(p, g, s, t, lr, betas=(0.98, 0.92, 0.99), eps=1e-8, eps_root=0.0, weight_decay=0.0):
    beta1, beta2, beta3 = betas
    difference = g - s.get("pre_grad", g)
    s["pre_grad"] = g.copy()
    m = s["exp_avg"] = beta1 * s.get("exp_avg", 0) + (1 - beta1) * g
    d = s["exp_avg_diff"] = beta2 * s.get("exp_avg_diff", 0) + (1 - beta2) * difference
    n = s["exp_avg_sq"] = beta3 * s.get("exp_avg_sq", 0) + (1 - beta3) * (g + beta2 * difference) ** 2
    step = m / (1 - beta1**t) + beta2 * d / (1 - beta2**t)
    return (p - lr * step / (np.sqrt(n / (1 - beta3**t) + eps_root) + eps)) / (1 + lr * weight_decay)


def lion(p, g, s, t, lr, betas=(0.9, 0.99)):
    m = s.get("exp_avg", 0)
    s["exp_avg"] = betas[1] * m + (1 - betas[1]) * g
    return p - lr * np.sign(betas[0] * m + (1 - betas[0]) * g)


def rprop(p, g, s, t, lr, etas=(0.5, 1.2), step_sizes=(1e-6, 50.0)):
    agreement = np.sign(g * s.get("prev", 0))
    size = s.get("step_size", 0.1) * np.choose((agreement + 1).astype(int), [etas[0], 1.0, etas[1]])
    size = s["step_size"] = np.clip(size, *step_sizes)
    g = s["prev"] = np.where(agreement < 0, 0.0, g)
    return p - size * np.sign(g)


def asgd(p, g, s, t, lr, lambd=1e-4, alpha=0.75, t0=1e6):
    eta = lr / (1 + lambd * lr * (t - 1)) ** alpha
    p = p - eta * (lambd * p + g)
    s["ax"] = s.get("ax", 0) + (p - s.get("ax", 0)) / max(1, t - 1 - t0)
    return p


def adafactor(p, g, s, t, lr, beta2_decay=-0.8, eps=(None, 1e-3), d=1.0, factored=True):
    def rms(x):
        return math.sqrt(np.mean(np.square(x)))

    beta, eps1 = 1 - t**beta2_decay, eps[0] or np.finfo(np.float64).eps
    if factored and p.ndim > 1:
        r = s["row_var"] = beta * s.get("row_var", 0) + (1 - beta) * np.mean(g**2, axis=-1, keepdims=True)
        c = s["col_var"] = beta * s.get("col_var", 0) + (1 - beta) * np.mean(g**2, axis=-2, keepdims=True)
        v = r * c / np.maximum(np.mean(r, axis=-2, keepdims=True), eps1)
    else:
        v = s["variance"] = beta * s.get("variance", 0) + (1 - beta) * g**2
    u = g / np.maximum(np.sqrt(v), eps1)
    return p - min(lr, 1 / math.sqrt(t)) * max(eps[1], rms(p)) / max(1, rms(u) / d) * u


def schedule_free(p, s, t, lr, momentum, direction, warmup_steps, r, weight_lr_power):
    """y after a step, of the three sequences of the paper."""
    z = s.get("z", p)
    x = (p - (1 - momentum) * z) / momentum
    lr *= min(1, t / warmup_steps) if warmup_steps else 1
    s["largest"] = max(lr, s.get("largest", 0))
    weight = t**r * s["largest"] ** weight_lr_power
    s["sum"] = s.get("sum", 0) + weight
    z = s["z"] = z - lr * direction
    s["x"] = x + weight / s["sum"] * (z - x)
    return (1 - momentum) * z + momentum * s["x"]


def sgd_schedule_free(p, g, s, t, lr, momentum=0.9, weight_decay=0.0, warmup_steps=0, r=0.0, weight_lr_power=2.0):
    return schedule_free(p, s, t, lr, momentum, g + weight_decay * p, warmup_steps, r, weight_lr_power)


def adamw_schedule_free(p, g, s, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, warmup_steps=0, r=0.0,
                        weight_lr_power=2.0):  # fmt: skip
    v = s["exp_avg_sq"] = betas[1] * s.get("exp_avg_sq", 0) + (1 - betas[1]) * g**2
    direction = g / (np.sqrt(v / (1 - betas[1] ** t)) + eps) + weight_decay * p
    return schedule_free(p, s, t, lr, betas[0], direction, warmup_steps, r, weight_lr_power)


FORMULAS = {
    "Adamax": adamax,
    "RAdam": radam,
    "AdaBelief": adabelief,
    "Adan": adan,
    "Lion": lion,
    "Rprop": rprop,
    "ASGD": asgd,
    "Adafactor": adafactor,
    "SGDScheduleFree": sgd_schedule_free,
    "AdamWScheduleFree": adamw_schedule_free,
}

OPTIONS = [
    ("Adamax", {}),
    ("Adamax", {"betas": (0.7, 0.95), "eps": 0.1}),
    ("Adamax", {"eps": 0.1, "eps_outside": True}),
    ("RAdam", {}),
    ("RAdam", {"betas": (0.7, 0.95), "eps": 0.1}),
    ("RAdam", {"eps": 0.1, "eps_hat": False}),
    ("AdaBelief", {}),
    ("AdaBelief", {"betas": (0.7, 0.95), "eps": 0.1, "eps_root": 0.01}),
    ("AdaBelief", {"eps": 0.1, "rectify": False}),
    ("Adan", {}),
    ("Adan", {"betas": (0.7, 0.8, 0.9), "eps": 0.1, "eps_root": 0.1}),
    ("Lion", {}),
    ("Lion", {"betas": (0.5, 0.7)}),
    ("Rprop", {}),
    ("Rprop", {"etas": (0.2, 2.0), "step_sizes": (0.05, 0.3)}),
    ("ASGD", {}),
    ("ASGD", {"lambd": 0.3, "alpha": 0.5, "t0": 4.0}),
    ("Adafactor", {}),
    ("Adafactor", {"beta2_decay": -0.5, "eps": (0.5, 1.5), "d": 1.25}),
    ("Adafactor", {"factored": False}),
    ("SGDScheduleFree", {}),
    ("SGDScheduleFree", {"momentum": 0.6, "warmup_steps": 4, "r": 1.0, "weight_lr_power": 1.0}),
    ("AdamWScheduleFree", {}),
    ("AdamWScheduleFree", {"betas": (0.6, 0.9), "eps": 0.1, "warmup_steps": 4, "r": 1.0, "weight_lr_power": 1.0}),
]
MEASURED_BEFORE_DECAY = {"Adafactor"}  # what a formula that sees the parameter after decay cannot say
OWN_MODE = {"Adan": "proximal", "SGDScheduleFree": "direction", "AdamWScheduleFree": "direction"}
