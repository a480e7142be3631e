/* environment.h: the floating-point environment that the core computes in: round to nearest even, subnormal numbers as they
 * are, no traps. A caller's may be another: a library linked with -ffast-math lets the thread that loads it flush subnormal
 * numbers to zero, and results would depend on which thread an element falls to. So every call from Python enters this
 * environment and leaves it again (fastopt/_build.py), and the pool's workers are always in it. */
#ifndef FASTOPT_ENVIRONMENT_H
#define FASTOPT_ENVIRONMENT_H
#include <stdint.h>

#if defined __SSE__ || defined _M_X64
#include <xmmintrin.h>
/* MXCSR: all exceptions masked, everything else 0; the lowest six bits only record what has happened. */
#define ENVIRONMENT 0x1f80u
#define ENVIRONMENT_BITS 0xffffffc0u
static inline uint64_t environment_read(void)
{
    return _mm_getcsr();
}
static inline void environment_write(uint64_t control)
{
    _mm_setcsr((unsigned)control);
}
#elif defined __aarch64__ || defined _M_ARM64
#define ENVIRONMENT 0u
#define ENVIRONMENT_BITS UINT64_MAX
#if defined _MSC_VER
#include <intrin.h>
static inline uint64_t environment_read(void)
{
    return (uint64_t)_ReadStatusReg(ARM64_FPCR);
}
static inline void environment_write(uint64_t control)
{
    _WriteStatusReg(ARM64_FPCR, (__int64)control);
}
#else
static inline uint64_t environment_read(void)
{
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control) : : "memory");
    return control;
}
static inline void environment_write(uint64_t control)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(control) : "memory");
}
#endif
#else
/* Elsewhere what C knows of: the rounding. */
#include <fenv.h>
#define ENVIRONMENT ((uint64_t)FE_TONEAREST)
#define ENVIRONMENT_BITS UINT64_MAX
static inline uint64_t environment_read(void)
{
    return (uint64_t)fegetround();
}
static inline void environment_write(uint64_t control)
{
    fesetround((int)control);
}
#endif

/* Whether instructions take subnormal operands as they are, or for 0, where the CPU can do that without flushing results. */
static inline void environment_take_subnormal(int as_they_are)
{
#if defined __SSE__ || defined _M_X64
    environment_write(as_they_are ? ENVIRONMENT : ENVIRONMENT | 0x40);
#else
    (void)as_they_are;
#endif
}

/* The caller's environment, for environment_leave. To write it costs much more than to read it, and is seldom needed. */
static inline uint64_t environment_enter(void)
{
    const uint64_t before = environment_read();
    if ((before & ENVIRONMENT_BITS) != ENVIRONMENT)
        environment_write(ENVIRONMENT);
    return before;
}

static inline void environment_leave(uint64_t before)
{
    if ((before & ENVIRONMENT_BITS) != ENVIRONMENT)
        environment_write(before);
}

#endif
