/* functions.c: the functions of arrays, cut into blocks for the thread pool. */
#include "internal.h"

/* Below this many elements, waking a thread costs more than it saves. */
enum { SERIAL_BELOW = 2 * BLOCK };

static size_t item_size(int dtype)
{
    return dtype == FASTOPT_FLOAT32 ? sizeof(float) : sizeof(double);
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Calls body for `count` blocks: on the pool where there are enough elements, else here, in order. */
static void for_blocks(size_t elements, size_t count, void (*body)(void *task, size_t i), void *task)
{
    if (elements >= SERIAL_BELOW)
        fastopt_for_each(count, body, task);
    else
        for (size_t i = 0; i < count; i++)
            body(task, i);
}

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

int fastopt_any_nonfinite(int dtype, const void *x, size_t n, double scale)
{
    return fastopt_kernels(dtype)->any_nonfinite(x, n, scale);
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

/* ---- sums ------------------------------------------------------------------------------------- */

enum { COLUMNS_PER_BLOCK = 64 };

typedef struct {
    const kernel_table *kernels;
    const void *x;
    void *sums;
    size_t rows, columns;
} column_task;

static void column_block(void *task, size_t i)
{
    const column_task *t = task;
    const size_t begin = i * COLUMNS_PER_BLOCK;
    t->kernels->column_sums(t->x, t->sums, t->rows, t->columns, begin, smaller(begin + COLUMNS_PER_BLOCK, t->columns));
}

void fastopt_column_sums(int dtype, const void *x, void *sums, size_t rows, size_t columns)
{
    column_task t = {fastopt_kernels(dtype), x, sums, rows, columns};
    for_blocks(rows * columns, (columns + COLUMNS_PER_BLOCK - 1) / COLUMNS_PER_BLOCK, column_block, &t);
}

/* Sums are added up block by block in order, SUMS blocks at a time. */
enum { SUMS = 256 };
static const size_t ROUND = (size_t)SUMS * BLOCK;

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
    square_task t = {.kernels = fastopt_kernels(dtype), .item = item_size(dtype)};
    double total = 0;
    for (size_t begin = 0; begin < n; begin += ROUND) {
        t.x = (const char *)x + begin * t.item;
        t.n = smaller(ROUND, n - begin);
        const size_t blocks = (t.n + BLOCK - 1) / BLOCK;
        for_blocks(t.n, blocks, square_block, &t);
        for (size_t i = 0; i < blocks; i++)
            total += t.sums[i];
    }
    return total;
}

typedef struct {
    const kernel_table *kernels;
    const char *z, *y;
    char *losses, *dz;
    size_t n, item;
    double scale, sums[SUMS];
} loss_task;

static void loss_block(void *task, size_t i)
{
    loss_task *t = task;
    const size_t begin = i * BLOCK, offset = begin * t->item;
    t->sums[i] = t->kernels->logistic_loss(t->z + offset, t->y + offset, t->losses ? t->losses + offset : NULL,
                                           t->dz + offset, smaller(BLOCK, t->n - begin), t->scale);
}

double fastopt_logistic_loss(int dtype, const void *z, const void *y, void *losses, void *dz, size_t n, double scale)
{
    const size_t item = item_size(dtype);
    double total = 0;
    for (size_t begin = 0; begin < n; begin += ROUND) {
        const size_t offset = begin * item, width = smaller(ROUND, n - begin), blocks = (width + BLOCK - 1) / BLOCK;
        loss_task t = {fastopt_kernels(dtype), (const char *)z + offset, (const char *)y + offset,
                       losses ? (char *)losses + offset : NULL, (char *)dz + offset, width, item, scale, {0}};
        for_blocks(width, blocks, loss_block, &t);
        for (size_t i = 0; i < blocks; i++)
            total += t.sums[i];
    }
    return total;
}
