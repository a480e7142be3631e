/* x86-64 with AVX-512 F, BW, DQ, VL; setup.py gives this file its flags. */
#define ISA avx512
#include "kernels/kernels.inc"
