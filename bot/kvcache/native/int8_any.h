/* The integer dot products of attention for any head size. */

INLINE void any_dots_int8(const int8_t *k, const int8_t *q, int dim, v8i dots[2]) {
    int32_t sums[GROUP];
    for (int token = 0; token < GROUP; token++) {
        int32_t sum = 0;
        for (int i = 0; i < dim; i++) sum += k[token * dim + i] * q[i];
        sums[token] = sum;
    }
    dots[0] = load8_int(sums);
    dots[1] = load8_int(sums + 8);
}

/* sums[i] += step * (weights . v[:, i]) */
INLINE void any_mix_int8(const int8_t *v, const int16_t *weights, int dim, float step, float *sums) {
    int32_t mixed[MAX_HEAD_DIM] = {0};
    for (int token = 0; token < GROUP; token++)
        for (int i = 0; i < dim; i++) mixed[i] += v[token * dim + i] * weights[token];
    for (int i = 0; i < dim; i++) sums[i] += (float)mixed[i] * step;
}
