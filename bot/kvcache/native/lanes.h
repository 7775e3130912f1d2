/* Eight floats at a time, the same bits on every instruction set. Included once per set, after
 * TARGET has been defined. */
#include <math.h>
#include <string.h>

#include "decode.h"

#define INLINE static inline __attribute__((always_inline)) TARGET

#define LOG2_E 1.44269504088896341f

typedef float v8f __attribute__((vector_size(32)));
typedef int32_t v8i __attribute__((vector_size(32)));

/* Compilers like to finish one chain of results before they begin the next; a processor wants
 * them side by side. Values kept so are computed in the order written. */
#ifdef LANES_AVX2
#define KEEP(x) __asm__ volatile("" : "+x"(x))
#else
#define KEEP(x) (void)(x)
#endif

INLINE v8f splat(float x) { return (v8f){x, x, x, x, x, x, x, x}; }
INLINE v8i splat_int(int32_t x) { return (v8i){x, x, x, x, x, x, x, x}; }

/* A float's exponent field. */
INLINE v8i exponent_of(int32_t biased) { return splat_int(biased << 23); }

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

/* Half to even, for magnitudes below 2^22. */
INLINE v8f round8(v8f x) {
    const v8f magic = splat(12582912.0f);
    return (x + magic) - magic;
}

INLINE v8i to_int(v8f x) { return __builtin_convertvector(x, v8i); }
INLINE v8f to_float(v8i x) { return __builtin_convertvector(x, v8f); }

/* 2^x within 2 ulp for x at most 127, exactly 0 below -126 and for a NaN. For `count` vectors at
 * once (a constant), step by step: one alone would wait for its own results. The polynomial is
 * Taylor's, 4e-8 at the ends of [-1/2, 1/2]. */
INLINE void exp2_of(v8f *x, const int count) {
    static const float terms[6] = {1.3333558146428443e-3f, 9.618129107628477e-3f,
                                   5.5504108664821580e-2f, 2.4022650695910072e-1f,
                                   6.9314718055994531e-1f, 1.0f};
    v8f n[8], y[8];
    v8i power[8];
    for (int i = 0; i < count; i++) n[i] = round8(x[i]);
    for (int i = 0; i < count; i++)
        power[i] = ((to_int(n[i]) + splat_int(127)) << 23) & (x[i] >= splat(-126.0f));
    for (int i = 0; i < count; i++) x[i] = x[i] - n[i];
    for (int i = 0; i < count; i++) y[i] = splat(1.5403530393381610e-4f);
    for (int term = 0; term < 6; term++)
        for (int i = 0; i < count; i++) {
            y[i] = y[i] * x[i] + splat(terms[term]);
            KEEP(y[i]);
        }
    /* a NaN times 0 is a NaN: the mask has to be taken on the product as well */
    for (int i = 0; i < count; i++) x[i] = y[i] * (v8f)power[i];
}

INLINE v8f exp2_8(v8f x) {
    exp2_of(&x, 1);
    return x;
}

/* x * sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3): the tanh form of GELU, as in exp2_of. */
INLINE void gelu_of(v8f *x, const int count) {
    v8f power[8];
    for (int i = 0; i < count; i++) {
        const v8f u =
            splat(0.79788456080286536f) * (x[i] + (splat(0.044715f) * x[i]) * (x[i] * x[i]));
        power[i] = min8(splat(-2.0f * LOG2_E) * u, splat(127.0f));
        KEEP(power[i]);
    }
    exp2_of(power, count);
    for (int i = 0; i < count; i++) x[i] = x[i] / (splat(1.0f) + power[i]);
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
