/* matmul.c: matrix products, cut into parts of the result for the thread pool, and what follows them: bias and activation. */
#include "drivers/numpy_array.h"
#include "kernels/matmul.h"
#include <string.h>

enum {
    SERIAL_PRODUCT = 2 << 20,  /* below this many multiply-adds, waking a thread costs more than it saves */
    SERIAL_IF_AWAKE = 1 << 20, /* and below this many, asking one that is awake */
    STORED_AS = 12,            /* multiply-adds that take as long as storing an element of the result */
    ACTIVATED_AS = 32,         /* and as its sigmoid or tanh */
    PARTS_PER_THREAD = 4,      /* so that no thread waits long for the last one */
    COLUMNS_TOGETHER = 64,     /* a part has a multiple: whole panels. Columns are shared out where there are enough, as */
    ROWS_TOGETHER = 24,        /* every part packs the panels of b anew for its rows; here, whole tiles of most sizes */
    BYTES_IN_CACHE = 1 << 17,  /* what follows the product is done before its rows are gone from the cache, */
    LEAST_ROWS = 192,          /* but not for fewer, as the panels of b are packed anew for each lot */
    CHAIN_SUMS = 1 << 16       /* bytes of results of chains that lie on the stack */
};

typedef struct {
    matmul_task product;
    const kernel_table *kernels;
    void (*with_bias)(void *x, const void *bias, size_t rows, size_t columns);
    void (*without)(const void *x, void *out, size_t n);
    const char *bias;
    size_t item, rows, columns, parts_in_row; /* of a part; parts beside each other */
    int one_column;                           /* the product is that of the transposes: its row is the result's column */
} matmul_parts;

/* Bias and activation of c[rows][columns] from `row` and `column` on. */
static void matmul_follow(const matmul_parts *t, size_t row, size_t rows, size_t column, size_t columns)
{
    const size_t n = t->product.n;
    char *c = (char *)t->product.c + (row * n + column) * t->item;
    const int whole = columns == n || rows == 1;
    for (size_t r = 0; r < (whole ? 1 : rows); r++, c += n * t->item) {
        const size_t some = whole ? rows : 1;
        if (t->without)
            t->without(c, c, some * columns);
        else if (t->with_bias && t->one_column)
            t->with_bias(c, t->bias, columns, 1);
        else if (t->with_bias)
            t->with_bias(c, t->bias + column * t->item, some, columns);
    }
}

static void matmul_part(void *task, size_t i)
{
    const matmul_parts *t = task;
    const size_t column = i % t->parts_in_row * t->columns, columns = smaller(t->columns, t->product.n - column);
    size_t row = i / t->parts_in_row * t->rows;
    const size_t end = row + smaller(t->rows, t->product.m - row);
    const size_t in_cache = BYTES_IN_CACHE / (columns * t->item);
    const size_t together = t->with_bias || t->without ? (in_cache > LEAST_ROWS ? in_cache : LEAST_ROWS) : t->rows;
    for (size_t rows; row < end; row += rows) {
        rows = smaller(together, end - row);
        t->kernels->matmul(&t->product, row, rows, column, columns);
        matmul_follow(t, row, rows, column, columns);
    }
}

/* A product of few elements and several chains: chains are shared out, and their results added in order. */
typedef struct {
    const matmul_parts *whole;
    size_t first; /* chain of those that are now shared out */
    char *sums;   /* of each */
} matmul_chains;

static void matmul_chain(void *task, size_t i)
{
    const matmul_chains *t = task;
    const size_t item = t->whole->item, at = (t->first + i) * CHAIN;
    matmul_task chain = t->whole->product;
    chain.k = smaller(CHAIN, chain.k - at);
    chain.a = (const char *)chain.a + (ptrdiff_t)at * chain.a_k * (ptrdiff_t)item;
    chain.b = (const char *)chain.b + (ptrdiff_t)at * chain.b_k * (ptrdiff_t)item;
    chain.c = t->sums + i * chain.m * chain.n * item;
    t->whole->kernels->matmul(&chain, 0, chain.m, 0, chain.n);
}

static void matmul_by_chains(const matmul_parts *t)
{
    double sums[CHAIN_SUMS / sizeof(double)];
    matmul_chains chains = {.whole = t, .sums = (char *)sums};
    const size_t size = t->product.m * t->product.n, bytes = size * t->item, count = blocks_of(t->product.k, CHAIN);
    for (size_t some; chains.first < count; chains.first += some) {
        some = smaller(CHAIN_SUMS / bytes, count - chains.first);
        fastopt_for_each(some, matmul_chain, &chains);
        for (size_t i = 0; i < some; i++)
            if (chains.first + i == 0)
                memcpy(t->product.c, chains.sums, bytes);
            else
                t->kernels->combine(t->product.c, 1, t->product.c, 1, chains.sums + i * bytes, size);
    }
    matmul_follow(t, 0, t->product.m, 0, t->product.n);
}

int fastopt_matmul(int dtype, const void *a, const void *b, void *c, const void *bias, size_t m, size_t n, size_t k,
                   ptrdiff_t a_row, ptrdiff_t a_k, ptrdiff_t b_k, ptrdiff_t b_column, int activation)
{
    const kernel_table *kernels = fastopt_kernels(dtype);
    void (*const with_bias[])(void *, const void *, size_t, size_t) = {
        [FASTOPT_NORM_IDENTITY] = kernels->bias_add,
        [FASTOPT_NORM_RELU] = kernels->bias_relu,
        [FASTOPT_NORM_SIGMOID] = kernels->bias_sigmoid,
        [FASTOPT_NORM_TANH] = kernels->bias_tanh,
    };
    void (*const without[])(const void *, void *, size_t) = {
        [FASTOPT_NORM_RELU] = kernels->relu,
        [FASTOPT_NORM_SIGMOID] = kernels->sigmoid,
        [FASTOPT_NORM_TANH] = kernels->tanh,
    };
    matmul_parts t = {.kernels = kernels, .bias = bias, .item = item_size(dtype), .one_column = n == 1};
    if (m == 0 || n == 0)
        return 0;
    if (((uintptr_t)c | (uintptr_t)bias | (k ? (uintptr_t)a | (uintptr_t)b : 0)) % t.item)
        return -1;
    t.with_bias = bias ? with_bias[activation] : NULL;
    t.without = bias ? NULL : without[activation];
    b_column = n == 1 || k == 0 ? 1 : b_column; /* strides that lead nowhere */
    if (k == 0)
        memset(c, 0, m * n * t.item);
    if (n == 1) /* vectors go along rows: one column is one row of the product of the transposes */
        t.product = (matmul_task){b, a, c, 1, b_k, a_k, m == 1 ? 1 : a_row, 1, m, k};
    else
        t.product = (matmul_task){a, b, c, a_row, a_k, b_k, b_column, m, n, k};
    m = t.product.m;
    n = t.product.n;

    t.rows = m;
    t.columns = n;
    const size_t threads = (size_t)fastopt_threads_get();
    const size_t after = activation == FASTOPT_NORM_SIGMOID || activation == FASTOPT_NORM_TANH ? ACTIVATED_AS : 0;
    const double work = (double)m * (double)n * (double)(k + STORED_AS + after);
    const int shared = threads > 1 && work >= (fastopt_workers_awake() ? SERIAL_IF_AWAKE : SERIAL_PRODUCT);
    if (shared) {
        const size_t parts = PARTS_PER_THREAD * threads;
        if (n >= 2 * threads * COLUMNS_TOGETHER || m < threads * ROWS_TOGETHER)
            t.columns = blocks_of(blocks_of(n, parts), COLUMNS_TOGETHER) * COLUMNS_TOGETHER;
        else
            t.rows = blocks_of(blocks_of(m, parts), ROWS_TOGETHER) * ROWS_TOGETHER;
    }
    t.parts_in_row = blocks_of(n, t.columns);
    const size_t count = blocks_of(m, t.rows) * t.parts_in_row;
    if (shared && count < threads && count < blocks_of(k, CHAIN) && m * n * t.item <= CHAIN_SUMS / threads)
        matmul_by_chains(&t);
    else if (count == 1)
        matmul_part(&t, 0);
    else
        fastopt_for_each(count, matmul_part, &t);
    return 0;
}

/* Where the elements of a matrix end, if it has some, aligned, and neighbours in memory along one axis; else 0. */
static uintptr_t matrix_end(const numpy_array *x, intptr_t item)
{
    if (x->dimensions != 2 || !(x->flags & ALIGNED) || x->lengths[0] < 1 || x->lengths[1] < 1)
        return 0;
    const intptr_t row = x->strides[0], column = x->strides[1];
    if (row < item || column < item || row % item || column % item || (row != item && column != item))
        return 0;
    return (uintptr_t)x->data + (uintptr_t)((x->lengths[0] - 1) * row + (x->lengths[1] - 1) * column + item);
}

static int overlap(const numpy_array *x, uintptr_t end, const numpy_array *y, uintptr_t y_end)
{
    return (uintptr_t)x->data < y_end && (uintptr_t)y->data < end;
}

int fastopt_matmul_arrays(const fastopt_dtypes *dtypes, uintptr_t a_head, uintptr_t b_head, uintptr_t c_head,
                          uintptr_t bias_head, int activation)
{
    const numpy_array *a = (const numpy_array *)a_head, *b = (const numpy_array *)b_head;
    const numpy_array *c = (const numpy_array *)c_head, *bias = (const numpy_array *)bias_head;
    const uintptr_t type = (uintptr_t)a->type;
    const int dtype = type == dtypes->float32 ? FASTOPT_FLOAT32 : FASTOPT_FLOAT64;
    const intptr_t item = (intptr_t)item_size(dtype);
    if ((type != dtypes->float32 && type != dtypes->float64) || b->type != a->type || c->type != a->type)
        return 0;
    const uintptr_t a_end = matrix_end(a, item), b_end = matrix_end(b, item), c_end = matrix_end(c, item);
    if (!a_end || !b_end || !c_end || !(c->flags & C_CONTIGUOUS) || !(c->flags & WRITEABLE))
        return 0;
    const intptr_t m = c->lengths[0], n = c->lengths[1], k = a->lengths[1];
    if (a->lengths[0] != m || b->lengths[0] != k || b->lengths[1] != n)
        return 0;
    if (overlap(c, c_end, a, a_end) || overlap(c, c_end, b, b_end))
        return 0;
    if (bias) {
        if (bias->type != a->type || bias->dimensions != 1 || bias->lengths[0] != n || !(bias->flags & ALIGNED) ||
            !(bias->flags & C_CONTIGUOUS) || overlap(c, c_end, bias, (uintptr_t)bias->data + (uintptr_t)(n * item)))
            return 0;
    }
    return fastopt_matmul(dtype, a->data, b->data, (void *)c->data, bias ? bias->data : NULL, (size_t)m, (size_t)n,
                          (size_t)k, a->strides[0] / item, a->strides[1] / item, b->strides[0] / item, b->strides[1] / item,
                          activation) == 0;
}
