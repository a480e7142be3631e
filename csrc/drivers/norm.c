/* norm.c: batch norm over all its channels. It takes two sweeps over the data, one for the sums and one for the
 * result. Channels of planes are done one after the other, so that the second sweep over a channel finds it in cache.
 * Columns are swept row by row, all of them twice: tiles of columns that fit in cache were measured to take up to
 * twice as long, since pieces of rows a page apart come at a fraction of the memory's bandwidth. */
#include "kernels/norm.h"
#include "platform/stream.h"
#include <math.h>

enum {
    STREAM_FROM = 8 << 20, /* bytes of a result from which on it goes past the cache */
    PREFETCH_BYTES = 2048, /* how far ahead memory is asked for what is to come */
    LINE = 64,             /* bytes: with scratch memory off its cache lines, small arrays take 1.2 times as long */
    CHANNELS_APART = 8,    /* with fewer channels than this, threads share each of them */
};

static void cut(norm_task *t)
{
    t->width = t->channels;
    if (t->outer == 0 || t->channels == 0 || t->inner == 0)
        return;
    if (t->inner == 1) {
        t->order = order_columns(t->outer, t->channels);
        t->blocks = t->order.blocks;
        t->width = t->order.width;
    } else {
        t->planes = t->inner < BLOCK ? BLOCK / t->inner : 1;
        t->parts = blocks_of(t->inner, BLOCK);
        t->blocks = blocks_of(t->outer, t->planes) * t->parts;
    }
}

static void add_terms(const norm_task *t, size_t offset, const void *coefficients, size_t table_width, const double *shift,
                      double *first, double *second, size_t rows, size_t stride, size_t width, size_t ahead)
{
    norm_terms *kernel = t->dy ? t->kernels->add_gradient_terms[t->activation] : t->kernels->add_terms;
    kernel((t->dy ? t->dy : t->x) + offset, t->x + offset, (t->y ? t->y : t->x) + offset, coefficients, table_width, shift,
           first, second, rows, stride, width, ahead);
}

static const void *coefficients_of(const norm_task *t, size_t channel)
{
    return (const char *)t->coefficients + channel * t->item;
}

static void apply(const norm_task *t, size_t offset, size_t channel, size_t rows, size_t stride, size_t width, size_t ahead)
{
    const int way = !t->dy ? 0 : t->training ? 1 : 2;
    t->kernels->apply[t->inner > 1][way][t->activation](
        (t->dy ? t->dy : t->x) + offset, t->x + offset, (t->y ? t->y : t->x) + offset, t->out + offset,
        coefficients_of(t, channel), t->width, rows, stride, width, ahead, t->stream);
}

/* a[count][bytes] from a[0][bytes] */
static void repeat(void *a, size_t bytes, size_t count)
{
    for (size_t done = 1; done < count; done *= 2)
        memcpy((char *)a + done * bytes, a, smaller(done, count - done) * bytes);
}

/* ---- columns ---------------------------------------------------------------------------------- */

/* The sums of columns begin..begin + width (at most COLUMN_TILE, all lanes) over block b of the rows. */
static void sum_columns(const norm_task *t, size_t b, size_t begin, size_t width)
{
    const size_t first_row = b * t->order.rows_of_block, rows = smaller(t->order.rows_of_block, t->outer - first_row);
    const size_t full = rows / t->order.lanes, rest = rows % t->order.lanes * t->channels;
    const size_t offset = (first_row * t->channels + begin) * t->item, tail = full * t->width * t->item;
    const size_t ahead = blocks_of(PREFETCH_BYTES / t->item, 4 * width) * 4 * t->width;
    _Alignas(LINE) double first[COLUMN_TILE], second[COLUMN_TILE];
    for (size_t c = 0; c < width; c++)
        first[c] = second[c] = 0;
    add_terms(t, offset, coefficients_of(t, begin), t->width, t->shift + begin, first, second, full, t->width, width, ahead);
    if (rest)
        add_terms(t, offset + tail, t->coefficients, t->width, t->shift, first, second, 1, 0, rest, 0);
    fold_columns(first, t->order.lanes, t->channels);
    fold_columns(second, t->order.lanes, t->channels);
    double *sums = t->sums + 2 * b * t->channels + begin;
    for (size_t c = 0; c < smaller(width, t->channels); c++) {
        sums[c] = first[c];
        sums[t->channels + c] = second[c];
    }
}

static void sum_tile_of_block(void *task, size_t i)
{
    const norm_task *t = task;
    const size_t tiles = blocks_of(t->width, COLUMN_TILE), begin = i % tiles * COLUMN_TILE;
    sum_columns(t, i / tiles, begin, smaller(COLUMN_TILE, t->width - begin));
}

static void finish_tile(void *task, size_t i)
{
    const norm_task *t = task;
    t->kernels->finish_channels(t, i * COLUMN_TILE, smaller((i + 1) * COLUMN_TILE, t->channels));
}

static size_t rows_of_apply(const norm_task *t)
{
    return (BLOCK < t->width ? 1 : BLOCK / t->width) * t->order.lanes;
}

static void apply_to_rows(void *task, size_t i)
{
    const norm_task *t = task;
    const size_t size = rows_of_apply(t), first_row = i * size;
    const size_t rows = smaller(size, t->outer - first_row), full = rows / t->order.lanes;
    const size_t offset = first_row * t->channels * t->item;
    apply(t, offset, 0, full, t->width, t->width, PREFETCH_BYTES / t->item);
    apply(t, offset + full * t->width * t->item, 0, 1, 0, rows % t->order.lanes * t->channels, 0);
    stream_end();
}

/* [lanes][channels] of all coefficients, from those of the first lane. */
static void repeat_coefficients(const norm_task *t)
{
    for (size_t k = 0; k < COEFFICIENTS; k++)
        repeat((char *)t->coefficients + k * t->width * t->item, t->channels * t->item, t->order.lanes);
}

static void run_columns(norm_task *t)
{
    const size_t elements = t->outer * t->channels;
    if (t->sums) {
        repeat(t->shift, t->channels * sizeof(double), t->order.lanes);
        repeat_coefficients(t);
        for_blocks(elements, t->blocks * blocks_of(t->width, COLUMN_TILE), sum_tile_of_block, t);
    }
    for_blocks(t->blocks * t->channels, blocks_of(t->channels, COLUMN_TILE), finish_tile, t);
    repeat_coefficients(t);
    for_blocks(elements, blocks_of(t->outer, rows_of_apply(t)), apply_to_rows, t);
}

/* ---- planes ----------------------------------------------------------------------------------- */

/* Where block b of channel c begins, in bytes; how many planes it has, and how much of each. */
static size_t block_of_planes(const norm_task *t, size_t b, size_t c, size_t *count, size_t *n)
{
    const size_t plane = b / t->parts * t->planes, begin = b % t->parts * BLOCK;
    *count = smaller(t->planes, t->outer - plane);
    *n = smaller(BLOCK, t->inner - begin);
    return ((plane * t->channels + c) * t->inner + begin) * t->item;
}

/* How far ahead lies what comes PREFETCH_BYTES later: where planes are short, in the next one. */
static size_t ahead_in_planes(const norm_task *t, size_t n)
{
    return n * t->item <= 2 * PREFETCH_BYTES ? t->channels * t->inner : PREFETCH_BYTES / t->item;
}

/* Element i of a plane goes to lane i mod COLUMN_LANES, as if the plane were a column: so planes are added up as
 * matrices of COLUMN_LANES columns. */
static void sum_planes(const norm_task *t, size_t b, size_t c)
{
    size_t count, n, offset = block_of_planes(t, b, c, &count, &n);
    const size_t stride = t->channels * t->inner, ahead = ahead_in_planes(t, n);
    _Alignas(LINE) double first[COLUMN_LANES] = {0}, second[COLUMN_LANES] = {0}, shift[COLUMN_LANES];
    _Alignas(LINE) char coefficients[3 * COLUMN_LANES * sizeof(double)];
    for (size_t l = 0; l < COLUMN_LANES; l++)
        shift[l] = t->shift[c];
    for (size_t k = 0; t->dy && t->activation == FASTOPT_NORM_RELU && k < 3; k++) {
        char *lanes = coefficients + k * COLUMN_LANES * t->item;
        memcpy(lanes, coefficients_of(t, k * t->width + c), t->item);
        repeat(lanes, t->item, COLUMN_LANES);
    }
    if (n <= COLUMN_LANES)
        add_terms(t, offset, coefficients, COLUMN_LANES, shift, first, second, count, stride, n, 4 * stride);
    else
        for (size_t plane = 0; plane < count; plane++, offset += stride * t->item) {
            const size_t full = n / COLUMN_LANES, rest = n % COLUMN_LANES, tail = (n - rest) * t->item;
            add_terms(t, offset, coefficients, COLUMN_LANES, shift, first, second, full, COLUMN_LANES, COLUMN_LANES, ahead);
            if (rest)
                add_terms(t, offset + tail, coefficients, COLUMN_LANES, shift, first, second, 1, 0, rest, 0);
        }
    fold_columns(first, COLUMN_LANES, 1);
    fold_columns(second, COLUMN_LANES, 1);
    t->sums[2 * b * t->channels + c] = first[0];
    t->sums[(2 * b + 1) * t->channels + c] = second[0];
}

static void apply_to_planes(const norm_task *t, size_t b, size_t c)
{
    size_t count, n;
    const size_t offset = block_of_planes(t, b, c, &count, &n);
    apply(t, offset, c, count, t->channels * t->inner, n, ahead_in_planes(t, n));
}

/* All of a few channels, the last planes first on the way back: they are the ones still in the first caches. */
static void whole_channels(void *task, size_t i)
{
    const norm_task *t = task;
    const size_t begin = i * t->together, end = smaller(begin + t->together, t->channels);
    for (size_t b = 0; t->sums && b < t->blocks; b++)
        for (size_t c = begin; c < end; c++)
            sum_planes(t, b, c);
    t->kernels->finish_channels(t, begin, end);
    for (size_t b = t->blocks; b-- > 0;)
        for (size_t c = begin; c < end; c++)
            apply_to_planes(t, b, c);
    stream_end();
}

static void sum_block(void *task, size_t i)
{
    const norm_task *t = task;
    sum_planes(t, i / t->channels, i % t->channels);
}

static void apply_block(void *task, size_t i)
{
    const norm_task *t = task;
    apply_to_planes(t, t->blocks - 1 - i / t->channels, i % t->channels);
    stream_end();
}

static void run_planes(norm_task *t)
{
    const size_t elements = t->outer * t->channels * t->inner;
    t->together = t->inner < 64 ? 64 / t->inner : 1;
    if (blocks_of(t->channels, t->together) >= CHANNELS_APART) {
        for_blocks(elements, blocks_of(t->channels, t->together), whole_channels, t);
        return;
    }
    if (t->sums)
        for_blocks(elements, t->blocks * t->channels, sum_block, t);
    t->kernels->finish_channels(t, 0, t->channels);
    for_blocks(elements, t->blocks * t->channels, apply_block, t);
}

/* ---- both ------------------------------------------------------------------------------------- */

size_t fastopt_batch_norm_scratch(size_t outer, size_t channels, size_t inner)
{
    norm_task t = {.outer = outer, .channels = channels, .inner = inner};
    cut(&t);
    return LINE / sizeof(double) + 2 * t.blocks * channels + (COEFFICIENTS + 1) * t.width;
}

static void run(int dtype, norm_task t, double *scratch)
{
    t.kernels = fastopt_kernels(dtype);
    t.item = item_size(dtype);
    t.count = (double)t.outer * (double)t.inner;
    t.stream = t.outer * t.channels * t.inner * t.item >= STREAM_FROM && t.out != t.x && t.out != t.dy;
    scratch += -(uintptr_t)scratch % LINE / sizeof(double);
    t.coefficients = scratch;
    cut(&t);
    if (t.dy || t.training) {
        t.shift = scratch + COEFFICIENTS * t.width;
        t.sums = t.shift + t.width;
        if (t.count > 0)
            t.kernels->begin_channels(&t);
    }
    if (t.count == 0)
        t.kernels->finish_channels(&t, 0, t.channels);
    else if (t.channels && t.inner == 1)
        run_columns(&t);
    else if (t.channels)
        run_planes(&t);
}

void fastopt_batch_norm(int dtype, const void *x, const void *gamma, const void *beta, void *running_mean, void *running_var,
                        void *y, void *statistics, double *scratch, int64_t *tracked, int64_t *trained, size_t outer,
                        size_t channels, size_t inner, int training, int activation, double eps, double momentum,
                        double keep, double correction)
{
    if (trained)
        *trained = training;
    if (tracked && training && ++*tracked && isnan(momentum)) {
        momentum = 1.0 / (double)*tracked;
        keep = 1.0 - momentum;
    }
    run(dtype,
        (norm_task){.x = x,
                    .gamma = gamma,
                    .beta = beta,
                    .running_mean = running_mean,
                    .running_var = running_var,
                    .out = y,
                    .statistics = statistics,
                    .outer = outer,
                    .channels = channels,
                    .inner = inner,
                    .training = training,
                    .eps = eps,
                    .momentum = momentum,
                    .keep = keep,
                    .correction = correction,
                    .activation = activation},
        scratch);
}

void fastopt_batch_norm_backward(int dtype, const void *dy, const void *x, const void *y, const void *gamma,
                                 const void *beta, void *statistics, void *dx, void *dgamma, void *dbeta, double *scratch,
                                 const int64_t *trained, size_t outer, size_t channels, size_t inner, int training,
                                 int activation)
{
    run(dtype,
        (norm_task){.x = x,
                    .dy = dy,
                    .y = y,
                    .gamma = gamma,
                    .beta = beta,
                    .out = dx,
                    .statistics = statistics,
                    .dgamma = dgamma,
                    .dbeta = dbeta,
                    .outer = outer,
                    .channels = channels,
                    .inner = inner,
                    .training = trained ? *trained != 0 : training,
                    .activation = activation},
        scratch);
}
