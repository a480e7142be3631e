/* adafactor.c: one step of Adafactor: the sums of squares of rows and columns, the sizes of parameter and direction, and
 * then the update. */
#include "drivers/tensor_rules.h"
#include "kernels/adafactor.h"
#include <math.h>
#include <string.h>

enum { CHUNK = 8 * BLOCK }; /* elements whose columns are summed by themselves */

/* The scalars of `struct prepare` and of `struct adafactor` (rules.h), in double. */
typedef struct {
    double grad_scale, clip_value, l2, keep;
    double beta2, one_minus_beta2, eps, eps_float64, smallest_size, threshold, rate;
} adafactor;

static adafactor_task cut(const fastopt_tensor *tensor)
{
    adafactor_task t = {.tensor = tensor, .rows = tensor->rows, .columns = tensor->columns};
    t.matrices = tensor->size / (t.rows * t.columns);
    t.rows_of_chunk = smaller(t.columns < CHUNK ? CHUNK / t.columns : 1, t.rows);
    t.chunks = blocks_of(t.rows, t.rows_of_chunk);
    t.together = t.rows_of_chunk * t.columns < CHUNK ? CHUNK / (t.rows_of_chunk * t.columns) : 1;
    return t;
}

static size_t scratch(const fastopt_tensor *tensor)
{
    const adafactor_task t = cut(tensor);
    const size_t item = item_size(tensor->dtype), rows = t.matrices * t.rows, columns = t.matrices * t.columns;
    return whole_lines(columns * t.chunks * sizeof(double)) + whole_lines(rows * sizeof(double)) + whole_lines(rows * item) +
           whole_lines(columns * item);
}

static size_t no_scratch(const fastopt_tensor *tensor)
{
    (void)tensor;
    return 0;
}

static void squares_of_chunks(void *task, size_t i)
{
    const adafactor_task *t = task;
    const size_t end = smaller((i + 1) * t->together, t->matrices * t->chunks);
    for (size_t chunk = i * t->together; chunk < end; chunk++)
        t->kernels->adafactor_squares(t, chunk);
}

static void weights_of_matrices(void *task, size_t i)
{
    const adafactor_task *t = task;
    const size_t end = smaller((i + 1) * t->together, t->matrices);
    for (size_t matrix = i * t->together; matrix < end; matrix++)
        t->kernels->adafactor_weights(t, matrix);
}

static void sizes_of_block(void *task, size_t i)
{
    const adafactor_task *t = task;
    const size_t begin = i * BLOCK, end = smaller(begin + BLOCK, t->tensor->size);
    t->kernels->adafactor_sizes(t, begin, end, &t->plan->block_sums[2 * (t->tensor->first_block + i)]);
}

static void move_block(void *task, size_t i)
{
    adafactor_task *t = task;
    const size_t begin = i * BLOCK, end = smaller(begin + BLOCK, t->tensor->size);
    if (t->kernels->adafactor_move(t, begin, end))
        atomic_store_explicit(&t->beyond, 1, memory_order_relaxed);
}

static int step(const fastopt_plan *plan, const fastopt_tensor *tensor, const kernel_table *kernels, int factored)
{
    const size_t size = tensor->size, item = item_size(tensor->dtype), blocks = blocks_of(size, BLOCK);
    adafactor_task t = cut(tensor);
    adafactor h;
    t.plan = plan;
    t.group = &plan->groups[tensor->group];
    t.kernels = kernels;
    t.factored = factored;
    memcpy(&h, t.group->scalars, sizeof h);
    t.eps = tensor->dtype == FASTOPT_FLOAT32 ? h.eps : h.eps_float64;
    if (factored) {
        char *scratch = scratch_of(plan);
        t.column_sums = (double *)scratch;
        t.row_sums = (double *)(scratch += whole_lines(t.matrices * t.chunks * t.columns * sizeof(double)));
        t.row_weights = scratch += whole_lines(t.matrices * t.rows * sizeof(double));
        t.column_weights = scratch + whole_lines(t.matrices * t.rows * item);
        for_blocks(size, blocks_of(t.matrices * t.chunks, t.together), squares_of_chunks, &t);
        for_blocks(t.matrices > 1 ? size : 0, blocks_of(t.matrices, t.together), weights_of_matrices, &t);
    }
    for_blocks(size, blocks, sizes_of_block, &t);
    double param = 0, direction = 0;
    for (size_t i = tensor->first_block; i < tensor->first_block + blocks; i++) {
        param += plan->block_sums[2 * i];
        direction += plan->block_sums[2 * i + 1];
    }
    const double mean = sqrt(param / (double)size), clip = sqrt(direction / (double)size) / h.threshold;
    t.step = h.rate * (mean > h.smallest_size ? mean : h.smallest_size) / (clip > 1 ? clip : 1);
    for_blocks(size, blocks, move_block, &t);
    return atomic_load(&t.beyond);
}

static int factored_step(const fastopt_plan *plan, const fastopt_tensor *tensor, const kernel_table *kernels)
{
    return step(plan, tensor, kernels, 1);
}

static int unfactored_step(const fastopt_plan *plan, const fastopt_tensor *tensor, const kernel_table *kernels)
{
    return step(plan, tensor, kernels, 0);
}

const tensor_rule fastopt_adafactor = {scratch, factored_step};
const tensor_rule fastopt_adafactor_unfactored = {no_scratch, unfactored_step};
