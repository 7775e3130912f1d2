/* Attention over an int8 cache. Scores are integer dot products, and a group's softmax weights
 * times its value scales become integers of 12 bits against the group's largest. */

/* Scores of `count` queries into the workspace, in powers of two; the largest of each. */
INLINE void score_int8(const Window *w, const Query *queries, int count, Workspace *work,
                       float *peaks, const int dim, const int tiled) {
    const Storage *s = w->span->storage;
    Copy copy;
    vwf best[MAX_GROUPED];
    for (int q = 0; q < count; q++) best[q] = wide(HIDDEN);
    Walk walk = walk_of(w, s->k_codes, s->k_params, (size_t)dim);
    for (int64_t group = 0; group < w->groups;) {
        Run run = next_run(&walk, &copy);
        const int8_t *k = (const int8_t *)run.codes;
        const uint16_t *scales = (const uint16_t *)run.params;
        for (const int64_t end = group + run.groups; group < end; group++) {
            ask_for(&run.later, (size_t)GROUP * dim);
            for (int q = 0; q < count; q++) {
                float *to = work->scores + q * work->span + group * GROUP;
                vwi dots[PER_GROUP];
                vwf x[PER_GROUP];
                if (tiled)
                    dots_tile(k, &queries[q], dim, dots);
                else
                    any_dots_int8(k, queries[q].codes, dim, dots);
                for (int i = 0; i < PER_GROUP; i++) {
                    x[i] = (to_float_wide(dots[i]) * load_wide_half(scales + WIDE * i)) *
                           wide(queries[q].scale);
                    store_wide(to + WIDE * i, x[i]);
                }
                if (at_edge(w, group)) {
                    hide(w, group, to);
                    for (int i = 0; i < PER_GROUP; i++) x[i] = load_wide(to + WIDE * i);
                }
                for (int i = 0; i < PER_GROUP; i++) best[q] = max_wide(x[i], best[q]);
            }
            k += GROUP * dim;
            scales += GROUP;
        }
    }
    for (int q = 0; q < count; q++) peaks[q] = largest_wide(best[q]);
}

/* Softmax weights of groups, times value scales, as integers. A group's step is the power of two
 * that makes its largest weight 12 bits wide: nothing is divided and no scale is rounded. All
 * groups at once, step by step, as in exp2_of. */
INLINE void weigh_groups(const float *scores, const uint16_t *scales, float peak, v8f *total,
                         int16_t *weights, float *steps, const int groups) {
    vwf x[PER_GROUP * WEIGHED];
    vwi inverse[WEIGHED];
    const int vectors = PER_GROUP * groups;
    for (int i = 0; i < vectors; i++) x[i] = load_wide(scores + WIDE * i) - wide(peak);
    exp2_of(x, vectors);
    for (int i = 0; i < groups; i++) *total += halves_summed(x + PER_GROUP * i);
    /* a scale that was never written may be a NaN; max makes it the 0 that its weight is */
    for (int i = 0; i < vectors; i++)
        x[i] = max_wide(x[i] * load_wide_half(scales + WIDE * i), wide(0));
    for (int i = 0; i < groups; i++) {
        const vwi exponent = (vwi)largest_of_group(x + PER_GROUP * i) & wide_int(0x7f800000);
        const vwi usable = exponent > wide_int((127 - 100) << 23);
        inverse[i] = ((wide_int(254 << 23) - exponent) & usable) + wide_int((WEIGHT_BITS - 1) << 23);
        steps[i] = ((vwf)((exponent - wide_int((WEIGHT_BITS - 1) << 23)) & usable))[0];
    }
    for (int i = 0; i < vectors; i++) x[i] = round_wide(x[i] * (vwf)inverse[i / PER_GROUP]);
    for (int i = 0; i < groups; i++) store16_weights(weights + GROUP * i, x + PER_GROUP * i);
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
                     const int dim, const int tiled) {
    const Storage *s = w->span->storage;
    Copy copy;
    Walk walk = walk_of(w, s->v_codes, s->v_params, (size_t)dim);
    for (int64_t group = 0; group < w->groups;) {
        Run run = next_run(&walk, &copy);
        const int8_t *v = (const int8_t *)run.codes;
        for (int q = 0; q < count; q++) {
            const int16_t *weights = work->weights + q * work->span + group * GROUP;
            const float *steps = work->steps + q * (work->span / GROUP) + group;
            if (tiled)
                mix_tiles(v, weights, steps, run.groups, dim, sums[q], q ? NULL : run.later);
            else
                for (int64_t i = 0; i < run.groups; i++)
                    any_mix_int8(v + i * GROUP * dim, weights + i * GROUP, dim, steps[i], sums[q]);
        }
        group += run.groups;
    }
}

/* All three. */
INLINE void attend_with(const Window *w, const Query *queries, const float *sinks, const int count,
                        Workspace *work, HeadRow *sums, float *totals, const int dim,
                        const int tiled) {
    float peaks[MAX_GROUPED];
    score_int8(w, queries, count, work, peaks, dim, tiled);
    for (int q = 0; q < count; q++) {
        const float sink = sinks[q] * LOG2_E, peak = peaks[q] > sink ? peaks[q] : sink;
        totals[q] = weigh_int8(w, work, q, peak) + exp2_one(sink - peak);
    }
    mix_int8(w, work, count, sums, dim, tiled);
}

/* The same for a constant head size and, mostly, one query to a key head; `dim` 0: for any. */
#define ATTEND_INT8(name, dim, tiled)                                                          \
    static TARGET __attribute__((noinline)) void attend_##name(                                \
        const Window *w, const Query *queries, const float *sinks, int count, Workspace *work, \
        HeadRow *sums, float *totals) {                                                        \
        const int size = dim ? dim : w->span->storage->head_dim;                               \
        if (count == 1)                                                                        \
            attend_with(w, queries, sinks, 1, work, sums, totals, size, tiled);                \
        else                                                                                   \
            attend_with(w, queries, sinks, count, work, sums, totals, size, tiled);            \
    }
ATTEND_INT8(tiles_32, 32, 1)
ATTEND_INT8(tiles_64, 64, 1)
ATTEND_INT8(tiles, 0, 1)
ATTEND_INT8(rows, 0, 0)

INLINE void attend_int8(const Window *w, const Query *queries, const float *sinks, int count,
                        Workspace *work, HeadRow *sums, float *totals) {
    const Storage *s = w->span->storage;
    if (s->format == FORMAT_INT8)
        attend_rows(w, queries, sinks, count, work, sums, totals);
    else if (s->head_dim == 32)
        attend_tiles_32(w, queries, sinks, count, work, sums, totals);
    else if (s->head_dim == 64)
        attend_tiles_64(w, queries, sinks, count, work, sums, totals);
    else
        attend_tiles(w, queries, sinks, count, work, sums, totals);
}
