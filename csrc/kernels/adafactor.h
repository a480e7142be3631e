/* adafactor.h: one step of Adafactor of one tensor, as its driver (adafactor.c) and its kernels (adafactor.inc) see it. */
#ifndef FASTOPT_ADAFACTOR_H
#define FASTOPT_ADAFACTOR_H
#include "drivers/functions.h"
#include <stdatomic.h>

/* The tensor is `matrices` of [rows][columns]. Squares are summed row by row and, in chunks of so many rows of one matrix,
 * column by column; of every row and column follows a weight. Without factors there are no weights. */
struct adafactor_task {
    const fastopt_plan *plan;
    const fastopt_tensor *tensor;
    const fastopt_group *group;
    const kernel_table *kernels;
    int factored;
    size_t matrices, rows, columns, rows_of_chunk, chunks; /* chunks of one matrix */
    double *column_sums, *row_sums;                        /* [matrices][chunks][columns], [matrices][rows] */
    void *row_weights, *column_weights;                    /* [matrices][rows], [matrices][columns] */
    double eps, step;                                      /* what multiplies the direction */
    size_t together;                                       /* chunks or matrices that a thread takes at once */
    atomic_int beyond;
};

#endif
