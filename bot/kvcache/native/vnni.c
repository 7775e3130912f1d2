/* AVX-512 with VNNI. vpdpbusd adds four products of an unsigned and a signed byte to 32 bits and
 * never saturates. Activations are made unsigned by adding 128, which 128 times the sum of a
 * weight row's codes takes back; keys likewise, against the sum of the query's codes. */
#include "decode.h"
#ifdef HAVE_X86
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,f16c,avx512f,avx512bw,avx512vl,avx512vnni")))
#define LANES_AVX2
#define PREFETCH_BYTES 2048
#define TOKENS_AHEAD 64
#define WEIGHED 4
#define MATE(code) ((uint8_t)((code) ^ 0x80))
#include "lanes.h"
#include "rows.h"
#include "products.h"
#include "int8_any.h"

INLINE void store16_weights(int16_t *to, v8f low, v8f high) {
    const __m256i packed = _mm256_packs_epi32(_mm256_cvttps_epi32((__m256)low),
                                              _mm256_cvttps_epi32((__m256)high));
    _mm256_storeu_si256((__m256i *)to, _mm256_permute4x64_epi64(packed, 0xd8));
}

INLINE __m512i load64(const void *p) { return _mm512_loadu_si512(p); }

INLINE __m512i quad(const void *p) {
    int32_t bytes;
    memcpy(&bytes, p, 4);
    return _mm512_set1_epi32(bytes);
}

/* One tile against row_count rows; row_count is a constant where this is inlined. */
INLINE void int8_tile(const Matrix *m, int tile, const Activations *x, int row, float *out,
                      int stride, int epilogue, const int row_count) {
    const int quads = (m->cols + 3) / 4;
    const char *w = (const char *)m->tiles + (size_t)tile * quads * TILE * 4;
    const uint8_t *mates = x->mates + (size_t)row * x->stride;
    __m512i sums[4][2];
    for (int r = 0; r < row_count; r++) sums[r][0] = sums[r][1] = _mm512_setzero_si512();
    _Pragma("GCC unroll 4") for (int at = 0; at < quads; at++, w += TILE * 4) {
        _mm_prefetch(w + PREFETCH_BYTES, _MM_HINT_T0);
        _mm_prefetch(w + PREFETCH_BYTES + 64, _MM_HINT_T0);
        for (int r = 0; r < row_count; r++) {
            const __m512i a = quad(mates + (size_t)r * x->stride + at * 4);
            sums[r][0] = _mm512_dpbusd_epi32(sums[r][0], a, load64(w));
            sums[r][1] = _mm512_dpbusd_epi32(sums[r][1], a, load64(w + 64));
        }
    }
    for (int r = 0; r < row_count; r++) {
        v8f y[VECTORS];
        for (int i = 0; i < 2; i++) {
            const int n = tile * TILE + 16 * i;
            const __m512i offset = _mm512_slli_epi32(load64(m->sums + n), 7);
            const __m512i sum = _mm512_sub_epi32(sums[r][i], offset);
            const v8f scale = splat(x->scales[row + r]);
            y[2 * i] = to_float((v8i)_mm512_castsi512_si256(sum)) * (load8(m->scales + n) * scale);
            y[2 * i + 1] = to_float((v8i)_mm512_extracti64x4_epi64(sum, 1)) *
                           (load8(m->scales + n + 8) * scale);
        }
        finish_tile(out + (size_t)(row + r) * stride + tile * TILE, y, epilogue);
    }
}

static TARGET void multiply_int8(const Matrix *m, int first, int last, const Activations *x,
                                 int rows, float *out, int stride, int epilogue) {
    for (int tile = first; tile < last; tile++) {
        int row = 0;
        for (; row + 4 <= rows; row += 4) int8_tile(m, tile, x, row, out, stride, epilogue, 4);
        for (; row < rows; row++) int8_tile(m, tile, x, row, out, stride, epilogue, 1);
    }
}

/* The sums of sixteen vectors. */
INLINE __m512i sums_of_sixteen(const __m512i x[16]) {
    __m512i pairs[8], fours[4], eights[2];
    for (int i = 0; i < 8; i++)
        pairs[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(x[2 * i], x[2 * i + 1]),
                                    _mm512_unpackhi_epi32(x[2 * i], x[2 * i + 1]));
    for (int i = 0; i < 4; i++)
        fours[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(pairs[2 * i], pairs[2 * i + 1]),
                                    _mm512_unpackhi_epi64(pairs[2 * i], pairs[2 * i + 1]));
    for (int i = 0; i < 2; i++) /* lanes 0 2 of both, and 1 3 of both */
        eights[i] = _mm512_add_epi32(_mm512_shuffle_i32x4(fours[2 * i], fours[2 * i + 1], 0x88),
                                     _mm512_shuffle_i32x4(fours[2 * i], fours[2 * i + 1], 0xdd));
    return _mm512_add_epi32(_mm512_shuffle_i32x4(eights[0], eights[1], 0x88),
                            _mm512_shuffle_i32x4(eights[0], eights[1], 0xdd));
}

/* dim is 32, or a multiple of 64. */
INLINE void fixed_dots(const int8_t *k, const Query *q, const int dim, v8i dots[2]) {
    const __mmask16 half = dim == 32 ? 0xff : 0xffff;
    const __m512i flip = _mm512_set1_epi8((char)0x80), ones = _mm512_set1_epi8(1);
    __m512i sums[GROUP], codes_sum = _mm512_setzero_si512();
    for (int i = 0; i < dim; i += 64)
        codes_sum =
            _mm512_dpbusd_epi32(codes_sum, ones, _mm512_maskz_loadu_epi32(half, q->codes + i));
    for (int token = 0; token < GROUP; token++) {
        sums[token] = _mm512_setzero_si512();
        for (int i = 0; i < dim; i += 64)
            sums[token] = _mm512_dpbusd_epi32(
                sums[token],
                _mm512_xor_si512(flip, _mm512_maskz_loadu_epi32(half, k + token * dim + i)),
                _mm512_maskz_loadu_epi32(half, q->codes + i));
    }
    const int32_t offset = 128 * _mm512_reduce_add_epi32(codes_sum);
    const __m512i all = _mm512_sub_epi32(sums_of_sixteen(sums), _mm512_set1_epi32(offset));
    dots[0] = (v8i)_mm512_castsi512_si256(all);
    dots[1] = (v8i)_mm512_extracti64x4_epi64(all, 1);
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

INLINE __m256i load32(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }

/* 32 columns of a group: four tokens' bytes side by side, against the high and the low part
 * of their weights, which reach 4096. */
INLINE void mix_columns(const int8_t *v, const int16_t *weights, const int dim, float step,
                        float *sums) {
    const __m256i w = load32(weights);
    uint8_t high[GROUP], low[GROUP];
    _mm_storeu_si128((__m128i *)high, _mm256_cvtepi16_epi8(_mm256_srli_epi16(w, 6)));
    _mm_storeu_si128((__m128i *)low,
                     _mm256_cvtepi16_epi8(_mm256_and_si256(w, _mm256_set1_epi16(63))));
    const __m256i zero = _mm256_setzero_si256();
    __m256i highs[4] = {zero, zero, zero, zero}, lows[4] = {zero, zero, zero, zero};
    for (int token = 0; token < GROUP; token += 4) {
        const int8_t *row = v + token * dim;
        const __m256i a = load32(row), b = load32(row + dim);
        const __m256i c = load32(row + 2 * dim), d = load32(row + 3 * dim);
        const __m256i ab[2] = {_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)};
        const __m256i cd[2] = {_mm256_unpacklo_epi8(c, d), _mm256_unpackhi_epi8(c, d)};
        int32_t high_quad, low_quad;
        memcpy(&high_quad, high + token, 4);
        memcpy(&low_quad, low + token, 4);
        for (int i = 0; i < 2; i++) {
            const __m256i abcd[2] = {_mm256_unpacklo_epi16(ab[i], cd[i]),
                                     _mm256_unpackhi_epi16(ab[i], cd[i])};
            for (int j = 0; j < 2; j++) {
                const int at = 2 * i + j;
                highs[at] = _mm256_dpbusd_epi32(highs[at], _mm256_set1_epi32(high_quad), abcd[j]);
                lows[at] = _mm256_dpbusd_epi32(lows[at], _mm256_set1_epi32(low_quad), abcd[j]);
            }
        }
    }
    for (int i = 0; i < 4; i++) highs[i] = _mm256_add_epi32(_mm256_slli_epi32(highs[i], 6), lows[i]);
    const v8f scale = splat(step);
    const __m256i columns[4] = {
        _mm256_permute2x128_si256(highs[0], highs[1], 0x20),
        _mm256_permute2x128_si256(highs[2], highs[3], 0x20),
        _mm256_permute2x128_si256(highs[0], highs[1], 0x31),
        _mm256_permute2x128_si256(highs[2], highs[3], 0x31),
    };
    for (int i = 0; i < 4; i++)
        store8(sums + 8 * i, load8(sums + 8 * i) + to_float((v8i)columns[i]) * scale);
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
    __m512i sums[8];
    for (int i = 0; i < 8; i++) sums[i] = _mm512_setzero_si512();
    for (size_t at = 0; at + 512 <= count; at += 512)
        for (int i = 0; i < 8; i++) sums[i] = _mm512_add_epi64(sums[i], load64(bytes + at + i * 64));
    for (int i = 1; i < 8; i++) sums[0] = _mm512_add_epi64(sums[0], sums[i]);
    return (uint64_t)_mm512_reduce_add_epi64(sums[0]);
}

const Kernels kernels_vnni = {
    .name = "vnni",
    .multiply_int8 = multiply_int8,
    .multiply_float = multiply_float,
    .normalize = normalize,
    .quantize = quantize,
    .attend = attend,
    .read = read_bytes,
};
#endif
