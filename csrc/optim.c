/* optim.c: one step of an optimizer over all its tensors, whatever the rule. */
#include "internal.h"
#include <stdatomic.h>
#include <math.h>
#include <string.h>

#define real double
#define SQRT sqrt
#define TYPED(name) name
#include "rules.h"

static const struct {
    const char *name;
    int states, scalars;
} rules[RULE_COUNT] = {
#define RULE(name, states) {#name, states, (int)((sizeof(struct prepare) + sizeof(struct name)) / sizeof(double))},
#include "rules.def"
#undef RULE
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
    }
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

/* A sweep over all tensors: over each as a whole in the calling thread, or block by block on the pool. */
typedef struct {
    const fastopt_plan *plan;
    void (*visit)(void *context, const fastopt_tensor *tensor, size_t begin, size_t end);
    void *context;
} sweep;

/* Blocks begin on a cache line of the parameter: 512-bit loops lose up to a quarter off it. */
static void visit_block(void *context, size_t i)
{
    const sweep *s = context;
    const fastopt_tensor *tensor = find_block(s->plan, &i);
    const size_t item = tensor->dtype == FASTOPT_FLOAT32 ? sizeof(float) : sizeof(double);
    const size_t ahead = (size_t)(-(uintptr_t)tensor->param % 64) / item;
    const size_t begin = i ? i * BLOCK + ahead : 0;
    const size_t end = (i + 1) * BLOCK + ahead;
    if (begin < tensor->size)
        s->visit(s->context, tensor, begin, end < tensor->size ? end : tensor->size);
}

static void run(sweep s)
{
    if (s.plan->elements >= SERIAL_BELOW)
        fastopt_for_each(s.plan->blocks, visit_block, &s);
    else
        for (size_t t = 0; t < s.plan->count; t++)
            s.visit(s.context, &s.plan->tensors[t], 0, s.plan->tensors[t].size);
}

typedef struct {
    const kernel_table *kernels[2];
    const fastopt_group *groups;
    atomic_int nonfinite;
} step;

static void check_range(void *context, const fastopt_tensor *tensor, size_t begin, size_t end)
{
    step *s = context;
    const size_t item = tensor->dtype == FASTOPT_FLOAT32 ? sizeof(float) : sizeof(double);
    if (s->kernels[tensor->dtype]->any_nonfinite((const char *)tensor->grad + begin * item, end - begin))
        atomic_store_explicit(&s->nonfinite, 1, memory_order_relaxed);
}

static void update_range(void *context, const fastopt_tensor *tensor, size_t begin, size_t end)
{
    const step *s = context;
    const fastopt_group *group = &s->groups[tensor->group];
    s->kernels[tensor->dtype]->update[group->rule](tensor, group, begin, end);
}

static void square_sum_block(void *context, size_t i)
{
    const fastopt_plan *plan = context;
    const size_t block = i;
    const fastopt_tensor *tensor = find_block(plan, &i);
    const size_t item = tensor->dtype == FASTOPT_FLOAT32 ? sizeof(float) : sizeof(double);
    const size_t begin = i * BLOCK, n = tensor->size - begin < BLOCK ? tensor->size - begin : BLOCK;
    plan->block_sums[block] = fastopt_kernels(tensor->dtype)->square_sum((const char *)tensor->grad + begin * item, n);
}

/* Here the blocks are the specification: they begin at multiples of BLOCK, wherever the arrays lie. */
void fastopt_grad_square_sums(const fastopt_plan *plan, double *sums)
{
    if (plan->elements >= SERIAL_BELOW)
        fastopt_for_each(plan->blocks, square_sum_block, (void *)plan);
    else
        for (size_t i = 0; i < plan->blocks; i++)
            square_sum_block((void *)plan, i);
    for (size_t t = 0; t < plan->count; t++) {
        const size_t first = plan->tensors[t].first_block;
        sums[t] = 0;
        for (size_t i = first; i < first + blocks_of(plan->tensors[t].size); i++)
            sums[t] += plan->block_sums[i];
    }
}

int fastopt_update(const fastopt_plan *plan, int check_finite)
{
    step s = {{fastopt_kernels(FASTOPT_FLOAT32), fastopt_kernels(FASTOPT_FLOAT64)}, plan->groups, 0};
    if (check_finite) {
        run((sweep){plan, check_range, &s});
        if (atomic_load(&s.nonfinite))
            return 1;
    }
    for (size_t g = 0; g < plan->group_count; g++)
        for (int i = 0; i < FASTOPT_MAX_SCALARS; i++)
            plan->groups[g].rounded[i] = (float)plan->groups[g].scalars[i];
    run((sweep){plan, update_range, &s});
    return 0;
}
