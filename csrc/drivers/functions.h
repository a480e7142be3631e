/* functions.h: what the drivers of the functions share: cutting arrays into blocks. */
#ifndef FASTOPT_FUNCTIONS_H
#define FASTOPT_FUNCTIONS_H
#include "internal.h"

/* Below this many elements, waking a thread costs more than it saves. */
enum { SERIAL_BELOW = 2 * BLOCK };

static inline size_t item_size(int dtype)
{
    return dtype == FASTOPT_FLOAT32 ? sizeof(float) : sizeof(double);
}

static inline size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* How many blocks of `size` cover n. */
static inline size_t blocks_of(size_t n, size_t size)
{
    return (n + size - 1) / size;
}

/* Whether writing `bytes` at out would change what is yet to be read at x: an array may be written over, a part of it not. */
static inline int overlaps_part(const void *out, const void *x, size_t bytes)
{
    const uintptr_t a = (uintptr_t)out, b = (uintptr_t)x;
    return a != b && (a < b ? b - a : a - b) < bytes;
}

/* Whether an array of such items lies where the CPU may read one of them. */
static inline int aligned(const void *x, size_t item)
{
    return (uintptr_t)x % item == 0;
}

/* Calls body for `count` blocks: on the pool where there are enough elements, else here, in order. */
static inline void for_blocks(size_t elements, size_t count, void (*body)(void *task, size_t i), void *task)
{
    if (elements >= SERIAL_BELOW)
        fastopt_for_each(count, body, task);
    else
        for (size_t i = 0; i < count; i++)
            body(task, i);
}

/* How the columns of x[rows][columns] are summed, whoever sums them. The rows of a block are dealt to `lanes`
 * lanes in turn, so that even one column fills vectors: rows of `width` = lanes columns numbers are added up one
 * after the other, then the lanes are folded in halves, then the blocks' sums are added in order. */
enum { COLUMN_LANES = 64, ROWS_OF_BLOCK = 128, COLUMN_TILE = 1024 };

typedef struct {
    size_t lanes, width, rows_of_block, blocks;
} column_order;

static inline column_order order_columns(size_t rows, size_t columns)
{
    column_order o = {.lanes = 1};
    while (o.lanes * columns < COLUMN_LANES)
        o.lanes *= 2;
    o.width = o.lanes * columns;
    o.rows_of_block = BLOCK / o.width * o.lanes;
    if (o.rows_of_block < ROWS_OF_BLOCK)
        o.rows_of_block = ROWS_OF_BLOCK;
    o.blocks = blocks_of(rows, o.rows_of_block);
    return o;
}

/* sum[columns] = the lanes of sum[lanes][columns], folded in halves. */
static inline void fold_columns(double *sum, size_t lanes, size_t columns)
{
    for (size_t half = lanes / 2; half > 0; half /= 2)
        for (size_t i = 0; i < half * columns; i++)
            sum[i] += sum[half * columns + i];
}

#endif
