/* ops.c for one type T. Strides are in elements. `threads` is 1 for little work: to share it costs a microsecond. */
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define WIDEN JOIN(widen_, T)
#define NARROW JOIN(narrow_, T)

INLINE void JOIN(normalize_, T)(const T *x, const T *weight, T *out, long size, float eps) {
    float squares = 0.0f;
#pragma omp simd reduction(+ : squares)
    for (long i = 0; i < size; i++) squares += WIDEN(x[i]) * WIDEN(x[i]);
    float scale = 1.0f / sqrtf(squares / (float)size + eps);
    for (long i = 0; i < size; i++) out[i] = NARROW(WIDEN(x[i]) * scale * WIDEN(weight[i]));
}

/* What the functions below are told, and what they hand to the team: the rows or tokens in `shares` tasks. */
typedef struct {
    const T *x, *weight;
    T *residual, *out;
    long outer_stride, inner_stride, inner, size, rows, shares;
    float eps;
} JOIN(norm_, T);

static void JOIN(norm_share_, T)(void *job, long share, int member) {
    (void)member;
    const JOIN(norm_, T) *n = job;
    for (long row = share_start(n->rows, n->shares, share); row < share_start(n->rows, n->shares, share + 1); row++) {
        const T *x = n->x + row / n->inner * n->outer_stride + row % n->inner * n->inner_stride;
        if (n->residual) {
            T *restrict residual = n->residual + row * n->size;
            for (long i = 0; i < n->size; i++) residual[i] = NARROW(WIDEN(residual[i]) + WIDEN(x[i]));
            x = residual;
        }
        JOIN(normalize_, T)(x, n->weight, n->out + row * n->size, n->size, n->eps);
    }
}

/* `rows` are `outer` groups of `inner` rows: the heads of a token, or one row a token. */
void JOIN(pagemill_rms_norm_, T)(const T *x, long outer_stride, long inner_stride, const T *weight, T *out, long outer,
                                 long inner, long size, float eps, int threads) {
    long rows = outer * inner, shares = share_count(rows, threads);
    JOIN(norm_, T) job = {x, weight, 0, out, outer_stride, inner_stride, inner, size, rows, shares, eps};
    run_tasks(JOIN(norm_share_, T), &job, shares, threads);
}

void JOIN(pagemill_add_rms_norm_, T)(const T *x, T *residual, const T *weight, T *out, long rows, long size, float eps,
                                     int threads) {
    long shares = share_count(rows, threads);
    JOIN(norm_, T) job = {x, weight, residual, out, size, 0, 1, size, rows, shares, eps};
    run_tasks(JOIN(norm_share_, T), &job, shares, threads);
}

INLINE void JOIN(rotate_heads_, T)(T *states, long heads, long head_dim, const float *cos, const float *sin, long half) {
    for (long head = 0; head < heads; head++) {
        T *restrict first = states + head * head_dim, *restrict second = first + half;
#pragma omp simd
        for (long i = 0; i < half; i++) {
            float a = WIDEN(first[i]), b = WIDEN(second[i]);
            first[i] = NARROW(a * cos[i] - b * sin[i]);
            second[i] = NARROW(b * cos[i] + a * sin[i]);
        }
    }
}

typedef struct {
    T *query, *key;
    const int64_t *positions;
    const float *cos_sin;
    long query_stride, num_heads, key_stride, num_kv_heads, head_dim, rotary_dim, tokens, shares;
} JOIN(rotate_, T);

static void JOIN(rotate_share_, T)(void *job, long share, int member) {
    (void)member;
    const JOIN(rotate_, T) *r = job;
    long half = r->rotary_dim / 2, end = share_start(r->tokens, r->shares, share + 1);
    for (long token = share_start(r->tokens, r->shares, share); token < end; token++) {
        const float *cos = r->cos_sin + r->positions[token] * r->rotary_dim, *sin = cos + half;
        JOIN(rotate_heads_, T)(r->query + token * r->query_stride, r->num_heads, r->head_dim, cos, sin, half);
        JOIN(rotate_heads_, T)(r->key + token * r->key_stride, r->num_kv_heads, r->head_dim, cos, sin, half);
    }
}

void JOIN(pagemill_rotate_, T)(T *query, long query_stride, long num_heads, T *key, long key_stride, long num_kv_heads,
                               long head_dim, const int64_t *positions, const float *cos_sin, long rotary_dim, long tokens,
                               int threads) {
    long shares = share_count(tokens, threads);
    JOIN(rotate_, T) job = {query,      key,          positions, cos_sin,    query_stride, num_heads,
                            key_stride, num_kv_heads, head_dim,  rotary_dim, tokens,       shares};
    run_tasks(JOIN(rotate_share_, T), &job, shares, threads);
}

INLINE void JOIN(gate_, T)(int activation, const T *restrict gate, const T *restrict up, T *restrict out, long size) {
    for (long i = 0; i < size; i++) out[i] = NARROW(activate(activation, WIDEN(gate[i])) * WIDEN(up[i]));
}

typedef struct {
    const T *gate_up;
    T *out;
    long stride, tokens, size, shares;
    int activation;
} JOIN(gating_, T);

static void JOIN(gate_share_, T)(void *job, long share, int member) {
    (void)member;
    const JOIN(gating_, T) *g = job;
    long size = g->size, end = share_start(g->tokens, g->shares, share + 1);
    for (long token = share_start(g->tokens, g->shares, share); token < end; token++) {
        const T *gate = g->gate_up + token * g->stride, *up = gate + size;
        T *out = g->out + token * size;
        if (g->activation == ACTIVATION_SILU) JOIN(gate_, T)(ACTIVATION_SILU, gate, up, out, size);
        else if (g->activation == ACTIVATION_GELU_TANH) JOIN(gate_, T)(ACTIVATION_GELU_TANH, gate, up, out, size);
        else JOIN(gate_, T)(ACTIVATION_GELU, gate, up, out, size);
    }
}

void JOIN(pagemill_gated_activation_, T)(const T *gate_up, long stride, T *out, long tokens, long size, int activation,
                                         int threads) {
    long shares = share_count(tokens, threads);
    JOIN(gating_, T) job = {gate_up, out, stride, tokens, size, shares, activation};
    run_tasks(JOIN(gate_share_, T), &job, shares, threads);
}

#undef JOIN_
#undef JOIN
#undef WIDEN
#undef NARROW
