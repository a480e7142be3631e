/* layer_norm.c: layer norm, blocks of rows for the thread pool. Each row is read from memory once: what is computed of its
 * sums finds it in cache. */
#include "kernels/layer_norm.h"
#include "platform/stream.h"

enum {
    STREAM_FROM = 8 << 20, /* bytes of a result from which on it goes past the cache */
    LEAST_ROWS = 64        /* of a block whose sums are kept: with fewer, keeping them takes too long (order.py) */
};

static size_t rows_together(size_t columns, size_t least)
{
    const size_t rows = columns < BLOCK ? BLOCK / columns : 1;
    return rows < least ? least : rows;
}

static void forward_block(void *task, size_t i)
{
    const layer_norm_task *t = task;
    const size_t begin = i * t->together;
    t->kernels->layer_norm(t, begin, smaller(t->together, t->rows - begin));
}

static void backward_block(void *task, size_t i)
{
    const layer_norm_task *t = task;
    const size_t begin = i * t->together;
    double *sums = t->sums + 2 * i * t->columns;
    for (size_t c = 0; c < 2 * t->columns; c++)
        sums[c] = 0;
    t->kernels->layer_norm_backward(t, begin, smaller(t->together, t->rows - begin), sums);
    stream_end();
}

/* The blocks' sums of some columns, added up in order. */
static void add_blocks(void *task, size_t i)
{
    const layer_norm_task *t = task;
    const size_t begin = i * COLUMN_TILE, n = smaller(COLUMN_TILE, t->columns - begin);
    void *results[2] = {t->dgamma, t->dbeta};
    for (int which = 0; which < 2; which++) {
        double total[COLUMN_TILE] = {0};
        for (size_t b = 0; results[which] && b < t->blocks; b++)
            for (size_t c = 0; c < n; c++)
                total[c] += t->sums[(2 * b + (size_t)which) * t->columns + begin + c];
        if (results[which])
            t->kernels->round(total, (char *)results[which] + begin * t->item, n);
    }
}

void fastopt_layer_norm(int dtype, const void *x, const void *gamma, const void *beta, void *y, void *statistics,
                        size_t rows, size_t columns, double eps)
{
    const size_t item = item_size(dtype);
    layer_norm_task t = {.kernels = fastopt_kernels(dtype),
                         .x = x,
                         .gamma = gamma,
                         .beta = beta,
                         .out = y,
                         .statistics = statistics,
                         .rows = rows,
                         .columns = columns,
                         .item = item,
                         .eps = eps};
    if (columns == 0)
        return;
    t.together = rows_together(columns, 1);
    for_blocks(rows * columns, blocks_of(rows, t.together), forward_block, &t);
}

size_t fastopt_layer_norm_scratch(size_t rows, size_t columns)
{
    return columns ? 2 * columns * blocks_of(rows, rows_together(columns, LEAST_ROWS)) : 0;
}

void fastopt_layer_norm_backward(int dtype, const void *dy, const void *x, const void *gamma, const void *statistics,
                                 void *dx, void *dgamma, void *dbeta, double *scratch, size_t rows, size_t columns)
{
    const size_t item = item_size(dtype);
    layer_norm_task t = {.kernels = fastopt_kernels(dtype),
                         .x = x,
                         .dy = dy,
                         .gamma = gamma,
                         .out = dx,
                         .statistics = (void *)statistics,
                         .dgamma = dgamma,
                         .dbeta = dbeta,
                         .sums = scratch,
                         .rows = rows,
                         .columns = columns,
                         .item = item,
                         .stream = rows * columns * item >= STREAM_FROM && dx != dy && dx != x};
    if (columns == 0)
        return;
    t.together = rows_together(columns, LEAST_ROWS);
    t.blocks = blocks_of(rows, t.together);
    for_blocks(rows * columns, t.blocks, backward_block, &t);
    for_blocks(2 * t.blocks * columns, blocks_of(columns, COLUMN_TILE), add_blocks, &t);
}
