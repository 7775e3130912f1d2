/* Any machine: the specification in plain C. */
#define TARGET
#define PREFETCH_BYTES 1024
#define TOKENS_AHEAD 64
#define WEIGHED 4
#define MATE(code) ((uint8_t)(code))
#include "lanes.h"
#include "rows.h"
#include "products.h"
#include "int8_any.h"

INLINE void store16_weights(int16_t *to, v8f low, v8f high) {
    const v8i a = to_int(low), b = to_int(high);
    for (int i = 0; i < 8; i++) {
        to[i] = (int16_t)a[i];
        to[8 + i] = (int16_t)b[i];
    }
}

static void multiply_int8(const Matrix *m, int first, int last, const Activations *x, int rows,
                          float *out, int stride, int epilogue) {
    const int quads = (m->cols + 3) / 4;
    for (int tile = first; tile < last; tile++) {
        const int8_t *w = (const int8_t *)m->tiles + (size_t)tile * quads * TILE * 4;
        for (int row = 0; row < rows; row++) {
            const int8_t *codes = x->codes + (size_t)row * x->stride;
            int32_t sums[TILE] = {0};
            for (int quad = 0; quad < quads; quad++)
                for (int n = 0; n < TILE; n++)
                    for (int i = 0; i < 4; i++)
                        sums[n] += w[(quad * TILE + n) * 4 + i] * codes[quad * 4 + i];
            v8f y[VECTORS];
            for (int i = 0; i < VECTORS; i++)
                y[i] = to_float(load8_int(sums + 8 * i)) *
                       (load8(m->scales + tile * TILE + 8 * i) * splat(x->scales[row]));
            finish_tile(out + (size_t)row * stride + tile * TILE, y, epilogue);
        }
    }
}

INLINE void dots_int8(const int8_t *k, const Query *q, int dim, v8i dots[2]) {
    any_dots_int8(k, q->codes, dim, dots);
}

INLINE void mix_group_int8(const int8_t *v, const int16_t *weights, int dim, float step,
                           float *sums) {
    any_mix_int8(v, weights, dim, step, sums);
}

#include "window.h"
#include "attend_int8.h"
#include "attend_float.h"
#include "attend.h"

static uint64_t read_bytes(const char *bytes, size_t count) {
    uint64_t sum[4] = {0};
    for (size_t i = 0; i + 32 <= count; i += 32) {
        uint64_t words[4];
        memcpy(words, bytes + i, sizeof words);
        for (int lane = 0; lane < 4; lane++) sum[lane] += words[lane];
    }
    return sum[0] + sum[1] + sum[2] + sum[3];
}

const Kernels kernels_plain = {
    .name = "plain",
    .multiply_int8 = multiply_int8,
    .multiply_float = multiply_float,
    .normalize = normalize,
    .quantize = quantize,
    .attend = attend,
    .read = read_bytes,
};
