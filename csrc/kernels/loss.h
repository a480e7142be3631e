/* loss.h: one call of a loss, as its driver (losses.c) and its kernels (loss.inc, softmax.inc) see it. */
#ifndef FASTOPT_LOSS_H
#define FASTOPT_LOSS_H
#include "drivers/functions.h"
#include <string.h>

enum {
    NARROW = 64,        /* with fewer classes than this, softmax works on many rows at once: */
    NARROW_ROWS = 32,   /* so many */
    WIDEST_BLOCK = 1024 /* rows of a block, at most */
};

/* Every kernel writes dz = scale * gradient, and the single losses unless `losses` is NULL, for items begin..begin + n,
 * which are elements or, for softmax, rows; it returns the sum of their losses. */
struct loss_task {
    double (*kernel)(const loss_task *t, size_t begin, size_t n);
    const void *z, *y;
    void *losses, *dz;
    double scale, number; /* huber: where the line begins */
    /* logistic: element i has weight[i mod weight_period], and so on; both may be NULL. The target is y * y_scale + y_shift. */
    const void *weight, *pos_weight;
    size_t weight_period, pos_weight_period;
    double y_scale, y_shift;
    /* softmax: z[rows][classes], the sum of the classes' weights, the part of the target that goes to all classes */
    const int64_t *labels;
    int64_t ignore_index;
    size_t classes;
    double total_weight, smoothing;

    size_t n, block, first_block; /* items, and items of a block; the first block of the round */
    double *sums;                 /* of the blocks of the round */
};

/* What stands for a class: see classes_of. */
enum { IGNORED = -1, NO_CLASS = -2 };

/* The classes of some rows; IGNORED, or NO_CLASS, for which loss and gradient are NaN. The labels are read once: whoever may
 * change them meanwhile, what was checked is what is used. */
static inline void classes_of(const loss_task *t, size_t first, size_t rows, int64_t *classes)
{
    const int64_t count = (int64_t)t->classes, ignored = t->ignore_index;
    memcpy(classes, t->labels + first, rows * sizeof *classes);
    for (size_t r = 0; r < rows; r++) {
        const int64_t label = classes[r], known = (label >= 0) & (label < count) ? label : NO_CLASS;
        classes[r] = label == ignored ? IGNORED : known;
    }
}

#endif
