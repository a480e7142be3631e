/* AArch64, where NEON is always there; setup.py gives this file its flags. */
#define ISA neon
#include "kernels/kernels.inc"
