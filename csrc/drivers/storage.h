/* storage.h: a part of a tensor of which something is stored in fewer bytes, as float numbers for as long as it is worked on. */
#ifndef FASTOPT_STORAGE_H
#define FASTOPT_STORAGE_H
#include "internal.h"

/* So many elements: a multiple of what has one scale and of LANES; they stay in L1. */
enum { TILE = 1024 };

/* `tensor` is that part of it, which kernels take for a tensor of its own; behind each of its arrays there is room. */
typedef struct {
    fastopt_tensor tensor;
    const fastopt_tensor *of;
    const kernel_table *kernels;
    size_t begin;
    float states[FASTOPT_MAX_STATES][TILE], param[TILE], grad[TILE];
} tile;

/* Parameter or gradient (FASTOPT_OF_*) of a tensor from element `begin` on, as the numbers that they are: where they lie, or
 * n of them, decoded, in `room`. */
const void *fastopt_numbers(const fastopt_tensor *tensor, int which, const kernel_table *kernels, size_t begin, size_t n,
                            float *room);

/* Whether a parameter or gradient is in 16 bits. */
static inline int is_stored(const fastopt_tensor *tensor, int which)
{
    return tensor->storage && tensor->storage[which].format != FASTOPT_PLAIN;
}

/* Elements begin <= i < end of a tensor, at most TILE; begin is a multiple of FASTOPT_SCALED. */
void fastopt_load_tile(tile *tile, const fastopt_tensor *tensor, const kernel_table *kernels, int states, size_t begin,
                       size_t end);

/* Stores the states as step number `step` does. */
void fastopt_store_tile(const tile *tile, int states, int64_t step);

/* The same for n numbers of its parameter, from element `begin` on, if that is in 16 bits. */
void fastopt_store_param(const fastopt_tensor *tensor, const kernel_table *kernels, const float *x, size_t begin, size_t n,
                         int64_t step);

#endif
