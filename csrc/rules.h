/* rules.h: the update of one element, one function per rule. fastopt/rules.py says the same in Python and
 * is the specification; the two agree bit for bit, so every operation stands in the same order here.
 *
 * Included once per element type: `real` is float or double. A rule takes its finished scalars h, the
 * parameter p, the gradient g and pointers to its state, and returns the new parameter. */

/* What every rule shares, applied to p and g before the rule sees them. Neutral: 1, inf, 0, 1. */
struct TYPED(prepare) {
    real grad_scale, clip_value, l2, keep;
};

static inline real TYPED(prepare_grad)(struct TYPED(prepare) h, real p, real g)
{
    g = h.grad_scale * g;
    g = g < -h.clip_value ? -h.clip_value : g;
    g = g > h.clip_value ? h.clip_value : g;
    return g + h.l2 * p;
}

/* Gradient descent: p - lr g. */
struct TYPED(sgd) {
    real lr;
};

static inline real TYPED(sgd_rule)(struct TYPED(sgd) h, real p, real g)
{
    return p - h.lr * g;
}

/* Momentum (Polyak 1964) and Nesterov's form (Sutskever et al. 2013, eq. 3-4, under the change of variables
 * of Bengio et al. 2013): heavy ball has from_grad = 0, from_buffer = 1; Nesterov 1 and momentum. */
struct TYPED(momentum) {
    real momentum, grad_weight, from_grad, from_buffer, lr;
};

static inline real TYPED(momentum_rule)(struct TYPED(momentum) h, real p, real g, real *momentum_buffer)
{
    *momentum_buffer = h.momentum * *momentum_buffer + h.grad_weight * g;
    return p - h.lr * (h.from_grad * g + h.from_buffer * *momentum_buffer);
}

/* Adam (Kingma & Ba 2015, Algorithm 1); step_size = lr / (1 - beta1^t), correction2 = 1 / (1 - beta2^t). */
struct TYPED(adam) {
    real beta1, one_minus_beta1, beta2, one_minus_beta2, correction2, eps_root, eps, step_size;
};

static inline real TYPED(adam_rule)(struct TYPED(adam) h, real p, real g, real *exp_avg, real *exp_avg_sq)
{
    *exp_avg = h.beta1 * *exp_avg + h.one_minus_beta1 * g;
    *exp_avg_sq = h.beta2 * *exp_avg_sq + h.one_minus_beta2 * (g * g);
    return p - h.step_size * *exp_avg / (SQRT(*exp_avg_sq * h.correction2 + h.eps_root) + h.eps);
}
