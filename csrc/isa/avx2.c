/* x86-64 with AVX2; setup.py gives this file its flags. */
#define ISA avx2
#include "kernels/kernels.inc"
