/* x W^T for bf16 on CPUs that multiply pairs of bf16, from weights packed once. See matmul.h for the panels. */
#include "matmul.h"

int pagemill_multiplies_bf16(void) {
#ifdef __AVX512BF16__
    return 1;
#else
    return 0;
#endif
}

#ifdef __AVX512BF16__
DEFINE_MATMUL(bf16)

enum {
    BLOCK_ROWS = 96,    /* of x in one task: its products stay in the first-level cache */
    BLOCK_STEPS = 1024, /* of the inner dimension at once: three panels of them stay in the second-level cache */
};

/* `[n, k]`, dense, to `[n / 16][k / 2][16][2]`. */
void pagemill_pack_weight(const bf16 *weight, bf16 *packed, long n, long k, int threads) {
#pragma omp parallel for num_threads(threads)
    for (long panel = 0; panel < n / 16; panel++)
        for (long step = 0; step < k / 2; step++)
            for (long column = 0; column < 16; column++)
                memcpy(packed + panel * k * 16 + step * 32 + column * 2, weight + (panel * 16 + column) * k + step * 2, 4);
}

static void store_block(const float *block, long rows, long columns, const bf16 *bias, bf16 *out, long out_stride) {
    for (long i = 0; i < rows; i++)
        for (long j = 0; j < columns; j++) {
            float sum = block[i * TILE_PANELS * 16 + j];
            out[i * out_stride + j] = narrow_bf16(bias ? sum + widen_bf16(bias[j]) : sum);
        }
}

/* `x` `[m, k]` with rows `x_stride` apart, `out` `[m, n]` dense, `bias` `[n]` or null. A thread takes neighbouring tasks, all
 * rows of a few panels after each other, so that it reads its part of the weights from memory once. */
void pagemill_linear(const bf16 *x, long x_stride, const bf16 *packed, const bf16 *bias, bf16 *out, long m, long n, long k,
                     int threads) {
    long row_blocks = (m + BLOCK_ROWS - 1) / BLOCK_ROWS, panels = n / 16, steps = k / 2;
    long width = panels >= 2 * TILE_PANELS * threads ? TILE_PANELS : 1;
    long tasks = (panels + width - 1) / width * row_blocks;
    long block_steps = m <= TILE_ROWS ? steps : BLOCK_STEPS;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long task = 0; task < tasks; task++) {
        long panel = task / row_blocks * width, row = task % row_blocks * BLOCK_ROWS;
        long num_panels = MIN(width, panels - panel), rows = MIN(BLOCK_ROWS, m - row);
        float block[BLOCK_ROWS * TILE_PANELS * 16];
        for (long step = 0; step < steps; step += block_steps)
            matmul_bf16(rows, num_panels, x + row * x_stride + step * 2, x_stride, 2, packed + panel * k * 16 + step * 32,
                        k * 16, MIN(block_steps, steps - step), block, TILE_PANELS * 16, step > 0);
        store_block(block, rows, num_panels * 16, bias ? bias + panel * 16 : 0, out + row * n + panel * 16, n);
    }
}
#endif
