/* muon.c: one step of Muon. */
#include "drivers/tensor_rules.h"
#include "drivers/functions.h"
#include "drivers/storage.h"
#include <math.h>
#include <string.h>

/* The scalars of `struct prepare` and of `struct muon` (rules.h), in double. */
typedef struct {
    double grad_scale, clip_value, l2, keep;
    double momentum, grad_weight, from_grad, from_buffer, a, b, c, eps, steps, original, matched, lr;
} muon;

/* A pass over the elements of a tensor, in blocks, beside each other where there is enough to do. */
typedef struct {
    const fastopt_plan *plan;
    const fastopt_tensor *tensor;
    const kernel_table *kernels;
    char *out;
    const char *x, *y;
    double alpha, beta;
    size_t size, item;
} pass;

static void each_block(pass *p, void (*body)(void *context, size_t i))
{
    for_blocks(p->size, blocks_of(p->size, BLOCK), body, p);
}

static size_t end_of(const pass *p, size_t begin)
{
    return smaller(begin + BLOCK, p->size);
}

/* The same where the momentum is stored in fewer bytes. */
static double direction_stored(const pass *p, const fastopt_group *group, size_t begin, size_t end)
{
    tile t;
    for (size_t first = begin; first < end; first += TILE) {
        fastopt_load_tile(&t, p->tensor, p->kernels, 1, first, end - first < TILE ? end : first + TILE);
        p->kernels->muon_direction(&t.tensor, group, 0, t.tensor.size, p->out + first * p->item);
        fastopt_store_tile(&t, 1, *p->plan->step_count + 1);
    }
    return p->kernels->square_sum(p->out + begin * p->item, end - begin);
}

static void direction_block(void *context, size_t i)
{
    const pass *p = context;
    const size_t begin = i * BLOCK;
    const fastopt_group *group = &p->plan->groups[p->tensor->group];
    double *sum = &p->plan->block_sums[p->tensor->first_block + i];
    if (p->tensor->storage)
        *sum = direction_stored(p, group, begin, end_of(p, begin));
    else
        *sum = p->kernels->muon_direction(p->tensor, group, begin, end_of(p, begin), p->out);
}

static void divide_block(void *context, size_t i)
{
    const pass *p = context;
    const size_t begin = i * BLOCK;
    p->kernels->divide(p->out + begin * p->item, p->alpha, end_of(p, begin) - begin);
}

static void combine_block(void *context, size_t i)
{
    const pass *p = context;
    const size_t begin = i * BLOCK, at = begin * p->item;
    p->kernels->combine(p->out + at, p->alpha, p->x + at, p->beta, p->y + at, end_of(p, begin) - begin);
}

/* out = alpha x + beta y, of `size` elements. */
static void combine(const pass *of, char *out, double alpha, const char *x, double beta, const char *y, size_t size)
{
    pass p = *of;
    p.out = out;
    p.alpha = alpha;
    p.x = x;
    p.beta = beta;
    p.y = y;
    p.size = size;
    each_block(&p, combine_block);
}

static size_t smaller_side(const fastopt_tensor *tensor)
{
    return smaller(tensor->rows, tensor->columns);
}

static size_t scratch(const fastopt_tensor *tensor)
{
    const size_t item = item_size(tensor->dtype), side = smaller_side(tensor);
    return 2 * whole_lines(tensor->size * item) + 2 * whole_lines(side * side * item);
}

/* Muon: the momentum, x, made orthogonal by Newton and Schulz's iteration, x = a x + (b g + c g g) x with g = x x',
 * which is symmetric to the bit, as products and sums of one element are those of its mirror image. Of more rows than
 * columns, g = x' x stands on the right. */
static int step(const fastopt_plan *plan, const fastopt_tensor *tensor, const kernel_table *kernels)
{
    const size_t size = tensor->size, rows = tensor->rows, columns = tensor->columns, side = smaller_side(tensor);
    pass p = {.plan = plan, .tensor = tensor, .kernels = kernels, .size = size, .item = item_size(tensor->dtype)};
    char *x = scratch_of(plan), *y = x + whole_lines(size * p.item);
    char *gram = y + whole_lines(size * p.item), *square = gram + whole_lines(side * side * p.item);
    const int dtype = tensor->dtype;
    const ptrdiff_t along = (ptrdiff_t)columns, across = (ptrdiff_t)side;
    muon h;
    memcpy(&h, plan->groups[tensor->group].scalars, sizeof h);

    p.out = x;
    each_block(&p, direction_block);
    double sum = 0;
    for (size_t i = 0; i < blocks_of(size, BLOCK); i++)
        sum += plan->block_sums[tensor->first_block + i];
    const double norm = sqrt(sum);
    p.alpha = norm > h.eps ? norm : h.eps;
    each_block(&p, divide_block);

    for (int i = 0; i < (int)h.steps; i++) {
        if (rows <= columns)
            fastopt_matmul(dtype, x, x, gram, NULL, side, side, columns, along, 1, 1, along, FASTOPT_NORM_IDENTITY);
        else
            fastopt_matmul(dtype, x, x, gram, NULL, side, side, rows, 1, along, along, 1, FASTOPT_NORM_IDENTITY);
        fastopt_matmul(dtype, gram, gram, square, NULL, side, side, side, across, 1, across, 1, FASTOPT_NORM_IDENTITY);
        combine(&p, gram, h.b, gram, h.c, square, side * side);
        if (rows <= columns)
            fastopt_matmul(dtype, gram, x, y, NULL, rows, columns, side, across, 1, along, 1, FASTOPT_NORM_IDENTITY);
        else
            fastopt_matmul(dtype, x, gram, y, NULL, rows, columns, side, along, 1, across, 1, FASTOPT_NORM_IDENTITY);
        combine(&p, x, h.a, x, 1, y, size);
    }

    const double tall = (double)rows / (double)columns, longer = (double)(rows > columns ? rows : columns);
    const double ratio = h.original * sqrt(tall > 1 ? tall : 1) + h.matched * sqrt(longer);
    combine(&p, tensor->param, h.keep, tensor->param, -(h.lr * ratio), x, size);
    return 0; /* x is of moderate size, whatever the gradient was */
}

const tensor_rule fastopt_muon = {scratch, step};
