/* internal.h: what the parts of the C core share. */
#ifndef FASTOPT_INTERNAL_H
#define FASTOPT_INTERNAL_H
#include "fastopt.h"

/* Work is cut into blocks of this many elements: the unit that threads claim, and the unit of every sum,
 * whose partial results are combined in block order. Changing it changes the last bits of sums. */
enum { BLOCK = 8192 };

/* Sums of a block: element i goes to lane i mod LANES; the lanes are folded in halves (reduce.inc). */
enum { LANES = 16 };

enum rule {
#define RULE(name, states) RULE_##name,
#define TRUST_RULE RULE
#define TENSOR_RULE RULE
#include "kernels/rules.def"
#undef RULE
#undef TRUST_RULE
#undef TENSOR_RULE
    RULE_COUNT
};

/* Gradients (scaled) and parameters below LARGE_*, states, to begin with, too, or if they are squares below LARGE_SQUARE_*,
 * denominators from TINY_* on, and ordinary scalars (fastopt/_specification/rules.py): then no rule overflows. A gradient with decay is less
 * than 2^41, and so are averages of it, to rounding; a square is less than 2^82, and a sum or a momentum buffer grows at most
 * by as much in a step; the largest quotient, LAMB's, times a learning rate is less than 2^(16 + 42 + 50 + 8), in float.
 *
 * Where parameters are not added to gradients, and have no trust ratio, they grow by less than 2^108 in a step (a numerator of
 * 2^(16 + 42) over 2^-50), and nothing grows with them; AdaDelta's acc_delta no more than doubles in a step, since
 * (1 - rho) delta^2 <= acc_delta + eps. So in ORDINARY_STEPS steps from ordinary numbers nothing overflows. */
enum { ORDINARY_STEPS = 32 };
#define LARGE_float 0x1p40
#define LARGE_SQUARE_float 0x1p80
#define TINY_float 0x1p-50
#define LARGE_double 0x1p300
#define LARGE_SQUARE_double 0x1p600
#define TINY_double 0x1p-300

/* The last scalars of a rule with a trust ratio. */
typedef struct {
    double coefficient, decay, eps, scale, floor, cap;
} trust;
typedef struct norm_task norm_task; /* norm.h */
typedef void norm_terms(const void *dy, const void *x, const void *y, const void *coefficients, size_t table_width,
                        const double *shift, double *first_sum, double *second_sum, size_t rows, size_t stride, size_t width,
                        size_t ahead);
typedef void norm_apply(const void *dy, const void *x, const void *y, void *out, const void *coefficients,
                        size_t table_width, size_t rows, size_t stride, size_t width, size_t ahead, int stream);
typedef struct adafactor_task adafactor_task;   /* adafactor.h */
typedef struct loss_task loss_task;             /* loss.h */
typedef struct layer_norm_task layer_norm_task; /* layer_norm.h */
typedef struct matmul_task matmul_task;         /* matmul.h */
typedef struct arithmetic_task arithmetic_task; /* arithmetic.h */

/* The kernels of one element type: each works on a range within one thread. */
typedef struct {
    /* elements begin <= i < end, so far as there are, of each of `count` tensors of one group; whether a parameter is large */
    int (*update[RULE_COUNT])(const fastopt_tensor *tensors, size_t count, const fastopt_group *group, size_t begin,
                              size_t end);
    /* of a tensor all of whose states are stored in the format of that number (else NULL): begin and end are multiples of
     * FASTOPT_SCALED, and `step` is the number of the step that stores them */
    int (*update_stored[RULE_COUNT][FASTOPT_8BIT + 1])(const fastopt_tensor *tensor, const fastopt_group *group,
                                                       size_t begin, size_t end, int64_t step);
    /* for rules with a trust ratio (else NULL): the squares of the parameter and of the direction are added to lanes; of whole
     * multiples of LANES elements, but at the end of a block */
    void (*measure[RULE_COUNT])(const fastopt_tensor *tensor, const fastopt_group *group, size_t begin, size_t end,
                                double param_lanes[LANES], double direction_lanes[LANES]);
    /* muon.inc */
    double (*muon_direction)(const fastopt_tensor *tensor, const fastopt_group *group, size_t begin, size_t end, void *x);
    void (*divide)(void *x, double by, size_t n);
    void (*combine)(void *out, double alpha, const void *x, double beta, const void *y, size_t n);
    /* adafactor.inc */
    void (*adafactor_squares)(const adafactor_task *task, size_t chunk);
    void (*adafactor_weights)(const adafactor_task *task, size_t matrix);
    void (*adafactor_sizes)(const adafactor_task *task, size_t begin, size_t end, double sums[2]);
    int (*adafactor_move)(const adafactor_task *task, size_t begin, size_t end);
    double (*square_sum)(const void *x, size_t n);
    /* state_formats.inc: of float numbers, in both tables */
    void (*decode_bfloat16)(const void *codes, float *x, size_t n);
    void (*encode_bfloat16)(const float *x, void *codes, size_t n, const uint32_t *words, int shift);
    void (*join_bfloat16)(const void *codes, const void *rest, float *x, size_t n);
    void (*split_bfloat16)(const float *x, void *codes, void *rest, size_t n);
    void (*random_words)(uint32_t *words, size_t n, uint64_t position, uint64_t seed, uint64_t draw);
    void (*decode_8bit)(const void *codes, const float *scales, const fastopt_codes *map, float *x, size_t n);
    void (*encode_8bit)(const float *x, void *codes, float *scales, const fastopt_codes *map, size_t n);
    double (*add_up)(const void *x, size_t n);
    int (*any_beyond)(const void *x, size_t n, double scale, double limit);
    /* activation.inc, loss.inc */
#define UNARY(name) void (*name)(const void *x, void *out, size_t n);
#define BINARY(name) void (*name)(const void *x, const void *y, void *out, size_t n);
#define LOSS(name) double (*name)(const loss_task *task, size_t begin, size_t n);
#define LOSS_WITH LOSS
#define UNARY_WITH(name) void (*name)(const void *x, void *out, size_t n, double number);
#define BINARY_WITH(name) void (*name)(const void *x, const void *y, void *out, size_t n, double number);
#include "kernels/kernels.def"
    void (*move_average)(void *average, const void *x, size_t n, double share);
    void (*highway)(const void *h, const void *t, const void *x, void *y, size_t n);
    void (*highway_backward)(const void *dy, const void *h, const void *t, const void *x, void *dh, void *dt, void *dx,
                             size_t n);
    void (*arithmetic)(const arithmetic_task *task, size_t begin, size_t rows, size_t first, size_t columns);
    void (*scale_rows)(void *x, const void *weight, size_t rows, size_t columns);
    void (*bias_add)(void *x, const void *bias, size_t rows, size_t columns);
    void (*bias_sigmoid)(void *x, const void *bias, size_t rows, size_t columns);
    void (*bias_tanh)(void *x, const void *bias, size_t rows, size_t columns);
    void (*bias_relu)(void *x, const void *bias, size_t rows, size_t columns);
    /* dropout.inc */
    void (*dropout)(const void *x, void *out, size_t n, uint64_t position, uint64_t seed, uint64_t draw, uint32_t threshold,
                    double scale);
    /* loss.inc, softmax.inc; [2]: of many classes, of few */
    double (*weighted_logistic_loss)(const loss_task *task, size_t begin, size_t n);
    double (*softmax_cross_entropy[2])(const loss_task *task, size_t begin, size_t n);
    double (*soft_cross_entropy)(const loss_task *task, size_t begin, size_t n);
    void (*softmax[2])(const void *x, void *out, size_t rows, size_t classes);
    void (*argmax)(const void *x, void *places, size_t rows, size_t columns);
    /* matmul.inc */
    void (*matmul)(const matmul_task *task, size_t row, size_t rows, size_t column, size_t columns);
    /* layer_norm.inc: of some rows; sums[2][columns] is added to */
    void (*layer_norm)(const layer_norm_task *task, size_t begin, size_t rows);
    void (*layer_norm_backward)(const layer_norm_task *task, size_t begin, size_t rows, double *sums);
    /* columns.inc, norm.inc */
    void (*add_rows)(const void *x, double *sum, size_t rows, size_t stride, size_t width);
    void (*round)(const double *from, void *to, size_t n);
    void (*begin_channels)(const norm_task *task);
    void (*finish_channels)(const norm_task *task, size_t begin, size_t end);
    norm_terms *add_terms, *add_gradient_terms[FASTOPT_NORM_ACTIVATIONS];
    norm_apply *apply[2][3][FASTOPT_NORM_ACTIVATIONS]; /* to columns, planes; forward, backward, and so in evaluation */
} kernel_table;

/* The kernels of one instruction set, for float and double. */
typedef struct {
    const char *name;
    kernel_table of[2];
} instruction_set;

extern const instruction_set fastopt_baseline, fastopt_avx2, fastopt_avx512, fastopt_neon;

/* math.c */
extern const float fastopt_exp_min_float, fastopt_exp_max_float, fastopt_sigmoid_max_float;
extern const double fastopt_exp_min_double, fastopt_exp_max_double, fastopt_sigmoid_max_double;

/* Whether all arrays are as they were taken, and the objects, unless they are NULL, the first of them; an array's head lies
 * `header` bytes behind its object's address (pins.c). */
int fastopt_pins_fit(const fastopt_pin *pins, size_t count, const uintptr_t *objects, size_t object_count, size_t header);

/* The same for a plan of PyTorch's tensors, into which it puts where the gradients are (torch.c); objects may be NULL here, too. */
int fastopt_torch_fit(fastopt_plan *plan, const uintptr_t *params, const uintptr_t *grads);

/* A step is done: sets the counters. */
void fastopt_torch_count(const fastopt_plan *plan);

/* The kernels in use for a dtype. */
const kernel_table *fastopt_kernels(int dtype);

/* Calls body(context, i) once for every i < count, on the pool's threads, in any order; a thread begins with
 * the same share of the items in every call, so that data stays in its core's cache from step to step. */
void fastopt_for_each(size_t count, void (*body)(void *context, size_t i), void *context);

/* Whether a thread of the pool has just done its part and looks for more, so that the next call need not wake it. */
int fastopt_workers_awake(void);

#endif
