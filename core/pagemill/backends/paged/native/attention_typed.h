/* attention.c for pages of type T whose products are taken of type OPERAND: bf16 in PAIRS, or float. */
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define TYPED(name) JOIN(name, T)
#define WIDEN TYPED(widen_)
#define MATMUL JOIN(matmul_, OPERAND)
#ifdef PAIRS
#define STEP 2
#define CONVERT(x) (x)
#else
#define STEP 1
#define CONVERT(x) WIDEN(x)
#endif

/* A thread's scratch memory. */
typedef struct {
    OPERAND *keys;    /* [BLOCK_KEYS][head_dim] */
    OPERAND *values;  /* [BLOCK_KEYS / STEP][head_dim][STEP] */
    OPERAND *queries; /* [rows / 16][head_dim / STEP][16][STEP] */
    OPERAND *weights; /* [rows / 16][BLOCK_KEYS / STEP][16][STEP] */
    float *scores;    /* [BLOCK_KEYS][rows] */
    float *sums;      /* [head_dim][rows] */
    float *maximum, *total, *shrink;
    int32_t *first, *last; /* positions that a row sees */
} TYPED(scratch_);

static TYPED(scratch_) TYPED(carve_)(float *memory, int64_t head_dim, int64_t rows) {
    TYPED(scratch_) s;
    s.scores = memory, memory += BLOCK_KEYS * rows;
    s.sums = memory, memory += head_dim * rows;
    s.weights = (OPERAND *)memory, memory += BLOCK_KEYS * rows;
    s.queries = (OPERAND *)memory, memory += head_dim * rows;
    s.keys = (OPERAND *)memory, memory += BLOCK_KEYS * head_dim;
    s.values = (OPERAND *)memory, memory += BLOCK_KEYS * head_dim;
    s.maximum = memory, s.total = memory + rows, s.shrink = memory + 2 * rows;
    s.first = (int32_t *)(memory + 3 * rows), s.last = (int32_t *)(memory + 4 * rows);
    return s;
}

static void TYPED(load_queries_)(const layer_t *layer, const task_t *task, int64_t rows, TYPED(scratch_) *s) {
    int64_t group = layer->num_heads / layer->num_kv_heads, head_dim = layer->head_dim;
    memset(s->queries, 0, sizeof(OPERAND) * head_dim * rows);
    for (int64_t row = 0; row < rows; row++) {
        int64_t token = MIN(row / group, task->num_tokens - 1), position = task->position + token;
        s->last[row] = (int32_t)position;
        s->first[row] = (int32_t)(layer->window ? MAX(0, position - layer->window + 1) : 0);
        s->maximum[row] = UNSEEN;
        s->total[row] = 0.0f;
        if (row >= task->num_tokens * group) continue;
        const T *query = (const T *)layer->query + (task->token + token) * layer->query_stride +
                         (task->kv_head * group + row % group) * head_dim;
        OPERAND *column = s->queries + row / 16 * head_dim * 16 + row % 16 * STEP;
        for (int64_t i = 0; i < head_dim; i += STEP)
            for (int64_t j = 0; j < STEP; j++) column[i * 16 + j] = CONVERT(query[i + j]);
    }
}

/* Ask for a block's keys and values while the one before is computed: they lie scattered, where hardware does not look ahead. */
static void TYPED(prefetch_)(const layer_t *layer, const int32_t *table, const task_t *task, int64_t first_key) {
    int64_t block_size = layer->block_size, row = layer->head_dim * (int64_t)sizeof(T);
    int64_t end = MIN(first_key + BLOCK_KEYS, task->end_key);
    for (int64_t position = first_key, run; position < end; position += run) {
        run = MIN(block_size - position % block_size, end - position);
        int64_t page = (table[position / block_size] * layer->num_kv_heads + task->kv_head) * block_size + position % block_size;
        for (int64_t byte = 0; byte < run * row; byte += 64) {
            __builtin_prefetch((const char *)layer->keys + page * row + byte, 0, 2);
            __builtin_prefetch((const char *)layer->values + page * row + byte, 0, 2);
        }
    }
}

/* The next keys and values, out of their pages. `first_key` is even. Zeros follow up to `padded` keys. */
static void TYPED(load_block_)(const layer_t *layer, const int32_t *table, int64_t kv_head, int64_t first_key, int64_t count,
                               int64_t padded, TYPED(scratch_) *s) {
    int64_t head_dim = layer->head_dim, block_size = layer->block_size;
    for (int64_t done = 0, run; done < count; done += run) {
        int64_t position = first_key + done, offset = position % block_size;
        run = MIN(block_size - offset, count - done);
        int64_t page = (table[position / block_size] * layer->num_kv_heads + kv_head) * block_size + offset;
        const T *restrict keys = (const T *)layer->keys + page * head_dim, *restrict values = (const T *)layer->values + page * head_dim;
        OPERAND *restrict key_rows = s->keys + done * head_dim, *restrict value_rows = s->values + done * head_dim;
        for (int64_t i = 0; i < run * head_dim; i++) key_rows[i] = CONVERT(keys[i]);
#ifdef PAIRS
        for (int64_t key = 0; key < run / 2 * 2; key += 2)
            pair_rows(values + key * head_dim, values + (key + 1) * head_dim, value_rows + key * head_dim, head_dim);
        if (run % 2) /* only at the end of the context */
            pair_rows(values + (run - 1) * head_dim, 0, value_rows + (run - 1) * head_dim, head_dim);
#else
        for (int64_t i = 0; i < run * head_dim; i++) value_rows[i] = CONVERT(values[i]);
#endif
    }
    memset(s->keys + count * head_dim, 0, sizeof(OPERAND) * (padded - count) * head_dim);
    int64_t filled = round_up(count, STEP);
    memset(s->values + filled * head_dim, 0, sizeof(OPERAND) * (padded - filled) * head_dim);
}

/* Turn 16 rows' scores into weights, and say by how much their sums so far shrink. */
static void TYPED(weigh_)(const layer_t *layer, float *scores, int64_t stride, int64_t first_key, int64_t keys, int hides,
                          const TYPED(scratch_) *s, int64_t row, OPERAND *weights) {
    vector maximum = load_float(s->maximum + row), top = maximum, sum = {0};
    vector scale = (vector){0} + layer->scale;
    mask first, last;
    memcpy(&first, s->first + row, sizeof first), memcpy(&last, s->last + row, sizeof last);
    for (int64_t key = 0; key < keys; key++) {
        vector score = load_float(scores + key * stride) * scale;
        if (layer->soft_cap > 0.0f)
            for (int i = 0; i < 16; i++) score[i] = layer->soft_cap * fast_tanh(score[i] / layer->soft_cap);
        if (hides) {
            mask position = (mask){0} + (int32_t)(first_key + key);
            score = select((position < first) | (position > last), (vector){0} + UNSEEN, score);
        }
        store_vector(scores + key * stride, score);
        top = larger(top, score);
    }
    for (int64_t key = 0; key < keys; key += STEP) {
        vector weight = exp_of_negative(load_float(scores + key * stride) - top);
        sum += weight;
#ifdef PAIRS
        vector next = exp_of_negative(load_float(scores + (key + 1) * stride) - top);
        sum += next;
        store_pairs(weights + key * 16, weight, next);
#else
        store_vector(weights + key * 16, weight);
#endif
    }
    vector shrink = exp_of_negative(maximum - top);
    store_vector(s->shrink + row, shrink);
    store_vector(s->total + row, load_float(s->total + row) * shrink + sum);
    store_vector(s->maximum + row, top);
}

static void TYPED(shrink_sums_)(float *restrict sums, const float *restrict shrink, int64_t head_dim, int64_t rows) {
    for (int64_t i = 0; i < head_dim; i++)
        for (int64_t row = 0; row < rows; row++) sums[i * rows + row] *= shrink[row];
}

static void TYPED(finish_)(const layer_t *layer, const task_t *task, int64_t rows, const TYPED(scratch_) *s) {
    int64_t group = layer->num_heads / layer->num_kv_heads, head_dim = layer->head_dim;
    for (int64_t row = 0; row < task->num_tokens * group; row++) {
        if (task->partial) {
            float *partial = task->partial + row * (head_dim + 2);
            partial[0] = s->maximum[row], partial[1] = s->total[row];
            for (int64_t i = 0; i < head_dim; i++) partial[2 + i] = s->sums[i * rows + row];
            continue;
        }
        float scale = 1.0f / s->total[row];
        T *output = (T *)layer->output +
                    ((task->token + row / group) * layer->num_heads + task->kv_head * group + row % group) * head_dim;
        for (int64_t i = 0; i < head_dim; i++) output[i] = TYPED(narrow_)(s->sums[i * rows + row] * scale);
    }
}

static void TYPED(attend_)(const step_t *step, const layer_t *layer, const task_t *task, float *memory) {
    int64_t group = layer->num_heads / layer->num_kv_heads, head_dim = layer->head_dim;
    int64_t rows = round_up(task->num_tokens * group, 16);
    TYPED(scratch_) s = TYPED(carve_)(memory, head_dim, rows);
    const int32_t *table = step->block_tables + task->sequence * step->table_stride;
    TYPED(load_queries_)(layer, task, rows, &s);
    for (int64_t key = task->first_key; key < task->end_key; key += BLOCK_KEYS) {
        int64_t count = MIN(BLOCK_KEYS, task->end_key - key), padded = round_up(count, 8);
        int hides = key + padded - 1 > s.last[0] || key < s.first[rows - 1];
        TYPED(load_block_)(layer, table, task->kv_head, key, count, padded, &s);
        TYPED(prefetch_)(layer, table, task, key + BLOCK_KEYS);
        MATMUL(padded, rows / 16, s.keys, head_dim, STEP, s.queries, head_dim * 16, head_dim / STEP, s.scores, rows, 0);
        for (int64_t row = 0; row < rows; row += 16)
            TYPED(weigh_)(layer, s.scores + row, rows, key, padded, hides, &s, row, s.weights + row * padded);
        if (key > task->first_key) TYPED(shrink_sums_)(s.sums, s.shrink, head_dim, rows);
        MATMUL(head_dim, rows / 16, s.values, STEP, head_dim * STEP, s.weights, padded * 16, padded / STEP, s.sums, rows,
               key > task->first_key);
    }
    TYPED(finish_)(layer, task, rows, &s);
}

static void TYPED(write_)(const step_t *step, const layer_t *layer, int64_t token) {
    int64_t slot = step->slots[token], head_dim = layer->head_dim, block_size = layer->block_size;
    if (slot < 0) return;
    for (int64_t head = 0; head < layer->num_kv_heads; head++) {
        int64_t to = ((slot / block_size * layer->num_kv_heads + head) * block_size + slot % block_size) * head_dim;
        const T *key = (const T *)layer->key + token * layer->key_stride + head * head_dim;
        const T *value = (const T *)layer->value + token * layer->value_stride + head * head_dim;
        memcpy((T *)layer->keys + to, key, sizeof(T) * head_dim);
        memcpy((T *)layer->values + to, value, sizeof(T) * head_dim);
    }
}

#ifdef PAIRS
#include "attention_decode.h"
#endif

INLINE int64_t TYPED(first_seen_)(const layer_t *layer, int64_t position) {
    int64_t first = layer->window ? MAX(0, position - layer->window + 1) : 0;
    return first / layer->block_size * layer->block_size; /* a page's begin: its other keys are hidden */
}

/* `another`: the same thread decodes `index` + 1 next. */
static void TYPED(decode_)(const step_t *step, const layer_t *layer, int64_t index, int another, float *partials, float *memory) {
    int64_t kv_head = index % layer->num_kv_heads, split = index / layer->num_kv_heads % step->num_splits;
    int64_t sequence = index / layer->num_kv_heads / step->num_splits, end = step->context_lens[sequence];
    int64_t group = layer->num_heads / layer->num_kv_heads;
    int64_t first = TYPED(first_seen_)(layer, end - 1) + split * step->split;
    if (first >= end) {
        if (end == 0 && split == 0) /* a padded row */
            memset((T *)layer->output + (sequence * layer->num_heads + kv_head * group) * layer->head_dim, 0,
                   sizeof(T) * group * layer->head_dim);
        return;
    }
    task_t task = {sequence, kv_head, sequence, 1, end - 1, first, MIN(end, first + step->split), 0};
    if (step->num_splits > 1)
        task.partial = partials + ((split * step->num_decodes + sequence) * layer->num_heads + kv_head * group) * (layer->head_dim + 2);
#ifdef PAIRS
    if (has_few_rows(layer)) {
        attend_few_rows(step, layer, &task, another);
        return;
    }
#endif
    TYPED(attend_)(step, layer, &task, memory);
}

/* The softmax over a decode's whole context from those over its parts, whose sums are added to the first's. */
static void TYPED(merge_)(const step_t *step, const layer_t *layer, int64_t index, float *partials) {
    int64_t sequence = index / layer->num_heads, end = step->context_lens[sequence], head_dim = layer->head_dim;
    int64_t parts = (end - TYPED(first_seen_)(layer, end - 1) + step->split - 1) / step->split;
    if (end == 0) return;
    int64_t part_stride = step->num_decodes * layer->num_heads * (head_dim + 2);
    float *first = partials + index * (head_dim + 2), *restrict sums = first + 2;
    float top = UNSEEN, total = 0.0f;
    for (int64_t part = 0; part < parts; part++) top = MAX(top, first[part * part_stride]);
    for (int64_t part = 0; part < parts; part++) {
        const float *other = first + part * part_stride;
        float weight = fast_exp(other[0] - top);
        total += other[1] * weight;
        if (part == 0)
            for (int64_t i = 0; i < head_dim; i++) sums[i] *= weight;
        else
            for (int64_t i = 0; i < head_dim; i++) sums[i] += other[2 + i] * weight;
    }
    for (int64_t i = 0; i < head_dim; i++) ((T *)layer->output)[index * head_dim + i] = TYPED(narrow_)(sums[i] / total);
}

/* Tasks of prefills count backwards: the last tokens of a prompt see most of it, and long tasks go first. */
static void TYPED(prefill_)(const step_t *step, const layer_t *layer, int64_t index, float *memory) {
    int64_t tokens = tile_tokens(layer->num_heads / layer->num_kv_heads);
    const prefill_t *prefill = step->prefills;
    for (int64_t tasks;; index -= tasks, prefill++) {
        tasks = (prefill->query_len + tokens - 1) / tokens * layer->num_kv_heads;
        if (index < tasks) {
            index = tasks - 1 - index;
            break;
        }
    }
    int64_t start = index / layer->num_kv_heads * tokens, count = MIN(tokens, prefill->query_len - start);
    int64_t position = prefill->context_len - prefill->query_len + start;
    task_t task = {prefill->sequence, index % layer->num_kv_heads, prefill->query_start + start, count, position,
                   TYPED(first_seen_)(layer, position), position + count, 0};
    TYPED(attend_)(step, layer, &task, memory);
}

/* One layer's job for the team. */
typedef struct {
    const step_t *step;
    const layer_t *layer;
    float *memory, *partials;
    int64_t scratch, num_prefill_tasks, heads_per_decode, shares;
} TYPED(attention_);

static void TYPED(write_share_)(void *job, long share, int member) {
    (void)member;
    const TYPED(attention_) *a = job;
    int64_t end = share_start(a->step->num_tokens, a->shares, share + 1);
    for (int64_t token = share_start(a->step->num_tokens, a->shares, share); token < end; token++)
        TYPED(write_)(a->step, a->layer, token);
}

static void TYPED(attend_task_)(void *job, long task, int member) {
    const TYPED(attention_) *a = job;
    float *mine = a->memory + member * a->scratch;
    if (task < a->num_prefill_tasks) TYPED(prefill_)(a->step, a->layer, task, mine);
    else
        for (int64_t heads = a->heads_per_decode, i = 0; i < heads; i++)
            TYPED(decode_)(a->step, a->layer, (task - a->num_prefill_tasks) * heads + i, i + 1 < heads, a->partials, mine);
}

static void TYPED(merge_sequence_)(void *job, long sequence, int member) {
    (void)member;
    const TYPED(attention_) *a = job;
    for (int64_t head = 0; head < a->layer->num_heads; head++)
        TYPED(merge_)(a->step, a->layer, sequence * a->layer->num_heads + head, a->partials);
}

void TYPED(pagemill_attention_)(const step_t *step, const layer_t *layer) {
    int64_t group = layer->num_heads / layer->num_kv_heads, tokens = tile_tokens(group), num_prefill_tasks = 0;
    for (int64_t i = 0; i < step->num_prefills; i++)
        num_prefill_tasks += (step->prefills[i].query_len + tokens - 1) / tokens * layer->num_kv_heads;
    /* All KV heads of a page by one thread, if there are tasks enough: it asks for each while it computes the one before. */
    int64_t num_decodes = step->num_decodes * step->num_splits;
    int64_t heads = num_decodes >= TASKS_PER_THREAD * step->threads ? layer->num_kv_heads : 1;
    int64_t scratch = round_up(scratch_floats(group, layer->head_dim), 16);
    float *memory = (float *)(((uintptr_t)step->workspace + 63) / 64 * 64);
    int writers = step->num_tokens >= MIN_SHARED_WRITES ? step->threads : 1;
    TYPED(attention_) job = {step,    layer, memory, memory + step->threads * scratch,
                             scratch, num_prefill_tasks, heads, share_count(step->num_tokens, writers)};
    run_tasks(TYPED(write_share_), &job, job.shares, writers);
    run_tasks(TYPED(attend_task_), &job, num_prefill_tasks + num_decodes * layer->num_kv_heads / heads, step->threads);
    if (step->num_splits > 1) run_tasks(TYPED(merge_sequence_), &job, step->num_decodes, step->threads);
}

#undef JOIN_
#undef JOIN
#undef TYPED
#undef WIDEN
#undef MATMUL
#undef STEP
#undef CONVERT
