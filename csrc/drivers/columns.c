/* columns.c: the sums of the columns of a matrix, such as the gradient of a bias. */
#include "drivers/functions.h"

typedef struct {
    const kernel_table *kernels;
    const char *x;
    char *sums;
    size_t rows, columns, item, tile;
    column_order order;
    double *block_sums;
} column_task;

/* sum[width] = columns begin..begin + width of block b; the lanes not yet folded. */
static void sum_block(const column_task *t, size_t b, size_t begin, size_t width, double *sum)
{
    const size_t first = b * t->order.rows_of_block, rows = smaller(t->order.rows_of_block, t->rows - first);
    const size_t full = rows / t->order.lanes, rest = rows % t->order.lanes * t->columns;
    const char *x = t->x + (first * t->columns + begin) * t->item;
    for (size_t c = 0; c < width; c++)
        sum[c] = 0;
    t->kernels->add_rows(x, sum, full, t->order.width, width);
    t->kernels->add_rows(x + full * t->order.width * t->item, sum, rest > 0, 0, rest);
}

/* Many columns: a tile of them at a time, all blocks of rows. */
static void sum_tile(void *task, size_t i)
{
    const column_task *t = task;
    const size_t begin = i * t->tile, width = smaller(t->tile, t->columns - begin);
    double total[COLUMN_TILE], sum[COLUMN_TILE];
    for (size_t c = 0; c < width; c++)
        total[c] = 0;
    for (size_t b = 0; b < t->order.blocks; b++) {
        sum_block(t, b, begin, width, sum);
        for (size_t c = 0; c < width; c++)
            total[c] += sum[c];
    }
    t->kernels->round(total, t->sums + begin * t->item, width);
}

/* Few columns: a block of rows at a time, all columns. */
static void sum_rows(void *task, size_t i)
{
    const column_task *t = task;
    double sum[2 * COLUMN_LANES];
    sum_block(t, i, 0, t->order.width, sum);
    fold_columns(sum, t->order.lanes, t->columns);
    for (size_t c = 0; c < t->columns; c++)
        t->block_sums[i * t->columns + c] = sum[c];
}

void fastopt_column_sums(int dtype, const void *x, void *sums, size_t rows, size_t columns)
{
    column_task t = {fastopt_kernels(dtype), x, sums, rows, columns, item_size(dtype), 0, {0}, NULL};
    if (columns == 0)
        return;
    t.order = order_columns(rows, columns);
    if (columns >= COLUMN_LANES) {
        t.tile = rows * columns < SERIAL_BELOW ? COLUMN_TILE : smaller(COLUMN_TILE, blocks_of(columns, 64) * 16);
        for_blocks(rows * columns, blocks_of(columns, t.tile), sum_tile, &t);
        return;
    }
    enum { ROUND = 32 }; /* blocks between two rounds of adding up */
    const size_t blocks = t.order.blocks, round_rows = ROUND * t.order.rows_of_block;
    double total[COLUMN_LANES] = {0}, block_sums[ROUND * COLUMN_LANES];
    t.block_sums = block_sums;
    for (size_t first = 0; first < blocks; first += ROUND) {
        const size_t count = smaller(ROUND, blocks - first);
        for_blocks(t.rows * columns, count, sum_rows, &t);
        for (size_t b = 0; b < count; b++)
            for (size_t c = 0; c < columns; c++)
                total[c] += block_sums[b * columns + c];
        t.x += round_rows * columns * t.item;
        t.rows -= smaller(round_rows, t.rows);
    }
    t.kernels->round(total, sums, columns);
}
