/* The small operations between a decoder's matrix products, for bf16 and float. */
#include <math.h>

#include "kernels.h"
#include "team.h"

enum { ACTIVATION_SILU, ACTIVATION_GELU_TANH, ACTIVATION_GELU };

/* GELU as x / (1 + e^-2y) and x / 2 erfc(-x / sqrt 2): no difference of nearly equal numbers far below zero. */
INLINE float activate(int activation, float x) {
    if (activation == ACTIVATION_SILU) return x / (1.0f + fast_exp(-x));
    if (activation == ACTIVATION_GELU_TANH) return x / (1.0f + fast_exp(-1.59576912f * (x + 0.044715f * x * x * x)));
    return 0.5f * x * fast_erfc(-0.70710678f * x);
}

#define T bf16
#include "ops_typed.h"
#undef T
#define T float
#include "ops_typed.h"
