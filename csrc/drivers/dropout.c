/* dropout.c: dropout, block by block. */
#include "drivers/functions.h"
#include <string.h>

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
    t->kernels->dropout(t->x + offset, t->out + offset, smaller(BLOCK, t->n - begin), t->position + begin, t->seed, t->draw,
                        t->threshold, t->scale);
}

void fastopt_dropout(int dtype, const void *x, void *out, size_t n, uint64_t position, uint64_t seed, uint64_t draw,
                     uint32_t threshold, double scale)
{
    dropout_task t = {fastopt_kernels(dtype), x, out, n, item_size(dtype), position, seed, draw, threshold, scale};
    for_blocks(n, blocks_of(n, BLOCK), dropout_block, &t);
}

/* What a layer's backward pass needs of its forward pass. */
typedef struct {
    uint64_t what, seed, draw, threshold, scale; /* the last one the bits of a double */
    uint64_t position;                           /* of the first element, in the mask; the binding's */
} used_draw;

static void run_layer(int dtype, const void *x, void *out, size_t n, const used_draw *used)
{
    const size_t bytes = n * item_size(dtype);
    double scale;
    memcpy(&scale, &used->scale, sizeof scale);
    if (used->what == FASTOPT_DROP_SOME)
        fastopt_dropout(dtype, x, out, n, used->position, used->seed, used->draw, (uint32_t)used->threshold, scale);
    else if (used->what == FASTOPT_DROP_ALL)
        memset(out, 0, bytes);
    else
        fastopt_copy(dtype, x, out, bytes);
}

void fastopt_dropout_forward(int dtype, const void *x, void *out, const uint64_t *seed, uint64_t *draw, uint64_t *used,
                             size_t n, int what, uint32_t threshold, double scale)
{
    used_draw now = {(uint64_t)what, *seed, *draw, threshold, 0, used[5]};
    memcpy(&now.scale, &scale, sizeof scale);
    memcpy(used, &now, sizeof now);
    if (what != FASTOPT_EVALUATE)
        ++*draw;
    run_layer(dtype, x, out, n, &now);
}

void fastopt_dropout_backward(int dtype, const void *dy, void *dx, const uint64_t *used, size_t n)
{
    used_draw then;
    memcpy(&then, used, sizeof then);
    run_layer(dtype, dy, dx, n, &then);
}
