/* What happens to one row between the products: norms, codes, rotary phases. */

static TARGET void normalize(const float *x, const float *weight, int n, float *out) {
    v8f squares = splat(0);
    for (int i = 0; i < n; i += 8) {
        const v8f part = load_part(x + i, n - i);
        squares += part * part;
    }
    const v8f factor = splat(1.0f / sqrtf(sum8(squares) / (float)n + 1e-6f));
    for (int i = 0; i < n; i += 8)
        store_part(out + i, (load_part(x + i, n - i) * factor) * load_part(weight + i, n - i), n - i);
}

INLINE float peak_of(const float *x, int n) {
    v8f peak = splat(0);
    for (int i = 0; i < n; i += 8) peak = max8(absolute(load_part(x + i, n - i)), peak);
    return largest(peak);
}

/* Eight numbers of magnitude at most 127, already integral, to bytes. */
INLINE void store8_bytes(int8_t *p, v8f x) {
#ifdef LANES_AVX2
    const __m256i wide = _mm256_cvttps_epi32((__m256)x);
    const __m128i half = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    _mm_storel_epi64((__m128i *)p, _mm_packs_epi16(half, half));
#else
    const v8i wide = to_int(x);
    for (int i = 0; i < 8; i++) p[i] = (int8_t)wide[i];
#endif
}

INLINE void store_wide_bytes(int8_t *p, vwf x) {
#if WIDE == 16
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(_mm512_cvttps_epi32((__m512)x)));
#else
    store8_bytes(p, x);
#endif
}

static TARGET void quantize(const float *x, int n, int8_t *codes, uint8_t *mates, float *scale) {
    vwf most = wide(0);
    for (int i = 0; i < n; i += WIDE) most = max_wide(absolute_wide(load_wide(x + i)), most);
    const float peak = largest_wide(most);
    *scale = peak / 127.0f;
    const vwf inverse = wide(peak > 1e-30f ? 127.0f / peak : 0.0f);
    for (int i = 0; i < n; i += WIDE)
        store_wide_bytes(codes + i, round_wide(load_wide(x + i) * inverse));
    for (int i = 0; i < n; i++) mates[i] = MATE(codes[i]);
}

/* The cache's int8: codes against the scale as it is stored, and that scale. */
INLINE uint16_t encode_int8(const float *x, int n, int8_t *codes) {
    float least = peak_of(x, n) / 127.0f;
    if (!(least > 0x1p-14f)) least = 0x1p-14f;
    const uint16_t half = float_to_half(least);
    const v8f scale = splat(half_to_float(half));
    for (int i = 0; i < n; i += 8) {
        v8f x8 = load_part(x + i, n - i) / scale;
        x8 = max8(min8(round8(x8), splat(127.0f)), splat(-127.0f));
        int8_t bytes[8];
        store8_bytes(bytes, x8);
        memcpy(codes + i, bytes, n - i < 8 ? (size_t)(n - i) : 8);
    }
    return half;
}

/* Turn the pairs (x[i], x[i + n/2]) by their phases. */
INLINE void rotate(float *x, const float *cos, const float *sin, int n) {
    const int half = n / 2;
    for (int i = 0; i < half; i += 8) {
        const int part = half - i;
        const v8f low = load_part(x + i, part), high = load_part(x + half + i, part);
        const v8f c = load_part(cos + i, part), s = load_part(sin + i, part);
        store_part(x + i, low * c - high * s, part);
        store_part(x + half + i, high * c + low * s, part);
    }
}
