/* arithmetic.h: an operation on every element of arrays [planes][rows][columns], with their strides in elements. */
#ifndef FASTOPT_ARITHMETIC_H
#define FASTOPT_ARITHMETIC_H
#include "internal.h"

struct arithmetic_task {
    const kernel_table *kernels;
    const void *a, *b;
    void *out;
    size_t rows, columns;
    ptrdiff_t of_a[3], of_b[3], of_out[3];
    size_t all_rows, rows_of_block, columns_of_block, blocks_of_row;
    int operation;
};

#endif
