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
#define PREFETCH_BYTES 4096
#define MATE(code) ((uint8_t)((code) < 0 ? -(code) : (code)))
#include "lanes.h"
#include "rows.h"
#include "products.h"
#include "int8_any.h"

INLINE void store16_weights(int16_t *to, v8f low, v8f high) {
    const __m256i packed = _mm256_packs_epi32(_mm256_cvttps_epi32((__m256)low),
                                              _mm256_cvttps_epi32((__m256)high));
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
        v8f y[VECTORS];
        for (int i = 0; i < VECTORS; i++)
            y[i] = to_float((v8i)sums[r][i]) *
                   (load8(m->scales + tile * TILE + 8 * i) * splat(x->scales[row + r]));
        finish_tile(out + (size_t)(row + r) * stride + tile * TILE, y, epilogue);
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

/* The sums of eight vectors. */
INLINE v8i sums_of_eight(const __m256i x[8]) {
    __m256i pairs[4];
    for (int i = 0; i < 4; i++)
        pairs[i] = _mm256_add_epi32(_mm256_unpacklo_epi32(x[2 * i], x[2 * i + 1]),
                                    _mm256_unpackhi_epi32(x[2 * i], x[2 * i + 1]));
    __m256i fours[2];
    for (int i = 0; i < 2; i++)
        fours[i] = _mm256_add_epi32(_mm256_unpacklo_epi64(pairs[2 * i], pairs[2 * i + 1]),
                                    _mm256_unpackhi_epi64(pairs[2 * i], pairs[2 * i + 1]));
    return (v8i)_mm256_add_epi32(_mm256_permute2x128_si256(fours[0], fours[1], 0x20),
                                 _mm256_permute2x128_si256(fours[0], fours[1], 0x31));
}

/* dim is a constant multiple of 32. */
INLINE void fixed_dots(const int8_t *k, const Query *q, const int dim, v8i dots[2]) {
    for (int half = 0; half < 2; half++) {
        __m256i sums[8];
        for (int token = 0; token < 8; token++) {
            const int8_t *row = k + (half * 8 + token) * dim;
            sums[token] = dot4(load32(q->mates), load32(q->codes), load32(row));
            for (int i = 32; i < dim; i += 32)
                sums[token] = _mm256_add_epi32(
                    sums[token], dot4(load32(q->mates + i), load32(q->codes + i), load32(row + i)));
        }
        dots[half] = sums_of_eight(sums);
    }
}

INLINE void dots_int8(const int8_t *k, const Query *q, int dim, v8i dots[2]) {
    if (dim == 32)
        fixed_dots(k, q, 32, dots);
    else if (dim == 64)
        fixed_dots(k, q, 64, dots);
    else if (dim == 128)
        fixed_dots(k, q, 128, dots);
    else
        any_dots_int8(k, q->codes, dim, dots);
}

/* 32 columns of a group. Two tokens' bytes are interleaved and widened to the high byte of 16
 * bits, so vpmaddwd sums a pair of products, times 256: 16 * 4096 * 127 * 256 < 2^31. */
INLINE void mix_columns(const int8_t *v, const int16_t *weights, const int dim, float step,
                        float *sums) {
    const __m256i zero = _mm256_setzero_si256();
    __m256i mixed[4] = {zero, zero, zero, zero};
    for (int token = 0; token < GROUP; token += 2) {
        const __m256i a = load32(v + token * dim), b = load32(v + (token + 1) * dim);
        const __m256i pair = quad(weights + token);
        const __m256i low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b);
        const __m256i wide[4] = {
            _mm256_unpacklo_epi8(zero, low), _mm256_unpackhi_epi8(zero, low),
            _mm256_unpacklo_epi8(zero, high), _mm256_unpackhi_epi8(zero, high)};
        for (int i = 0; i < 4; i++) {
            mixed[i] = _mm256_add_epi32(mixed[i], _mm256_madd_epi16(wide[i], pair));
            KEEP(mixed[i]); /* regrouped as a tree they would not fit the registers */
        }
    }
    const v8f scale = splat(step * (1.0f / 256));
    const int order[4] = {0, 8, 16, 24};
    const __m256i columns[4] = {
        _mm256_permute2x128_si256(mixed[0], mixed[1], 0x20),
        _mm256_permute2x128_si256(mixed[2], mixed[3], 0x20),
        _mm256_permute2x128_si256(mixed[0], mixed[1], 0x31),
        _mm256_permute2x128_si256(mixed[2], mixed[3], 0x31),
    };
    for (int i = 0; i < 4; i++)
        store8(sums + order[i], load8(sums + order[i]) + to_float((v8i)columns[i]) * scale);
}

INLINE void mix_group_int8(const int8_t *v, const int16_t *weights, int dim, float step,
                           float *sums) {
    if (dim == 32) {
        mix_columns(v, weights, 32, step, sums);
    } else if (dim == 64) {
        for (int i = 0; i < 64; i += 32) mix_columns(v + i, weights, 64, step, sums + i);
    } else if (dim == 128) {
        for (int i = 0; i < 128; i += 32) mix_columns(v + i, weights, 128, step, sums + i);
    } else {
        any_mix_int8(v, weights, dim, step, sums);
    }
}

#include "window.h"
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
