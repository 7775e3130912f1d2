/* AVX2. Byte products go through vpmaddubsw, which takes one unsigned operand and saturates at
 * 16 bits: with |a| <= 127 as the unsigned one and the sign moved to the other, a pair of
 * products is at most 2 * 127 * 127 = 32258 and never saturates. */
#include "decode.h"
#ifdef HAVE_X86
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,f16c")))
#define LANES_AVX2
#define TOKENS_AHEAD 64
#define WEIGHED 4
#define ROWS 3 /* activations that share a read of float weights */
#define PREFETCH_BYTES 4096
#define MATE(code) ((uint8_t)((code) < 0 ? -(code) : (code)))
#include "lanes.h"
#include "rows.h"
#include "products.h"
#include "int8_any.h"

INLINE void store16_weights(int16_t *to, const vwf x[PER_GROUP]) {
    const __m256i packed = _mm256_packs_epi32(_mm256_cvttps_epi32((__m256)x[0]),
                                              _mm256_cvttps_epi32((__m256)x[1]));
    _mm256_storeu_si256((__m256i *)to, _mm256_permute4x64_epi64(packed, 0xd8));
}

INLINE __m256i load32(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }

/* The four bytes at p in every lane. */
INLINE __m256i quad(const void *p) {
    int32_t bytes;
    memcpy(&bytes, p, 4);
    return _mm256_set1_epi32(bytes);
}

/* Sums of four neighbouring products: magnitudes are |a|, and the sign of a moves to b. */
INLINE __m256i dot4(__m256i magnitudes, __m256i a, __m256i b) {
    const __m256i pairs = _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(b, a));
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

/* One tile against row_count rows; row_count is a constant where this is inlined. */
INLINE void int8_tile(const Matrix *m, int tile, const Activations *x, int row, float *out,
                      int stride, int epilogue, const int row_count) {
    const int quads = (m->cols + 3) / 4;
    const char *w = (const char *)m->tiles + (size_t)tile * quads * TILE * 4;
    const int8_t *codes = x->codes + (size_t)row * x->stride;
    const uint8_t *mates = x->mates + (size_t)row * x->stride;
    __m256i sums[2][VECTORS];
    for (int r = 0; r < row_count; r++)
        for (int i = 0; i < VECTORS; i++) sums[r][i] = _mm256_setzero_si256();
    _Pragma("GCC unroll 4") for (int at = 0; at < quads; at++, w += TILE * 4) {
        _mm_prefetch(w + PREFETCH_BYTES, _MM_HINT_T0);
        _mm_prefetch(w + PREFETCH_BYTES + 64, _MM_HINT_T0);
        for (int r = 0; r < row_count; r++) {
            const __m256i a = quad(codes + (size_t)r * x->stride + at * 4);
            const __m256i magnitudes = quad(mates + (size_t)r * x->stride + at * 4);
            for (int i = 0; i < VECTORS; i++)
                sums[r][i] =
                    _mm256_add_epi32(sums[r][i], dot4(magnitudes, a, load32(w + 32 * i)));
        }
    }
    for (int r = 0; r < row_count; r++) {
        vwf y[VECTORS];
        for (int i = 0; i < VECTORS; i++)
            y[i] = to_float((v8i)sums[r][i]) *
                   (load8(m->scales + tile * TILE + 8 * i) * splat(x->scales[row + r]));
        finish(out + (size_t)(row + r) * stride + tile * TILE, y, VECTORS, epilogue);
    }
}

static TARGET void multiply_int8(const Matrix *m, int first, int last, const Activations *x,
                                 int rows, float *out, int stride, int epilogue) {
    for (int tile = first; tile < last; tile++) {
        int row = 0;
        for (; row + 2 <= rows; row += 2) int8_tile(m, tile, x, row, out, stride, epilogue, 2);
        if (row < rows) int8_tile(m, tile, x, row, out, stride, epilogue, 1);
    }
}

/* Keys turn their sign by xor, which is one less than the negative: `offset` gives it back. */
INLINE void prepare_query(Query *q, int dim) {
    const __m256i zero = _mm256_setzero_si256();
    __m256i sum = zero;
    for (int i = 0; i < dim; i += 32) {
        const __m256i signs = _mm256_cmpgt_epi8(zero, load32(q->codes + i));
        _mm256_storeu_si256((__m256i *)(q->signs + i), signs);
        sum = _mm256_add_epi64(
            sum, _mm256_sad_epu8(_mm256_and_si256(signs, load32(q->mates + i)), zero));
    }
    q->offset = (int32_t)(_mm256_extract_epi64(sum, 0) + _mm256_extract_epi64(sum, 1) +
                          _mm256_extract_epi64(sum, 2) + _mm256_extract_epi64(sum, 3));
}

/* Four bytes of a key beside those of the other tokens: lanes are tokens, nothing is summed across.
 * A pair is at most 127 * (127 + 128) and never saturates. */
INLINE void dots_tile(const int8_t *k, const Query *q, const int dim, vwi dots[PER_GROUP]) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i low = _mm256_set1_epi32(q->offset), high = low;
    for (int i = 0; i < dim; i += 4, k += 4 * GROUP) {
        const __m256i magnitudes = quad(q->mates + i), signs = quad(q->signs + i);
        const __m256i a = _mm256_maddubs_epi16(magnitudes, _mm256_xor_si256(signs, load32(k)));
        const __m256i b = _mm256_maddubs_epi16(magnitudes, _mm256_xor_si256(signs, load32(k + 32)));
        low = _mm256_add_epi32(low, _mm256_madd_epi16(a, ones));
        high = _mm256_add_epi32(high, _mm256_madd_epi16(b, ones));
    }
    dots[0] = (vwi)low;
    dots[1] = (vwi)high;
}

#include "window.h"

/* Lanes are columns, their four bytes tokens. Even and odd tokens are widened to the high byte of
 * 16 bits, so vpmaddwd sums a pair of products, times 256: 16 * 4096 * 127 * 256 < 2^31. */
INLINE void mix_tiles(const int8_t *v, const int16_t *weights, const float *steps,
                      const int64_t groups, const int dim, float *sums, const char *later) {
    const __m256i odd_bytes = _mm256_set1_epi16((int16_t)0xff00);
    const __m256i even_first = _mm256_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15,
                                                0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15);
    for (int from = 0; from < dim; from += 32) {
        v8f mixed[4];
        for (int i = 0; i < 4; i++) mixed[i] = load8(sums + from + 8 * i);
        for (int64_t group = 0; group < groups; group++) {
            if (!from && later) ask_for(&later, (size_t)GROUP * dim);
            int32_t pairs[GROUP / 2];
            _mm256_storeu_si256((__m256i *)pairs, _mm256_shuffle_epi8(load32(weights + group * GROUP),
                                                                      even_first));
            const __m256i zero = _mm256_setzero_si256();
            __m256i products[4] = {zero, zero, zero, zero};
            for (int token = 0; token < GROUP; token += 4) {
                const int8_t *at = v + (group * GROUP + token) * dim + 4 * from;
                const __m256i even = quad(pairs + token / 2), odd = quad(pairs + token / 2 + 1);
                for (int i = 0; i < 4; i++) {
                    const __m256i x = load32(at + 32 * i);
                    products[i] = _mm256_add_epi32(
                        products[i], _mm256_add_epi32(
                                         _mm256_madd_epi16(_mm256_slli_epi16(x, 8), even),
                                         _mm256_madd_epi16(_mm256_and_si256(x, odd_bytes), odd)));
                    KEEP(products[i]); /* regrouped as a tree they would not fit the registers */
                }
            }
            const v8f scale = splat(steps[group] * (1.0f / 256));
            for (int i = 0; i < 4; i++) mixed[i] += to_float((v8i)products[i]) * scale;
        }
        for (int i = 0; i < 4; i++) store8(sums + from + 8 * i, mixed[i]);
    }
}

#include "attend_int8.h"
#include "attend_float.h"
#include "attend.h"

static TARGET uint64_t read_bytes(const char *bytes, size_t count) {
    __m256i sums[8];
    for (int i = 0; i < 8; i++) sums[i] = _mm256_setzero_si256();
    for (size_t at = 0; at + 256 <= count; at += 256)
        for (int i = 0; i < 8; i++)
            sums[i] = _mm256_add_epi64(sums[i], load32(bytes + at + i * 32));
    for (int i = 1; i < 8; i++) sums[0] = _mm256_add_epi64(sums[0], sums[i]);
    return (uint64_t)_mm256_extract_epi64(sums[0], 0) + (uint64_t)_mm256_extract_epi64(sums[0], 3);
}

const Kernels kernels_avx2 = {
    .name = "avx2",
    .multiply_int8 = multiply_int8,
    .multiply_float = multiply_float,
    .normalize = normalize,
    .quantize = quantize,
    .attend = attend,
    .read = read_bytes,
};
#endif
