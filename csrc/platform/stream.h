/* stream.h: stores that go past the cache, for results too large to be found there again. A plain store first reads
 * the line that it overwrites: copying 64 MB ran at 19 GB/s so, and at 32 GB/s streamed (one thread, Zen 3).
 * Neither gcc nor clang does this by itself. */
#ifndef FASTOPT_STREAM_H
#define FASTOPT_STREAM_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined __x86_64__ || defined _M_X64
#include <immintrin.h>
/* `bytes` of a cache line; what is left of it is to follow soon. to and from do not overlap. */
static inline void stream_part(void *to, const void *from, size_t bytes)
{
    const size_t head = (size_t)(-(uintptr_t)to % 16) < bytes ? (size_t)(-(uintptr_t)to % 16) : bytes;
    char *t = (char *)to + head;
    const char *f = (const char *)from + head;
    memcpy(to, from, head);
    for (bytes -= head; bytes >= 16; bytes -= 16, t += 16, f += 16)
        _mm_stream_si128((__m128i *)(void *)t, _mm_loadu_si128((const __m128i *)(const void *)f));
    memcpy(t, f, bytes);
}

/* A whole one. */
static inline void stream_line(void *to, const void *from)
{
#if defined __AVX512F__
    _mm512_stream_si512(to, _mm512_loadu_si512(from));
#else
    for (int i = 0; i < 64; i += 16)
        stream_part((char *)to + i, (const char *)from + i, 16);
#endif
}

/* After the last one, before another thread is told. */
static inline void stream_end(void)
{
    _mm_sfence();
}
#else
static inline void stream_part(void *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
}

static inline void stream_line(void *to, const void *from)
{
    memcpy(to, from, 64);
}

static inline void stream_end(void)
{
}
#endif
#endif
