/* One token's attention where few heads share a KV head: bf16, keys and values multiplied as they lie in their pages.
 *
 * Unlike the transposed products of attention_typed.h this fills no rows that nobody asked for. A key is multiplied with a
 * query lane by lane, and the lanes of 16 keys are summed at once, into one vector of 16 scores; so the softmax runs along
 * keys. Weights leave it in pairs of neighbouring keys, and interleaving two rows of values pairs those.
 *
 * The arithmetic takes less time than memory does. So while one block of keys is computed the next is asked for, a few lines
 * at a time: asked for at once they would fill the queue of misses, and the arithmetic would wait. */
enum { MAX_GROUP = 8, RUN = 8, TILE_HEADS = 4, TILE_DIMS = 64 };

/* A block of one KV head's keys, as runs of 8 that lie in one page each. Runs after the last repeat the first. */
typedef struct {
    const bf16 *keys[BLOCK_KEYS / RUN], *values[BLOCK_KEYS / RUN];
    int64_t first_key, count;
} block_t;

/* What is known of each head so far. Sums of values lie in the order in which `add_values` pairs them. */
typedef struct {
    float sums[MAX_GROUP][128];
    float maximum[MAX_GROUP], total[MAX_GROUP], shrink[MAX_GROUP];
    bf16 weights[MAX_GROUP][BLOCK_KEYS];
} few_rows_t;

INLINE int has_few_rows(const layer_t *layer) {
    return layer->num_heads / layer->num_kv_heads <= MAX_GROUP && layer->block_size % RUN == 0 &&
           (layer->head_dim == 64 || layer->head_dim == 128);
}

static block_t find_block(const layer_t *layer, const int32_t *table, int64_t kv_head, int64_t first_key, int64_t end_key) {
    block_t block = {.first_key = first_key, .count = MIN(BLOCK_KEYS, end_key - first_key)};
    for (int64_t run = 0; run < BLOCK_KEYS / RUN; run++) {
        int64_t position = first_key + (run * RUN < block.count ? run * RUN : 0);
        int64_t page = table[position / layer->block_size] * layer->num_kv_heads + kv_head;
        int64_t at = (page * layer->block_size + position % layer->block_size) * layer->head_dim;
        block.keys[run] = (const bf16 *)layer->keys + at;
        block.values[run] = (const bf16 *)layer->values + at;
    }
    return block;
}

INLINE void prefetch_line(const bf16 *p) { __builtin_prefetch(p, 0, 2); }

/* Each sums lanes of its two operands and keeps the results side by side; four levels of them sum 16 vectors. */
INLINE __m512 sum_lanes(__m512 a, __m512 b) { return _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)); }
INLINE __m512 sum_pairs(__m512 a, __m512 b) {
    __m512d c = (__m512d)a, d = (__m512d)b;
    return _mm512_add_ps((__m512)_mm512_unpacklo_pd(c, d), (__m512)_mm512_unpackhi_pd(c, d));
}
INLINE __m512 sum_quarters(__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD));
}

/* 16 products of a query with keys, `vectors` of 32 elements each. */
INLINE vector score_keys(const vector_bf16 *query, const bf16 *const *runs, int vectors) {
    __m512 quarters[4];
    UNROLL(quarter = 0; quarter < 4; quarter++) {
        const bf16 *keys = runs[quarter / 2] + quarter % 2 * 4 * vectors * 32;
        __m512 products[4];
        UNROLL(key = 0; key < 4; key++) {
            products[key] = _mm512_setzero_ps();
            UNROLL(i = 0; i < vectors; i++)
            products[key] = _mm512_dpbf16_ps(products[key], query[i], load_bf16(keys + (key * vectors + i) * 32));
        }
        quarters[quarter] = sum_pairs(sum_lanes(products[0], products[1]), sum_lanes(products[2], products[3]));
    }
    return (vector)sum_quarters(sum_quarters(quarters[0], quarters[1]), sum_quarters(quarters[2], quarters[3]));
}

/* One head's weights of a block, and by how much its sums so far shrink. Each head asks for its share of the next keys. */
INLINE void weigh_block(const layer_t *layer, const task_t *task, const block_t *block, const block_t *next, const bf16 *query,
                        int64_t head, int64_t group, int vectors, few_rows_t *rows) {
    const mask lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    int32_t last = (int32_t)task->position, first = layer->window ? (int32_t)MAX(0, task->position - layer->window + 1) : 0;
    vector_bf16 loaded[4];
    UNROLL(i = 0; i < vectors; i++) loaded[i] = load_bf16(query + 32 * i);
    vector scores[BLOCK_KEYS / 16], top = (vector){0} + rows->maximum[head], sum = {0};
    for (int64_t i = 0; 16 * i < block->count; i++) {
        for (int64_t line = head; line < 2 * RUN * vectors; line += group)
            prefetch_line(next->keys[2 * i + line / (RUN * vectors)] + line % (RUN * vectors) * 32);
        vector score = score_keys(loaded, block->keys + 2 * i, vectors) * layer->scale;
        if (layer->soft_cap > 0.0f)
            for (int j = 0; j < 16; j++) score[j] = layer->soft_cap * fast_tanh(score[j] / layer->soft_cap);
        mask position = lanes + (int32_t)(block->first_key + 16 * i);
        scores[i] = select((position < first) | (position > last), (vector){0} + UNSEEN, score);
        top = larger(top, scores[i]);
    }
    float maximum = _mm512_reduce_max_ps((__m512)top);
    for (int64_t i = 0; 16 * i < block->count; i++) {
        vector weight = exp_of_negative(scores[i] - maximum);
        sum += weight;
        _mm256_storeu_si256((__m256i *)(rows->weights[head] + 16 * i), (__m256i)_mm512_cvtneps_pbh((__m512)weight));
    }
    rows->shrink[head] = fast_exp(rows->maximum[head] - maximum);
    rows->total[head] = rows->total[head] * rows->shrink[head] + _mm512_reduce_add_ps((__m512)sum);
    rows->maximum[head] = maximum;
}

/* Sums of 64 dimensions of several heads. A row of values is paired with the next within quarters of a vector. The first
 * heads ask for the next values. */
#define DEFINE_ADD_VALUES(HEADS)                                                                                         \
    static void add_values_##HEADS(const block_t *block, const block_t *next, int64_t dim, int64_t head_dim, int64_t head,  \
                                   few_rows_t *rows) {                                                                   \
        static const bf16 zeros[TILE_DIMS];                                                                              \
        vector sums[HEADS][4];                                                                                           \
        UNROLL(i = 0; i < HEADS; i++)                                                                                    \
        UNROLL(j = 0; j < 4; j++) sums[i][j] = load_float(rows->sums[head + i] + dim + 16 * j) * rows->shrink[head + i]; \
        for (int64_t key = 0; key < block->count; key += 2) {                                                            \
            int64_t offset = key % RUN * head_dim + dim;                                                                 \
            const bf16 *first = block->values[key / RUN] + offset, *later = next->values[key / RUN] + offset;            \
            const bf16 *second = key + 1 < block->count ? first + head_dim : zeros;                                      \
            vector_bf16 pairs[4];                                                                                        \
            UNROLL(j = 0; j < 2; j++) {                                                                                  \
                if (head == 0) prefetch_line(later + 32 * j), prefetch_line(later + head_dim + 32 * j);                  \
                __m512i a = (__m512i)load_bf16(first + 32 * j), b = (__m512i)load_bf16(second + 32 * j);                 \
                pairs[2 * j] = (vector_bf16)_mm512_unpacklo_epi16(a, b);                                                 \
                pairs[2 * j + 1] = (vector_bf16)_mm512_unpackhi_epi16(a, b);                                             \
            }                                                                                                            \
            UNROLL(i = 0; i < HEADS; i++) {                                                                              \
                vector_bf16 weight = splat_pair(rows->weights[head + i] + key);                                          \
                UNROLL(j = 0; j < 4; j++) sums[i][j] = MULTIPLY_bf16(sums[i][j], weight, pairs[j]);                      \
            }                                                                                                            \
        }                                                                                                                \
        UNROLL(i = 0; i < HEADS; i++)                                                                                    \
        UNROLL(j = 0; j < 4; j++) store_vector(rows->sums[head + i] + dim + 16 * j, sums[i][j]);                         \
    }
DEFINE_ADD_VALUES(1)
DEFINE_ADD_VALUES(2)
DEFINE_ADD_VALUES(3)
DEFINE_ADD_VALUES(4)

static void add_values(const block_t *block, const block_t *next, int64_t head_dim, int64_t group, few_rows_t *rows) {
    typedef void tile(const block_t *, const block_t *, int64_t, int64_t, int64_t, few_rows_t *);
    static tile *const tiles[] = {add_values_1, add_values_2, add_values_3, add_values_4};
    int64_t num_tiles = (group + TILE_HEADS - 1) / TILE_HEADS;
    for (int64_t i = 0; i < num_tiles; i++) {
        int64_t head = i * group / num_tiles, heads = (i + 1) * group / num_tiles - head;
        for (int64_t dim = 0; dim < head_dim; dim += TILE_DIMS) tiles[heads - 1](block, next, dim, head_dim, head, rows);
    }
}

/* Where a dimension's sum lies: of each 8, the first four in one vector, the others in the next. */
INLINE int64_t place_of(int64_t dim) { return dim / 32 * 32 + dim / 4 % 2 * 16 + dim / 8 % 4 * 4 + dim % 4; }

static void finish_few_rows(const layer_t *layer, const task_t *task, const few_rows_t *rows) {
    int64_t group = layer->num_heads / layer->num_kv_heads, head_dim = layer->head_dim;
    bf16 *output = (bf16 *)layer->output + (task->token * layer->num_heads + task->kv_head * group) * head_dim;
    for (int64_t head = 0; head < group; head++) {
        float *partial = task->partial ? task->partial + head * (head_dim + 2) : 0, scale = 1.0f / rows->total[head];
        if (partial) partial[0] = rows->maximum[head], partial[1] = rows->total[head];
        for (int64_t dim = 0; dim < head_dim; dim += 4)
            for (int64_t i = 0; i < 4; i++) {
                float sum = rows->sums[head][place_of(dim) + i];
                if (partial) partial[2 + dim + i] = sum;
                else output[head * head_dim + dim + i] = narrow_bf16(sum * scale);
            }
    }
}

INLINE void attend_in_vectors(const layer_t *layer, const int32_t *table, const task_t *task, int another, int vectors) {
    int64_t group = layer->num_heads / layer->num_kv_heads, head_dim = 32 * vectors;
    const bf16 *queries = (const bf16 *)layer->query + task->token * layer->query_stride + task->kv_head * group * head_dim;
    few_rows_t rows;
    memset(rows.sums, 0, sizeof rows.sums[0] * group);
    for (int64_t head = 0; head < group; head++) rows.maximum[head] = UNSEEN, rows.total[head] = 0.0f;
    block_t next = find_block(layer, table, task->kv_head, task->first_key, task->end_key);
    for (int64_t key = task->first_key; key < task->end_key; key += BLOCK_KEYS) {
        block_t block = next;
        if (key + BLOCK_KEYS < task->end_key) next = find_block(layer, table, task->kv_head, key + BLOCK_KEYS, task->end_key);
        else if (another) next = find_block(layer, table, task->kv_head + 1, task->first_key, task->end_key);
        for (int64_t head = 0; head < group; head++)
            weigh_block(layer, task, &block, &next, queries + head * head_dim, head, group, vectors, &rows);
        add_values(&block, &next, head_dim, group, &rows);
    }
    finish_few_rows(layer, task, &rows);
}

/* `another`: this thread goes on to the next KV head of the same keys. */
static void attend_few_rows(const step_t *step, const layer_t *layer, const task_t *task, int another) {
    const int32_t *table = step->block_tables + task->sequence * step->table_stride;
    if (layer->head_dim == 64) attend_in_vectors(layer, table, task, another, 2);
    else attend_in_vectors(layer, table, task, another, 4);
}
