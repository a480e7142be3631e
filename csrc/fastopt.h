/* fastopt.h: everything Python may call. cffi parses this very file, so the two cannot drift apart;
 * for that reason it holds declarations only (lines that start with # are dropped before parsing). */
#ifndef FASTOPT_H
#define FASTOPT_H
#include <stddef.h>
#include <stdint.h>

enum { FASTOPT_FLOAT32 = 0, FASTOPT_FLOAT64 = 1 };
enum { FASTOPT_MAX_STATES = 4, FASTOPT_MAX_SCALARS = 24 };

/* ---- arrays whose addresses are kept ------------------------------------------------------------ */

/* What of an array of NumPy can be changed in place, by whoever has it, beside its elements. */
typedef struct {
    const void *head; /* where to find it again: the array object behind Python's own header */
    const void *data, *type;
    uint32_t shape; /* a number that stands for all lengths */
    int16_t dimensions, flags;
} fastopt_pin;

/* Fill in pins with what is found at these heads. */
void fastopt_pins_take(fastopt_pin *pins, const uintptr_t *heads, size_t count);

/* Whether all arrays are as they were taken. */
int fastopt_pins_hold(const fastopt_pin *pins, size_t count);

/* ---- tensors of PyTorch -------------------------------------------------------------------------- */

/* Functions of PyTorch's C interface, which answer 0 or an error, and where in a Python object there is what they take for a
 * tensor, and its type; `type` is that of a plain tensor. `change` tells autograd that a tensor was changed; it may be NULL. */
typedef struct {
    int32_t (*data)(void *tensor, void **data);
    int32_t (*dtype)(void *tensor, int32_t *dtype);
    int32_t (*dimensions)(void *tensor, int64_t *dimensions);
    int32_t (*lengths)(void *tensor, int64_t **lengths);
    int32_t (*strides)(void *tensor, int64_t **strides);
    void (*change)(void *tensor);
    size_t cell, type_at;
    uintptr_t type;
} fastopt_torch_interface;

/* What of a tensor can be changed in place beside its elements; `layout` stands for its type, lengths and strides. */
typedef struct {
    uintptr_t object;
    const void *data;
    uint64_t layout;
} fastopt_torch_tensor;

/* A number in a tensor that each step sets: it is *before, and becomes *after, and *before with it; several may share these. */
typedef struct {
    void *at;
    double *before;
    const double *after;
    int32_t is_double;
} fastopt_torch_counter;

/* All that a step works on: the objects that the optimizer's groups hold, and what was seen of the plan's parameters, then of
 * all else that is written to. With `tells`, a step tells autograd of the former. */
typedef struct {
    const fastopt_torch_interface *of;
    const uintptr_t *params;
    const fastopt_torch_tensor *seen;
    const fastopt_torch_counter *counters;
    size_t param_count, count, counter_count;
    int32_t tells;
} fastopt_torch_tensors;

void fastopt_torch_look(const fastopt_torch_interface *of, const uintptr_t *objects, size_t count,
                        fastopt_torch_tensor *seen);

/* ---- optimizers ------------------------------------------------------------------------------ */

/* What 8 bits stand for, before a scale of FASTOPT_SCALED elements: numbers, and for each upper half of a float from
 * FASTOPT_FIRST_BUCKET on, how many limits between magnitudes lie below it, and the lower half of the one that lies in it. */
enum {
    FASTOPT_SCALED = 256,
    FASTOPT_FIRST_BUCKET = 104 << 7,
    FASTOPT_BUCKETS = (23 << 7) + 1,
    FASTOPT_DECADES_PER_BUCKET = 158
};
typedef struct {
    float numbers[256];
    uint32_t buckets[FASTOPT_BUCKETS];
    int32_t zero; /* the code of 0: 127 where there are signs, else 0 */
    /* The same by lines, one for each decade, by the last bits of an exponent: of factor * code + offset to numbers (negative
     * from it down); and from magnitudes to 2^16 times places, up to `most`. Bits of a magnitude above the border to the next decade
     * reach, with to_next, the next exponent, whose line is theirs. */
    float factor, offset, slopes[16], starts[16], per_size[32], from[32], most[32];
    uint32_t to_next[32];
    /* The same for vectors of eight numbers, by decades; number 0 is that of 0 and of 1, and both lie on its lines. A magnitude is
     * above as many of the borders, which are the bits of the largest before a decade, as FASTOPT_DECADES_PER_BUCKET, of 2^16,
     * times its bucket, or of one more. */
    struct {
        float factor, offset, slopes[8], starts[8], per_size[8], from[8], most[8];
        uint32_t borders[8];
    } narrow;
} fastopt_codes;

/* How an array of float numbers is stored: as they are, in 16 bits, or in 8 with scales. Random bits, in place of rounding to
 * nearest, are those of the seed, the stream, and the step, of which the tensor has done `before` more than its plan counts.
 * `rest`, unless it is NULL, holds what rounding to 16 bits has cut off, in 16 bits. */
enum { FASTOPT_PLAIN, FASTOPT_BFLOAT16, FASTOPT_8BIT };
enum { FASTOPT_STREAMS = 8 };
typedef struct {
    float *scales;
    uint16_t *rest;
    const fastopt_codes *map;
    uint64_t seed;
    int64_t before;
    int32_t format, stochastic;
} fastopt_storage;

/* One tensor of an optimizer: `size` elements of param and grad, state_size of the rule's states: as many, but for those of
 * rules that are given whole tensors, which they see as matrices of rows and columns, one after the other. grad_factor
 * multiplies the group's grad_scale (clipping by the tensor's own norm; otherwise 1). trust_ratio is written by
 * the rules that have one. Unless `storage` is NULL, it says how each state is stored, and behind them param, whose random
 * bits are stream FASTOPT_OF_PARAM, and grad; the first element is number `position` of all tensors'. */
enum { FASTOPT_OF_PARAM = FASTOPT_MAX_STATES, FASTOPT_OF_GRAD, FASTOPT_STORED };
typedef struct {
    void *param;
    const void *grad;
    void *state[FASTOPT_MAX_STATES];
    size_t state_size[FASTOPT_MAX_STATES];
    size_t size, rows, columns, first_block;
    double grad_factor, trust_ratio;
    int32_t dtype, group;
    const fastopt_storage *storage;
    uint64_t position;
} fastopt_tensor;

/* The rule of a group of tensors and its finished scalars, in the order of the structs in rules.h:
 * first those of `struct prepare`, then the rule's own. fastopt_update rounds them for float tensors.
 *
 * They are ordinary between smallest and largest, and if the larger of the scalars number eps and, under a root, eps_root
 * (-1: none) is not tiny. Number decay (-1: none) is a factor of the parameter in what it moves by. Bit k of squares: state k is one of squares. fastopt_update keeps in `watched` whether parameters are
 * looked at after every step. */
typedef struct {
    double scalars[FASTOPT_MAX_SCALARS];
    float rounded[FASTOPT_MAX_SCALARS];
    double smallest[FASTOPT_MAX_SCALARS], largest[FASTOPT_MAX_SCALARS];
    int32_t rule, eps, eps_root, decay, squares, has_float, watched;
} fastopt_group;

/* Everything a step works on. fastopt_plan_blocks fills in elements, blocks and every first_block and has_float, once,
 * after the sizes are set; block_sums is then to have room for two numbers per block. `own` pins the parameters and
 * then whatever else is written to, `given` (NULL: there are none) the gradients and then what they are views of. An
 * object's head lies `header` bytes behind its address. With `torch`, these tensors take the place of all arrays. What a step leaves beside the tensors: step_count, one more,
 * and grad_norm. For so many steps as `ordinary` says, parameters and states are known not to be too large; 0 once they are
 * written to. The first of `queued` steps to come takes its
 * scalars, those of all groups, from `queue`, where it leaves its grad_norm in place of the first of them. */
typedef struct {
    fastopt_tensor *tensors;
    fastopt_group *groups;
    double *block_sums;
    void *scratch;
    size_t count, group_count, elements, blocks;
    const fastopt_pin *own, *given;
    const fastopt_torch_tensors *torch;
    size_t own_count, given_count, header;
    int64_t *step_count;
    double *queue;
    size_t queued;
    double grad_norm;
    int32_t ordinary, phase;
} fastopt_plan;

/* A plan's phase, where its tensors are pieces of larger ones, each of whole blocks, and others have the rest. fastopt_update
 * then does a part of its work: it looks whether all may be written; or leaves the blocks' sums of trust ratios in block_sums,
 * if any rule has one, and the new states; or does the rest, with the trust ratios that the tensors were given. */
enum { FASTOPT_WHOLE, FASTOPT_LOOK, FASTOPT_MEASURE, FASTOPT_FINISH };

void fastopt_plan_blocks(fastopt_plan *plan);

/* How many bytes `scratch` is to have room for: what the rules that are given whole tensors need. */
size_t fastopt_plan_scratch(const fastopt_plan *plan);

/* Where a rule stands in the table, or -1; how many state arrays and scalars it takes. */
int fastopt_rule_index(const char *name);
int fastopt_rule_states(int rule);
int fastopt_rule_scalars(int rule);

/* What a step comes to. */
enum { FASTOPT_DONE, FASTOPT_NONFINITE, FASTOPT_MOVED, FASTOPT_BAD_SCALAR, FASTOPT_UNCERTAIN };

/* By which norm gradients are clipped. */
enum { FASTOPT_CLIP_NONE, FASTOPT_CLIP_ALL, FASTOPT_CLIP_EACH };

/* The plan's grad_norm where there is none. */
enum { FASTOPT_NO_NORM = -1 };

/* One step over all tensors, whole or not at all. FASTOPT_MOVED, and nothing written: an array is not as it was pinned, or
 * the objects at `params` and `grads` (addresses of `count` object addresses each, or 0) are not those that were pinned.
 * FASTOPT_NONFINITE, and nothing written: with check_finite, every gradient is looked through before the first write, and
 * one, scaled, holds an inf or NaN. FASTOPT_BAD_SCALAR: a scalar is not finite in the type of its tensors. Unless `certain`,
 * FASTOPT_UNCERTAIN: some number is so large or small that the step might overflow, which is to be found out first.
 * `factors`, one per tensor, may be NULL: all are 1. */
int fastopt_update(fastopt_plan *plan, uintptr_t params, uintptr_t grads, const double *factors, double grad_norm,
                   int check_finite, int certain);

/* sums[t] = the sum of the squares of tensor t's gradient; or FASTOPT_MOVED, as above. */
int fastopt_grad_square_sums(fastopt_plan *plan, uintptr_t params, uintptr_t grads, double *sums);

/* The sum of the squares of n elements, in double. */
double fastopt_square_sum(int dtype, const void *x, size_t n);

/* Whether any of n elements, times scale, is inf or NaN. */
int fastopt_any_nonfinite(int dtype, const void *x, size_t n, double scale);

/* ---- programs -------------------------------------------------------------------------------- */

enum { FASTOPT_MAX_ARRAYS = 11, FASTOPT_MAX_WHOLE = 13, FASTOPT_MAX_REALS = 4 };

/* One call of a kernel: its arguments in the order of its function, arrays first, then whole numbers, then numbers. What the
 * function returns, if anything, goes to `result`. */
typedef struct {
    int32_t kernel, dtype;
    void *array[FASTOPT_MAX_ARRAYS];
    int64_t whole[FASTOPT_MAX_WHOLE];
    double real[FASTOPT_MAX_REALS];
    double result;
} fastopt_instruction;

/* An array of an instruction that lies elsewhere in every step: so many bytes after where it was in the one before. */
typedef struct {
    fastopt_instruction *instruction;
    void *first;
    size_t bytes;
    int32_t array;
} fastopt_operand;

/* Where a kernel stands in the table (kernels.def), or -1; how many arrays, whole numbers and numbers it takes. */
int fastopt_kernel_index(const char *name);
int fastopt_kernel_arrays(int kernel);
int fastopt_kernel_whole(int kernel);
int fastopt_kernel_reals(int kernel);

/* Run `count` instructions, one after the other, with the operands as they lie in this step; the answer is how many were run
 * before one that ended the program, whose result says why; or `count`. */
size_t fastopt_run(fastopt_instruction *const *program, size_t count, const fastopt_operand *moving, size_t moving_count,
                   size_t step);

/* The same for so many steps, from `step` on; the answer is how many were run to the program's end, before one that was not.
 * After each of them the result of `valued` is added to *sum. */
size_t fastopt_run_steps(fastopt_instruction *const *program, size_t count, const fastopt_operand *moving,
                         size_t moving_count, size_t step, size_t steps, const fastopt_instruction *valued, double *sum);

/* What ends a program: arrays that are not as they were taken, and an optimizer's step that was not done. */
int fastopt_pins_unchanged(int dtype, const fastopt_pin *pins, size_t count);

/* An optimizer's step, clipped if `clip` says so: gradients, times scale, whose norm is above limit are scaled down to it by
 * limit / (norm + eps). The scalars, queued or those of the groups, are prepared, scale included; sums has room for one number
 * per tensor. With `unchecked`, inf and NaN are let through. Where the answer is not FASTOPT_DONE, nothing was written. */
int fastopt_step(int dtype, fastopt_plan *plan, double *sums, int clip, int unchecked, double scale, double limit,
                 double eps);

/* Rows of x[count][width], of this dtype, from rows of X, of the dtype `from`. */
void fastopt_gather_rows(int dtype, const void *X, const int64_t *rows, void *x, size_t count, size_t width, int from);
/* out[bytes] = x[bytes]. */
void fastopt_copy(int dtype, const void *x, void *out, size_t bytes);
/* The sum of n elements, in double. */
double fastopt_add_up(int dtype, const void *x, size_t n);

/* ---- functions of n elements ------------------------------------------------------------------ */

/* For every line of kernels.def: out may be an input, but not overlap a part of one, and all arrays must be aligned: else
 * nothing is written, and the answer is -1, or NaN; otherwise it is 0, or the sum of the losses, which are not scaled. The
 * backward pass of an activation takes dy, and what the activation gave, or was given. Every loss goes to `losses` unless that
 * is NULL, and its derivative, times scale, to dz. */
#define UNARY(name) int fastopt_##name(int dtype, const void *x, void *out, size_t n);
#define BINARY(name) int fastopt_##name(int dtype, const void *x, const void *y, void *out, size_t n);
#define LOSS(name) \
    double fastopt_##name(int dtype, const void *z, const void *y, void *losses, void *dz, size_t n, double scale);
#define UNARY_WITH(name) int fastopt_##name(int dtype, const void *x, void *out, size_t n, double number);
#define BINARY_WITH(name) int fastopt_##name(int dtype, const void *x, const void *y, void *out, size_t n, double number);
#define LOSS_WITH(name)                                                                                            \
    double fastopt_##name(int dtype, const void *z, const void *y, void *losses, void *dz, size_t n, double scale, \
                          double number);
#include "kernels/kernels.def"

/* x[rows][columns] += bias[columns], and the functions of it. */
void fastopt_bias_add(int dtype, void *x, const void *bias, size_t rows, size_t columns);
void fastopt_bias_sigmoid(int dtype, void *x, const void *bias, size_t rows, size_t columns);
void fastopt_bias_tanh(int dtype, void *x, const void *bias, size_t rows, size_t columns);
void fastopt_bias_relu(int dtype, void *x, const void *bias, size_t rows, size_t columns);
/* x[rows][columns], every row times its weight. */
void fastopt_scale_rows(int dtype, void *x, const void *weight, size_t rows, size_t columns);
/* sums[columns] = sum over the rows of x[rows][columns]. */
void fastopt_column_sums(int dtype, const void *x, void *sums, size_t rows, size_t columns);

/* What may follow batch norm, as one with it. */
enum { FASTOPT_NORM_IDENTITY, FASTOPT_NORM_RELU, FASTOPT_NORM_SIGMOID, FASTOPT_NORM_TANH, FASTOPT_NORM_ACTIVATIONS };

/* Batch norm of x[outer][channels][inner] (norm.inc), and the activation of it. gamma, beta and the running statistics,
 * [channels], may be NULL, the latter in training only: they become keep * running + momentum * (mean, correction *
 * variance). statistics[3][channels] is for the way back; scratch has room for fastopt_batch_norm_scratch numbers.
 * y may be x, and dx may be dy. `tracked`, which may be NULL, counts the batches
 * of training; with a momentum of NaN, they all count alike in the running statistics. `trained`, if it is not NULL, tells
 * the way back whether this was training.
 *
 * On the way back, dy is the gradient with respect to the activation's result, which is y. It may be NULL but with sigmoid
 * and tanh, and beta but with relu, if it was forward. */
size_t fastopt_batch_norm_scratch(size_t outer, size_t channels, size_t inner);
void fastopt_batch_norm(int dtype, const void *x, const void *gamma, const void *beta, void *running_mean, void *running_var,
                        void *y, void *statistics, double *scratch, int64_t *tracked, int64_t *trained, size_t outer,
                        size_t channels, size_t inner, int training, int activation, double eps, double momentum,
                        double keep, double correction);
void fastopt_batch_norm_backward(int dtype, const void *dy, const void *x, const void *y, const void *gamma,
                                 const void *beta, void *statistics, void *dx, void *dgamma, void *dbeta, double *scratch,
                                 const int64_t *trained, size_t outer, size_t channels, size_t inner, int training,
                                 int activation);

/* Layer norm of x[rows][columns] (layer_norm.inc): every row with mean 0 and variance 1, times gamma[columns], plus
 * beta[columns], either of which may be NULL. statistics[3][rows] is for the backward pass. y may be x, and dx may be dy.
 * dgamma and dbeta may be NULL; scratch has room for fastopt_layer_norm_scratch numbers. */
void fastopt_layer_norm(int dtype, const void *x, const void *gamma, const void *beta, void *y, void *statistics,
                        size_t rows, size_t columns, double eps);
size_t fastopt_layer_norm_scratch(size_t rows, size_t columns);
void fastopt_layer_norm_backward(int dtype, const void *dy, const void *x, const void *gamma, const void *statistics,
                                 void *dx, void *dgamma, void *dbeta, double *scratch, size_t rows, size_t columns);

/* out = softmax of every row of x[rows][classes]; out may be x, as above, and the answer is the same. */
int fastopt_softmax(int dtype, const void *x, void *out, size_t rows, size_t classes);

/* The place of the first NaN of every row of x[rows][columns] or, if it has none, of the first of its largest numbers. */
void fastopt_argmax(int dtype, const void *x, int64_t *places, size_t rows, size_t columns);

/* average = x where steps is 0, else average + share (x - average); then steps, which the arrays of a model share, is counted
 * up by `counted`: 1 with the last of them, else 0. */
void fastopt_move_average(int dtype, void *average, const void *x, int64_t *steps, size_t n, size_t counted, double share);

/* A highway's mixture of what it makes of x, h, and x itself by the gate t: y = h t + x (1 - t); and back: dt = (h - x) dy,
 * dx = dy (1 - t), and dh = dy t, which may be dy. */
void fastopt_highway(int dtype, const void *h, const void *t, const void *x, void *y, size_t n);
void fastopt_highway_backward(int dtype, const void *dy, const void *h, const void *t, const void *x, void *dh, void *dt,
                              void *dx, size_t n);

/* c[m][n] = activation(a[m][k] b[k][n] + bias[n]), with the bits of one after the other (matmul.inc); bias may be NULL, the
 * activation is one of FASTOPT_NORM_. c has no gaps and overlaps nothing. The strides are those of elements, in elements; of each
 * matrix one stride is 1, or stands where there is one element. The answer is -1, and nothing is written, if a pointer is no
 * multiple of its element's size; otherwise it is 0. */
int fastopt_matmul(int dtype, const void *a, const void *b, void *c, const void *bias, size_t m, size_t n, size_t k,
                   ptrdiff_t a_row, ptrdiff_t a_k, ptrdiff_t b_k, ptrdiff_t b_column, int activation);

/* out[planes][rows][columns] = an operation on the elements of a and, if it is not NULL, of b. The strides are those of elements,
 * in elements: of a and b 0 where they are repeated. Arrays are aligned, and out may be a or b, if it lies as they do. */
enum {
    FASTOPT_ASSIGN,
    FASTOPT_NEGATIVE,
    FASTOPT_ABSOLUTE,
    FASTOPT_SQRT,
    FASTOPT_SIGN,
    FASTOPT_ONE_LESS,
    FASTOPT_ADD,
    FASTOPT_SUBTRACT,
    FASTOPT_MULTIPLY,
    FASTOPT_DIVIDE,
    FASTOPT_MAXIMUM,
    FASTOPT_MINIMUM,
    FASTOPT_ABOVE
};
void fastopt_arithmetic(int dtype, const void *a, const void *b, void *out, size_t planes, size_t rows, size_t columns,
                        ptrdiff_t a_plane, ptrdiff_t a_row, ptrdiff_t a_column, ptrdiff_t b_plane, ptrdiff_t b_row,
                        ptrdiff_t b_column, ptrdiff_t out_plane, ptrdiff_t out_row, ptrdiff_t out_column, int operation);
/* sums[rows] = the sum of every row of x[rows][columns]: rounded once, that of fastopt_add_up. */
void fastopt_row_sums(int dtype, const void *x, void *sums, size_t rows, size_t columns);
/* out[n] = factor * sum / divisor, the sum being what another instruction of the program has returned. */
void fastopt_store_sum(int dtype, void *out, const double *sum, size_t n, double factor, double divisor);

/* The addresses of NumPy's own objects for these types. */
typedef struct {
    uintptr_t float32, float64;
} fastopt_dtypes;

/* fastopt_matmul of arrays of NumPy, whose heads are given; 0 for no bias. 1: it is done. 0: nothing was written, as dtypes, shapes
 * or strides are not plainly those that can be taken as they are, or c may overlap another; to find out which is another's work. */
int fastopt_matmul_arrays(const fastopt_dtypes *dtypes, uintptr_t a_head, uintptr_t b_head, uintptr_t c_head,
                          uintptr_t bias_head, int activation);

/* The logistic loss with weights of element i weight[i mod weight_period] and, for the part that y stands for, of
 * pos_weight[i mod pos_weight_period], either of which may be NULL, and targets y * y_scale + y_shift. */
double fastopt_weighted_logistic_loss(int dtype, const void *z, const void *y, const void *weight, const void *pos_weight,
                                      void *losses, void *dz, size_t n, size_t weight_period, size_t pos_weight_period,
                                      double scale, double y_scale, double y_shift);

/* How many of n labels are not ignore_index; if one of them does not lie in [0, classes), -1 - its position. */
int64_t fastopt_count_labels(const int64_t *labels, size_t n, size_t classes, int64_t ignore_index);

/* Cross-entropy of softmax(z[rows][classes]) with the labels, which lie in [0, classes) or are ignore_index, or else make
 * a row's loss and gradient NaN; weight[classes], whose sum (or the number of classes) is total_weight, may be NULL; `smoothing` of the target goes to all classes. */
double fastopt_softmax_cross_entropy(int dtype, const void *z, const int64_t *labels, const void *weight, void *losses,
                                     void *dz, size_t rows, size_t classes, int64_t ignore_index, double scale,
                                     double total_weight, double smoothing);

/* The same with targets[rows][classes], how much of a row each class is, which add up to 1; they are not dz. */
double fastopt_soft_cross_entropy(int dtype, const void *z, const void *targets, const void *weight, void *losses, void *dz,
                                  size_t rows, size_t classes, double scale, double smoothing);

/* Dropout: out[i] = scale * x[i], or 0 where the random word of (seed, draw, position + i) is below the threshold. */
void fastopt_dropout(int dtype, const void *x, void *out, size_t n, uint64_t position, uint64_t seed, uint64_t draw,
                     uint32_t threshold, double scale);

/* The same as a layer has it, which keeps seed and draw, and counts the draws. `used` is for the way back. */
enum { FASTOPT_DROP_NOTHING, FASTOPT_DROP_SOME, FASTOPT_DROP_ALL, FASTOPT_EVALUATE };
void fastopt_dropout_forward(int dtype, const void *x, void *out, const uint64_t *seed, uint64_t *draw, uint64_t *used,
                             size_t n, int what, uint32_t threshold, double scale);
void fastopt_dropout_backward(int dtype, const void *dy, void *dx, const uint64_t *used, size_t n);

/* ---- instruction sets and threads ------------------------------------------------------------- */

/* The i-th instruction set this library was compiled for, best last; NULL past the end. */
const char *fastopt_isa_name(int i);
int fastopt_isa_supported(int i);
int fastopt_isa_get(void);
int fastopt_isa_set(int i); /* 0, or -1 if the CPU lacks it */

int fastopt_threads_get(void);
void fastopt_threads_set(int n); /* n >= 1, the calling thread included */

/* The calling thread is to compute as the core does (environment.h); what it did before, to be given back. Every other
 * function of this file does both by itself when Python calls it. */
uint64_t fastopt_environment_enter(void);
void fastopt_environment_leave(uint64_t before);

#endif
