/* dropout.c: dropout, block by block. */
#include "drivers/functions.h"

typedef struct {
    const kernel_table *kernels;
    const char *x;
    char *out;
    size_t n, item;
    uint64_t position, seed, draw;
    uint32_t threshold;
    double scale;
} dropout_task;

static void dropout_block(void *task, size_t i)
{
    const dropout_task *t = task;
    const size_t begin = i * BLOCK, offset = begin * t->item;
    t->kernels->dropout(t->x + offset, t->out + offset, smaller(BLOCK, t->n - begin), t->position + begin, t->seed,
                        t->draw, t->threshold, t->scale);
}

void fastopt_dropout(int dtype, const void *x, void *out, size_t n, uint64_t position, uint64_t seed, uint64_t draw,
                     uint32_t threshold, double scale)
{
    dropout_task t = {fastopt_kernels(dtype), x, out, n, item_size(dtype), position, seed, draw, threshold, scale};
    for_blocks(n, blocks_of(n, BLOCK), dropout_block, &t);
}
