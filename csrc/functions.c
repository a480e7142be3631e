/* functions.c: the functions of arrays, cut into blocks for the thread pool. */
#include "functions.h"

/* ---- element by element ----------------------------------------------------------------------- */

typedef struct {
    void (*unary)(const void *x, void *out, size_t n);
    void (*binary)(const void *x, const void *y, void *out, size_t n);
    const char *x, *y;
    char *out;
    size_t n, item;
} elementwise;

static void elementwise_block(void *task, size_t i)
{
    const elementwise *t = task;
    const size_t begin = i * BLOCK, n = smaller(BLOCK, t->n - begin), offset = begin * t->item;
    if (t->unary)
        t->unary(t->x + offset, t->out + offset, n);
    else
        t->binary(t->x + offset, t->y + offset, t->out + offset, n);
}

static void run_elementwise(elementwise t)
{
    for_blocks(t.n, (t.n + BLOCK - 1) / BLOCK, elementwise_block, &t);
}

void fastopt_exp(int dtype, const void *x, void *out, size_t n)
{
    run_elementwise((elementwise){.unary = fastopt_kernels(dtype)->exp, .x = x, .out = out, .n = n, .item = item_size(dtype)});
}

void fastopt_log1p_unit(int dtype, const void *x, void *out, size_t n)
{
    run_elementwise((elementwise){.unary = fastopt_kernels(dtype)->log1p_unit, .x = x, .out = out, .n = n, .item = item_size(dtype)});
}

void fastopt_sigmoid(int dtype, const void *x, void *out, size_t n)
{
    run_elementwise((elementwise){.unary = fastopt_kernels(dtype)->sigmoid, .x = x, .out = out, .n = n, .item = item_size(dtype)});
}

void fastopt_sigmoid_backward(int dtype, const void *dy, const void *y, void *dx, size_t n)
{
    run_elementwise((elementwise){
        .binary = fastopt_kernels(dtype)->sigmoid_backward, .x = dy, .y = y, .out = dx, .n = n, .item = item_size(dtype)});
}

int fastopt_any_nonfinite(int dtype, const void *x, size_t n)
{
    return fastopt_kernels(dtype)->any_nonfinite(x, n);
}

/* ---- row by row ------------------------------------------------------------------------------- */

typedef struct {
    void (*kernel)(void *x, const void *bias, size_t rows, size_t columns);
    char *x;
    const void *bias;
    size_t rows, columns, rows_per_block, item;
} rowwise;

static void rowwise_block(void *task, size_t i)
{
    const rowwise *t = task;
    const size_t begin = i * t->rows_per_block;
    t->kernel(t->x + begin * t->columns * t->item, t->bias, smaller(t->rows_per_block, t->rows - begin), t->columns);
}

static void run_rowwise(rowwise t)
{
    if (t.columns == 0)
        return;
    t.rows_per_block = t.columns < BLOCK ? BLOCK / t.columns : 1;
    for_blocks(t.rows * t.columns, (t.rows + t.rows_per_block - 1) / t.rows_per_block, rowwise_block, &t);
}

void fastopt_bias_add(int dtype, void *x, const void *bias, size_t rows, size_t columns)
{
    run_rowwise((rowwise){fastopt_kernels(dtype)->bias_add, x, bias, rows, columns, 0, item_size(dtype)});
}

void fastopt_bias_sigmoid(int dtype, void *x, const void *bias, size_t rows, size_t columns)
{
    run_rowwise((rowwise){fastopt_kernels(dtype)->bias_sigmoid, x, bias, rows, columns, 0, item_size(dtype)});
}
