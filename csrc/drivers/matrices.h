/* matrices.h: the rules that look at a tensor as a matrix. */
#ifndef FASTOPT_MATRICES_H
#define FASTOPT_MATRICES_H
#include "internal.h"

/* One step of a tensor that has elements; scratch has room for what fastopt_matrix_scratch says of it. */
typedef void matrix_rule(const fastopt_plan *plan, const fastopt_tensor *tensor, const kernel_table *kernels);

matrix_rule fastopt_muon_step;
size_t fastopt_matrix_scratch(const fastopt_tensor *tensor);

#endif
