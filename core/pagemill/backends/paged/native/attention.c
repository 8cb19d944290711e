/* Attention over paged keys and values, read where they lie, for bf16 and float. One task is one KV head, some query tokens of
 * one sequence with all their heads, and a range of its context: a decode is the case of one token. A long context of few
 * sequences is split over tasks, and their partial softmaxes are merged (flash-decoding).
 *
 * Everything is transposed: scores are `[keys][rows]`, a row being one head of one token, and sums `[head_dim][rows]`. So
 * keys enter the product as they lie in their pages, and the softmax runs down columns without sums across a vector. */
#include "matmul.h"
#include "team.h"

typedef struct {
    int64_t sequence, query_start, query_len, context_len;
} prefill_t;

/* One step, the same for all layers. Lengths are in tokens. */
typedef struct {
    const int32_t *context_lens, *block_tables;
    const int64_t *slots;
    const prefill_t *prefills;
    int64_t num_tokens, num_decodes, num_prefills, table_stride;
    int64_t split, num_splits; /* of a decode's context: what one task takes, and how many tasks the longest needs */
    char *workspace;           /* `pagemill_attention_workspace` bytes */
    int32_t threads;
} step_t;

/* One layer. Strides are in elements. */
typedef struct {
    const void *query, *key, *value;
    void *keys, *values, *output;
    int64_t query_stride, key_stride, value_stride;
    int64_t num_heads, num_kv_heads, head_dim, block_size;
    float scale, soft_cap; /* soft_cap 0: none */
    int64_t window;        /* 0: none */
} layer_t;

/* What a task attends to. */
typedef struct {
    int64_t sequence, kv_head, token, num_tokens; /* token: of the batch */
    int64_t position;                             /* of the first token in its sequence */
    int64_t first_key, end_key;
    float *partial; /* of each head: maximum, sum, and sums of values; null: the answer goes into the output */
} task_t;

enum { BLOCK_KEYS = 64, TILE_QUERIES = 96, MIN_SHARED_WRITES = 32, TASKS_PER_THREAD = 4 };
#define UNSEEN (-1e30f) /* the score of what a query may not see; finite, so that no difference of two is a NaN */

INLINE int64_t round_up(int64_t x, int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

/* Rows of one task, in whole vectors. */
INLINE int64_t tile_tokens(int64_t group) { return MAX(1, TILE_QUERIES / group); }
INLINE int64_t tile_rows(int64_t group) { return round_up(tile_tokens(group) * group, 16); }

/* One thread's scratch memory, in floats; enough for either type. */
INLINE int64_t scratch_floats(int64_t group, int64_t head_dim) {
    int64_t rows = tile_rows(group);
    return 2 * BLOCK_KEYS * head_dim + 2 * BLOCK_KEYS * rows + 2 * head_dim * rows + 5 * rows;
}

int64_t pagemill_attention_workspace(int64_t num_heads, int64_t num_kv_heads, int64_t head_dim, int64_t num_decodes,
                                     int64_t num_splits, int64_t threads) {
    int64_t partials = num_splits > 1 ? num_decodes * num_heads * num_splits * (head_dim + 2) : 0;
    return 64 + sizeof(float) * (threads * round_up(scratch_floats(num_heads / num_kv_heads, head_dim), 16) + partials);
}

DEFINE_MATMUL(float)

#define T float
#define OPERAND float
#include "attention_typed.h"
#undef T
#undef OPERAND

#define T bf16
#ifdef __AVX512BF16__
DEFINE_MATMUL(bf16)

/* Two rows into one of pairs; `second` may be null, for zeros. */
INLINE void pair_rows(const bf16 *restrict first, const bf16 *restrict second, bf16 *restrict pairs, int64_t size) {
    for (int64_t i = 0; i < size; i++) {
        uint32_t pair = first[i] | (second ? (uint32_t)second[i] << 16 : 0);
        memcpy(pairs + 2 * i, &pair, sizeof pair);
    }
}

INLINE void store_pairs(bf16 *pairs, vector first, vector second) {
    __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)first));
    __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)second));
    _mm512_storeu_si512(pairs, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
}

#define OPERAND bf16
#define PAIRS
#else
#define OPERAND float
#endif
#include "attention_typed.h"
