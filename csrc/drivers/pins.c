/* pins.c: whether arrays of NumPy are what they were when their addresses were taken.
 *
 * Shape, type, flags and memory of an array can be changed in place by anyone who has it. To ask Python for all of them
 * takes longer than a step of a small network; here they are read where NumPy keeps them. fastopt/_pins.py checks that it
 * does so before it relies on this, and keeps the objects alive. */
#include "drivers/numpy_array.h"
#include "internal.h"

enum { WATCHED_FLAGS = C_CONTIGUOUS | ALIGNED | WRITEABLE };

/* The lengths are not read if there may be others: they lie elsewhere then, perhaps nowhere. */
static inline fastopt_pin look(const numpy_array *array, int dimensions)
{
    fastopt_pin pin = {array, array->data, array->type, 0, (int16_t)array->dimensions, array->flags & WATCHED_FLAGS};
    if (array->dimensions == dimensions)
        for (int i = 0; i < dimensions; i++)
            pin.shape = pin.shape * 0x9e3779b1u + (uint32_t)array->lengths[i];
    return pin;
}

void fastopt_pins_take(fastopt_pin *pins, const uintptr_t *heads, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const numpy_array *array = (const numpy_array *)heads[i];
        pins[i] = look(array, array->dimensions);
    }
}

/* Something other than 0 if the array is not as it was. */
static inline uint64_t difference(const fastopt_pin *pin)
{
    const fastopt_pin now = look(pin->head, pin->dimensions);
    return ((uintptr_t)now.data ^ (uintptr_t)pin->data) | ((uintptr_t)now.type ^ (uintptr_t)pin->type) |
           (now.shape ^ pin->shape) | (uint16_t)(now.dimensions ^ pin->dimensions) | (uint16_t)(now.flags ^ pin->flags);
}

int fastopt_pins_fit(const fastopt_pin *pins, size_t count, const uintptr_t *objects, size_t object_count, size_t header)
{
    uint64_t different = 0; /* no early way out, so that the loads of many arrays overlap */
    size_t i = 0;
    for (; objects && i < object_count; i++)
        different |= ((objects[i] + header) ^ (uintptr_t)pins[i].head) | difference(&pins[i]);
    for (; i < count; i++)
        different |= difference(&pins[i]);
    return !different;
}

int fastopt_pins_hold(const fastopt_pin *pins, size_t count)
{
    return fastopt_pins_fit(pins, count, NULL, 0, 0);
}
