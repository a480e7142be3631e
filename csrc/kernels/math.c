/* math.c: the arguments beyond which math.inc's functions do not change: variables of another file than theirs, since
 * of a constant gcc makes a comparison and a selection, of a variable one maximum or minimum, which is faster. */
#include "internal.h"

const float fastopt_exp_min_float = -104;   /* exp is 0 from here down ... */
const float fastopt_exp_max_float = 89;     /* ... and inf from here up */
const float fastopt_sigmoid_max_float = 40; /* sigmoid is 1 from here up */

const double fastopt_exp_min_double = -746;
const double fastopt_exp_max_double = 710;
const double fastopt_sigmoid_max_double = 40;
