/* Any machine: the specification in plain C. */
#define TARGET
#define PREFETCH_BYTES 1024
#define TOKENS_AHEAD 64
#define WEIGHED 4
#define ROWS 1
#define MATE(code) ((uint8_t)(code))
#include "lanes.h"
#include "rows.h"
#include "products.h"
#include "int8_any.h"

INLINE void store16_weights(int16_t *to, const vwf x[PER_GROUP]) {
    for (int i = 0; i < PER_GROUP; i++) {
        const vwi whole = to_int_wide(x[i]);
        for (int lane = 0; lane < WIDE; lane++) to[i * WIDE + lane] = (int16_t)whole[lane];
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
            vwf y[VECTORS];
            for (int i = 0; i < VECTORS; i++)
                y[i] = to_float_wide(load_wide_int(sums + WIDE * i)) *
                       (load_wide(m->scales + tile * TILE + WIDE * i) * wide(x->scales[row]));
            finish(out + (size_t)row * stride + tile * TILE, y, VECTORS, epilogue);
        }
    }
}

INLINE void prepare_query(Query *q, int dim) { (void)q, (void)dim; }

INLINE void dots_tile(const int8_t *k, const Query *q, int dim, vwi dots[PER_GROUP]) {
    any_dots_tile(k, q->codes, dim, dots);
}

#include "window.h"

INLINE void mix_tiles(const int8_t *v, const int16_t *weights, const float *steps, int64_t groups,
                      int dim, float *sums, const char *later) {
    (void)later;
    for (int64_t i = 0; i < groups; i++)
        any_mix_tile(v + i * GROUP * dim, weights + i * GROUP, dim, steps[i], sums);
}

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
