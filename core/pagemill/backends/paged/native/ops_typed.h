/* ops.c for one type T. Strides are in elements. `threads` is 1 for little work: a parallel region costs microseconds. */
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

/* `rows` are `outer` groups of `inner` rows: the heads of a token, or one row a token. */
void JOIN(pagemill_rms_norm_, T)(const T *x, long outer_stride, long inner_stride, const T *restrict weight, T *restrict out,
                                 long outer, long inner, long size, float eps, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (long row = 0; row < outer * inner; row++)
        JOIN(normalize_, T)(x + row / inner * outer_stride + row % inner * inner_stride, weight, out + row * size, size, eps);
}

void JOIN(pagemill_add_rms_norm_, T)(const T *restrict x, T *restrict residual, const T *restrict weight, T *restrict out,
                                     long rows, long size, float eps, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (long row = 0; row < rows; row++) {
        for (long i = row * size; i < (row + 1) * size; i++) residual[i] = NARROW(WIDEN(residual[i]) + WIDEN(x[i]));
        JOIN(normalize_, T)(residual + row * size, weight, out + row * size, size, eps);
    }
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

void JOIN(pagemill_rotate_, T)(T *query, long query_stride, long num_heads, T *key, long key_stride, long num_kv_heads,
                               long head_dim, const int64_t *positions, const float *cos_sin, long rotary_dim, long tokens,
                               int threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (long token = 0; token < tokens; token++) {
        const float *cos = cos_sin + positions[token] * rotary_dim, *sin = cos + rotary_dim / 2;
        JOIN(rotate_heads_, T)(query + token * query_stride, num_heads, head_dim, cos, sin, rotary_dim / 2);
        JOIN(rotate_heads_, T)(key + token * key_stride, num_kv_heads, head_dim, cos, sin, rotary_dim / 2);
    }
}

INLINE void JOIN(gate_, T)(int activation, const T *restrict gate, const T *restrict up, T *restrict out, long size) {
    for (long i = 0; i < size; i++) out[i] = NARROW(activate(activation, WIDEN(gate[i])) * WIDEN(up[i]));
}

void JOIN(pagemill_gated_activation_, T)(const T *gate_up, long stride, T *out, long tokens, long size, int activation,
                                         int threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (long token = 0; token < tokens; token++) {
        const T *gate = gate_up + token * stride, *up = gate + size;
        if (activation == ACTIVATION_SILU) JOIN(gate_, T)(ACTIVATION_SILU, gate, up, out + token * size, size);
        else if (activation == ACTIVATION_GELU_TANH) JOIN(gate_, T)(ACTIVATION_GELU_TANH, gate, up, out + token * size, size);
        else JOIN(gate_, T)(ACTIVATION_GELU, gate, up, out + token * size, size);
    }
}

#undef JOIN_
#undef JOIN
#undef WIDEN
#undef NARROW
