/* storage.c: states, parameters and gradients in fewer bytes, decoded and encoded tile by tile, so that no rule and no kernel knows of them. */
#include "drivers/storage.h"

static const void *codes_from(const fastopt_tensor *tensor, int k, size_t begin)
{
    return (const char *)tensor->state[k] + begin * (tensor->storage[k].format == FASTOPT_BFLOAT16 ? 2 : 1);
}

const void *fastopt_numbers(const fastopt_tensor *tensor, int which, const kernel_table *kernels, size_t begin, size_t n,
                            float *room)
{
    const void *x = which == FASTOPT_OF_PARAM ? tensor->param : tensor->grad;
    if (!is_stored(tensor, which))
        return (const char *)x + begin * (tensor->dtype == FASTOPT_FLOAT32 ? sizeof(float) : sizeof(double));
    const uint16_t *codes = (const uint16_t *)x + begin, *rest = tensor->storage[which].rest;
    if (rest)
        kernels->join_bfloat16(codes, rest + begin, room, n);
    else
        kernels->decode_bfloat16(codes, room, n);
    return room;
}

void fastopt_load_tile(tile *tile, const fastopt_tensor *tensor, const kernel_table *kernels, int states, size_t begin,
                       size_t end)
{
    const size_t n = end - begin;
    tile->of = tensor;
    tile->kernels = kernels;
    tile->begin = begin;
    tile->tensor = *tensor;
    tile->tensor.storage = NULL;
    tile->tensor.size = n;
    tile->tensor.param = (void *)fastopt_numbers(tensor, FASTOPT_OF_PARAM, kernels, begin, n, tile->param);
    tile->tensor.grad = fastopt_numbers(tensor, FASTOPT_OF_GRAD, kernels, begin, n, tile->grad);
    for (int k = 0; k < states; k++) {
        const fastopt_storage *storage = &tensor->storage[k];
        tile->tensor.state[k] = tile->states[k];
        if (storage->format == FASTOPT_BFLOAT16)
            kernels->decode_bfloat16(codes_from(tensor, k, begin), tile->states[k], n);
        else if (storage->format == FASTOPT_8BIT)
            kernels->decode_8bit(codes_from(tensor, k, begin), storage->scales + begin / FASTOPT_SCALED, storage->map,
                                 tile->states[k], n);
        else
            tile->tensor.state[k] = (float *)tensor->state[k] + begin;
    }
}

void fastopt_store_tile(const tile *tile, int states, int64_t step)
{
    uint32_t words[TILE];
    uint64_t drawn = 0; /* no step draws this: they are counted from 1 */
    const fastopt_tensor *tensor = tile->of;
    const size_t n = tile->tensor.size;
    for (int k = 0; k < states; k++) {
        const fastopt_storage *storage = &tensor->storage[k];
        void *codes = (void *)codes_from(tensor, k, tile->begin);
        if (storage->format == FASTOPT_8BIT)
            tile->kernels->encode_8bit(tile->states[k], codes, storage->scales + tile->begin / FASTOPT_SCALED, storage->map,
                                       n);
        else if (storage->format == FASTOPT_BFLOAT16) {
            const uint64_t draw = (uint64_t)(step + storage->before) * (FASTOPT_STREAMS / 2) + (uint64_t)k / 2;
            if (storage->stochastic && draw != drawn)
                tile->kernels->random_words(words, n, tensor->position + tile->begin, storage->seed, draw);
            drawn = draw;
            tile->kernels->encode_bfloat16(tile->states[k], codes, n, storage->stochastic ? words : NULL, k % 2);
        }
    }
}

void fastopt_store_param(const fastopt_tensor *tensor, const kernel_table *kernels, const float *x, size_t begin, size_t n,
                         int64_t step)
{
    if (!is_stored(tensor, FASTOPT_OF_PARAM))
        return;
    uint32_t words[TILE];
    const fastopt_storage *storage = &tensor->storage[FASTOPT_OF_PARAM];
    const uint64_t draw = (uint64_t)(step + storage->before) * (FASTOPT_STREAMS / 2) + FASTOPT_OF_PARAM / 2;
    for (size_t i = 0; i < n; i += TILE) {
        const size_t count = n - i < TILE ? n - i : TILE;
        uint16_t *codes = (uint16_t *)tensor->param + begin + i;
        if (storage->stochastic)
            kernels->random_words(words, count, tensor->position + begin + i, storage->seed, draw);
        if (storage->rest)
            kernels->split_bfloat16(x + i, codes, storage->rest + begin + i, count);
        else
            kernels->encode_bfloat16(x + i, codes, count, storage->stochastic ? words : NULL, FASTOPT_OF_PARAM % 2);
    }
}
