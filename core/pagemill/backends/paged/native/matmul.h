/* C (+)= A B in float32, the inner loop of every matrix product here.
 *
 * B lies in panels of 16 columns. A step is what one vector instruction multiplies: a pair of bf16 (AVX512-BF16, which
 * sums two products in float32), or one float. A panel is `steps` vectors: `[steps][16][2]` bf16, or `[steps][16]` float.
 * A element (row, step) is at `row * row_stride + step * step_stride`, both in elements. C is dense in its columns.
 */
#ifndef PAGEMILL_MATMUL_H
#define PAGEMILL_MATMUL_H

#include "kernels.h"

typedef float vector __attribute__((vector_size(64)));
typedef int32_t mask __attribute__((vector_size(64)));

INLINE vector select(mask condition, vector yes, vector no) {
    return (vector)((condition & (mask)yes) | (~condition & (mask)no));
}
INLINE vector larger(vector a, vector b) { return select(a > b, a, b); }

/* `fast_exp` of 16 numbers that are not above 0. */
INLINE vector exp_of_negative(vector x) {
    vector t = x * 1.44269504f, bounded = larger(t, (vector){0} - 126.0f);
    vector shifted = bounded + 12582912.0f;
    vector f = (bounded - (shifted - 12582912.0f)) * 0.69314718f;
    vector power = 1.0f + f * (1.0f + f * (0.5f + f * (0.16666667f + f * (0.041666667f + f * (0.0083333333f + f * 0.0013888889f)))));
    vector scale = (vector)(((mask)shifted - 0x4B400000 + 127) << 23);
    return select(t < -126.0f, (vector){0}, power * scale);
}

/* As many accumulators as hide the latency of a multiplication and fit the registers. */
#ifdef __AVX512F__
#define TILE_ROWS 8
#define TILE_PANELS 3
#else
#define TILE_ROWS 4
#define TILE_PANELS 1
#endif

INLINE vector load_float(const float *p) {
    vector v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE void store_vector(float *p, vector v) { memcpy(p, &v, sizeof v); }
#define SPLAT_float(p) ((vector){0} + *(p))
#define MULTIPLY_float(c, a, b) ((c) + (a) * (b))
#define STEP_float 1
typedef vector vector_float;

#ifdef __AVX512BF16__
#include <immintrin.h>
typedef __m512bh vector_bf16;
INLINE vector_bf16 load_bf16(const bf16 *p) { return (vector_bf16)_mm512_loadu_si512(p); }
INLINE vector_bf16 splat_pair(const bf16 *p) {
    int pair;
    memcpy(&pair, p, sizeof pair);
    return (vector_bf16)_mm512_set1_epi32(pair);
}
#define SPLAT_bf16(p) splat_pair(p)
#define MULTIPLY_bf16(c, a, b) ((vector)_mm512_dpbf16_ps((__m512)(c), a, b))
#define STEP_bf16 2
#endif

#define UNROLL(count) _Pragma("GCC unroll 8") for (int count)
#define DO_STEP(T, ROWS, PANELS, STEP, SUM)                                                                              \
    {                                                                                                                    \
        vector_##T column[PANELS];                                                                                       \
        UNROLL(j = 0; j < PANELS; j++) column[j] = load_##T(b + j * panel_stride + (STEP) * 16 * STEP_##T);              \
        UNROLL(i = 0; i < ROWS; i++) {                                                                                   \
            vector_##T row = SPLAT_##T(a + i * row_stride + (STEP) * step_stride);                                       \
            UNROLL(j = 0; j < PANELS; j++) SUM[i][j] = MULTIPLY_##T(SUM[i][j], row, column[j]);                          \
        }                                                                                                                \
    }
/* Even and odd steps have sums of their own where one panel alone would not keep the multipliers busy. */
#define DEFINE_TILE(T, ROWS, PANELS)                                                                                     \
    static void tile_##T##_##ROWS##_##PANELS(const T *a, long row_stride, long step_stride, const T *b,                  \
                                             long panel_stride, long steps, float *c, long c_stride, int accumulate) {   \
        enum { CHAINS = PANELS == 1 ? 2 : 1 };                                                                           \
        vector sum[ROWS][PANELS], odd[ROWS][PANELS];                                                                     \
        UNROLL(i = 0; i < ROWS; i++)                                                                                     \
        UNROLL(j = 0; j < PANELS; j++) {                                                                                 \
            sum[i][j] = accumulate ? load_float(c + i * c_stride + 16 * j) : (vector){0};                                \
            odd[i][j] = (vector){0};                                                                                     \
        }                                                                                                                \
        long step = 0;                                                                                                   \
        for (; step + CHAINS <= steps; step += CHAINS) {                                                                 \
            DO_STEP(T, ROWS, PANELS, step, sum)                                                                          \
            if (CHAINS == 2) DO_STEP(T, ROWS, PANELS, step + 1, odd)                                                     \
        }                                                                                                                \
        if (step < steps) DO_STEP(T, ROWS, PANELS, step, sum)                                                            \
        UNROLL(i = 0; i < ROWS; i++)                                                                                     \
        UNROLL(j = 0; j < PANELS; j++)                                                                                   \
            store_vector(c + i * c_stride + 16 * j, CHAINS == 2 ? sum[i][j] + odd[i][j] : sum[i][j]);                     \
    }

#define NAME_TILE(T, ROWS, PANELS) tile_##T##_##ROWS##_##PANELS,
#ifdef __AVX512F__
#define ROWS_OF(DO, T, PANELS)                                                                                           \
    DO(T, 1, PANELS) DO(T, 2, PANELS) DO(T, 3, PANELS) DO(T, 4, PANELS)                                                  \
    DO(T, 5, PANELS) DO(T, 6, PANELS) DO(T, 7, PANELS) DO(T, 8, PANELS)
#define EACH_TILE(DO, T) ROWS_OF(DO, T, 1) ROWS_OF(DO, T, 2) ROWS_OF(DO, T, 3)
#else
#define EACH_TILE(DO, T) DO(T, 1, 1) DO(T, 2, 1) DO(T, 3, 1) DO(T, 4, 1)
#endif

/* `rows` by `panels` tiles of nearly equal size: 9 rows are 5 and 4, not 8 and 1. */
#define DEFINE_MATMUL(T)                                                                                                 \
    EACH_TILE(DEFINE_TILE, T)                                                                                            \
    __attribute__((unused)) static void matmul_##T(long rows, long panels, const T *a, long row_stride,                  \
                                                   long step_stride, const T *b, long panel_stride, long steps,          \
                                                   float *c, long c_stride, int accumulate) {                            \
        typedef void tile(const T *, long, long, const T *, long, long, float *, long, int);                             \
        static tile *const tiles[] = {EACH_TILE(NAME_TILE, T)};                                                          \
        for (long panel = 0, panel_tiles = (panels + TILE_PANELS - 1) / TILE_PANELS; panel_tiles > 0; panel_tiles--) {   \
            long width = (panels - panel + panel_tiles - 1) / panel_tiles;                                               \
            for (long row = 0, row_tiles = (rows + TILE_ROWS - 1) / TILE_ROWS; row_tiles > 0; row_tiles--) {             \
                long height = (rows - row + row_tiles - 1) / row_tiles;                                                  \
                tiles[(width - 1) * TILE_ROWS + height - 1](a + row * row_stride, row_stride, step_stride,               \
                                                            b + panel * panel_stride, panel_stride, steps,               \
                                                            c + row * c_stride + 16 * panel, c_stride, accumulate);      \
                row += height;                                                                                           \
            }                                                                                                            \
            panel += width;                                                                                              \
        }                                                                                                                \
    }

#endif
