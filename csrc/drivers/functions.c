/* functions.c: the functions of arrays, cut into blocks for the thread pool. */
#include "platform/environment.h"
#include "kernels/loss.h"
#include <math.h>
#include <string.h>

/* ---- element by element ----------------------------------------------------------------------- */

typedef struct {
    void (*unary)(const void *x, void *out, size_t n);
    void (*binary)(const void *x, const void *y, void *out, size_t n);
    void (*unary_with)(const void *x, void *out, size_t n, double number);
    void (*binary_with)(const void *x, const void *y, void *out, size_t n, double number);
    double number;
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
    else if (t->unary_with)
        t->unary_with(t->x + offset, t->out + offset, n, t->number);
    else if (t->binary_with)
        t->binary_with(t->x + offset, t->y + offset, t->out + offset, n, t->number);
    else
        t->binary(t->x + offset, t->y + offset, t->out + offset, n);
    if (t->of_normal)
        environment_take_subnormal(1);
}

static int run_elementwise(elementwise t)
{
    const size_t bytes = t.n * t.item;
    if (t.n == 0) /* wherever nothing lies */
        return 0;
    if (overlaps_part(t.out, t.x, bytes) || (t.y && overlaps_part(t.out, t.y, bytes)))
        return -1;
    if (!aligned(t.x, t.item) || !aligned(t.out, t.item) || !aligned(t.y, t.item))
        return -1;
    for_blocks(t.n, blocks_of(t.n, BLOCK), elementwise_block, &t);
    return 0;
}

#define UNARY(name)                                                                                       \
    int fastopt_##name(int dtype, const void *x, void *out, size_t n)                                     \
    {                                                                                                     \
        return run_elementwise(                                                                           \
            (elementwise){.unary = fastopt_kernels(dtype)->name,                                          \
                          .x = x,                                                                         \
                          .out = out,                                                                     \
                          .n = n,                                                                         \
                          .item = item_size(dtype),                                                       \
                          .of_normal = fastopt_kernels(dtype)->name == fastopt_kernels(dtype)->sigmoid}); \
    }
#define BINARY(name)                                                                                                \
    int fastopt_##name(int dtype, const void *x, const void *y, void *out, size_t n)                                \
    {                                                                                                               \
        return run_elementwise((elementwise){                                                                       \
            .binary = fastopt_kernels(dtype)->name, .x = x, .y = y, .out = out, .n = n, .item = item_size(dtype)}); \
    }
#define UNARY_WITH(name)                                                                 \
    int fastopt_##name(int dtype, const void *x, void *out, size_t n, double number)     \
    {                                                                                    \
        return run_elementwise((elementwise){.unary_with = fastopt_kernels(dtype)->name, \
                                             .number = number,                           \
                                             .x = x,                                     \
                                             .out = out,                                 \
                                             .n = n,                                     \
                                             .item = item_size(dtype)});                 \
    }
#define BINARY_WITH(name)                                                                           \
    int fastopt_##name(int dtype, const void *x, const void *y, void *out, size_t n, double number) \
    {                                                                                               \
        return run_elementwise((elementwise){.binary_with = fastopt_kernels(dtype)->name,           \
                                             .number = number,                                      \
                                             .x = x,                                                \
                                             .y = y,                                                \
                                             .out = out,                                            \
                                             .n = n,                                                \
                                             .item = item_size(dtype)});                            \
    }
#include "kernels/kernels.def"

/* ---- copies ----------------------------------------------------------------------------------- */

typedef struct {
    const char *x;
    char *out;
    size_t bytes, piece;
} copy_task;

static void copy_piece(void *task, size_t i)
{
    const copy_task *t = task;
    memcpy(t->out + i * t->piece, t->x + i * t->piece, smaller(t->piece, t->bytes - i * t->piece));
}

void fastopt_copy(int dtype, const void *x, void *out, size_t bytes)
{
    copy_task t = {x, out, bytes, BLOCK * item_size(dtype)};
    for_blocks(bytes / item_size(dtype), blocks_of(bytes, t.piece), copy_piece, &t);
}

typedef struct {
    const kernel_table *kernels;
    char *average;
    const char *x;
    size_t n, item;
    double share;
} average_task;

static void average_block(void *task, size_t i)
{
    const average_task *t = task;
    const size_t begin = i * BLOCK, at = begin * t->item;
    t->kernels->move_average(t->average + at, t->x + at, smaller(BLOCK, t->n - begin), t->share);
}

void fastopt_move_average(int dtype, void *average, const void *x, int64_t *steps, size_t n, size_t counted, double share)
{
    average_task t = {fastopt_kernels(dtype), average, x, n, item_size(dtype), share};
    if (*steps)
        for_blocks(n, blocks_of(n, BLOCK), average_block, &t);
    else
        fastopt_copy(dtype, x, average, n * t.item);
    *steps += counted;
}

typedef struct {
    const char *X;
    char *x;
    const int64_t *rows;
    size_t count, width, together, item;
    int from, dtype;
} gather_task;

static void gather_block(void *task, size_t i)
{
    const gather_task *t = task;
    const size_t begin = i * t->together, end = smaller(begin + t->together, t->count);
    for (size_t r = begin; r < end; r++) {
        char *to = t->x + r * t->width * t->item;
        const size_t first = (size_t)t->rows[r] * t->width;
        if (t->from == t->dtype)
            memcpy(to, t->X + first * t->item, t->width * t->item);
        else if (t->dtype == FASTOPT_FLOAT32)
            for (size_t c = 0; c < t->width; c++)
                ((float *)to)[c] = (float)((const double *)t->X)[first + c];
        else
            for (size_t c = 0; c < t->width; c++)
                ((double *)to)[c] = ((const float *)t->X)[first + c];
    }
}

void fastopt_gather_rows(int dtype, const void *X, const int64_t *rows, void *x, size_t count, size_t width, int from)
{
    const size_t together = width < BLOCK ? BLOCK / (width ? width : 1) : 1;
    gather_task t = {X, x, rows, count, width, together, item_size(dtype), from, dtype};
    for_blocks(count * width, blocks_of(count, together), gather_block, &t);
}

typedef struct {
    const kernel_table *kernels;
    const char *dy, *h, *t, *x;
    char *dh, *dt, *dx;
    size_t n, item;
} highway_task;

static void highway_block(void *task, size_t i)
{
    const highway_task *t = task;
    const size_t begin = i * BLOCK, n = smaller(BLOCK, t->n - begin), at = begin * t->item;
    if (t->dy)
        t->kernels->highway_backward(t->dy + at, t->h + at, t->t + at, t->x + at, t->dh + at, t->dt + at, t->dx + at, n);
    else
        t->kernels->highway(t->h + at, t->t + at, t->x + at, t->dh + at, n);
}

void fastopt_highway(int dtype, const void *h, const void *t, const void *x, void *y, size_t n)
{
    highway_task task = {fastopt_kernels(dtype), NULL, h, t, x, y, NULL, NULL, n, item_size(dtype)};
    for_blocks(n, blocks_of(n, BLOCK), highway_block, &task);
}

void fastopt_highway_backward(int dtype, const void *dy, const void *h, const void *t, const void *x, void *dh, void *dt,
                              void *dx, size_t n)
{
    highway_task task = {fastopt_kernels(dtype), dy, h, t, x, dh, dt, dx, n, item_size(dtype)};
    for_blocks(n, blocks_of(n, BLOCK), highway_block, &task);
}

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

#define WITH_BIAS(name, normal)                                                                                    \
    void fastopt_##name(int dtype, void *x, const void *bias, size_t rows, size_t columns)                         \
    {                                                                                                              \
        run_rowwise((rowwise){fastopt_kernels(dtype)->name, x, bias, rows, columns, 0, item_size(dtype), normal}); \
    }

WITH_BIAS(bias_add, 0)
WITH_BIAS(bias_sigmoid, 1)
WITH_BIAS(bias_tanh, 0)
WITH_BIAS(bias_relu, 0)

void fastopt_scale_rows(int dtype, void *x, const void *weight, size_t rows, size_t columns)
{
    fastopt_kernels(dtype)->scale_rows(x, weight, rows, columns);
}

/* Of matrices whose rows are independent: blocks of some, of each of which so many bytes are written. */
typedef struct {
    void (*kernel)(const void *x, void *out, size_t rows, size_t columns);
    const char *x;
    char *out;
    size_t rows, columns, item, bytes_of_row, rows_of_block;
} rows_task;

static void rows_block(void *task, size_t i)
{
    const rows_task *t = task;
    const size_t begin = i * t->rows_of_block;
    t->kernel(t->x + begin * t->columns * t->item, t->out + begin * t->bytes_of_row,
              smaller(t->rows_of_block, t->rows - begin), t->columns);
}

static void run_rows(rows_task t)
{
    if (t.rows == 0 || t.columns == 0)
        return;
    t.rows_of_block = t.columns < BLOCK ? BLOCK / t.columns : 1;
    for_blocks(t.rows * t.columns, blocks_of(t.rows, t.rows_of_block), rows_block, &t);
}

int fastopt_softmax(int dtype, const void *x, void *out, size_t rows, size_t classes)
{
    const size_t item = item_size(dtype);
    if (rows == 0)
        return 0;
    if (overlaps_part(out, x, rows * classes * item) || !aligned(x, item) || !aligned(out, item))
        return -1;
    run_rows((rows_task){.kernel = fastopt_kernels(dtype)->softmax[classes < NARROW],
                         .x = x,
                         .out = out,
                         .rows = rows,
                         .columns = classes,
                         .item = item,
                         .bytes_of_row = classes * item});
    return 0;
}

void fastopt_argmax(int dtype, const void *x, int64_t *places, size_t rows, size_t columns)
{
    run_rows((rows_task){.kernel = fastopt_kernels(dtype)->argmax,
                         .x = x,
                         .out = (char *)places,
                         .rows = rows,
                         .columns = columns,
                         .item = item_size(dtype),
                         .bytes_of_row = sizeof *places});
}

/* ---- sums ------------------------------------------------------------------------------------- */

/* Blocks are added up in order, SUMS of them at a time. */
enum { SUMS = 256 };

typedef struct {
    double (*kernel)(const void *x, size_t n);
    const char *x;
    size_t n, item;
    double sums[SUMS];
} sum_task;

static void sum_block(void *task, size_t i)
{
    sum_task *t = task;
    t->sums[i] = t->kernel(t->x + i * BLOCK * t->item, smaller(BLOCK, t->n - i * BLOCK));
}

static double run_sum(double (*kernel)(const void *x, size_t n), const void *x, size_t n, size_t item)
{
    const size_t round = (size_t)SUMS * BLOCK;
    sum_task t = {.kernel = kernel, .item = item};
    double total = 0;
    for (size_t begin = 0; begin < n; begin += round) {
        t.x = (const char *)x + begin * t.item;
        t.n = smaller(round, n - begin);
        for_blocks(t.n, blocks_of(t.n, BLOCK), sum_block, &t);
        for (size_t i = 0; i < blocks_of(t.n, BLOCK); i++)
            total += t.sums[i];
    }
    return total;
}

double fastopt_square_sum(int dtype, const void *x, size_t n)
{
    return run_sum(fastopt_kernels(dtype)->square_sum, x, n, item_size(dtype));
}

double fastopt_add_up(int dtype, const void *x, size_t n)
{
    return run_sum(fastopt_kernels(dtype)->add_up, x, n, item_size(dtype));
}
