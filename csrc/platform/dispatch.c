/* dispatch.c: which instruction sets this library has, which the CPU has, and which is in use. */
#include "internal.h"
#include <stdatomic.h>

#if defined HAVE_AVX2 || defined HAVE_AVX512
#if defined _MSC_VER
#include <intrin.h>
static void cpuid(unsigned leaf, unsigned r[4])
{
    __cpuidex((int *)r, (int)leaf, 0);
}
static uint64_t enabled_state(void)
{
    return _xgetbv(0);
}
#else
#include <cpuid.h>
static void cpuid(unsigned leaf, unsigned r[4])
{
    __cpuid_count(leaf, 0, r[0], r[1], r[2], r[3]);
}
static uint64_t enabled_state(void)
{
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}
#endif

/* The CPU must have the instructions, fused multiply-add among them, and the operating system must save the registers they use. */
static int cpu_has(unsigned leaf7_ebx, uint64_t registers)
{
    enum { FMA = 1 << 12, OSXSAVE = 1 << 27, EAX = 0, EBX = 1, ECX = 2 };
    unsigned r[4];
    cpuid(0, r);
    if (r[EAX] < 7)
        return 0;
    cpuid(1, r);
    if (!(r[ECX] & FMA) || !(r[ECX] & OSXSAVE) || (enabled_state() & registers) != registers)
        return 0;
    cpuid(7, r);
    return (r[EBX] & leaf7_ebx) == leaf7_ebx;
}

#if defined HAVE_AVX2
static int has_avx2(void)
{
    return cpu_has(1u << 5, 0x6); /* AVX2; xmm, ymm */
}
#endif

#if defined HAVE_AVX512
static int has_avx512(void)
{
    return cpu_has(1u << 5 | 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31, 0xe6); /* and F, DQ, BW, VL; zmm, masks */
}
#endif
#endif

static int always(void)
{
    return 1;
}

/* setup.py defines HAVE_ for the sets that the compiler could build. Best last. */
static const struct {
    const instruction_set *set;
    int (*supported)(void);
} sets[] = {
    {&fastopt_baseline, always},
#if defined HAVE_AVX2
    {&fastopt_avx2, has_avx2},
#endif
#if defined HAVE_AVX512
    {&fastopt_avx512, has_avx512},
#endif
#if defined HAVE_NEON
    {&fastopt_neon, always},
#endif
};
enum { SETS = sizeof sets / sizeof *sets };

static atomic_int chosen = -1;

const char *fastopt_isa_name(int i)
{
    return i >= 0 && i < SETS ? sets[i].set->name : NULL;
}

int fastopt_isa_supported(int i)
{
    return i >= 0 && i < SETS && sets[i].supported();
}

int fastopt_isa_get(void)
{
    int i = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (i < 0) {
        for (i = SETS - 1; !sets[i].supported(); i--)
            ;
        atomic_store_explicit(&chosen, i, memory_order_relaxed);
    }
    return i;
}

int fastopt_isa_set(int i)
{
    if (!fastopt_isa_supported(i))
        return -1;
    atomic_store(&chosen, i);
    return 0;
}

const kernel_table *fastopt_kernels(int dtype)
{
    return &sets[fastopt_isa_get()].set->of[dtype];
}
