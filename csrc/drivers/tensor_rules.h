/* tensor_rules.h: the rules that are given a whole tensor, one after the other: what each does with one that has elements.
 * `scratch` is how much of the plan's scratch memory, from its first cache line on, it needs for that; `step` says
 * whether a parameter has become so large that the next step has to be looked at closely. */
#ifndef FASTOPT_TENSOR_RULES_H
#define FASTOPT_TENSOR_RULES_H
#include "internal.h"

enum { LINE = 64 };

typedef struct {
    size_t (*scratch)(const fastopt_tensor *tensor);
    int (*step)(const fastopt_plan *plan, const fastopt_tensor *tensor, const kernel_table *kernels);
} tensor_rule;

extern const tensor_rule fastopt_muon, fastopt_adafactor, fastopt_adafactor_unfactored;

static inline size_t whole_lines(size_t bytes)
{
    return (bytes + LINE - 1) / LINE * LINE;
}

static inline char *scratch_of(const fastopt_plan *plan)
{
    return (char *)plan->scratch + (size_t)(-(uintptr_t)plan->scratch % LINE);
}

#endif
