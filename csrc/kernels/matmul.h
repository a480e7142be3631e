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

enum { CHAIN = 4096 }; /* links of a chain at most */

/* How the kernels go through the factors. */
enum {
    K_BLOCK = 256,       /* so much of k at once: a panel of b is read from L1 for one tile after the other */
    WIDE = 512,          /* bytes of a row of b that are packed at once: pieces as long as that are fetched fast */
    A_BLOCK = 196608,    /* bytes of rows of a that stay in L2 while those panels of b are gone through */
    A_PACKED = 98304,    /* and where they are packed */
    SUM_ROWS = 96,       /* rows at once where there are several chains */
    PACK_ROWS = 64,      /* with fewer rows, panels whose rows lie in one piece are read where they are */
    PACK_STRIDE = 512,   /* bytes, and so they are if they lie close */
    PACK_SIZE = 1 << 19, /* bytes of a whose columns lie in one piece: smaller ones are read where they are */
    ROW_WIDTH = 4096     /* of the sums of a single row */
};

#endif
