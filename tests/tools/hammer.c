/* hammer.c: the thread pool and a whole optimizer step, called from several threads at once while the number of threads
 * changes and processes fork. instrumented.py compiles it with csrc/, with ThreadSanitizer and without; it prints what
 * went wrong and exits with 1, or exits with 0. */
#include "fastopt.h"
#include "internal.h"
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CALLERS = 4, ROUNDS = 150, ITEMS = 997, ELEMENTS = 5 * BLOCK + 3, STEPS = 10, FORKS = 10 };

static atomic_int failures;
static atomic_int callers;

static void expect(int holds, const char *what)
{
    if (!holds && atomic_fetch_add(&failures, 1) == 0)
        fprintf(stderr, "hammer: %s\n", what);
}

/* ---- fastopt_for_each: every item once, and all of it visible to the caller ------------------------ */

/* Plain memory: it is for the pool to order the accesses. With PLANTED_RACE all items write to one place, slowly enough
 * for the workers to be there. */
static void count_item(void *context, size_t i)
{
    int *counts = context;
#if defined PLANTED_RACE
    i = 0;
    usleep(10);
#endif
    counts[i]++;
}

static void count_items(void)
{
    int *counts = calloc(ITEMS, sizeof *counts);
    fastopt_for_each(ITEMS, count_item, counts);
    for (int i = 0; i < ITEMS; i++)
        expect(counts[i] == 1, "an item was done twice, or never");
    free(counts);
}

/* ---- fastopt_update: the same bits as in one thread ------------------------------------------------ */

typedef struct {
    float param[ELEMENTS], grad[ELEMENTS], exp_avg[ELEMENTS], exp_avg_sq[ELEMENTS];
} arrays;

static void adam_steps(arrays *a)
{
    fastopt_tensor tensor = {.param = a->param, .grad = a->grad, .state = {a->exp_avg, a->exp_avg_sq},
                             .size = ELEMENTS, .grad_factor = 1, .trust_ratio = 1, .dtype = FASTOPT_FLOAT32};
    fastopt_group group = {.rule = fastopt_rule_index("adam"),
                           .scalars = {1, INFINITY, 0, 1, 0.9, 0.1, 0.999, 0.001, 1, 0, 1e-8, 1e-3},
                           .eps = -1, .eps_root = -1, .squares = 2};
    int64_t counts[2] = {0, 0};
    fastopt_pin nobody; /* no arrays of Python's are watched */
    fastopt_plan plan = {.tensors = &tensor, .groups = &group, .count = 1, .group_count = 1, .step_count = counts,
                         .own = &nobody, .given = &nobody};
    for (int i = 0; i < FASTOPT_MAX_SCALARS; i++)
        group.largest[i] = INFINITY; /* all scalars are ordinary */
    double sums;
    for (int i = 0; i < ELEMENTS; i++) {
        a->param[i] = (float)i;
        a->grad[i] = (float)(i % 7) - 3;
        a->exp_avg[i] = a->exp_avg_sq[i] = 0;
    }
    fastopt_plan_blocks(&plan);
    plan.block_sums = calloc(2 * plan.blocks, sizeof *plan.block_sums);
    for (int step = 0; step < STEPS; step++) {
        expect(fastopt_update(&plan, 0, 0, NULL, -1, 1, 0) == FASTOPT_DONE, "finite gradients were refused");
        fastopt_grad_square_sums(&plan, 0, 0, &sums);
    }
    free(plan.block_sums);
}

static arrays expected;

static void step_tensors(void)
{
    arrays *a = malloc(sizeof *a);
    adam_steps(a);
    expect(memcmp(a, &expected, sizeof *a) == 0, "a step gave other bits");
    free(a);
}

/* ---- everything at once ---------------------------------------------------------------------------- */

static void *caller(void *unused)
{
    for (int round = 0; round < ROUNDS; round++)
        if (round % 10)
            count_items();
        else
            step_tensors();
    atomic_fetch_sub(&callers, 1);
    return unused;
}

static void *change_threads(void *unused)
{
    for (int n = 1; atomic_load(&callers) > 0; n = n % 5 + 1) {
        fastopt_threads_set(n);
        usleep(500);
    }
    return unused;
}

static void *fork_children(void *unused)
{
    for (int i = 0; i < FORKS; i++) {
        const pid_t child = fork();
        if (child == 0) {
#if !defined IDLE_CHILDREN /* ThreadSanitizer's own locks, of threads that are gone in a child, would stop it */
            count_items();
#endif
            _exit(atomic_load(&failures) > 0);
        }
        int status = -1;
        waitpid(child, &status, 0);
        expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a forked child failed");
    }
    return unused;
}

int main(void)
{
    pthread_t threads[CALLERS + 2];
    fastopt_threads_set(1);
    adam_steps(&expected);
    atomic_store(&callers, CALLERS);
    for (int i = 0; i < CALLERS; i++)
        pthread_create(&threads[i], NULL, caller, NULL);
    pthread_create(&threads[CALLERS], NULL, change_threads, NULL);
    pthread_create(&threads[CALLERS + 1], NULL, fork_children, NULL);
    for (int i = 0; i < CALLERS + 2; i++)
        pthread_join(threads[i], NULL);
    return atomic_load(&failures) > 0;
}
