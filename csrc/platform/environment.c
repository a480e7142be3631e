/* environment.c: the floating-point environment for Python, where NumPy and Numba compute in it. */
#include "platform/environment.h"
#include "fastopt.h"

uint64_t fastopt_environment_enter(void)
{
    return environment_enter();
}

void fastopt_environment_leave(uint64_t before)
{
    environment_leave(before);
}
