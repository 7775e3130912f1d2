/* AVX-512 with VNNI. vpdpbusd adds four products of an unsigned and a signed byte to 32 bits and
 * never saturates. Activations are made unsigned by adding 128, which 128 times the sum of a
 * weight row's codes takes back; keys likewise, against the sum of the query's codes. */
#include "decode.h"
#ifdef HAVE_X86
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,f16c,avx512f,avx512bw,avx512vl,avx512vnni")))
#define LANES_AVX2
#define WIDE 16
#define PREFETCH_BYTES 2048
#define TOKENS_AHEAD 64
#define WEIGHED 4
#define ROWS 4 /* activations that share a read of the weights */
#define MATE(code) ((uint8_t)((code) ^ 0x80))
#include "lanes.h"
#include "rows.h"
#include "products.h"
#include "int8_any.h"

INLINE void store16_weights(int16_t *to, const vwf x[PER_GROUP]) {
    _mm256_storeu_si256((__m256i *)to,
                        _mm512_cvtepi32_epi16(_mm512_cvttps_epi32((__m512)x[0])));
}

INLINE __m512i load64(const void *p) { return _mm512_loadu_si512(p); }

INLINE __m512i quad(const void *p) {
    int32_t bytes;
    memcpy(&bytes, p, 4);
    return _mm512_set1_epi32(bytes);
}

/* The codes of a tile against one row, four columns and 64 bytes of weights at a time. A sum takes
 * five cycles to come out, so eight of them are under way. */
INLINE void int8_row(const char *w, const uint8_t *mates, int quads, __m512i sums[2]) {
    __m512i part[4][2];
    for (int i = 0; i < 4; i++) part[i][0] = part[i][1] = _mm512_setzero_si512();
    int at = 0;
    for (; at + 4 <= quads; at += 4, w += 4 * TILE * 4)
        for (int i = 0; i < 4; i++) {
            const char *from = w + i * TILE * 4;
            const __m512i a = quad(mates + (at + i) * 4);
            _mm_prefetch(from + PREFETCH_BYTES, _MM_HINT_T0);
            _mm_prefetch(from + PREFETCH_BYTES + 64, _MM_HINT_T0);
            part[i][0] = _mm512_dpbusd_epi32(part[i][0], a, load64(from));
            part[i][1] = _mm512_dpbusd_epi32(part[i][1], a, load64(from + 64));
        }
    for (; at < quads; at++, w += TILE * 4)
        for (int j = 0; j < 2; j++)
            part[0][j] = _mm512_dpbusd_epi32(part[0][j], quad(mates + at * 4), load64(w + 64 * j));
    for (int j = 0; j < 2; j++)
        sums[j] = _mm512_add_epi32(_mm512_add_epi32(part[0][j], part[1][j]),
                                   _mm512_add_epi32(part[2][j], part[3][j]));
}

/* The same against four rows, for which the weights are read once. */
INLINE void int8_rows(const char *w, const uint8_t *mates, int stride, int quads,
                      __m512i sums[ROWS][2]) {
    for (int r = 0; r < ROWS; r++) sums[r][0] = sums[r][1] = _mm512_setzero_si512();
    _Pragma("GCC unroll 4") for (int at = 0; at < quads; at++, w += TILE * 4) {
        const __m512i low = load64(w), high = load64(w + 64);
        _mm_prefetch(w + PREFETCH_BYTES, _MM_HINT_T0);
        _mm_prefetch(w + PREFETCH_BYTES + 64, _MM_HINT_T0);
        for (int r = 0; r < ROWS; r++) {
            const __m512i a = quad(mates + (size_t)r * stride + at * 4);
            sums[r][0] = _mm512_dpbusd_epi32(sums[r][0], a, low);
            sums[r][1] = _mm512_dpbusd_epi32(sums[r][1], a, high);
        }
    }
}

INLINE void finish_int8(const Matrix *m, int tile, const __m512i sums[2], float scale, float *out,
                        int epilogue) {
    vwf y[VECTORS];
    for (int i = 0; i < VECTORS; i++) {
        const int row = tile * TILE + WIDE * i;
        const vwi offset = load_wide_int(m->sums + row) << 7;
        y[i] = to_float_wide((vwi)sums[i] - offset) * (load_wide(m->scales + row) * wide(scale));
    }
    finish(out + tile * TILE, y, VECTORS, epilogue);
}

static TARGET void multiply_int8(const Matrix *m, int first, int last, const Activations *x,
                                 int rows, float *out, int stride, int epilogue) {
    const int quads = (m->cols + 3) / 4;
    for (int tile = first; tile < last; tile++) {
        const char *w = (const char *)m->tiles + (size_t)tile * quads * TILE * 4;
        int row = 0;
        for (; row + ROWS <= rows; row += ROWS) {
            __m512i sums[ROWS][2];
            int8_rows(w, x->mates + (size_t)row * x->stride, x->stride, quads, sums);
            for (int r = 0; r < ROWS; r++)
                finish_int8(m, tile, sums[r], x->scales[row + r], out + (size_t)(row + r) * stride,
                            epilogue);
        }
        for (; row < rows; row++) {
            __m512i sums[2];
            int8_row(w, x->mates + (size_t)row * x->stride, quads, sums);
            finish_int8(m, tile, sums, x->scales[row], out + (size_t)row * stride, epilogue);
        }
    }
}

/* Keys are made unsigned by adding 128, which 128 times the sum of the query's codes takes back. */
INLINE void prepare_query(Query *q, int dim) {
    int32_t sum = 0;
    for (int i = 0; i < dim; i++) sum += q->codes[i];
    q->offset = -128 * sum;
}

/* Four bytes of a key beside those of the other tokens: lanes are tokens, nothing is summed across. */
INLINE void dots_tile(const int8_t *k, const Query *q, const int dim, vwi dots[PER_GROUP]) {
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    __m512i even = _mm512_set1_epi32(q->offset), odd = _mm512_setzero_si512();
    for (int i = 0; i < dim; i += 8, k += 8 * GROUP) {
        even = _mm512_dpbusd_epi32(even, _mm512_xor_si512(flip, load64(k)), quad(q->codes + i));
        odd = _mm512_dpbusd_epi32(odd, _mm512_xor_si512(flip, load64(k + 64)),
                                  quad(q->codes + i + 4));
    }
    dots[0] = (vwi)_mm512_add_epi32(even, odd);
}

INLINE __m256i load32(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }

#include "window.h"

/* Lanes are columns, their four bytes tokens, against the high and the low part of the tokens'
 * weights, which reach 4096. */
INLINE void mix_tiles(const int8_t *v, const int16_t *weights, const float *steps,
                      const int64_t groups, const int dim, float *sums, const char *later) {
    for (int from = 0; from < dim; from += 32) {
        vwf mixed[2] = {load_wide(sums + from), load_wide(sums + from + WIDE)};
        for (int64_t group = 0; group < groups; group++) {
            if (!from && later) ask_for(&later, (size_t)GROUP * dim);
            const __m256i w = load32(weights + group * GROUP);
            uint8_t high[GROUP], low[GROUP];
            _mm_storeu_si128((__m128i *)high, _mm256_cvtepi16_epi8(_mm256_srli_epi16(w, 6)));
            _mm_storeu_si128((__m128i *)low,
                             _mm256_cvtepi16_epi8(_mm256_and_si256(w, _mm256_set1_epi16(63))));
            const __m512i zero = _mm512_setzero_si512();
            __m512i highs[2] = {zero, zero}, lows[2] = {zero, zero};
            for (int token = 0; token < GROUP; token += 4) {
                const int8_t *at = v + (group * GROUP + token) * dim + 4 * from;
                for (int i = 0; i < 2; i++) {
                    const __m512i x = load64(at + 64 * i);
                    highs[i] = _mm512_dpbusd_epi32(highs[i], quad(high + token), x);
                    lows[i] = _mm512_dpbusd_epi32(lows[i], quad(low + token), x);
                }
            }
            const vwf scale = wide(steps[group]);
            for (int i = 0; i < 2; i++)
                mixed[i] += to_float_wide(((vwi)highs[i] << 6) + (vwi)lows[i]) * scale;
        }
        for (int i = 0; i < 2; i++) store_wide(sums + from + WIDE * i, mixed[i]);
    }
}

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
