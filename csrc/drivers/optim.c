/* optim.c: one step of an optimizer over all its tensors, whatever the rule. */
#include "drivers/storage.h"
#include "drivers/tensor_rules.h"
#include <float.h>
#include <stdatomic.h>
#include <math.h>
#include <string.h>

#define real double
#define SQRT sqrt
#define FABS fabs
#define SMALLEST_NORMAL DBL_MIN
#define TYPED(name) name
#include "kernels/rules.h"

#define COUNT(type) ((int)(sizeof(type) / sizeof(double)))

/* Of a rule's scalars the last `trust` are those of its trust ratio. */
static const struct {
    const char *name;
    int states, scalars, trust;
    const tensor_rule *of_tensor; /* of what updates a whole tensor */
} rules[RULE_COUNT] = {
#define RULE(name, states) {#name, states, COUNT(struct prepare) + COUNT(struct name), 0, NULL},
#define TRUST_RULE(name, states) \
    {#name, states, COUNT(struct prepare) + COUNT(struct name) + COUNT(trust), COUNT(trust), NULL},
#define TENSOR_RULE(name, states) {#name, states, COUNT(struct prepare) + COUNT(struct name), 0, &fastopt_##name},
#include "kernels/rules.def"
#undef RULE
#undef TRUST_RULE
#undef TENSOR_RULE
};

int fastopt_rule_index(const char *name)
{
    for (int i = 0; i < RULE_COUNT; i++)
        if (strcmp(rules[i].name, name) == 0)
            return i;
    return -1;
}

int fastopt_rule_states(int rule)
{
    return rules[rule].states;
}

int fastopt_rule_scalars(int rule)
{
    return rules[rule].scalars;
}

/* Below this many elements in all, waking a thread costs more than it saves. */
enum { SERIAL_BELOW = 32768 };

static size_t item_size(const fastopt_tensor *tensor)
{
    return tensor->dtype == FASTOPT_FLOAT32 ? sizeof(float) : sizeof(double);
}

static size_t blocks_of(size_t size)
{
    return (size + BLOCK - 1) / BLOCK;
}

void fastopt_plan_blocks(fastopt_plan *plan)
{
    plan->elements = plan->blocks = 0;
    for (size_t t = 0; t < plan->count; t++) {
        plan->tensors[t].first_block = plan->blocks;
        plan->elements += plan->tensors[t].size;
        plan->blocks += blocks_of(plan->tensors[t].size);
        plan->groups[plan->tensors[t].group].has_float |= plan->tensors[t].dtype == FASTOPT_FLOAT32;
    }
}

/* Rules that are given whole tensors are given float numbers, behind their own scratch memory. */
static size_t scratch_of_numbers(const fastopt_tensor *tensor)
{
    return is_stored(tensor, FASTOPT_OF_PARAM) ? 2 * whole_lines(tensor->size * sizeof(float)) : 0;
}

size_t fastopt_plan_scratch(const fastopt_plan *plan)
{
    size_t most = 0;
    for (size_t t = 0; t < plan->count; t++) {
        const fastopt_tensor *tensor = &plan->tensors[t];
        const tensor_rule *rule = rules[plan->groups[tensor->group].rule].of_tensor;
        const size_t size =
            rule && tensor->size ? LINE + whole_lines(rule->scratch(tensor)) + scratch_of_numbers(tensor) : 0;
        most = size > most ? size : most;
    }
    return most;
}

/* The number behind the last block of the tensors before t. */
static size_t end_block(const fastopt_plan *plan, size_t t)
{
    return t < plan->count ? plan->tensors[t].first_block : plan->blocks;
}

/* The tensor that block i belongs to; i becomes the block's number within it. */
static const fastopt_tensor *find_block(const fastopt_plan *plan, size_t *i)
{
    size_t low = 0, high = plan->count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (plan->tensors[middle].first_block <= *i)
            low = middle;
        else
            high = middle;
    }
    *i -= plan->tensors[low].first_block;
    return &plan->tensors[low];
}

/* One step: the kernels of both types, the limit that gradients are compared with, and whether something is beyond it. */
typedef struct {
    const fastopt_plan *plan;
    const kernel_table *kernels[2];
    double limit[2];
    atomic_int beyond;
} step;

static void found_beyond(step *s)
{
    atomic_store_explicit(&s->beyond, 1, memory_order_relaxed);
}

/* Works on elements begin <= i < end, so far as there are, of each of `count` tensors of one group and type. */
typedef void range_function(step *s, const fastopt_tensor *tensors, size_t count, size_t begin, size_t end);

/* Of the rules with a trust ratio, LAMB's moves its states where it measures the direction that they give. */
static int moves_when_measured(const fastopt_group *group)
{
    return group->rule == RULE_lamb;
}

/* Whether any of n elements of a parameter or gradient (FASTOPT_OF_*), times scale, reaches a limit. */
static int numbers_beyond(const fastopt_tensor *tensor, int which, const kernel_table *kernels, size_t begin, size_t n,
                          double scale, double limit)
{
    if (!is_stored(tensor, which))
        return kernels->any_beyond(fastopt_numbers(tensor, which, kernels, begin, n, NULL), n, scale, limit);
    float decoded[TILE];
    int beyond = 0;
    for (size_t i = 0; i < n; i += TILE) {
        const size_t count = n - i < TILE ? n - i : TILE;
        beyond |=
            kernels->any_beyond(fastopt_numbers(tensor, which, kernels, begin + i, count, decoded), count, scale, limit);
    }
    return beyond;
}

static void check_range(step *s, const fastopt_tensor *tensors, size_t count, size_t begin, size_t end)
{
    const fastopt_group *group = &s->plan->groups[tensors->group];
    for (const fastopt_tensor *tensor = tensors; tensor < tensors + count; tensor++) {
        const size_t n = (end < tensor->size ? end : tensor->size) - begin;
        const double scale = group->scalars[0] * tensor->grad_factor;
        if (numbers_beyond(tensor, FASTOPT_OF_GRAD, s->kernels[tensor->dtype], begin, n, scale, s->limit[tensor->dtype]))
            found_beyond(s);
    }
}

/* The format of all states, if nothing else is stored in fewer bytes; or FASTOPT_PLAIN. */
static int format_of_states(const fastopt_tensor *tensor, int states)
{
    if (is_stored(tensor, FASTOPT_OF_PARAM) || is_stored(tensor, FASTOPT_OF_GRAD))
        return FASTOPT_PLAIN;
    for (int k = 1; k < states; k++)
        if (tensor->storage[k].format != tensor->storage[0].format)
            return FASTOPT_PLAIN;
    return tensor->storage[0].format;
}

/* The same for a tensor of which something is stored in fewer bytes. */
static void update_stored(step *s, const fastopt_tensor *tensor, size_t begin, size_t end)
{
    const fastopt_group *group = &s->plan->groups[tensor->group];
    const kernel_table *kernels = s->kernels[tensor->dtype];
    const int states = rules[group->rule].states;
    const size_t until = end < tensor->size ? end : tensor->size, whole = until / FASTOPT_SCALED * FASTOPT_SCALED;
    const int format = format_of_states(tensor, states);
    tile t;
    if (whole > begin && kernels->update_stored[group->rule][format]) {
        if (kernels->update_stored[group->rule][format](tensor, group, begin, whole,
                                                        *s->plan->step_count + 1 + tensor->storage->before))
            found_beyond(s);
        begin = whole;
    }
    for (size_t first = begin; first < until; first += TILE) {
        fastopt_load_tile(&t, tensor, kernels, states, first, until - first < TILE ? until : first + TILE);
        if (kernels->update[group->rule](&t.tensor, 1, group, 0, SIZE_MAX))
            found_beyond(s);
        if (!moves_when_measured(group))
            fastopt_store_tile(&t, states, *s->plan->step_count + 1);
        fastopt_store_param(tensor, kernels, t.param, first, t.tensor.size, *s->plan->step_count + 1);
    }
}

static void update_range(step *s, const fastopt_tensor *tensors, size_t count, size_t begin, size_t end)
{
    const fastopt_group *group = &s->plan->groups[tensors->group];
    if (rules[group->rule].of_tensor)
        return;
    if (tensors->storage) {
        for (const fastopt_tensor *tensor = tensors; tensor < tensors + count; tensor++)
            update_stored(s, tensor, begin, end);
        return;
    }
    if (s->kernels[tensors->dtype]->update[group->rule](tensors, count, group, begin, end))
        found_beyond(s);
}

static int state_beyond(const fastopt_tensor *tensor, int k, const kernel_table *kernels, size_t begin, size_t n,
                        double limit)
{
    const fastopt_storage *storage = tensor->storage ? &tensor->storage[k] : NULL;
    if (!storage || storage->format == FASTOPT_PLAIN)
        return kernels->any_beyond((const char *)tensor->state[k] + begin * item_size(tensor), n, 1, limit);
    if (storage->format == FASTOPT_8BIT) /* nothing is larger than its scale */
        return kernels->any_beyond(storage->scales + begin / FASTOPT_SCALED, (n + FASTOPT_SCALED - 1) / FASTOPT_SCALED, 1,
                                   limit);
    float decoded[TILE];
    int beyond = 0;
    for (size_t i = 0; i < n; i += TILE) {
        const size_t count = n - i < TILE ? n - i : TILE;
        kernels->decode_bfloat16((const uint16_t *)tensor->state[k] + begin + i, decoded, count);
        beyond |= kernels->any_beyond(decoded, count, 1, limit);
    }
    return beyond;
}

/* Whether parameters and states are ordinary, as they mostly are: for ORDINARY_STEPS steps that need not be asked again. */
static void look_range(step *s, const fastopt_tensor *tensors, size_t count, size_t begin, size_t end)
{
    static const double large[] = {LARGE_float, LARGE_double}, large_square[] = {LARGE_SQUARE_float, LARGE_SQUARE_double};
    const fastopt_group *group = &s->plan->groups[tensors->group];
    for (const fastopt_tensor *tensor = tensors; tensor < tensors + count; tensor++) {
        const size_t n = (end < tensor->size ? end : tensor->size) - begin;
        const kernel_table *kernels = s->kernels[tensor->dtype];
        if (numbers_beyond(tensor, FASTOPT_OF_PARAM, kernels, begin, n, 1, large[tensor->dtype]))
            found_beyond(s);
        for (int k = 0; k < rules[group->rule].states; k++) {
            const size_t size = tensor->state_size[k], from = begin < size ? begin : size; /* some are smaller than it */
            const double limit = (group->squares >> k & 1 ? large_square : large)[tensor->dtype];
            if (state_beyond(tensor, k, kernels, from, (end < size ? end : size) - from, limit))
                found_beyond(s);
        }
    }
}

/* A sweep over consecutive tensors, whose blocks begin with number first_block. */
typedef struct {
    step *step;
    range_function *visit;
    size_t first_block;
} sweep;

/* Blocks begin on a cache line of the parameter: 512-bit loops lose up to a quarter off it. Where something is stored in fewer
 * bytes they are whole tiles. */
static void visit_block(void *context, size_t i)
{
    const sweep *s = context;
    i += s->first_block;
    const fastopt_tensor *tensor = find_block(s->step->plan, &i);
    const size_t ahead = tensor->storage ? 0 : (size_t)(-(uintptr_t)tensor->param % 64) / item_size(tensor);
    const size_t begin = i ? i * BLOCK + ahead : 0;
    const size_t end = (i + 1) * BLOCK + ahead;
    if (begin < tensor->size)
        s->visit(s->step, tensor, 1, begin, end);
}

/* Tensors begin <= t < end: in the calling thread as a whole, all of a kind at once, or, if there is enough to do,
 * block by block on the pool. */
static void visit_tensors(step *s, range_function *visit, size_t begin, size_t end, size_t elements)
{
    const fastopt_tensor *tensors = s->plan->tensors;
    if (elements < SERIAL_BELOW) {
        for (size_t t = begin, next; t < end; t = next) {
            for (next = t + 1; next < end && tensors[next].group == tensors[t].group; next++)
                if (tensors[next].dtype != tensors[t].dtype || !tensors[next].storage != !tensors[t].storage)
                    break;
            visit(s, &tensors[t], next - t, 0, SIZE_MAX);
        }
    } else {
        sweep blocks = {s, visit, tensors[begin].first_block};
        fastopt_for_each(end_block(s->plan, end) - blocks.first_block, visit_block, &blocks);
    }
}

/* ---- trust ratios ----------------------------------------------------------------------------- */

static int has_trust_ratio(const fastopt_plan *plan, const fastopt_tensor *tensor)
{
    return rules[plan->groups[tensor->group].rule].trust > 0;
}

static double fold(double lane[LANES])
{
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            lane[l] += lane[l + half];
    return lane[0];
}

static void measure_stored(step *s, const fastopt_tensor *tensor, size_t begin, size_t end, double param[LANES],
                           double direction[LANES])
{
    const fastopt_group *group = &s->plan->groups[tensor->group];
    const kernel_table *kernels = s->kernels[tensor->dtype];
    const int states = moves_when_measured(group) ? rules[group->rule].states : 0;
    tile t;
    for (size_t first = begin; first < end; first += TILE) {
        fastopt_load_tile(&t, tensor, kernels, states, first, end - first < TILE ? end : first + TILE);
        kernels->measure[group->rule](&t.tensor, group, 0, t.tensor.size, param, direction);
        fastopt_store_tile(&t, states, *s->plan->step_count + 1);
    }
}

/* Whole blocks here, wherever the arrays lie: the sums depend on the cut. */
static void measure_block(void *context, size_t i)
{
    const sweep *s = context;
    const fastopt_plan *plan = s->step->plan;
    const size_t block = i += s->first_block;
    const fastopt_tensor *tensor = find_block(plan, &i);
    const fastopt_group *group = &plan->groups[tensor->group];
    const size_t begin = i * BLOCK, end = begin + BLOCK < tensor->size ? begin + BLOCK : tensor->size;
    double param[LANES] = {0}, direction[LANES] = {0};
    if (!has_trust_ratio(plan, tensor))
        return;
    if (tensor->storage)
        measure_stored(s->step, tensor, begin, end, param, direction);
    else
        s->step->kernels[tensor->dtype]->measure[group->rule](tensor, group, begin, end, param, direction);
    plan->block_sums[2 * block] = fold(param);
    plan->block_sums[2 * block + 1] = fold(direction);
}

/* 1 where a norm is 0 or not finite; else within floor and cap. It is finite in the tensor's type: of an ordinary weight and
 * a subnormal gradient it would be infinite in float, and infinity times an element that is 0 is NaN. */
static double trust_ratio(trust h, double param_norm, double direction_norm)
{
    if (!(param_norm > 0 && param_norm < INFINITY && direction_norm > 0 && direction_norm < INFINITY))
        return 1;
    double ratio = h.coefficient * param_norm / (direction_norm + h.decay * param_norm + h.eps);
    ratio = h.scale * ratio;
    ratio = ratio > h.floor ? ratio : h.floor;
    return ratio < h.cap ? ratio : h.cap;
}

static void finish_trust_ratio(const fastopt_plan *plan, fastopt_tensor *tensor)
{
    const fastopt_group *group = &plan->groups[tensor->group];
    double param = 0, direction = 0;
    trust h;
    memcpy(&h, group->scalars + rules[group->rule].scalars - COUNT(trust), sizeof h);
    for (size_t i = tensor->first_block; i < tensor->first_block + blocks_of(tensor->size); i++) {
        param += plan->block_sums[2 * i];
        direction += plan->block_sums[2 * i + 1];
    }
    const double most = tensor->dtype == FASTOPT_FLOAT32 ? FLT_MAX : DBL_MAX;
    h.cap = h.cap < most ? h.cap : most;
    tensor->trust_ratio = trust_ratio(h, sqrt(param), sqrt(direction));
}

static void measure_tensors(step *s, size_t begin, size_t end, size_t elements)
{
    sweep blocks = {s, NULL, s->plan->tensors[begin].first_block};
    const size_t count = end_block(s->plan, end) - blocks.first_block;
    if (elements < SERIAL_BELOW)
        for (size_t i = 0; i < count; i++)
            measure_block(&blocks, i);
    else
        fastopt_for_each(count, measure_block, &blocks);
    for (size_t t = begin; t < end; t++)
        if (has_trust_ratio(s->plan, &s->plan->tensors[t]))
            finish_trust_ratio(s->plan, &s->plan->tensors[t]);
}

/* Both sweeps over one run of tensors after the other, so that the second finds in cache what the first has read. */
static void update_in_runs(step *s)
{
    enum { ELEMENTS_IN_CACHE = 1 << 20 };
    const fastopt_plan *plan = s->plan;
    for (size_t begin = 0, end; begin < plan->count; begin = end) {
        size_t elements = plan->tensors[begin].size;
        for (end = begin + 1; end < plan->count && elements + plan->tensors[end].size <= ELEMENTS_IN_CACHE; end++)
            elements += plan->tensors[end].size;
        measure_tensors(s, begin, end, elements);
        visit_tensors(s, update_range, begin, end, elements);
    }
}

/* ---- what Python calls ------------------------------------------------------------------------ */

static void square_sum_block(void *context, size_t i)
{
    const fastopt_plan *plan = context;
    const size_t block = i;
    const fastopt_tensor *tensor = find_block(plan, &i);
    const size_t begin = i * BLOCK, n = tensor->size - begin < BLOCK ? tensor->size - begin : BLOCK;
    const kernel_table *kernels = fastopt_kernels(tensor->dtype);
    float decoded[BLOCK];
    plan->block_sums[block] = kernels->square_sum(fastopt_numbers(tensor, FASTOPT_OF_GRAD, kernels, begin, n, decoded), n);
}

/* A tensor whose parameter is in 16 bits, and the same as numbers. */
typedef struct {
    const fastopt_tensor *stored;
    const kernel_table *kernels;
    int64_t step;
    float *param, *grad;
} conversion;

static void decode_block(void *context, size_t i)
{
    const conversion *c = context;
    const size_t begin = i * BLOCK, n = c->stored->size - begin < BLOCK ? c->stored->size - begin : BLOCK;
    fastopt_numbers(c->stored, FASTOPT_OF_PARAM, c->kernels, begin, n, c->param + begin);
    fastopt_numbers(c->stored, FASTOPT_OF_GRAD, c->kernels, begin, n, c->grad + begin);
}

static void encode_block(void *context, size_t i)
{
    const conversion *c = context;
    const size_t begin = i * BLOCK, n = c->stored->size - begin < BLOCK ? c->stored->size - begin : BLOCK;
    fastopt_store_param(c->stored, c->kernels, c->param + begin, begin, n, c->step);
}

/* One step of a rule that is given a whole tensor. */
static int step_of_tensor(const fastopt_plan *plan, const fastopt_tensor *tensor, const tensor_rule *rule,
                          const kernel_table *kernels)
{
    if (!is_stored(tensor, FASTOPT_OF_PARAM))
        return rule->step(plan, tensor, kernels);
    float *param = (float *)(scratch_of(plan) + whole_lines(rule->scratch(tensor)));
    conversion c = {tensor, kernels, *plan->step_count + 1, param,
                    param + whole_lines(tensor->size * sizeof *param) / sizeof *param};
    fastopt_tensor numbers = *tensor;
    fastopt_storage storage[FASTOPT_STORED];
    memcpy(storage, tensor->storage, sizeof storage);
    numbers.param = c.param;
    if (is_stored(tensor, FASTOPT_OF_GRAD))
        numbers.grad = c.grad;
    storage[FASTOPT_OF_PARAM].format = storage[FASTOPT_OF_GRAD].format = FASTOPT_PLAIN;
    numbers.storage = storage;
    fastopt_for_each(blocks_of(tensor->size), decode_block, &c);
    const int beyond = rule->step(plan, &numbers, kernels);
    fastopt_for_each(blocks_of(tensor->size), encode_block, &c);
    return beyond;
}

/* Whether the plan's arrays are as they were pinned, and the objects at these addresses, unless they are 0, the same. They
 * are a tuple's, which nobody else has: it does not change while this runs. */
static int still_fits(fastopt_plan *plan, uintptr_t params, uintptr_t grads)
{
    if (plan->torch)
        return fastopt_torch_fit(plan, (const uintptr_t *)params, (const uintptr_t *)grads);
    return plan->given &&
           fastopt_pins_fit(plan->own, plan->own_count, (const uintptr_t *)params, plan->count, plan->header) &&
           fastopt_pins_fit(plan->given, plan->given_count, (const uintptr_t *)grads, plan->count, plan->header);
}

int fastopt_grad_square_sums(fastopt_plan *plan, uintptr_t params, uintptr_t grads, double *sums)
{
    if (!still_fits(plan, params, grads))
        return FASTOPT_MOVED;
    if (plan->elements >= SERIAL_BELOW)
        fastopt_for_each(plan->blocks, square_sum_block, plan);
    else
        for (size_t i = 0; i < plan->blocks; i++)
            square_sum_block(plan, i);
    for (size_t t = 0; t < plan->count; t++) {
        const size_t first = plan->tensors[t].first_block;
        sums[t] = 0;
        for (size_t i = first; i < first + blocks_of(plan->tensors[t].size); i++)
            sums[t] += plan->block_sums[i];
    }
    return FASTOPT_DONE;
}

/* Rounds the scalars, and says whether they are finite in the types of the group's tensors; those of the trust ratio are not
 * rounded. clip_value and the last of the trust ratio, its cap, may be infinite. */
static int round_scalars(fastopt_group *group)
{
    const int count = rules[group->rule].scalars, trust = rules[group->rule].trust;
    double zero = 0, rounded_zero = 0; /* x - x is 0, or NaN if x is not finite */
    for (int i = 0; i < count; i++)
        group->rounded[i] = (float)group->scalars[i];
    for (int i = 0; i < count - (trust > 0); i++)
        if (i != offsetof(struct prepare, clip_value) / sizeof(double)) {
            zero += group->scalars[i] - group->scalars[i];
            rounded_zero += i < count - trust ? group->rounded[i] - group->rounded[i] : 0;
        }
    return zero == 0 && (!group->has_float || rounded_zero == 0);
}

static int has_ordinary_scalars(const fastopt_group *group)
{
    for (int i = 0; i < rules[group->rule].scalars; i++) {
        const double size = fabs(group->scalars[i]);
        if (!(size >= group->smallest[i] && size <= group->largest[i]))
            return 0;
    }
    if (group->eps < 0)
        return 1;
    const double tiny = group->has_float ? TINY_float : TINY_double;
    return group->scalars[group->eps] >= tiny || (group->eps_root >= 0 && group->scalars[group->eps_root] >= tiny * tiny);
}

/* Whether what is added to a parameter grows with it: by decay of the rule's own or L2, or by what is measured of the tensor. */
static int grows_with_parameters(const fastopt_group *group)
{
    return rules[group->rule].trust > 0 || rules[group->rule].of_tensor ||
           group->scalars[offsetof(struct prepare, l2) / sizeof(double)] != 0 ||
           (group->decay >= 0 && group->scalars[group->decay] != 0);
}

/* Whether a gradient, scaled, reaches the limits of the two types. */
static int gradients_reach(step *s, double of_float, double of_double)
{
    s->limit[FASTOPT_FLOAT32] = of_float;
    s->limit[FASTOPT_FLOAT64] = of_double;
    visit_tensors(s, check_range, 0, s->plan->count, s->plan->elements);
    return atomic_exchange(&s->beyond, 0);
}

int fastopt_update(fastopt_plan *plan, uintptr_t params, uintptr_t grads, const double *factors, double grad_norm,
                   int check_finite, int certain)
{
    step s = {plan, {fastopt_kernels(FASTOPT_FLOAT32), fastopt_kernels(FASTOPT_FLOAT64)}, {0}, 0};
    int two_sweeps = 0;
    if (!still_fits(plan, params, grads))
        return FASTOPT_MOVED;
    for (size_t t = 0; t < plan->count; t++)
        plan->tensors[t].grad_factor = factors ? factors[t] : 1;
    for (size_t g = 0; g < plan->group_count; g++) {
        fastopt_group *group = &plan->groups[g];
        if (!round_scalars(group))
            return FASTOPT_BAD_SCALAR;
        const int watched = grows_with_parameters(group);
        if (watched && !group->watched) /* what its parameters have become meanwhile is not known */
            plan->ordinary = 0;
        group->watched = watched;
        two_sweeps |= rules[group->rule].trust > 0;
    }
    if (check_finite && gradients_reach(&s, LARGE_float, LARGE_double)) {
        if (gradients_reach(&s, INFINITY, INFINITY))
            return FASTOPT_NONFINITE;
        if (!certain)
            return FASTOPT_UNCERTAIN;
    }
    if (!certain) {
        for (size_t g = 0; g < plan->group_count; g++)
            if (!has_ordinary_scalars(&plan->groups[g]))
                return FASTOPT_UNCERTAIN;
        if (!plan->ordinary) {
            visit_tensors(&s, look_range, 0, plan->count, plan->elements);
            plan->ordinary = atomic_exchange(&s.beyond, 0) ? 0 : ORDINARY_STEPS;
        }
        if (!plan->ordinary)
            return FASTOPT_UNCERTAIN;
    }
    if (plan->phase == FASTOPT_LOOK)
        return FASTOPT_DONE;
    if (plan->phase == FASTOPT_MEASURE) {
        if (two_sweeps)
            measure_tensors(&s, 0, plan->count, plan->elements);
        return FASTOPT_DONE;
    }
    if (two_sweeps && plan->phase == FASTOPT_WHOLE)
        update_in_runs(&s);
    else
        visit_tensors(&s, update_range, 0, plan->count, plan->elements);
    for (size_t t = 0; t < plan->count; t++) {
        const fastopt_tensor *tensor = &plan->tensors[t];
        const tensor_rule *rule = rules[plan->groups[tensor->group].rule].of_tensor;
        if (rule && tensor->size && step_of_tensor(plan, tensor, rule, s.kernels[tensor->dtype]))
            found_beyond(&s);
    }
    plan->ordinary = certain || atomic_load(&s.beyond) ? 0 : plan->ordinary - 1;
    ++*plan->step_count;
    if (plan->torch)
        fastopt_torch_count(plan);
    plan->grad_norm = grad_norm;
    return FASTOPT_DONE;
}
