/* internal.h: what the parts of the C core share. */
#ifndef FASTOPT_INTERNAL_H
#define FASTOPT_INTERNAL_H
#include "fastopt.h"

/* Work is cut into blocks of this many elements: the unit that threads claim, and the unit of every sum,
 * whose partial results are combined in block order. Changing it changes the last bits of sums. */
enum { BLOCK = 8192 };

enum rule {
#define RULE(name, states) RULE_##name,
#define TRUST_RULE RULE
#include "rules.def"
#undef RULE
#undef TRUST_RULE
    RULE_COUNT
};

/* The last scalars of a rule with a trust ratio. */
typedef struct {
    double coefficient, decay, eps, scale, floor, cap;
} trust;

/* The kernels of one element type: each works on a range within one thread. */
typedef struct {
    void (*update[RULE_COUNT])(const fastopt_tensor *tensor, const fastopt_group *group, size_t begin, size_t end);
    /* for rules with a trust ratio (else NULL): the sums of the squares of the parameter and of the direction */
    void (*measure[RULE_COUNT])(const fastopt_tensor *tensor, const fastopt_group *group, size_t begin, size_t end,
                                double sums[2]);
    double (*square_sum)(const void *x, size_t n);
    int (*any_nonfinite)(const void *x, size_t n, double scale);
    void (*exp)(const void *x, void *out, size_t n);
    void (*log1p_unit)(const void *x, void *out, size_t n);
    void (*sigmoid)(const void *x, void *out, size_t n);
    void (*sigmoid_backward)(const void *dy, const void *y, void *dx, size_t n);
    void (*bias_add)(void *x, const void *bias, size_t rows, size_t columns);
    void (*bias_sigmoid)(void *x, const void *bias, size_t rows, size_t columns);
    void (*column_sums)(const void *x, void *sums, size_t rows, size_t columns, size_t begin, size_t end);
    double (*logistic_loss)(const void *z, const void *y, void *losses, void *dz, size_t n, double scale);
} kernel_table;

/* The kernels of one instruction set, for float and double. */
typedef struct {
    const char *name;
    kernel_table of[2];
} instruction_set;

extern const instruction_set fastopt_baseline, fastopt_avx2, fastopt_avx512, fastopt_neon;

/* The kernels in use for a dtype. */
const kernel_table *fastopt_kernels(int dtype);

/* Calls body(context, i) once for every i < count, on the pool's threads, in any order; a thread begins with
 * the same share of the items in every call, so that data stays in its core's cache from step to step. */
void fastopt_for_each(size_t count, void (*body)(void *context, size_t i), void *context);

#endif
