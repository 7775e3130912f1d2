/* The integer dot products of attention in plain C: over rows of any head size, and over tiles. */

INLINE void any_dots_int8(const int8_t *k, const int8_t *q, int dim, vwi dots[PER_GROUP]) {
    int32_t sums[GROUP];
    for (int token = 0; token < GROUP; token++) {
        int32_t sum = 0;
        for (int i = 0; i < dim; i++) sum += k[token * dim + i] * q[i];
        sums[token] = sum;
    }
    for (int i = 0; i < PER_GROUP; i++) dots[i] = load_wide_int(sums + WIDE * i);
}

/* sums[i] += step * (weights . v[:, i]) */
INLINE void any_mix_int8(const int8_t *v, const int16_t *weights, int dim, float step, float *sums) {
    int32_t mixed[MAX_HEAD_DIM] = {0};
    for (int token = 0; token < GROUP; token++)
        for (int i = 0; i < dim; i++) mixed[i] += v[token * dim + i] * weights[token];
    for (int i = 0; i < dim; i++) sums[i] += (float)mixed[i] * step;
}

INLINE void any_dots_tile(const int8_t *k, const int8_t *q, int dim, vwi dots[PER_GROUP]) {
    int32_t sums[GROUP] = {0};
    for (int i = 0; i < dim; i++)
        for (int token = 0; token < GROUP; token++)
            sums[token] += k[i / 4 * 4 * GROUP + token * 4 + i % 4] * q[i];
    for (int i = 0; i < PER_GROUP; i++) dots[i] = load_wide_int(sums + WIDE * i);
}

INLINE void any_mix_tile(const int8_t *v, const int16_t *weights, int dim, float step, float *sums) {
    int32_t mixed[MAX_HEAD_DIM] = {0};
    for (int token = 0; token < GROUP; token++)
        for (int i = 0; i < dim; i++)
            mixed[i] += v[token / 4 * 4 * dim + i * 4 + token % 4] * weights[token];
    for (int i = 0; i < dim; i++) sums[i] += (float)mixed[i] * step;
}
