/* fma.h: a * b + c rounded once, by the CPU's own instruction or, where it has none, to the same bits without, if all
 * are finite (or NaN), and a, b and c of sizes between which nothing over- or underflows, as in math.inc. */
#ifndef FASTOPT_FMA_H
#define FASTOPT_FMA_H
#include <math.h>
#include <stdint.h>
#include <string.h>

/* Loops around it are to be vectorised, however long it is. */
#if defined __GNUC__
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#else
#define ALWAYS_INLINE static inline
#endif

#if defined __FMA__ || defined __ARM_FEATURE_FMA || defined __aarch64__ || (defined _MSC_VER && defined __AVX2__)

ALWAYS_INLINE float fma_float(float a, float b, float c)
{
    return fmaf(a, b, c);
}

ALWAYS_INLINE double fma_double(double a, double b, double c)
{
    return fma(a, b, c);
}

#else

/* The sum of a and b, and in *rest what it lacks (Knuth, The Art of Computer Programming 2, 4.2.2). */
ALWAYS_INLINE double two_sum(double a, double b, double *rest)
{
    const double sum = a + b, b_part = sum - a;
    *rest = (a - (sum - b_part)) + (b - b_part);
    return sum;
}

/* a + b rounded to odd: of the two neighbours of an inexact sum, that whose last bit is 1. Rounded again, to fewer
 * digits, it then gives what the exact sum would have given. */
ALWAYS_INLINE double sum_to_odd(double a, double b)
{
    double rest, sum = two_sum(a, b, &rest);
    uint64_t bits, rest_bits;
    memcpy(&bits, &sum, sizeof bits);
    memcpy(&rest_bits, &rest, sizeof bits);
    const uint64_t size = rest_bits << 1, inexact = (size | (0 - size)) >> 63;
    const uint64_t wrong = ~bits & inexact, inwards = (bits ^ rest_bits) >> 63;
    bits += wrong - 2 * (wrong & inwards);
    memcpy(&sum, &bits, sizeof sum);
    return sum;
}

/* The product of two floats is exact in double. */
ALWAYS_INLINE float fma_float(float a, float b, float c)
{
    return (float)sum_to_odd((double)a * (double)b, (double)c);
}

/* a as the sum of two numbers of 26 bits at most (Veltkamp). */
ALWAYS_INLINE double upper_half(double a)
{
    const double t = a * 0x8000001p0;
    return t - (t - a);
}

/* S. Boldo and G. Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", IEEE
 * Transactions on Computers 57(4), 2008, Fig. 3; the product by Dekker (1971). */
ALWAYS_INLINE double fma_double(double a, double b, double c)
{
    const double a_high = upper_half(a), a_low = a - a_high, b_high = upper_half(b), b_low = b - b_high;
    const double product = a * b;
    const double product_rest = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low;
    double low_rest, high_rest;
    const double low = two_sum(c, product_rest, &low_rest), high = two_sum(product, low, &high_rest);
    return high + sum_to_odd(high_rest, low_rest);
}

#endif

/* fmaf of any arguments; MinGW's rounds twice. */
#if defined __MINGW32__ && !defined __FMA__
ALWAYS_INLINE float fmaf_once(float a, float b, float c)
{
    const double sum = (double)a * (double)b + (double)c;
    return isfinite(sum) ? fma_float(a, b, c) : (float)sum;
}
#define FMAF fmaf_once
#else
#define FMAF fmaf
#endif
#endif
