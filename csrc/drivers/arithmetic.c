/* arithmetic.c: operations on elements with broadcasting, the sums of rows, and a sum as an element. */
#include "drivers/functions.h"
#include "kernels/arithmetic.h"
#include <string.h>

static void arithmetic_block(void *task, size_t i)
{
    const arithmetic_task *t = task;
    const size_t row = i / t->blocks_of_row * t->rows_of_block, column = i % t->blocks_of_row * t->columns_of_block;
    t->kernels->arithmetic(t, row, smaller(t->rows_of_block, t->all_rows - row), column,
                           smaller(t->columns_of_block, t->columns - column));
}

void fastopt_arithmetic(int dtype, const void *a, const void *b, void *out, size_t planes, size_t rows, size_t columns,
                        ptrdiff_t a_plane, ptrdiff_t a_row, ptrdiff_t a_column, ptrdiff_t b_plane, ptrdiff_t b_row,
                        ptrdiff_t b_column, ptrdiff_t out_plane, ptrdiff_t out_row, ptrdiff_t out_column, int operation)
{
    arithmetic_task t = {.kernels = fastopt_kernels(dtype),
                         .a = a,
                         .b = b,
                         .out = out,
                         .rows = rows,
                         .columns = columns,
                         .of_a = {a_plane, a_row, a_column},
                         .of_b = {b_plane, b_row, b_column},
                         .of_out = {out_plane, out_row, out_column},
                         .all_rows = planes * rows,
                         .operation = operation};
    if (planes * rows * columns == 0)
        return;
    if (!b) {
        t.b = a;
        memcpy(t.of_b, t.of_a, sizeof t.of_b);
    }
    t.rows_of_block = columns < BLOCK ? BLOCK / columns : 1;
    t.columns_of_block = columns < BLOCK ? columns : BLOCK;
    t.blocks_of_row = blocks_of(columns, t.columns_of_block);
    for_blocks(planes * rows * columns, blocks_of(t.all_rows, t.rows_of_block) * t.blocks_of_row, arithmetic_block, &t);
}

typedef struct {
    const kernel_table *kernels;
    const char *x;
    char *sums;
    size_t rows, columns, rows_of_block, item;
} row_task;

static void row_block(void *task, size_t i)
{
    const row_task *t = task;
    const size_t begin = i * t->rows_of_block, end = smaller(begin + t->rows_of_block, t->rows);
    for (size_t r = begin; r < end; r++) {
        const double sum = 0 + t->kernels->add_up(t->x + r * t->columns * t->item, t->columns);
        t->kernels->round(&sum, t->sums + r * t->item, 1);
    }
}

void fastopt_row_sums(int dtype, const void *x, void *sums, size_t rows, size_t columns)
{
    const size_t item = item_size(dtype), together = columns && columns < BLOCK ? BLOCK / columns : 1;
    row_task t = {fastopt_kernels(dtype), x, sums, rows, columns, together, item};
    if (columns <= BLOCK) {
        for_blocks(rows * columns, blocks_of(rows, together), row_block, &t);
        return;
    }
    for (size_t r = 0; r < rows; r++) {
        const double sum = fastopt_add_up(dtype, t.x + r * columns * item, columns);
        t.kernels->round(&sum, t.sums + r * item, 1);
    }
}

void fastopt_store_sum(int dtype, void *out, const double *sum, size_t n, double factor, double divisor)
{
    const double value = *sum * factor / divisor;
    for (size_t i = 0; i < n; i++)
        fastopt_kernels(dtype)->round(&value, (char *)out + i * item_size(dtype), 1);
}
