/* x W^T for bf16 on CPUs that multiply pairs of bf16, from weights packed once. See matmul.h for the panels. */
#include "matmul.h"
#include "team.h"

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

typedef struct {
    const bf16 *weight;
    bf16 *packed;
    long k;
} pack_t;

static void pack_panel(void *job, long panel, int member) {
    (void)member;
    const pack_t *p = job;
    for (long step = 0; step < p->k / 2; step++)
        for (long column = 0; column < 16; column++)
            memcpy(p->packed + panel * p->k * 16 + step * 32 + column * 2, p->weight + (panel * 16 + column) * p->k + step * 2, 4);
}

/* `[n, k]`, dense, to `[n / 16][k / 2][16][2]`. */
void pagemill_pack_weight(const bf16 *weight, bf16 *packed, long n, long k, int threads) {
    pack_t job = {weight, packed, k};
    run_tasks(pack_panel, &job, n / 16, threads);
}

typedef struct {
    const bf16 *x, *packed, *bias;
    void *out;
    long x_stride, m, n, k, width; /* width: panels of a task */
    int wide;                      /* whether `out` is float */
} linear_t;

static void store_block(const linear_t *l, const float *block, long row, long rows, long panel, long columns) {
    for (long i = 0; i < rows; i++) {
        const float *restrict sums = block + i * TILE_PANELS * 16;
        long to = (row + i) * l->n + panel * 16;
        for (long j = 0; j < columns; j++) {
            float sum = l->bias ? sums[j] + widen_bf16(l->bias[panel * 16 + j]) : sums[j];
            if (l->wide) ((float *)l->out)[to + j] = sum;
            else ((bf16 *)l->out)[to + j] = narrow_bf16(sum);
        }
    }
}

/* All rows of a few panels one after the other, so that this part of the weights is read from memory once. */
static void linear_panels(void *job, long task, int member) {
    (void)member;
    const linear_t *l = job;
    long panel = task * l->width, num_panels = MIN(l->width, l->n / 16 - panel), steps = l->k / 2;
    long block_steps = l->m <= TILE_ROWS ? steps : BLOCK_STEPS;
    float block[BLOCK_ROWS * TILE_PANELS * 16];
    for (long row = 0; row < l->m; row += BLOCK_ROWS) {
        long rows = MIN(BLOCK_ROWS, l->m - row);
        for (long step = 0; step < steps; step += block_steps)
            matmul_bf16(rows, num_panels, l->x + row * l->x_stride + step * 2, l->x_stride, 2,
                        l->packed + panel * l->k * 16 + step * 32, l->k * 16, MIN(block_steps, steps - step), block,
                        TILE_PANELS * 16, step > 0);
        store_block(l, block, row, rows, panel, num_panels * 16);
    }
}

/* `x` `[m, k]` with rows `x_stride` apart, `out` `[m, n]` dense, of floats if `wide`, `bias` `[n]` or null. */
void pagemill_linear(const bf16 *x, long x_stride, const bf16 *packed, const bf16 *bias, void *out, long m, long n, long k,
                     int wide, int threads) {
    long panels = n / 16, width = panels >= 4 * TILE_PANELS * threads ? TILE_PANELS : 1;
    linear_t job = {x, packed, bias, out, x_stride, m, n, k, width, wide};
    run_tasks(linear_panels, &job, (panels + width - 1) / width, threads);
}
#endif
