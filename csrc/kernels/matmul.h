/* matmul.h: one matrix product, as its driver (matmul.c) and its kernels (matmul.inc) see it. */
#ifndef FASTOPT_MATMUL_H
#define FASTOPT_MATMUL_H
#include "drivers/functions.h"

/* c[m][n], without gaps, from a[m][k] and b[k][n], whose strides are counted in elements; one of b's is 1. */
struct matmul_task {
    const void *a, *b;
    void *c;
    ptrdiff_t a_row, a_k, b_k, b_column;
    size_t m, n, k;
};

#endif
