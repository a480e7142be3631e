/* functions.c: the functions of arrays, cut into blocks for the thread pool. */
#include "platform/environment.h"
#include "kernels/loss.h"
#include <math.h>

/* ---- element by element ----------------------------------------------------------------------- */

typedef struct {
    void (*unary)(const void *x, void *out, size_t n);
    void (*binary)(const void *x, const void *y, void *out, size_t n);
    const char *x, *y;
    char *out;
    size_t n, item;
    int of_normal; /* the result is that of 0 where x is subnormal, with which some CPUs take 50 to 200 times as long */
} elementwise;

static void elementwise_block(void *task, size_t i)
{
    const elementwise *t = task;
    const size_t begin = i * BLOCK, n = smaller(BLOCK, t->n - begin), offset = begin * t->item;
    if (t->of_normal)
        environment_take_subnormal(0);
    if (t->unary)
        t->unary(t->x + offset, t->out + offset, n);
    else
        t->binary(t->x + offset, t->y + offset, t->out + offset, n);
    if (t->of_normal)
        environment_take_subnormal(1);
}

static int run_elementwise(elementwise t)
{
    const size_t bytes = t.n * t.item;
    if (overlaps_part(t.out, t.x, bytes) || (t.binary && overlaps_part(t.out, t.y, bytes)))
        return -1;
    if (!aligned(t.x, t.item) || !aligned(t.out, t.item) || (t.binary && !aligned(t.y, t.item)))
        return -1;
    for_blocks(t.n, blocks_of(t.n, BLOCK), elementwise_block, &t);
    return 0;
}

#define UNARY(name, normal)                                                                                           \
    int fastopt_##name(int dtype, const void *x, void *out, size_t n)                                         \
    {                                                                                                         \
        return run_elementwise((elementwise){                                                                 \
            .unary = fastopt_kernels(dtype)->name, .x = x, .out = out, .n = n, .item = item_size(dtype),      \
            .of_normal = normal});                                                                            \
    }
#define BINARY(name)                                                                                          \
    int fastopt_##name(int dtype, const void *x, const void *y, void *out, size_t n)                          \
    {                                                                                                         \
        return run_elementwise((elementwise){                                                                 \
            .binary = fastopt_kernels(dtype)->name, .x = x, .y = y, .out = out, .n = n, .item = item_size(dtype)}); \
    }

UNARY(exp, 0)
UNARY(log1p_unit, 0)
UNARY(sigmoid, 1)
UNARY(tanh, 0)
UNARY(relu, 0)
UNARY(softplus, 0)
UNARY(log_sigmoid, 0)
BINARY(sigmoid_backward)
BINARY(tanh_backward)
BINARY(relu_backward)
BINARY(softplus_backward)
BINARY(log_sigmoid_backward)

int fastopt_any_nonfinite(int dtype, const void *x, size_t n, double scale)
{
    return fastopt_kernels(dtype)->any_beyond(x, n, scale, INFINITY);
}

/* ---- row by row ------------------------------------------------------------------------------- */

typedef struct {
    void (*kernel)(void *x, const void *bias, size_t rows, size_t columns);
    char *x;
    const void *bias;
    size_t rows, columns, rows_per_block, item;
    int of_normal;
} rowwise;

static void rowwise_block(void *task, size_t i)
{
    const rowwise *t = task;
    const size_t begin = i * t->rows_per_block;
    if (t->of_normal)
        environment_take_subnormal(0);
    t->kernel(t->x + begin * t->columns * t->item, t->bias, smaller(t->rows_per_block, t->rows - begin), t->columns);
    if (t->of_normal)
        environment_take_subnormal(1);
}

static void run_rowwise(rowwise t)
{
    if (t.columns == 0)
        return;
    t.rows_per_block = t.columns < BLOCK ? BLOCK / t.columns : 1;
    for_blocks(t.rows * t.columns, (t.rows + t.rows_per_block - 1) / t.rows_per_block, rowwise_block, &t);
}

#define WITH_BIAS(name, normal)                                                                               \
    void fastopt_##name(int dtype, void *x, const void *bias, size_t rows, size_t columns)                    \
    {                                                                                                         \
        run_rowwise((rowwise){fastopt_kernels(dtype)->name, x, bias, rows, columns, 0, item_size(dtype), normal}); \
    }

WITH_BIAS(bias_add, 0)
WITH_BIAS(bias_sigmoid, 1)
WITH_BIAS(bias_tanh, 0)
WITH_BIAS(bias_relu, 0)

typedef struct {
    void (*kernel)(const void *x, void *out, size_t rows, size_t classes);
    const char *x;
    char *out;
    size_t rows, classes, rows_per_block, item;
} softmax_task;

static void softmax_block(void *task, size_t i)
{
    const softmax_task *t = task;
    const size_t begin = i * t->rows_per_block, offset = begin * t->classes * t->item;
    t->kernel(t->x + offset, t->out + offset, smaller(t->rows_per_block, t->rows - begin), t->classes);
}

int fastopt_softmax(int dtype, const void *x, void *out, size_t rows, size_t classes)
{
    const size_t item = item_size(dtype), block = classes < BLOCK ? BLOCK / classes : 1;
    softmax_task t = {fastopt_kernels(dtype)->softmax[classes < NARROW], x, out, rows, classes, block, item};
    if (overlaps_part(out, x, rows * classes * item) || !aligned(x, item) || !aligned(out, item))
        return -1;
    for_blocks(rows * classes, blocks_of(rows, block), softmax_block, &t);
    return 0;
}

/* ---- the sum of squares ----------------------------------------------------------------------- */

/* Blocks are added up in order, SUMS of them at a time. */
enum { SUMS = 256 };

typedef struct {
    const kernel_table *kernels;
    const char *x;
    size_t n, item;
    double sums[SUMS];
} square_task;

static void square_block(void *task, size_t i)
{
    square_task *t = task;
    t->sums[i] = t->kernels->square_sum(t->x + i * BLOCK * t->item, smaller(BLOCK, t->n - i * BLOCK));
}

double fastopt_square_sum(int dtype, const void *x, size_t n)
{
    const size_t round = (size_t)SUMS * BLOCK;
    square_task t = {.kernels = fastopt_kernels(dtype), .item = item_size(dtype)};
    double total = 0;
    for (size_t begin = 0; begin < n; begin += round) {
        t.x = (const char *)x + begin * t.item;
        t.n = smaller(round, n - begin);
        for_blocks(t.n, blocks_of(t.n, BLOCK), square_block, &t);
        for (size_t i = 0; i < blocks_of(t.n, BLOCK); i++)
            total += t.sums[i];
    }
    return total;
}
