/* Stands before csrc/isa/avx512.c (-include): the intrinsics of AVX-512 that the kernels call, written out lane by lane, for
 * CPUs that have none. They are macros of the intrinsics' names, so that what is tested is the source as it is. */
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#define __AVX512F__ 1

/* ---- lane by lane, of vectors x, y, z with lanes a[i], b[i], c[i] ------------------------------- */

#define LANES_OF_THREE(name, vector, lane, expression)                                    \
    static inline vector lanes_##name(vector x, vector y, vector z)                       \
    {                                                                                     \
        enum { COUNT_OF_LANES = 64 / sizeof(lane) };                                      \
        lane a[COUNT_OF_LANES], b[COUNT_OF_LANES], c[COUNT_OF_LANES], to[COUNT_OF_LANES]; \
        memcpy(a, &x, 64);                                                                \
        memcpy(b, &y, 64);                                                                \
        memcpy(c, &z, 64);                                                                \
        for (int i = 0; i < COUNT_OF_LANES; i++)                                          \
            to[i] = (lane)(expression);                                                   \
        memcpy(&x, to, 64);                                                               \
        return x;                                                                         \
    }
#define LANES_OF_TWO(name, vector, lane, expression)                   \
    static inline vector lanes_##name(vector x, vector y, int number)  \
    {                                                                  \
        enum { COUNT_OF_LANES = 64 / sizeof(lane) };                   \
        lane a[COUNT_OF_LANES], b[COUNT_OF_LANES], to[COUNT_OF_LANES]; \
        memcpy(a, &x, 64);                                             \
        memcpy(b, &y, 64);                                             \
        for (int i = 0; i < COUNT_OF_LANES; i++)                       \
            to[i] = (lane)(expression);                                \
        memcpy(&x, to, 64);                                            \
        return x;                                                      \
    }

LANES_OF_TWO(add16, __m512i, uint16_t, a[i] + b[i])
LANES_OF_TWO(sub16, __m512i, uint16_t, a[i] - b[i])
LANES_OF_TWO(subs16, __m512i, uint16_t, a[i] > b[i] ? a[i] - b[i] : 0)
LANES_OF_TWO(add32, __m512i, uint32_t, a[i] + b[i])
LANES_OF_TWO(max32, __m512i, int32_t, a[i] > b[i] ? a[i] : b[i])
LANES_OF_TWO(right32, __m512i, uint32_t, a[i] >> number)
LANES_OF_TWO(and, __m512i, uint64_t, a[i] & b[i])
LANES_OF_TWO(andnot, __m512i, uint64_t, ~a[i] & b[i])
LANES_OF_TWO(min_ps, __m512, float, a[i] < b[i] ? a[i] : b[i])
LANES_OF_TWO(mul_ps, __m512, float, a[i] * b[i])
LANES_OF_TWO(unpack_ps, __m512, float, (i % 2 ? b : a)[i / 4 * 4 + i % 4 / 2 + 2 * number])
LANES_OF_TWO(unpack_pd, __m512d, double, (i % 2 ? b : a)[i / 2 * 2 + number])
LANES_OF_TWO(quarters_ps, __m512, float, (i < 8 ? a : b)[(number >> i / 4 * 2 & 3) * 4 + i % 4])
LANES_OF_TWO(quarters_pd, __m512d, double, (i < 4 ? a : b)[(number >> i / 2 * 2 & 3) * 2 + i % 2])
LANES_OF_THREE(fmadd_ps, __m512, float, fmaf(a[i], b[i], c[i]))
LANES_OF_THREE(fmadd_pd, __m512d, double, fma(a[i], b[i], c[i]))
LANES_OF_THREE(permute16, __m512i, uint16_t, (b[i] & 32 ? c : a)[b[i] & 31])
LANES_OF_THREE(permute32, __m512i, uint32_t, (b[i] & 16 ? c : a)[b[i] & 15])
LANES_OF_THREE(and_toggle, __m512i, uint64_t, a[i] ^ (b[i] & c[i]))

#define _mm512_add_epi16(x, y) lanes_add16(x, y, 0)
#define _mm512_sub_epi16(x, y) lanes_sub16(x, y, 0)
#define _mm512_add_epi32(x, y) lanes_add32(x, y, 0)
#define _mm512_max_epi32(x, y) lanes_max32(x, y, 0)
#define _mm512_srli_epi32(x, by) lanes_right32(x, x, by)
#define _mm512_and_si512(x, y) lanes_and(x, y, 0)
#define _mm512_andnot_si512(x, y) lanes_andnot(x, y, 0)
#define _mm512_min_ps(x, y) lanes_min_ps(x, y, 0)
#define _mm512_mul_ps(x, y) lanes_mul_ps(x, y, 0)
#define _mm512_unpacklo_ps(x, y) lanes_unpack_ps(x, y, 0)
#define _mm512_unpackhi_ps(x, y) lanes_unpack_ps(x, y, 1)
#define _mm512_unpacklo_pd(x, y) lanes_unpack_pd(x, y, 0)
#define _mm512_unpackhi_pd(x, y) lanes_unpack_pd(x, y, 1)
#define _mm512_shuffle_f32x4(x, y, which) lanes_quarters_ps(x, y, which)
#define _mm512_shuffle_f64x2(x, y, which) lanes_quarters_pd(x, y, which)
#define _mm512_fmadd_ps(x, y, z) lanes_fmadd_ps(x, y, z)
#define _mm512_fmadd_pd(x, y, z) lanes_fmadd_pd(x, y, z)
#define _mm512_permutex2var_epi16(x, which, y) lanes_permute16(x, which, y)
#define _mm512_permutex2var_epi32(x, which, y) lanes_permute32(x, which, y)
#define _mm512_permutex2var_ps(x, which, y) ((__m512)lanes_permute32((__m512i)(x), which, (__m512i)(y)))
#define _mm512_permutexvar_ps(which, x) ((__m512)lanes_permute32((__m512i)(x), which, (__m512i)(x)))
#define _mm512_ternarylogic_epi32(x, y, z, table) (sizeof(char[(table) == 0x78 ? 1 : -1]) ? lanes_and_toggle(x, y, z) : (x))
#define _mm512_castps_si512(x) ((__m512i)(x))
#define _mm512_castsi512_ps(x) ((__m512)(x))

/* ---- memory ------------------------------------------------------------------------------------ */

#define VECTOR_IN_MEMORY(type, vector)                  \
    static inline vector load_##type(const void *from)  \
    {                                                   \
        vector x;                                       \
        memcpy(&x, from, sizeof x);                     \
        return x;                                       \
    }                                                   \
    static inline void store_##type(void *to, vector x) \
    {                                                   \
        memcpy(to, &x, sizeof x);                       \
    }
VECTOR_IN_MEMORY(ps, __m512)
VECTOR_IN_MEMORY(pd, __m512d)
VECTOR_IN_MEMORY(si, __m512i)
#define _mm512_loadu_ps(from) load_ps(from)
#define _mm512_loadu_pd(from) load_pd(from)
#define _mm512_loadu_si512(from) load_si(from)
#define _mm512_storeu_ps(to, x) store_ps(to, x)
#define _mm512_storeu_pd(to, x) store_pd(to, x)
#define _mm512_storeu_si512(to, x) store_si(to, x)
#define _mm512_stream_si512(to, x) store_si(to, x)

/* Some lanes, of which alone memory is read or written. */
#define SOME_LANES(type, lane, vector, mask_type)                            \
    static inline vector load_some_##type(mask_type mask, const lane *from)  \
    {                                                                        \
        lane lanes[64 / sizeof(lane)] = {0};                                 \
        for (size_t i = 0; i < 64 / sizeof(lane); i++)                       \
            if (mask >> i & 1)                                               \
                lanes[i] = from[i];                                          \
        return load_##type(lanes);                                           \
    }                                                                        \
    static inline void store_some_##type(lane *to, mask_type mask, vector x) \
    {                                                                        \
        lane lanes[64 / sizeof(lane)];                                       \
        store_##type(lanes, x);                                              \
        for (size_t i = 0; i < 64 / sizeof(lane); i++)                       \
            if (mask >> i & 1)                                               \
                to[i] = lanes[i];                                            \
    }
SOME_LANES(ps, float, __m512, __mmask16)
SOME_LANES(pd, double, __m512d, __mmask8)
#define _mm512_maskz_loadu_ps(mask, from) load_some_ps(mask, from)
#define _mm512_maskz_loadu_pd(mask, from) load_some_pd(mask, from)
#define _mm512_mask_storeu_ps(to, mask, x) store_some_ps(to, mask, x)
#define _mm512_mask_storeu_pd(to, mask, x) store_some_pd(to, mask, x)

#define ONE_IN_ALL_LANES(type, lane, vector)           \
    static inline vector all_##lane(lane x)            \
    {                                                  \
        lane lanes[64 / sizeof(lane)];                 \
        for (size_t i = 0; i < 64 / sizeof(lane); i++) \
            lanes[i] = x;                              \
        return load_##type(lanes);                     \
    }
ONE_IN_ALL_LANES(ps, float, __m512)
ONE_IN_ALL_LANES(pd, double, __m512d)
ONE_IN_ALL_LANES(si, int16_t, __m512i)
ONE_IN_ALL_LANES(si, int32_t, __m512i)
#define _mm512_set1_ps(x) all_float(x)
#define _mm512_set1_pd(x) all_double(x)
#define _mm512_set1_epi16(x) all_int16_t((int16_t)(x))
#define _mm512_set1_epi32(x) all_int32_t(x)

/* ---- masks of 32 lanes of 16 bits --------------------------------------------------------------- */

static inline __mmask32 compare_lanes(__m512i x, __m512i y, int less, int equal, int greater)
{
    uint16_t a[32], b[32];
    __mmask32 mask = 0;
    store_si(a, x);
    store_si(b, y);
    for (int i = 0; i < 32; i++)
        mask |= (__mmask32)(a[i] < b[i] ? less : a[i] > b[i] ? greater : equal) << i;
    return mask;
}

static inline __m512i lanes_where(__mmask32 mask, __m512i x, __m512i otherwise)
{
    uint16_t a[32], b[32];
    store_si(a, x);
    store_si(b, otherwise);
    for (int i = 0; i < 32; i++)
        b[i] = mask >> i & 1 ? a[i] : b[i];
    return load_si(b);
}
#define _mm512_cmplt_epu16_mask(x, y) compare_lanes(x, y, 1, 0, 0)
#define _mm512_cmpgt_epu16_mask(x, y) compare_lanes(x, y, 0, 0, 1)
#define _mm512_cmpge_epu16_mask(x, y) compare_lanes(x, y, 0, 1, 1)
#define _mm512_cmpeq_epi16_mask(x, y) compare_lanes(x, y, 0, 1, 0)
#define _mm512_mask_cmpgt_epu16_mask(mask, x, y) ((mask) & compare_lanes(x, y, 0, 0, 1))
#define _mm512_test_epi16_mask(x, y) compare_lanes(lanes_and(x, y, 0), all_int16_t(0), 1, 0, 1)
#define _mm512_movepi16_mask(x) compare_lanes(x, all_int16_t(INT16_MAX), 0, 0, 1)
#define _mm512_mask_mov_epi16(otherwise, mask, x) lanes_where(mask, x, otherwise)
#define _mm512_maskz_mov_epi16(mask, x) lanes_where(mask, x, all_int16_t(0))
#define _mm512_mask_sub_epi16(otherwise, mask, x, y) lanes_where(mask, lanes_sub16(x, y, 0), otherwise)
#define _mm512_mask_subs_epu16(otherwise, mask, x, y) lanes_where(mask, lanes_subs16(x, y, 0), otherwise)

/* ---- from one type to another ------------------------------------------------------------------- */

static inline __m512i words_of_bytes(__m128i x)
{
    uint8_t bytes[16];
    uint32_t words[16];
    memcpy(bytes, &x, sizeof bytes);
    for (int i = 0; i < 16; i++)
        words[i] = bytes[i];
    return load_si(words);
}

static inline __m256i bytes_of_halves(__m512i x)
{
    uint16_t halves[32];
    uint8_t bytes[32];
    __m256i y;
    store_si(halves, x);
    for (int i = 0; i < 32; i++)
        bytes[i] = (uint8_t)halves[i];
    memcpy(&y, bytes, sizeof bytes);
    return y;
}

static inline __m512 numbers_of_words(__m512i x)
{
    int32_t words[16];
    float numbers[16];
    store_si(words, x);
    for (int i = 0; i < 16; i++)
        numbers[i] = (float)words[i];
    return load_ps(numbers);
}

static inline __m512i words_of_numbers(__m512 x)
{
    int32_t words[16];
    float numbers[16];
    store_ps(numbers, x);
    for (int i = 0; i < 16; i++)
        words[i] = _mm_cvttss_si32(_mm_set_ss(numbers[i])); /* which has an answer for all, as the vectors' has */
    return load_si(words);
}
#define _mm512_cvtepu8_epi32(x) words_of_bytes(x)
#define _mm512_cvtepi16_epi8(x) bytes_of_halves(x)
#define _mm512_cvtepi32_ps(x) numbers_of_words(x)
#define _mm512_cvttps_epi32(x) words_of_numbers(x)
