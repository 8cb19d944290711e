/* What all kernels share: bf16, and mathematics that the compiler turns into vectors without -ffast-math. */
#ifndef PAGEMILL_KERNELS_H
#define PAGEMILL_KERNELS_H

#include <stdint.h>
#include <string.h>

typedef uint16_t bf16;

#define INLINE static inline __attribute__((always_inline))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

INLINE uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

INLINE float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

INLINE float widen_bf16(bf16 x) { return float_of((uint32_t)x << 16); }
INLINE float widen_float(float x) { return x; }

/* Round to nearest even; a NaN stays one. */
INLINE bf16 narrow_bf16(float x) {
    uint32_t bits = bits_of(x);
    uint32_t rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
    return (bf16)((bits & 0x7FFFFFFF) > 0x7F800000 ? bits >> 16 | 0x40 : rounded);
}
INLINE float narrow_float(float x) { return x; }

/* 2^n * 2^f with f in [-1/2, 1/2]: a polynomial for 2^f (its Taylor series; error 1e-7), n into the exponent. Adding and
 * subtracting 1.5 * 2^23 rounds to an integer, which then lies in the lowest bits. Below 2^-126 it is 0. */
INLINE float fast_exp(float x) {
    float t = x * 1.44269504f;
    float bounded = MIN(MAX(t, -126.0f), 127.0f);
    float shifted = bounded + 12582912.0f;
    float f = (bounded - (shifted - 12582912.0f)) * 0.69314718f;
    float power = 1.0f + f * (1.0f + f * (0.5f + f * (0.16666667f + f * (0.041666667f + f * (0.0083333333f + f * 0.0013888889f)))));
    float scale = float_of((bits_of(shifted) - 0x4B400000u + 127u) << 23);
    return t < -126.0f ? 0.0f : power * scale;
}

INLINE float fast_tanh(float x) { return 1.0f - 2.0f / (fast_exp(2.0f * x) + 1.0f); }

/* 1 - erf(x), relative error below 1.2e-7 everywhere (Press et al., Numerical Recipes, section 6.2). */
INLINE float fast_erfc(float x) {
    float z = x < 0.0f ? -x : x, t = 1.0f / (1.0f + 0.5f * z);
    float tail = 0.27886807f + t * (-1.13520398f + t * (1.48851587f + t * (-0.82215223f + t * 0.17087277f)));
    float power = 1.00002368f + t * (0.37409196f + t * (0.09678418f + t * (-0.18628806f + t * tail)));
    float erfc = t * fast_exp(-z * z - 1.26551223f + t * power);
    return x < 0.0f ? 2.0f - erfc : erfc;
}

#endif
