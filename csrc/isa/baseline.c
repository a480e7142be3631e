/* what every CPU of the architecture has (x86-64: SSE2); setup.py gives this file its flags. */
#define ISA baseline
#include "kernels/kernels.inc"
