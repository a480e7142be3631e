/* layer_norm.h: one call of layer norm, forward or backward, as its driver (layer_norm.c) and its kernels see it. */
#ifndef FASTOPT_LAYER_NORM_H
#define FASTOPT_LAYER_NORM_H
#include "drivers/functions.h"

/* x, y, dy, dx are [rows][columns]; the names of the rest are those of the formulas in layer_norm.inc. */
struct layer_norm_task {
    const kernel_table *kernels;
    const void *x, *dy, *gamma, *beta;
    void *out; /* y or dx */
    void *statistics, *dgamma, *dbeta;
    double *sums; /* [blocks][2][columns]: of a block of rows, those that become dgamma and dbeta */
    size_t rows, columns, item, together, blocks; /* rows of a block, and blocks */
    double eps;
    int stream; /* backward, the result goes past the cache */
};

#endif
