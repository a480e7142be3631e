/* torch.c: whether tensors of PyTorch are what they were, and where their gradients are now.
 *
 * Gradients are other tensors in every step. To ask Python for what there is to know of each takes longer than a step of a
 * small network, so they are looked at here, through PyTorch's own C interface. fastopt/torch/_interface.py tries it before it
 * relies on it, and keeps the objects alive. */
#include "drivers/storage.h"

/* Lengths and strides as one number. */
static uint64_t mixed(uint64_t layout, int64_t number)
{
    return (layout ^ (uint64_t)number) * 0x9e3779b97f4a7c15u + (layout >> 29);
}

/* What there is to know of a tensor; data is NULL where PyTorch answers with an error, as it does where the elements are not
 * in memory one by one. */
static fastopt_torch_tensor look(const fastopt_torch_interface *of, uintptr_t object)
{
    fastopt_torch_tensor seen = {object, NULL, 0};
    void *tensor = (void *)(object + of->cell), *data;
    int64_t dimensions, *lengths, *strides;
    int32_t dtype;
    if (of->data(tensor, &data) || of->dtype(tensor, &dtype) || of->dimensions(tensor, &dimensions) ||
        of->lengths(tensor, &lengths) || of->strides(tensor, &strides))
        return seen;
    seen.layout = mixed((uint64_t)dtype, dimensions);
    int64_t elements = 1;
    for (int64_t i = 0; i < dimensions; i++) {
        seen.layout = mixed(seen.layout, lengths[i]);
        elements *= lengths[i];
    }
    for (int64_t i = 0; elements && i < dimensions; i++)
        if (lengths[i] != 1) /* else the stride does not matter */
            seen.layout = mixed(seen.layout, strides[i]);
    seen.data = data;
    return seen;
}

void fastopt_torch_look(const fastopt_torch_interface *of, const uintptr_t *objects, size_t count,
                        fastopt_torch_tensor *seen)
{
    for (size_t i = 0; i < count; i++)
        seen[i] = look(of, objects[i]);
}

static int is_tensor(const fastopt_torch_interface *of, uintptr_t object)
{
    return *(const uintptr_t *)(object + of->type_at) == of->type;
}

static int counts_from(const fastopt_torch_counter *counter)
{
    return counter->is_double ? *(const double *)counter->at == *counter->before
                              : *(const float *)counter->at == (float)*counter->before;
}

int fastopt_torch_fit(fastopt_plan *plan, const uintptr_t *params, const uintptr_t *grads)
{
    const fastopt_torch_tensors *tensors = plan->torch;
    const fastopt_torch_interface *of = tensors->of;
    for (size_t i = 0; params && i < tensors->param_count; i++)
        if (params[i] != tensors->params[i])
            return 0;
    for (size_t i = 0; i < plan->count; i++) {
        const fastopt_torch_tensor *before = &tensors->seen[i], now = look(of, before->object);
        if (now.data != before->data || now.layout != before->layout)
            return 0;
    }
    for (size_t i = plan->count; i < tensors->count; i++) { /* few have them: it is enough that they are where they were */
        void *data;
        if (of->data((void *)(tensors->seen[i].object + of->cell), &data) || data != tensors->seen[i].data)
            return 0;
    }
    for (size_t i = 0; i < tensors->counter_count; i++)
        if (!counts_from(&tensors->counters[i]))
            return 0;
    for (size_t i = 0; grads && i < plan->count; i++) {
        const fastopt_tensor *tensor = &plan->tensors[i];
        const size_t of_numbers = tensor->dtype == FASTOPT_FLOAT32 ? sizeof(float) : sizeof(double);
        const size_t size = is_stored(tensor, FASTOPT_OF_GRAD) ? sizeof(uint16_t) : of_numbers;
        if (!is_tensor(of, grads[i]))
            return 0;
        const fastopt_torch_tensor grad = look(of, grads[i]);
        if (grad.layout != tensors->seen[i].layout || (uintptr_t)grad.data % size || (!grad.data && plan->tensors[i].size))
            return 0;
        plan->tensors[i].grad = grad.data;
    }
    return 1;
}

void fastopt_torch_count(const fastopt_plan *plan)
{
    const fastopt_torch_interface *of = plan->torch->of;
    for (size_t i = 0; plan->torch->tells && i < plan->count; i++)
        of->change((void *)(plan->torch->seen[i].object + of->cell));
    for (size_t i = 0; i < plan->torch->counter_count; i++) {
        const fastopt_torch_counter *counter = &plan->torch->counters[i];
        *counter->before = *counter->after;
        if (counter->is_double)
            *(double *)counter->at = *counter->after;
        else
            *(float *)counter->at = (float)*counter->after;
    }
}
