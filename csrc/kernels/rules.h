/* rules.h: the update of one element, one function per rule. fastopt/_specification/rules.py says the same in Python and
 * is the specification; the two agree bit for bit, so every operation stands in the same order here.
 *
 * A factor of 0 that stands for something not asked for, such as decay, is told apart: 0 times an infinite weight is NaN.
 *
 * Included once per element type: `real` is float or double. A rule takes its finished scalars h, the
 * parameter p, the gradient g and pointers to its state, and returns the new parameter. */

/* x + factor y, or x where the factor is 0, whatever y is. */
static inline real TYPED(plus)(real x, real factor, real y)
{
    return factor != 0 ? x + factor * y : x;
}

/* A size with the sign of x: 0 where x is 0, NaN where it is NaN. */
static inline real TYPED(with_sign_of)(real size, real x)
{
    return x > 0 ? size : x < 0 ? -size : x;
}

/* What is stored of every rule's states: 0 in place of a subnormal number. So a state that fades away ends at 0, and no step
 * computes slowly with it. */
static inline real TYPED(flush)(real x)
{
    return FABS(x) < SMALLEST_NORMAL ? 0 : x;
}

/* What every rule shares, applied to p and g before the rule sees them. Neutral: 1, inf, 0, 1. */
struct TYPED(prepare) {
    real grad_scale, clip_value, l2, keep;
};

static inline real TYPED(prepare_grad)(struct TYPED(prepare) h, real p, real g)
{
    g = h.grad_scale * g;
    g = g < -h.clip_value ? -h.clip_value : g;
    g = g > h.clip_value ? h.clip_value : g;
    return TYPED(plus)(g, h.l2, p);
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
    return p - h.lr * TYPED(plus)(h.from_buffer * *momentum_buffer, h.from_grad, g);
}

/* AdaGrad (Duchi et al. 2011, eq. 1 with the diagonal of section 1.3). */
struct TYPED(adagrad) {
    real eps_root, eps, lr;
};

static inline real TYPED(adagrad_rule)(struct TYPED(adagrad) h, real p, real g, real *sum)
{
    *sum = *sum + g * g;
    return p - h.lr * g / (SQRT(*sum + h.eps_root) + h.eps);
}

/* AdaDelta (Zeiler 2012, Algorithm 1). */
struct TYPED(adadelta) {
    real rho, one_minus_rho, eps, lr;
};

static inline real TYPED(adadelta_rule)(struct TYPED(adadelta) h, real p, real g, real *square_avg, real *acc_delta)
{
    *square_avg = h.rho * *square_avg + h.one_minus_rho * g * g;
    real delta = SQRT((*acc_delta + h.eps) / (*square_avg + h.eps)) * g;
    *acc_delta = h.rho * *acc_delta + h.one_minus_rho * delta * delta;
    return p - h.lr * delta;
}

/* RMSProp (Tieleman & Hinton 2012, lecture 6.5): the gradient over the root of its running mean square. */
struct TYPED(rmsprop) {
    real alpha, one_minus_alpha, eps_root, eps, lr;
};

static inline real TYPED(rmsprop_rule)(struct TYPED(rmsprop) h, real p, real g, real *square_avg)
{
    *square_avg = h.alpha * *square_avg + h.one_minus_alpha * g * g;
    return p - h.lr * g / (SQRT(*square_avg + h.eps_root) + h.eps);
}

/* Centred (Graves 2013, eq. 38-40): the variance in place of the mean square; rounding must not make it negative. */
struct TYPED(rmsprop_centered) {
    real alpha, one_minus_alpha, eps_root, eps, lr;
};

static inline real TYPED(rmsprop_centered_rule)(struct TYPED(rmsprop_centered) h, real p, real g, real *square_avg,
                                                real *grad_avg)
{
    *square_avg = h.alpha * *square_avg + h.one_minus_alpha * g * g;
    *grad_avg = h.alpha * *grad_avg + h.one_minus_alpha * g;
    real square = *grad_avg * *grad_avg;
    real variance = (*square_avg < square ? square : *square_avg) - square; /* a NaN square_avg stays */
    return p - h.lr * g / (SQRT(variance + h.eps_root) + h.eps);
}

/* Both with momentum on the scaled gradient; from_step and from_buffer as from_grad and from_buffer above.
 * With the learning rate in the buffer, step_weight and from_step are lr, and lr is 1. */
struct TYPED(rmsprop_momentum) {
    real alpha, one_minus_alpha, eps_root, eps, momentum, step_weight, from_step, from_buffer, lr;
};

static inline real TYPED(rmsprop_momentum_rule)(struct TYPED(rmsprop_momentum) h, real p, real g, real *square_avg,
                                                real *momentum_buffer)
{
    *square_avg = h.alpha * *square_avg + h.one_minus_alpha * g * g;
    real step = g / (SQRT(*square_avg + h.eps_root) + h.eps);
    *momentum_buffer = h.momentum * *momentum_buffer + h.step_weight * step;
    return p - h.lr * TYPED(plus)(h.from_buffer * *momentum_buffer, h.from_step, step);
}

struct TYPED(rmsprop_centered_momentum) {
    real alpha, one_minus_alpha, eps_root, eps, momentum, step_weight, from_step, from_buffer, lr;
};

static inline real TYPED(rmsprop_centered_momentum_rule)(struct TYPED(rmsprop_centered_momentum) h, real p, real g,
                                                         real *square_avg, real *grad_avg, real *momentum_buffer)
{
    *square_avg = h.alpha * *square_avg + h.one_minus_alpha * g * g;
    *grad_avg = h.alpha * *grad_avg + h.one_minus_alpha * g;
    real square = *grad_avg * *grad_avg;
    real variance = (*square_avg < square ? square : *square_avg) - square; /* a NaN square_avg stays */
    real step = g / (SQRT(variance + h.eps_root) + h.eps);
    *momentum_buffer = h.momentum * *momentum_buffer + h.step_weight * step;
    return p - h.lr * TYPED(plus)(h.from_buffer * *momentum_buffer, h.from_step, step);
}

/* Adam (Kingma & Ba 2015, Algorithm 1); step_size = lr / (1 - beta1^t), root_correction2 = 1 / sqrt(1 - beta2^t).
 * The correction stands outside the root, where it cannot overflow; eps_root is divided by its square instead. */
struct TYPED(adam) {
    real beta1, one_minus_beta1, beta2, one_minus_beta2, root_correction2, eps_root, eps, step_size;
};

static inline real TYPED(adam_rule)(struct TYPED(adam) h, real p, real g, real *exp_avg, real *exp_avg_sq)
{
    *exp_avg = h.beta1 * *exp_avg + h.one_minus_beta1 * g;
    *exp_avg_sq = h.beta2 * *exp_avg_sq + h.one_minus_beta2 * g * g;
    return p - h.step_size * *exp_avg / (SQRT(*exp_avg_sq + h.eps_root) * h.root_correction2 + h.eps);
}

/* AMSGrad (Reddi et al. 2018, Algorithm 2): the largest second moment so far; of v (before = 1) as in PyTorch, or
 * of the corrected v (root_after = 1). */
struct TYPED(adam_amsgrad) {
    real beta1, one_minus_beta1, beta2, one_minus_beta2, before, root_after, eps_root, eps, step_size;
};

static inline real TYPED(adam_amsgrad_rule)(struct TYPED(adam_amsgrad) h, real p, real g, real *exp_avg, real *exp_avg_sq,
                                            real *max_exp_avg_sq)
{
    *exp_avg = h.beta1 * *exp_avg + h.one_minus_beta1 * g;
    *exp_avg_sq = h.beta2 * *exp_avg_sq + h.one_minus_beta2 * g * g;
    real candidate = *exp_avg_sq * h.before;
    real largest = *max_exp_avg_sq > candidate ? *max_exp_avg_sq : candidate; /* a NaN candidate stays */
    *max_exp_avg_sq = largest;
    return p - h.step_size * *exp_avg / (SQRT(*max_exp_avg_sq + h.eps_root) * h.root_after + h.eps);
}

/* NAdam (Dozat 2016, Algorithm 2): Adam with Nesterov's look-ahead in the numerator. */
struct TYPED(nadam) {
    real beta1, one_minus_beta1, beta2, one_minus_beta2, root_correction2, eps_root, eps, grad_step, avg_step;
};

static inline real TYPED(nadam_rule)(struct TYPED(nadam) h, real p, real g, real *exp_avg, real *exp_avg_sq)
{
    *exp_avg = h.beta1 * *exp_avg + h.one_minus_beta1 * g;
    *exp_avg_sq = h.beta2 * *exp_avg_sq + h.one_minus_beta2 * g * g;
    real numerator = h.grad_step * g + h.avg_step * *exp_avg;
    return p - numerator / (SQRT(*exp_avg_sq + h.eps_root) * h.root_correction2 + h.eps);
}

/* Adamax (Kingma & Ba 2015, Algorithm 2); step_size = lr / (1 - beta1^t). With eps inside the largest gradient (inside = 1)
 * as in PyTorch, or outside (outside = 1) as in Keras. */
struct TYPED(adamax) {
    real beta1, one_minus_beta1, beta2, inside, outside, eps, step_size;
};

static inline real TYPED(adamax_rule)(struct TYPED(adamax) h, real p, real g, real *exp_avg, real *exp_inf)
{
    *exp_avg = h.beta1 * *exp_avg + h.one_minus_beta1 * g;
    real before = h.beta2 * *exp_inf, size = TYPED(plus)(FABS(g), h.inside, h.eps);
    size = before > size ? before : size;
    *exp_inf = before != before ? before : size; /* a NaN stays */
    return p - h.step_size * *exp_avg / TYPED(plus)(*exp_inf, h.outside, h.eps);
}

/* RAdam (Liu et al. 2020, Algorithm 2): as long as the variance of the step is not known, a step of momentum. adaptive_step
 * is 0 then, and otherwise plain_step; the rectification is a factor of adaptive_step. */
struct TYPED(radam) {
    real beta1, one_minus_beta1, beta2, one_minus_beta2, root_correction2, eps, plain_step, adaptive_step;
};

static inline real TYPED(radam_rule)(struct TYPED(radam) h, real p, real g, real *exp_avg, real *exp_avg_sq)
{
    *exp_avg = h.beta1 * *exp_avg + h.one_minus_beta1 * g;
    *exp_avg_sq = h.beta2 * *exp_avg_sq + h.one_minus_beta2 * g * g;
    real direction = *exp_avg / (SQRT(*exp_avg_sq) * h.root_correction2 + h.eps);
    return p - TYPED(plus)(h.plain_step * *exp_avg, h.adaptive_step, direction);
}

/* AdaBelief (Zhuang et al. 2020, Algorithm 2): Adam by the variance around the mean; steps as in RAdam. */
struct TYPED(adabelief) {
    real beta1, one_minus_beta1, beta2, one_minus_beta2, eps_root, root_correction2, eps, plain_step, adaptive_step;
};

static inline real TYPED(adabelief_rule)(struct TYPED(adabelief) h, real p, real g, real *exp_avg, real *exp_avg_var)
{
    *exp_avg = h.beta1 * *exp_avg + h.one_minus_beta1 * g;
    real surprise = g - *exp_avg;
    *exp_avg_var = h.beta2 * *exp_avg_var + h.one_minus_beta2 * surprise * surprise + h.eps_root;
    real direction = *exp_avg / (SQRT(*exp_avg_var) * h.root_correction2 + h.eps);
    return p - TYPED(plus)(h.plain_step * *exp_avg, h.adaptive_step, direction);
}

/* Adan (Xie et al. 2024, Algorithm 1); known = 0 in the first step, which has no gradient before it. */
struct TYPED(adan) {
    real beta1, one_minus_beta1, beta2, one_minus_beta2, beta3, one_minus_beta3, known, eps_root, root_correction3, eps,
        step_size, diff_step, shrink;
};

static inline real TYPED(adan_rule)(struct TYPED(adan) h, real p, real g, real *exp_avg, real *exp_avg_diff,
                                    real *exp_avg_sq, real *pre_grad)
{
    real difference = h.known * (g - *pre_grad);
    real ahead = g + h.beta2 * difference;
    *exp_avg = h.beta1 * *exp_avg + h.one_minus_beta1 * g;
    *exp_avg_diff = h.beta2 * *exp_avg_diff + h.one_minus_beta2 * difference;
    *exp_avg_sq = h.beta3 * *exp_avg_sq + h.one_minus_beta3 * ahead * ahead;
    *pre_grad = g;
    real direction = h.step_size * *exp_avg + h.diff_step * *exp_avg_diff;
    return h.shrink * (p - direction / (SQRT(*exp_avg_sq + h.eps_root) * h.root_correction3 + h.eps));
}

/* Lion (Chen et al. 2023, Algorithm 2): the sign of an average of gradient and momentum. */
struct TYPED(lion) {
    real beta1, one_minus_beta1, beta2, one_minus_beta2, lr;
};

static inline real TYPED(lion_rule)(struct TYPED(lion) h, real p, real g, real *exp_avg)
{
    real direction = h.beta1 * *exp_avg + h.one_minus_beta1 * g;
    *exp_avg = h.beta2 * *exp_avg + h.one_minus_beta2 * g;
    return p - TYPED(with_sign_of)(h.lr, direction);
}

/* Rprop (Riedmiller & Braun 1993; without backtracking: Igel & Huesken 2000, iRprop-): a step size of each element's own,
 * which grows while the gradient keeps its sign. */
struct TYPED(rprop) {
    real eta_minus, eta_plus, smallest_step, largest_step;
};

static inline real TYPED(rprop_rule)(struct TYPED(rprop) h, real p, real g, real *prev, real *step_size)
{
    real agreement = g * *prev;
    real shorter = agreement < 0 ? h.eta_minus * *step_size : *step_size;
    real size = agreement > 0 ? h.eta_plus * *step_size : shorter;
    size = size < h.smallest_step ? h.smallest_step : size;
    *step_size = size > h.largest_step ? h.largest_step : size;
    *prev = agreement < 0 ? g - g : g;
    return p - TYPED(with_sign_of)(*step_size, *prev);
}

/* Averaged SGD (Polyak & Juditsky 1992; Bottou 2010): descent, and from some step on the mean of the positions. */
struct TYPED(asgd) {
    real shrink, lr, mu;
};

static inline real TYPED(asgd_rule)(struct TYPED(asgd) h, real p, real g, real *ax)
{
    p = h.shrink * p - h.lr * g;
    *ax = h.mu != 1 ? *ax + h.mu * (p - *ax) : p;
    return p;
}

/* Schedule-Free SGD (Defazio et al. 2024, eq. 3-5), p being y; known and fresh are 0 and 1 in the first step.
 * step = lr (1 - momentum (1 - average)), and average the weight of z in the mean of all z. */
struct TYPED(sgd_schedule_free) {
    real known, fresh, decay, average, step, lr;
};

static inline real TYPED(sgd_schedule_free_rule)(struct TYPED(sgd_schedule_free) h, real p, real g, real *z)
{
    real start = TYPED(plus)(h.known * *z, h.fresh, p);
    g = TYPED(plus)(g, h.decay, p);
    *z = start - h.lr * g;
    return p + h.average * (start - p) - h.step * g;
}

/* Schedule-Free AdamW (Defazio et al. 2024, Algorithm 1), as above with Adam's denominator. */
struct TYPED(adamw_schedule_free) {
    real beta2, one_minus_beta2, root_correction2, eps, known, fresh, decay, average, step, lr;
};

static inline real TYPED(adamw_schedule_free_rule)(struct TYPED(adamw_schedule_free) h, real p, real g, real *z,
                                                   real *exp_avg_sq)
{
    real start = TYPED(plus)(h.known * *z, h.fresh, p);
    *exp_avg_sq = h.beta2 * *exp_avg_sq + h.one_minus_beta2 * g * g;
    g = TYPED(plus)(g / (SQRT(*exp_avg_sq) * h.root_correction2 + h.eps), h.decay, p);
    *z = start - h.lr * g;
    return p + h.average * (start - p) - h.step * g;
}

/* ---- rules with a trust ratio per tensor -------------------------------------------------------
 * They take two sweeps: the first sums the squares of the parameter and of a direction, from whose norms the
 * driver computes the trust ratio; the second updates. */

/* LARS (You, Gitman & Ginsburg 2017, eq. 6 and Algorithm 1); norm_decay = decay measures g + decay p, else g. */
struct TYPED(lars) {
    real decay, norm_decay, momentum, grad_weight, from_grad, from_buffer, lr, trust_ratio;
};

static inline real TYPED(lars_direction)(struct TYPED(lars) h, real p, real g)
{
    return TYPED(plus)(g, h.norm_decay, p);
}

static inline real TYPED(lars_rule)(struct TYPED(lars) h, real p, real g, real *momentum_buffer)
{
    g = h.trust_ratio * TYPED(plus)(g, h.decay, p);
    *momentum_buffer = h.momentum * *momentum_buffer + h.grad_weight * g;
    return p - h.lr * TYPED(plus)(h.from_buffer * *momentum_buffer, h.from_grad, g);
}

/* LAMB (You et al. 2020, Algorithm 2). The direction is cheaper to compute twice than to store. */
struct TYPED(lamb) {
    real beta1, grad_weight, beta2, one_minus_beta2, correction1, root_correction2, eps_root, eps, decay, lr, trust_ratio;
};

static inline void TYPED(lamb_moments)(struct TYPED(lamb) h, real g, real *exp_avg, real *exp_avg_sq)
{
    *exp_avg = h.beta1 * *exp_avg + h.grad_weight * g;
    *exp_avg_sq = h.beta2 * *exp_avg_sq + h.one_minus_beta2 * g * g;
}

static inline real TYPED(lamb_direction)(struct TYPED(lamb) h, real p, real exp_avg, real exp_avg_sq)
{
    real direction = h.correction1 * exp_avg / (SQRT(exp_avg_sq + h.eps_root) * h.root_correction2 + h.eps);
    return TYPED(plus)(direction, h.decay, p);
}

static inline real TYPED(lamb_rule)(struct TYPED(lamb) h, real p, real exp_avg, real exp_avg_sq)
{
    return p - h.lr * (h.trust_ratio * TYPED(lamb_direction)(h, p, exp_avg, exp_avg_sq));
}

/* ---- rules that are given a whole tensor -------------------------------------------------------- */

/* Muon (Jordan et al. 2024): what is made orthogonal is the momentum, or Nesterov's. The other scalars are the driver's. */
struct TYPED(muon) {
    real momentum, grad_weight, from_grad, from_buffer, a, b, c, eps, steps, original, matched, lr;
};

static inline real TYPED(muon_direction)(struct TYPED(muon) h, real g, real *momentum_buffer)
{
    *momentum_buffer = h.momentum * *momentum_buffer + h.grad_weight * g;
    return TYPED(plus)(h.from_buffer * *momentum_buffer, h.from_grad, g);
}

/* Adafactor (Shazeer & Stern 2018, Algorithm 4): the mean squares of rows and columns; the gradient times the smaller of the
 * product of their weights and 1 / eps. eps is eps_float64 where that is the type. The other scalars are the driver's. */
struct TYPED(adafactor) {
    real beta2, one_minus_beta2, eps, eps_float64, smallest_size, threshold, rate;
};

static inline real TYPED(adafactor_mean_square)(struct TYPED(adafactor) h, real before, real mean_square)
{
    return h.beta2 * before + h.one_minus_beta2 * mean_square;
}

static inline real TYPED(adafactor_direction)(real g, real row_weight, real column_weight, real largest_weight)
{
    real weight = row_weight * column_weight;
    weight = weight > largest_weight ? largest_weight : weight;
    return g * weight;
}

/* The same (Algorithm 5) for what is no matrix, with a mean square of each element. */
struct TYPED(adafactor_unfactored) {
    real beta2, one_minus_beta2, eps, eps_float64, smallest_size, threshold, rate;
};

static inline real TYPED(adafactor_unfactored_direction)(real g, real variance, real eps)
{
    real root = SQRT(variance);
    root = root < eps ? eps : root;
    return g / root;
}
