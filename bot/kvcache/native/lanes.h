/* Eight floats at a time, the same bits on every instruction set. Included once per set, after
 * TARGET has been defined. */
#include <math.h>
#include <string.h>

#include "decode.h"

#define INLINE static inline __attribute__((always_inline)) TARGET

#define LOG2_E 1.44269504088896341f

typedef float v8f __attribute__((vector_size(32)));
typedef int32_t v8i __attribute__((vector_size(32)));

/* As many lanes as a register has, for what is done lane by lane: WIDE changes no bit of it. */
#ifndef WIDE
#define WIDE 8
#endif
#define VECTORS (TILE / WIDE)  /* of a tile's rows */
#define PER_GROUP (GROUP / WIDE)
typedef float vwf __attribute__((vector_size(4 * WIDE)));
typedef int32_t vwi __attribute__((vector_size(4 * WIDE)));

/* Compilers like to finish one chain of results before they begin the next; a processor wants
 * them side by side. Values kept so are computed in the order written. */
#ifdef LANES_AVX2
#define KEEP(x) __asm__ volatile("" : "+v"(x))
#else
#define KEEP(x) (void)(x)
#endif

INLINE v8f splat(float x) { return (v8f){x, x, x, x, x, x, x, x}; }
INLINE v8i splat_int(int32_t x) { return (v8i){x, x, x, x, x, x, x, x}; }

INLINE v8f load8(const float *p) {
    v8f x;
    memcpy(&x, p, sizeof x);
    return x;
}

INLINE v8i load8_int(const int32_t *p) {
    v8i x;
    memcpy(&x, p, sizeof x);
    return x;
}

INLINE void store8(float *p, v8f x) { memcpy(p, &x, sizeof x); }

/* The first n of eight, zeros behind them. */
INLINE v8f load_part(const float *p, int n) {
    if (n >= 8) return load8(p);
    float lanes[8] = {0};
    memcpy(lanes, p, (size_t)(n & 7) * sizeof(float));
    return load8(lanes);
}

INLINE void store_part(float *p, v8f x, int n) {
    if (n >= 8) {
        store8(p, x);
        return;
    }
    float lanes[8];
    store8(lanes, x);
    memcpy(p, lanes, (size_t)(n & 7) * sizeof(float));
}

INLINE v8f select8(v8i mask, v8f a, v8f b) {
    return (v8f)(((v8i)a & mask) | ((v8i)b & ~mask));
}

INLINE v8f absolute(v8f x) { return (v8f)((v8i)x & splat_int(0x7fffffff)); }

/* a > b ? a : b */
INLINE v8f max8(v8f a, v8f b) {
#ifdef LANES_AVX2
    return (v8f)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return select8(a > b, a, b);
#endif
}

INLINE v8f min8(v8f a, v8f b) {
#ifdef LANES_AVX2
    return (v8f)_mm256_min_ps((__m256)a, (__m256)b);
#else
    return select8(a < b, a, b);
#endif
}

INLINE float largest(v8f x) {
#ifdef LANES_AVX2
    __m128 half = _mm_max_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_shuffle_ps(half, half, 1)));
#else
    float best = x[0];
    for (int i = 1; i < 8; i++) best = x[i] > best ? x[i] : best;
    return best;
#endif
}

/* The largest lane in every lane. */
INLINE v8f largest_everywhere(v8f x) {
#ifdef LANES_AVX2
    __m256 most = _mm256_max_ps((__m256)x, _mm256_permute2f128_ps((__m256)x, (__m256)x, 1));
    most = _mm256_max_ps(most, _mm256_permute_ps(most, 0x4e));
    return (v8f)_mm256_max_ps(most, _mm256_permute_ps(most, 0xb1));
#else
    return splat(largest(x));
#endif
}

INLINE float sum8(v8f x) {
#ifdef LANES_AVX2
    __m256 pairs = _mm256_hadd_ps((__m256)x, (__m256)x);
    pairs = _mm256_hadd_ps(pairs, pairs);
    return _mm_cvtss_f32(
        _mm_add_ss(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1)));
#else
    return ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7]));
#endif
}

/* The sums of eight vectors, each in the order of sum8. */
INLINE v8f sum8_of_eight(const v8f x[8]) {
#ifdef LANES_AVX2
    __m256 a = _mm256_hadd_ps((__m256)x[0], (__m256)x[1]), b = _mm256_hadd_ps((__m256)x[2], (__m256)x[3]);
    __m256 c = _mm256_hadd_ps((__m256)x[4], (__m256)x[5]), d = _mm256_hadd_ps((__m256)x[6], (__m256)x[7]);
    a = _mm256_hadd_ps(a, b);
    c = _mm256_hadd_ps(c, d);
    return (v8f)_mm256_add_ps(_mm256_permute2f128_ps(a, c, 0x20), _mm256_permute2f128_ps(a, c, 0x31));
#else
    v8f sums;
    for (int i = 0; i < 8; i++) sums[i] = sum8(x[i]);
    return sums;
#endif
}

/* --- wide: lane by lane only ------------------------------------------------------------- */

#if WIDE == 16
INLINE vwf wide(float x) { return (vwf)_mm512_set1_ps(x); }
INLINE vwi wide_int(int32_t x) { return (vwi)_mm512_set1_epi32(x); }
#else
INLINE vwf wide(float x) { return splat(x); }
INLINE vwi wide_int(int32_t x) { return splat_int(x); }
#endif

INLINE vwf load_wide(const float *p) {
    vwf x;
    memcpy(&x, p, sizeof x);
    return x;
}

INLINE vwi load_wide_int(const int32_t *p) {
    vwi x;
    memcpy(&x, p, sizeof x);
    return x;
}

INLINE void store_wide(float *p, vwf x) { memcpy(p, &x, sizeof x); }

/* a > b ? a : b */
INLINE vwf max_wide(vwf a, vwf b) {
#if WIDE == 16
    return (vwf)_mm512_max_ps((__m512)a, (__m512)b);
#else
    return max8(a, b);
#endif
}

INLINE vwf min_wide(vwf a, vwf b) {
#if WIDE == 16
    return (vwf)_mm512_min_ps((__m512)a, (__m512)b);
#else
    return min8(a, b);
#endif
}

INLINE vwf absolute_wide(vwf x) { return (vwf)((vwi)x & wide_int(0x7fffffff)); }

/* The two halves of sixteen lanes, joined. */
#if WIDE == 16
INLINE v8f lower(vwf x) { return (v8f)_mm512_castps512_ps256((__m512)x); }
INLINE v8f upper(vwf x) {
    return (v8f)_mm256_castsi256_ps(_mm512_extracti64x4_epi64((__m512i)x, 1));
}
#endif

INLINE float largest_wide(vwf x) {
#if WIDE == 16
    return largest(max8(lower(x), upper(x)));
#else
    return largest(x);
#endif
}

/* A group's lanes as eight: first + second. */
INLINE v8f halves_summed(const vwf x[PER_GROUP]) {
#if WIDE == 16
    return lower(x[0]) + upper(x[0]);
#else
    return x[0] + x[1];
#endif
}

/* The largest of a group in every lane. */
INLINE vwf largest_of_group(const vwf x[PER_GROUP]) {
#if WIDE == 16
    __m512 most = _mm512_max_ps((__m512)x[0], _mm512_shuffle_f32x4((__m512)x[0], (__m512)x[0], 0x4e));
    most = _mm512_max_ps(most, _mm512_shuffle_f32x4(most, most, 0xb1));
    most = _mm512_max_ps(most, _mm512_permute_ps(most, 0x4e));
    return (vwf)_mm512_max_ps(most, _mm512_permute_ps(most, 0xb1));
#else
    return largest_everywhere(max8(x[0], x[1]));
#endif
}

/* Half to even, for magnitudes below 2^22. */
INLINE vwf round_wide(vwf x) {
    const vwf magic = wide(12582912.0f);
    return (x + magic) - magic;
}

INLINE v8f round8(v8f x) {
    const v8f magic = splat(12582912.0f);
    return (x + magic) - magic;
}

INLINE v8i to_int(v8f x) { return __builtin_convertvector(x, v8i); }
INLINE v8f to_float(v8i x) { return __builtin_convertvector(x, v8f); }
INLINE vwi to_int_wide(vwf x) { return __builtin_convertvector(x, vwi); }
INLINE vwf to_float_wide(vwi x) { return __builtin_convertvector(x, vwf); }

/* 2^x within 2 ulp for x at most 127, exactly 0 below -126 and for a NaN. For `count` vectors at
 * once (a constant), step by step: one alone would wait for its own results. The polynomial is
 * Taylor's, 4e-8 at the ends of [-1/2, 1/2]. */
INLINE void exp2_of(vwf *x, const int count) {
    static const float terms[6] = {1.3333558146428443e-3f, 9.618129107628477e-3f,
                                   5.5504108664821580e-2f, 2.4022650695910072e-1f,
                                   6.9314718055994531e-1f, 1.0f};
    vwf n[8], y[8];
    vwi power[8];
    for (int i = 0; i < count; i++) n[i] = round_wide(x[i]);
    for (int i = 0; i < count; i++)
        power[i] = ((to_int_wide(n[i]) + wide_int(127)) << 23) & (x[i] >= wide(-126.0f));
    for (int i = 0; i < count; i++) x[i] = x[i] - n[i];
    for (int i = 0; i < count; i++) y[i] = wide(1.5403530393381610e-4f);
    for (int term = 0; term < 6; term++)
        for (int i = 0; i < count; i++) {
            y[i] = y[i] * x[i] + wide(terms[term]);
            KEEP(y[i]);
        }
    /* a NaN times 0 is a NaN: the mask has to be taken on the product as well */
    for (int i = 0; i < count; i++) x[i] = y[i] * (vwf)power[i];
}

INLINE float exp2_one(float x) {
    vwf lanes = wide(x);
    exp2_of(&lanes, 1);
    return lanes[0];
}

/* x * sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3): the tanh form of GELU, as in exp2_of. */
INLINE void gelu_of(vwf *x, const int count) {
    vwf power[8];
    for (int i = 0; i < count; i++) {
        const vwf u = wide(0.79788456080286536f) * (x[i] + (wide(0.044715f) * x[i]) * (x[i] * x[i]));
        power[i] = min_wide(wide(-2.0f * LOG2_E) * u, wide(127.0f));
        KEEP(power[i]);
    }
    exp2_of(power, count);
    for (int i = 0; i < count; i++) x[i] = x[i] / (wide(1.0f) + power[i]);
}

INLINE float half_to_float(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31;
    uint32_t bits, fraction = half & 1023;
    if (exponent == 31) {
        bits = sign | 0x7f800000 | fraction << 13;
    } else if (exponent) {
        bits = sign | (exponent + 112) << 23 | fraction << 13;
    } else {
        const float small = (float)fraction * 0x1p-24f;
        memcpy(&bits, &small, 4);
        bits |= sign;
    }
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

/* For x at least 2^-14, an infinity or a NaN: half to even, infinity above 65519. */
INLINE uint16_t float_to_half(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return 0x7e00;
    if (bits >= 0x477ff000) return 0x7c00;
    bits -= 112u << 23;
    return (uint16_t)((bits + 0xfff + (bits >> 13 & 1)) >> 13);
}

INLINE v8f load8_half(const uint16_t *p) {
#ifdef LANES_AVX2
    return (v8f)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#else
    v8f x;
    for (int i = 0; i < 8; i++) x[i] = half_to_float(p[i]);
    return x;
#endif
}

INLINE vwf load_wide_half(const uint16_t *p) {
#if WIDE == 16
    return (vwf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#else
    return load8_half(p);
#endif
}
