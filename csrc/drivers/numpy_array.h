/* numpy_array.h: where NumPy keeps what it knows of an array: PyArrayObject_fields, behind Python's own header, which is part of
 * NumPy's binary interface since 1.0. fastopt/_pins.py checks that it is so before anything relies on it. */
#ifndef FASTOPT_NUMPY_ARRAY_H
#define FASTOPT_NUMPY_ARRAY_H
#include <stdint.h>

typedef struct {
    const void *data;
    int dimensions;
    const intptr_t *lengths, *strides;
    const void *base, *type;
    int flags;
} numpy_array;

enum { C_CONTIGUOUS = 0x0001, ALIGNED = 0x0100, WRITEABLE = 0x0400 };

#endif
