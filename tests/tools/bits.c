/* bits.c: what the kernels compute from fixed inputs, as one digest per kernel, element type, instruction set and number of
 * threads. Every machine has to print the same digests: test_other_machines.py compiles this with csrc/ for several. */
#include "fastopt.h"
#include "internal.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 3 * BLOCK + 5, ROWS = 45, COLUMNS = 37, INNER = 70 };

static int dtype;
static size_t bytes; /* of an element */
static char label[64];

static void store(void *array, size_t i, double value)
{
    if (dtype == FASTOPT_FLOAT32)
        ((float *)array)[i] = (float)value;
    else
        ((double *)array)[i] = value;
}

/* Numbers between -scale and scale, always the same. */
static void *numbers(size_t n, double scale, uint64_t seed)
{
    void *array = malloc(n * bytes);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        store(array, i, scale * ((double)(seed >> 40) / (1 << 23) - 1));
    }
    return array;
}

/* FNV-1a of the elements' bits; a NaN is a NaN, whatever its sign and payload. */
static uint64_t digest(uint64_t hash, const void *array, size_t n, size_t size)
{
    for (size_t i = 0; i < n; i++) {
        const char *at = (const char *)array + i * size;
        uint64_t word = 0;
        float single;
        double wide;
        memcpy(&word, at, size);
        memcpy(size == sizeof single ? (void *)&single : (void *)&wide, at, size);
        if (size == sizeof single ? isnan(single) : isnan(wide))
            word = 1;
        for (size_t k = 0; k < size; k++)
            hash = (hash ^ ((word >> (8 * k)) & 0xff)) * 1099511628211u;
    }
    return hash;
}

static void show(const char *kernel, const void *array, size_t n, double value)
{
    uint64_t hash = digest(14695981039346656037u, array, n, bytes);
    printf("%s %s %016" PRIx64 "\n", label, kernel, digest(hash, &value, 1, sizeof value));
}

static void functions(void)
{
    static const struct {
        const char *name;
        int (*function)(int dtype, const void *x, void *out, size_t n);
    } all[] = {{"exp", fastopt_exp}, {"sigmoid", fastopt_sigmoid}, {"tanh", fastopt_tanh}, {"silu", fastopt_silu},
               {"softplus", fastopt_softplus}, {"log_sigmoid", fastopt_log_sigmoid}};
    void *x = numbers(N, 30, 1), *y = numbers(N, 1, 2);
    int64_t labels[ROWS];
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
        all[k].function(dtype, x, y, N);
        show(all[k].name, y, N, 0);
    }
    for (size_t i = 0; i < N; i++)
        store(y, i, i % 3 == 0);
    void *dz = malloc(N * bytes);
    double loss = fastopt_logistic_loss(dtype, x, y, NULL, dz, N, 1.0 / N);
    show("logistic_loss", dz, N, loss);
    loss = fastopt_mse_loss(dtype, x, y, NULL, dz, N, 1.0 / N);
    show("mse_loss", dz, N, loss);
    for (size_t i = 0; i < ROWS; i++)
        labels[i] = (int64_t)(i * 7 % COLUMNS);
    loss = fastopt_softmax_cross_entropy(dtype, x, labels, NULL, NULL, dz, ROWS, COLUMNS, -100, 0.1, COLUMNS, 0.1);
    show("softmax_cross_entropy", dz, ROWS * COLUMNS, loss);
    fastopt_softmax(dtype, x, dz, N / 10, 10);
    show("softmax", dz, N / 10 * 10, 0);
    fastopt_dropout(dtype, x, dz, N, 3, 5, 7, UINT32_MAX / 2, 2);
    show("dropout", dz, N, 0);
    fastopt_column_sums(dtype, x, dz, N / COLUMNS, COLUMNS);
    show("column_sums", dz, COLUMNS, fastopt_square_sum(dtype, x, N));
    free(x), free(y), free(dz);
}

static void matrices(void)
{
    void *a = numbers(ROWS * INNER, 1, 3), *b = numbers(INNER * COLUMNS, 1, 4), *bias = numbers(COLUMNS, 1, 5);
    void *c = malloc(ROWS * COLUMNS * bytes), *dx = malloc(ROWS * COLUMNS * bytes);
    void *gamma = numbers(COLUMNS, 2, 6), *dgamma = malloc(COLUMNS * bytes), *dbeta = malloc(COLUMNS * bytes);
    void *statistics = malloc(3 * COLUMNS * bytes);
    double *scratch = malloc(fastopt_batch_norm_scratch(ROWS, COLUMNS, 1) * sizeof *scratch);
    for (int activation = 0; activation < FASTOPT_NORM_ACTIVATIONS; activation++) {
        fastopt_matmul(dtype, a, b, c, bias, ROWS, COLUMNS, INNER, INNER, 1, COLUMNS, 1, activation);
        show("matmul", c, ROWS * COLUMNS, activation);
        fastopt_matmul(dtype, b, a, c, NULL, COLUMNS, ROWS, INNER, 1, COLUMNS, 1, INNER, activation);
        show("matmul of transposes", c, ROWS * COLUMNS, activation);
        fastopt_batch_norm(dtype, a, gamma, bias, NULL, NULL, c, statistics, scratch, NULL, NULL, ROWS, COLUMNS, 1, 1,
                           activation, 1e-5, 0.1, 0.9, 1);
        show("batch_norm", c, ROWS * COLUMNS, activation);
        fastopt_batch_norm_backward(dtype, b, a, c, gamma, bias, statistics, dx, dgamma, dbeta, scratch, NULL, ROWS, COLUMNS,
                                    1, 1, activation);
        show("batch_norm_backward", dx, ROWS * COLUMNS, activation);
        show("batch_norm_backward, gamma", dgamma, COLUMNS, activation);
    }
    free(a), free(b), free(bias), free(c), free(dx), free(gamma), free(dgamma), free(dbeta), free(statistics), free(scratch);
}

/* Three steps of every rule there is. Its scalars are numbers like any others: what counts is that all compute the same. */
static void rules(void)
{
    char name[32];
    const size_t rows = 64, size = rows * (BLOCK / 32); /* two blocks */
    for (int rule = 0; rule < RULE_COUNT; rule++) { /* in the order of rules.def */
        sprintf(name, "rule %d", rule);
        fastopt_tensor tensor = {.param = numbers(size, 1, 7), .grad = numbers(size, 0.1, 8), .size = size, .rows = rows, .columns = size / rows,
                                 .grad_factor = 1, .trust_ratio = 1, .dtype = dtype};
        for (int k = 0; k < fastopt_rule_states(rule); k++) {
            tensor.state[k] = calloc(size, bytes);
            tensor.state_size[k] = size;
        }
        fastopt_group group = {.rule = rule, .scalars = {1, INFINITY, 0, 1}, .eps = -1, .eps_root = -1, .decay = -1};
        for (int k = 4; k < FASTOPT_MAX_SCALARS; k++)
            group.scalars[k] = k % 2 ? 0.9 : 0.1;
        for (int k = 0; k < FASTOPT_MAX_SCALARS; k++)
            group.largest[k] = INFINITY;
        int64_t counts[2] = {0, 0};
        fastopt_pin nobody = {0};
        fastopt_plan plan = {.tensors = &tensor, .groups = &group, .count = 1, .group_count = 1, .step_count = counts,
                             .own = &nobody, .given = &nobody};
        fastopt_plan_blocks(&plan);
        plan.block_sums = calloc(2 * plan.blocks, sizeof *plan.block_sums);
        plan.scratch = calloc(1, fastopt_plan_scratch(&plan) + 1);
        for (int step = 0; step < 3; step++)
            fastopt_update(&plan, 0, 0, NULL, -1, 0, 1);
        show(name, tensor.param, size, tensor.trust_ratio);
        for (int k = 0; k < fastopt_rule_states(rule); k++) {
            show(name, tensor.state[k], size, k);
            free(tensor.state[k]);
        }
        free(tensor.param), free((void *)tensor.grad), free(plan.block_sums), free(plan.scratch);
    }
}

int main(void)
{
    for (int isa = 0; fastopt_isa_name(isa); isa++)
        for (int threads = 1; threads <= 3 && fastopt_isa_set(isa) == 0; threads += 2)
            for (dtype = FASTOPT_FLOAT32; dtype <= FASTOPT_FLOAT64; dtype++) {
                bytes = dtype == FASTOPT_FLOAT32 ? sizeof(float) : sizeof(double);
                fastopt_threads_set(threads);
                sprintf(label, "%s %d %s", fastopt_isa_name(isa), threads, bytes == 4 ? "float32" : "float64");
                functions();
                matrices();
                rules();
            }
    return 0;
}
