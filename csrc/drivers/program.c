/* program.c: a program is a list of instructions, walked in one call. */
#include "internal.h"
#include <math.h>
#include <string.h>

#define ARRAYS_1(i) (i)->array[0]
#define ARRAYS_2(i) ARRAYS_1(i), (i)->array[1]
#define ARRAYS_3(i) ARRAYS_2(i), (i)->array[2]
#define ARRAYS_4(i) ARRAYS_3(i), (i)->array[3]
#define ARRAYS_5(i) ARRAYS_4(i), (i)->array[4]
#define ARRAYS_6(i) ARRAYS_5(i), (i)->array[5]
#define ARRAYS_7(i) ARRAYS_6(i), (i)->array[6]
#define ARRAYS_8(i) ARRAYS_7(i), (i)->array[7]
#define ARRAYS_9(i) ARRAYS_8(i), (i)->array[8]
#define ARRAYS_10(i) ARRAYS_9(i), (i)->array[9]
#define ARRAYS_11(i) ARRAYS_10(i), (i)->array[10]
#define WHOLE_1(i) , (i)->whole[0]
#define WHOLE_2(i) WHOLE_1(i), (i)->whole[1]
#define WHOLE_3(i) WHOLE_2(i), (i)->whole[2]
#define WHOLE_4(i) WHOLE_3(i), (i)->whole[3]
#define WHOLE_5(i) WHOLE_4(i), (i)->whole[4]
#define WHOLE_6(i) WHOLE_5(i), (i)->whole[5]
#define WHOLE_7(i) WHOLE_6(i), (i)->whole[6]
#define WHOLE_8(i) WHOLE_7(i), (i)->whole[7]
#define WHOLE_13(i) WHOLE_8(i), (i)->whole[8], (i)->whole[9], (i)->whole[10], (i)->whole[11], (i)->whole[12]
#define REALS_0(i)
#define REALS_1(i) , (i)->real[0]
#define REALS_2(i) REALS_1(i), (i)->real[1]
#define REALS_3(i) REALS_2(i), (i)->real[2]
#define REALS_4(i) REALS_3(i), (i)->real[3]
#define CALL(i, name, arrays, whole, reals) fastopt_##name((i)->dtype, ARRAYS_##arrays(i) WHOLE_##whole(i) REALS_##reals(i))

/* Each takes its arguments from the instruction, and says whether the program goes on. */
#define KERNEL(name, arrays, whole, reals)        \
    static int run_##name(fastopt_instruction *i) \
    {                                             \
        CALL(i, name, arrays, whole, reals);      \
        return 1;                                 \
    }
#define VALUE(name, arrays, whole, reals)                \
    static int run_##name(fastopt_instruction *i)        \
    {                                                    \
        i->result = CALL(i, name, arrays, whole, reals); \
        return 1;                                        \
    }
#define STEP(name, arrays, whole, reals)                        \
    static int run_##name(fastopt_instruction *i)               \
    {                                                           \
        const int answer = CALL(i, name, arrays, whole, reals); \
        i->result = answer;                                     \
        return answer == 0;                                     \
    }
#include "kernels/kernels.def"

typedef struct {
    const char *name;
    int (*run)(fastopt_instruction *i);
    int arrays, whole, reals;
} kernel;

static const kernel kernels[] = {
#define KERNEL(name, arrays, whole, reals) {#name, run_##name, arrays, whole, reals},
#define VALUE KERNEL
#define STEP KERNEL
#include "kernels/kernels.def"
};
enum { KERNELS = sizeof kernels / sizeof *kernels };

int fastopt_kernel_index(const char *name)
{
    for (int k = 0; k < KERNELS; k++)
        if (strcmp(kernels[k].name, name) == 0)
            return k;
    return -1;
}

int fastopt_kernel_arrays(int kernel)
{
    return kernels[kernel].arrays;
}

int fastopt_kernel_whole(int kernel)
{
    return kernels[kernel].whole;
}

int fastopt_kernel_reals(int kernel)
{
    return kernels[kernel].reals;
}

size_t fastopt_run(fastopt_instruction *const *program, size_t count, const fastopt_operand *moving, size_t moving_count,
                   size_t step)
{
    for (size_t k = 0; k < moving_count; k++)
        moving[k].instruction->array[moving[k].array] = (char *)moving[k].first + step * moving[k].bytes;
    for (size_t k = 0; k < count; k++)
        if (!kernels[program[k]->kernel].run(program[k]))
            return k;
    return count;
}

size_t fastopt_run_steps(fastopt_instruction *const *program, size_t count, const fastopt_operand *moving,
                         size_t moving_count, size_t step, size_t steps, const fastopt_instruction *valued, double *sum)
{
    for (size_t done = 0; done < steps; done++) {
        if (fastopt_run(program, count, moving, moving_count, step + done) != count)
            return done;
        *sum += valued->result;
    }
    return steps;
}

int fastopt_pins_unchanged(int dtype, const fastopt_pin *pins, size_t count)
{
    (void)dtype;
    return fastopt_pins_hold(pins, count) ? FASTOPT_DONE : FASTOPT_MOVED;
}

/* Gradients of a smaller norm need not be looked at (LARGE_float). */
#define MODERATE_NORM 0x1p39

static double clip_factor(double norm, double limit, double eps)
{
    return norm + eps <= limit ? 1 : limit / (norm + eps);
}

/* Where they lay, if there were any. */
static double *take_queued_scalars(fastopt_plan *plan)
{
    double *queue = plan->queue;
    if (!plan->queued)
        return NULL;
    plan->queued--;
    for (size_t g = 0; g < plan->group_count; g++) {
        const size_t scalars = (size_t)fastopt_rule_scalars(plan->groups[g].rule);
        memcpy(plan->groups[g].scalars, plan->queue, scalars * sizeof *plan->queue);
        plan->queue += scalars;
    }
    return queue;
}

static int clipped_update(fastopt_plan *plan, double *sums, int clip, int unchecked, double scale, double limit, double eps)
{
    double norm = 0;
    if (clip == FASTOPT_CLIP_NONE)
        return fastopt_update(plan, 0, 0, NULL, FASTOPT_NO_NORM, !unchecked, unchecked);
    if (fastopt_grad_square_sums(plan, 0, 0, sums) != FASTOPT_DONE)
        return FASTOPT_MOVED;
    for (size_t t = 0; t < plan->count; t++)
        norm += sums[t];
    norm = sqrt(norm) * fabs(scale);
    if (!unchecked && !(norm < INFINITY))
        return FASTOPT_NONFINITE;
    if (clip == FASTOPT_CLIP_ALL && norm == norm) { /* all factors are the same number */
        for (size_t g = 0; g < plan->group_count; g++)
            plan->groups[g].scalars[0] *= clip_factor(norm, limit, eps);
        sums = NULL;
    } else
        for (size_t t = 0; t < plan->count; t++)
            sums[t] = clip_factor(clip == FASTOPT_CLIP_ALL ? norm : sqrt(sums[t]) * fabs(scale), limit, eps);
    return fastopt_update(plan, 0, 0, sums, norm, !unchecked && norm >= MODERATE_NORM, unchecked);
}

int fastopt_step(int dtype, fastopt_plan *plan, double *sums, int clip, int unchecked, double scale, double limit,
                 double eps)
{
    double *of_step = take_queued_scalars(plan);
    const int answer = clipped_update(plan, sums, clip, unchecked, scale, limit, eps);
    (void)dtype;
    if (of_step)
        *of_step = plan->grad_norm;
    return answer;
}
