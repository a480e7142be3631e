/* norm.h: one call of batch norm, forward or backward, as its driver (norm.c) and its kernels (norm.inc) see it. */
#ifndef FASTOPT_NORM_H
#define FASTOPT_NORM_H
#include "drivers/functions.h"

/* Of every channel, what its elements are found by: see norm.inc. */
enum { CENTER, SCALE, OFFSET, SLOPE, REST, COEFFICIENTS };

/* x, y, dy, dx are [outer][channels][inner]; the names of the rest are those of the formulas in norm.inc. Forward,
 * dy is NULL; sums is NULL where none are taken. */
struct norm_task {
    const kernel_table *kernels;
    const char *x, *dy, *y; /* y: backward through sigmoid and tanh */
    char *out;              /* y or dx */
    const void *gamma, *beta;
    void *running_mean, *running_var, *statistics, *dgamma, *dbeta;
    size_t outer, channels, inner, item;
    double eps, momentum, keep, correction, count;
    int training, activation;

    /* How the sums are cut: into row blocks of columns (inner = 1); or per channel, into blocks of `planes` planes,
     * or of a part of one plane where planes are large. */
    column_order order;
    size_t planes, parts, blocks;

    size_t together;    /* channels, or rather planes, that share cache lines and so are done together */
    int stream;         /* the result goes past the cache */
    size_t width;       /* channels, or with inner = 1 the columns of all lanes */
    double *sums;       /* [blocks][2][channels] */
    double *shift;      /* [width] */
    void *coefficients; /* [COEFFICIENTS][width] of the array's type */
};

#endif
