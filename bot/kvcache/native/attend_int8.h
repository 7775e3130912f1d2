/* Attention over an int8 cache. Scores are integer dot products, and a group's softmax weights
 * times its value scales become integers of 12 bits against the group's largest. */

/* Scores of `count` queries into the workspace, in powers of two; the largest of each. */
INLINE void score_int8(const Window *w, const Query *queries, int count, Workspace *work,
                       float *peaks, const int dim) {
    const Storage *s = w->span->storage;
    Copy copy;
    v8f best[MAX_GROUPED];
    for (int q = 0; q < count; q++) best[q] = splat(HIDDEN);
    Walk walk = walk_of(w, s->k_codes, s->k_params, (size_t)dim);
    for (int64_t group = 0; group < w->groups;) {
        Run run = next_run(&walk, &copy);
        const int8_t *k = (const int8_t *)run.codes;
        const uint16_t *scales = (const uint16_t *)run.params;
        for (const int64_t end = group + run.groups; group < end; group++) {
            ask_for(&run.later, (size_t)GROUP * dim);
            const v8f low_scale = load8_half(scales), high_scale = load8_half(scales + 8);
            for (int q = 0; q < count; q++) {
                v8i dots[2];
                dots_int8(k, &queries[q], dim, dots);
                const v8f scale = splat(queries[q].scale);
                v8f low = (to_float(dots[0]) * low_scale) * scale;
                v8f high = (to_float(dots[1]) * high_scale) * scale;
                if (at_edge(w, group)) hide(w, group, &low, &high, HIDDEN);
                float *to = work->scores + q * work->span + group * GROUP;
                store8(to, low);
                store8(to + 8, high);
                best[q] = max8(max8(low, high), best[q]);
            }
            k += GROUP * dim;
            scales += GROUP;
        }
    }
    for (int q = 0; q < count; q++) peaks[q] = largest(best[q]);
}

/* Softmax weights of groups, times value scales, as integers. A group's step is the power of two
 * that makes its largest weight 12 bits wide: nothing is divided and no scale is rounded. All
 * groups at once, step by step, as in exp2_of. */
INLINE void weigh_groups(const float *scores, const uint16_t *scales, float peak, v8f *total,
                         int16_t *weights, float *steps, const int groups) {
    v8f x[2 * WEIGHED], most[WEIGHED];
    v8i inverse[WEIGHED];
    for (int i = 0; i < 2 * groups; i++) x[i] = load8(scores + 8 * i) - splat(peak);
    exp2_of(x, 2 * groups);
    for (int i = 0; i < groups; i++) *total += x[2 * i] + x[2 * i + 1];
    /* a scale that was never written may be a NaN; max8 makes it the 0 that its weight is */
    for (int i = 0; i < 2 * groups; i++) x[i] = max8(x[i] * load8_half(scales + 8 * i), splat(0));
    for (int i = 0; i < groups; i++) most[i] = largest_everywhere(max8(x[2 * i], x[2 * i + 1]));
    for (int i = 0; i < groups; i++) {
        const v8i exponent = (v8i)most[i] & splat_int(0x7f800000);
        const v8i usable = exponent > exponent_of(127 - 100);
        inverse[i] = ((exponent_of(254) - exponent) & usable) + exponent_of(WEIGHT_BITS - 1);
        steps[i] = ((v8f)((exponent - exponent_of(WEIGHT_BITS - 1)) & usable))[0];
    }
    for (int i = 0; i < 2 * groups; i++) x[i] = round8(x[i] * (v8f)inverse[i / 2]);
    for (int i = 0; i < groups; i++) store16_weights(weights + GROUP * i, x[2 * i], x[2 * i + 1]);
}

/* The same for a whole window; returns the sum of the softmax weights. */
INLINE float weigh_int8(const Window *w, Workspace *work, int q, float peak) {
    const Storage *s = w->span->storage;
    Copy copy;
    v8f total = splat(0);
    const float *scores = work->scores + q * work->span;
    int16_t *weights = work->weights + q * work->span;
    float *steps = work->steps + q * (work->span / GROUP);
    Walk walk = walk_of(w, s->v_codes, s->v_params, (size_t)s->head_dim);
    for (int64_t group = 0; group < w->groups;) {
        Run run = next_run(&walk, &copy);
        const uint16_t *scales = (const uint16_t *)run.params;
        const int64_t end = group + run.groups;
        for (; group + WEIGHED <= end; group += WEIGHED, scales += WEIGHED * GROUP)
            weigh_groups(scores + group * GROUP, scales, peak, &total, weights + group * GROUP,
                         steps + group, WEIGHED);
        for (; group < end; group++, scales += GROUP)
            weigh_groups(scores + group * GROUP, scales, peak, &total, weights + group * GROUP,
                         steps + group, 1);
    }
    return sum8(total);
}

INLINE void mix_int8(const Window *w, const Workspace *work, int count, HeadRow *sums,
                     const int dim) {
    const Storage *s = w->span->storage;
    Copy copy;
    Walk walk = walk_of(w, s->v_codes, s->v_params, (size_t)dim);
    for (int64_t group = 0; group < w->groups;) {
        Run run = next_run(&walk, &copy);
        const int8_t *v = (const int8_t *)run.codes;
        for (const int64_t end = group + run.groups; group < end; group++, v += GROUP * dim) {
            ask_for(&run.later, (size_t)GROUP * dim);
            for (int q = 0; q < count; q++)
                mix_group_int8(v, work->weights + q * work->span + group * GROUP, dim,
                               work->steps[q * (work->span / GROUP) + group], sums[q]);
        }
    }
}

/* All three for one constant head size; `dim` 0: for any. */
#define ATTEND_INT8(dim)                                                                       \
    static TARGET __attribute__((noinline)) void attend_int8_##dim(                            \
        const Window *w, const Query *queries, const float *sinks, int count, Workspace *work, \
        HeadRow *sums, float *totals) {                                                        \
        const int size = dim ? dim : w->span->storage->head_dim;                               \
        float peaks[MAX_GROUPED];                                                              \
        score_int8(w, queries, count, work, peaks, size);                                      \
        for (int q = 0; q < count; q++) {                                                      \
            const float sink = sinks[q] * LOG2_E, peak = peaks[q] > sink ? peaks[q] : sink;    \
            totals[q] = weigh_int8(w, work, q, peak) + exp2_8(splat(sink - peak))[0];          \
        }                                                                                      \
        mix_int8(w, work, count, sums, size);                                                  \
    }
ATTEND_INT8(32)
ATTEND_INT8(64)
ATTEND_INT8(128)
ATTEND_INT8(0)

INLINE void attend_int8(const Window *w, const Query *queries, const float *sinks, int count,
                        Workspace *work, HeadRow *sums, float *totals) {
    const int dim = w->span->storage->head_dim;
    if (dim == 32)
        attend_int8_32(w, queries, sinks, count, work, sums, totals);
    else if (dim == 64)
        attend_int8_64(w, queries, sinks, count, work, sums, totals);
    else if (dim == 128)
        attend_int8_128(w, queries, sinks, count, work, sums, totals);
    else
        attend_int8_0(w, queries, sinks, count, work, sums, totals);
}
