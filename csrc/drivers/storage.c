/* storage.c: states in fewer bytes, decoded and encoded tile by tile, so that no rule and no kernel knows of them. */
#include "drivers/storage.h"

static const void *codes_from(const fastopt_tensor *tensor, int k, size_t begin)
{
    return (const char *)tensor->state[k] + begin * (tensor->storage[k].format == FASTOPT_BFLOAT16 ? 2 : 1);
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
    tile->tensor.param = (float *)tensor->param + begin;
    tile->tensor.grad = (const float *)tensor->grad + begin;
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
