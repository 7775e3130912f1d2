/* Attention over a float32 cache. */

INLINE v8f dot_lanes(const float *k, const float *q, int dim) {
    v8f sum = splat(0);
    for (int i = 0; i < dim; i += 8) sum += load_part(k + i, dim - i) * load_part(q + i, dim - i);
    return sum;
}

INLINE void score_float(const Window *w, HeadRow *queries, int count, float scale,
                        Workspace *work, float *peaks, const int dim) {
    const Storage *s = w->span->storage;
    Copy copy;
    v8f best[MAX_GROUPED];
    for (int q = 0; q < count; q++) best[q] = splat(HIDDEN);
    Walk walk = walk_of(w, s->k_codes, s->k_params, (size_t)dim * 4);
    for (int64_t group = 0; group < w->groups;) {
        Run run = next_run(&walk, &copy);
        const float *k = (const float *)run.codes;
        for (const int64_t end = group + run.groups; group < end; group++, k += GROUP * dim) {
            ask_for(&run.later, (size_t)GROUP * dim * 4);
            for (int q = 0; q < count; q++) {
                v8f halves[2];
                for (int half = 0; half < 2; half++) {
                    v8f lanes[8];
                    for (int i = 0; i < 8; i++)
                        lanes[i] = dot_lanes(k + (half * 8 + i) * dim, queries[q], dim);
                    halves[half] = sum8_of_eight(lanes) * splat(scale);
                }
                float *to = work->scores + q * work->span + group * GROUP;
                store8(to, halves[0]);
                store8(to + 8, halves[1]);
                if (at_edge(w, group)) hide(w, group, to);
                best[q] = max8(max8(load8(to), load8(to + 8)), best[q]);
            }
        }
    }
    for (int q = 0; q < count; q++) peaks[q] = largest(best[q]);
}

/* Scores of groups become softmax weights, step by step for all of them, as in exp2_of. */
INLINE void weigh_floats(float *scores, float peak, v8f *total, const int groups) {
    vwf x[PER_GROUP * WEIGHED];
    for (int i = 0; i < PER_GROUP * groups; i++) x[i] = load_wide(scores + WIDE * i) - wide(peak);
    exp2_of(x, PER_GROUP * groups);
    for (int g = 0; g < groups; g++) *total += halves_summed(x + PER_GROUP * g);
    for (int i = 0; i < PER_GROUP * groups; i++) store_wide(scores + WIDE * i, x[i]);
}

/* The same for a whole window; returns the sum of the softmax weights. */
INLINE float weigh_float(const Window *w, Workspace *work, int q, float peak) {
    v8f total = splat(0);
    float *scores = work->scores + q * work->span;
    int64_t group = 0;
    for (; group + WEIGHED <= w->groups; group += WEIGHED)
        weigh_floats(scores + group * GROUP, peak, &total, WEIGHED);
    for (; group < w->groups; group++) weigh_floats(scores + group * GROUP, peak, &total, 1);
    return sum8(total);
}

/* sums += weights[from..to) of the rows, 32 columns at a time, token by token. */
INLINE void mix_rows_float(const float *v, const float *weights, int from, int to, const int dim,
                           float *sums) {
    for (int i = 0; i < dim; i += 32) {
        const int vectors = dim - i < 32 ? (dim - i + 7) / 8 : 4;
        v8f mixed[4];
        for (int j = 0; j < 4; j++) mixed[j] = j < vectors ? load8(sums + i + 8 * j) : splat(0);
        for (int token = from; token < to; token++) {
            const v8f weight = splat(weights[token]);
            for (int j = 0; j < 4; j++)
                if (j < vectors)
                    mixed[j] += load_part(v + token * dim + i + 8 * j, dim - i - 8 * j) * weight;
        }
        for (int j = 0; j < vectors; j++) store8(sums + i + 8 * j, mixed[j]);
    }
}

INLINE void mix_float(const Window *w, const Workspace *work, int count, HeadRow *sums,
                      const int dim) {
    const Storage *s = w->span->storage;
    Copy copy;
    Walk walk = walk_of(w, s->v_codes, s->v_params, (size_t)dim * 4);
    for (int64_t group = 0; group < w->groups;) {
        Run run = next_run(&walk, &copy);
        const float *v = (const float *)run.codes;
        for (const int64_t end = group + run.groups; group < end; group++, v += GROUP * dim) {
            ask_for(&run.later, (size_t)GROUP * dim * 4);
            const int64_t position = w->first + group * GROUP;
            /* what is hidden may hold a NaN, which no weight of 0 would take away */
            const int from = position < w->low ? (int)(w->low - position) : 0;
            const int to = w->high - position < GROUP ? (int)(w->high - position) : GROUP;
            for (int q = 0; q < count; q++)
                mix_rows_float(v, work->scores + q * work->span + group * GROUP, from, to, dim,
                               sums[q]);
        }
    }
}

#define ATTEND_FLOAT(dim)                                                                      \
    static TARGET __attribute__((noinline)) void attend_float_##dim(                           \
        const Window *w, HeadRow *queries, const float *sinks, int count, Workspace *work,     \
        HeadRow *sums, float *totals) {                                                        \
        const int size = dim ? dim : w->span->storage->head_dim;                               \
        float peaks[MAX_GROUPED];                                                              \
        score_float(w, queries, count, LOG2_E / sqrtf((float)size), work, peaks, size);        \
        for (int q = 0; q < count; q++) {                                                      \
            const float sink = sinks[q] * LOG2_E, peak = peaks[q] > sink ? peaks[q] : sink;    \
            totals[q] = weigh_float(w, work, q, peak) + exp2_one(sink - peak);         \
        }                                                                                      \
        mix_float(w, work, count, sums, size);                                                 \
    }
ATTEND_FLOAT(32)
ATTEND_FLOAT(64)
ATTEND_FLOAT(128)
ATTEND_FLOAT(0)

INLINE void attend_float(const Window *w, HeadRow *queries, const float *sinks, int count,
                         Workspace *work, HeadRow *sums, float *totals) {
    const int dim = w->span->storage->head_dim;
    if (dim == 32)
        attend_float_32(w, queries, sinks, count, work, sums, totals);
    else if (dim == 64)
        attend_float_64(w, queries, sinks, count, work, sums, totals);
    else if (dim == 128)
        attend_float_128(w, queries, sinks, count, work, sums, totals);
    else
        attend_float_0(w, queries, sinks, count, work, sums, totals);
}
