/* losses.c: losses and their gradients in one pass, block by block; the blocks' sums are added in order. */
#include "kernels/loss.h"
#include <math.h>

enum { ROUND = 256 }; /* blocks between two rounds of adding up */

static void loss_block(void *task, size_t i)
{
    const loss_task *t = task;
    const size_t begin = (t->first_block + i) * t->block;
    t->sums[i] = t->kernel(t, begin, smaller(t->block, t->n - begin));
}

static double run(loss_task t, size_t elements, size_t item)
{
    if (t.n == 0)
        return 0;
    if (overlaps_part(t.dz, t.z, elements * item) || (t.y && overlaps_part(t.dz, t.y, elements * item)))
        return NAN;
    if (!aligned(t.z, item) || !aligned(t.y, item) || !aligned(t.dz, item) || !aligned(t.labels, sizeof(int64_t)))
        return NAN;
    const size_t blocks = blocks_of(t.n, t.block);
    double sums[ROUND], total = 0;
    t.sums = sums;
    for (t.first_block = 0; t.first_block < blocks; t.first_block += ROUND) {
        const size_t count = smaller(ROUND, blocks - t.first_block);
        for_blocks(elements, count, loss_block, &t);
        for (size_t i = 0; i < count; i++)
            total += sums[i];
    }
    return total;
}

#define LOSS(name)                                                                                                 \
    double fastopt_##name(int dtype, const void *z, const void *y, void *losses, void *dz, size_t n, double scale) \
    {                                                                                                              \
        return run((loss_task){.kernel = fastopt_kernels(dtype)->name,                                             \
                               .z = z,                                                                             \
                               .y = y,                                                                             \
                               .losses = losses,                                                                   \
                               .dz = dz,                                                                           \
                               .scale = scale,                                                                     \
                               .n = n,                                                                             \
                               .block = BLOCK},                                                                    \
                   n, item_size(dtype));                                                                           \
    }
#define LOSS_WITH(name)                                                                                            \
    double fastopt_##name(int dtype, const void *z, const void *y, void *losses, void *dz, size_t n, double scale, \
                          double number)                                                                           \
    {                                                                                                              \
        return run((loss_task){.kernel = fastopt_kernels(dtype)->name,                                             \
                               .z = z,                                                                             \
                               .y = y,                                                                             \
                               .losses = losses,                                                                   \
                               .dz = dz,                                                                           \
                               .scale = scale,                                                                     \
                               .number = number,                                                                   \
                               .n = n,                                                                             \
                               .block = BLOCK},                                                                    \
                   n, item_size(dtype));                                                                           \
    }
#include "kernels/kernels.def"

double fastopt_weighted_logistic_loss(int dtype, const void *z, const void *y, const void *weight, const void *pos_weight,
                                      void *losses, void *dz, size_t n, size_t weight_period, size_t pos_weight_period,
                                      double scale, double y_scale, double y_shift)
{
    return run((loss_task){.kernel = fastopt_kernels(dtype)->weighted_logistic_loss,
                           .z = z,
                           .y = y,
                           .losses = losses,
                           .dz = dz,
                           .scale = scale,
                           .weight = weight,
                           .weight_period = weight_period,
                           .pos_weight = pos_weight,
                           .pos_weight_period = pos_weight_period,
                           .y_scale = y_scale,
                           .y_shift = y_shift,
                           .n = n,
                           .block = BLOCK},
               n, item_size(dtype));
}

int64_t fastopt_count_labels(const int64_t *labels, size_t n, size_t classes, int64_t ignore_index)
{
    int64_t used = 0;
    for (size_t i = 0; i < n; i++) {
        const int counts = labels[i] != ignore_index;
        if (counts && (uint64_t)labels[i] >= classes)
            return -1 - (int64_t)i;
        used += counts;
    }
    return used;
}

double fastopt_softmax_cross_entropy(int dtype, const void *z, const int64_t *labels, const void *weight, void *losses,
                                     void *dz, size_t rows, size_t classes, int64_t ignore_index, double scale,
                                     double total_weight, double smoothing)
{
    const size_t block = classes < BLOCK ? BLOCK / classes : 1;
    const int narrow = classes < NARROW;
    return run((loss_task){.kernel = fastopt_kernels(dtype)->softmax_cross_entropy[narrow],
                           .z = z,
                           .labels = labels,
                           .weight = weight,
                           .losses = losses,
                           .dz = dz,
                           .scale = scale,
                           .classes = classes,
                           .total_weight = total_weight,
                           .smoothing = smoothing,
                           .ignore_index = ignore_index,
                           .n = rows,
                           .block = smaller(block, WIDEST_BLOCK)},
               rows * classes, item_size(dtype));
}

double fastopt_soft_cross_entropy(int dtype, const void *z, const void *targets, const void *weight, void *losses, void *dz,
                                  size_t rows, size_t classes, double scale, double smoothing)
{
    const size_t block = classes < BLOCK ? BLOCK / classes : 1;
    if (targets == dz)
        return NAN;
    return run((loss_task){.kernel = fastopt_kernels(dtype)->soft_cross_entropy,
                           .z = z,
                           .y = targets,
                           .weight = weight,
                           .losses = losses,
                           .dz = dz,
                           .scale = scale,
                           .classes = classes,
                           .smoothing = smoothing,
                           .n = rows,
                           .block = smaller(block, WIDEST_BLOCK)},
               rows * classes, item_size(dtype));
}
