/* One key head of one span: append its keys and values, then softmax over the window.
 *
 * Tokens are taken in groups of GROUP, aligned in absolute positions, so that block sizes change
 * nothing. On an int8 cache scores are integer dot products, and a group's softmax weights times
 * its value scales become integers of 12 bits against the group's largest. */

#define HIDDEN (-1e30f) /* a score whose softmax weight is exactly 0 */

typedef float HeadRow[MAX_HEAD_DIM + 8];

/* What a query sees, as groups. */
typedef struct {
    const Span *span;
    size_t head;       /* (layer * kv_heads + kv_head) * block_size: the first row of the head */
    int64_t low, high; /* positions [low, high) are seen */
    int64_t first;     /* position of the first group */
    int64_t groups;
    int direct;        /* a group lies in one block */
} Window;

INLINE Window window_of(const AttentionInput *in, const Span *span, int64_t position) {
    const Storage *s = span->storage;
    Window w = {.span = span, .high = position + 1};
    w.head = ((size_t)in->layer_index * s->kv_heads + in->kv_head) * s->block_size;
    w.low = position - in->model->shape.window + 1;
    if (w.low < span->start) w.low = span->start;
    w.first = w.low - w.low % GROUP;
    w.groups = (position - w.first) / GROUP + 1;
    w.direct = s->block_size % GROUP == 0;
    return w;
}

/* Groups whose rows lie one after another in a block, or one group copied together. */
typedef struct {
    const char *codes, *params;
    const char *later; /* the same rows of a block further on, to be asked for while these are read */
    int64_t groups;
} Run;

/* The copy; with zeros where nothing is seen. */
typedef struct {
    char codes[GROUP * MAX_HEAD_DIM * 4];
    uint16_t params[GROUP];
} Copy;

static TARGET __attribute__((noinline)) Run copied_run(const Window *w, int64_t group,
                                                       int64_t codes, int64_t params,
                                                       size_t row_bytes, Copy *copy) {
    const Storage *s = w->span->storage;
    memset(copy->codes, 0, GROUP * row_bytes);
    memset(copy->params, 0, sizeof copy->params);
    for (int i = 0; i < GROUP; i++) {
        const int64_t token = w->first + group * GROUP + i;
        if (token < w->low || token >= w->high) continue;
        const char *block = w->span->blocks[token / s->block_size - w->span->first_block];
        const size_t row = w->head + (size_t)(token % s->block_size);
        memcpy(copy->codes + i * row_bytes, block + codes + row * row_bytes, row_bytes);
        if (s->format == FORMAT_INT8) memcpy(&copy->params[i], block + params + row * 2, 2);
    }
    return (Run){copy->codes, (const char *)copy->params, copy->codes, 1};
}

/* The run that starts at a group. */
INLINE Run run_at(const Window *w, int64_t group, int64_t codes, int64_t params, size_t row_bytes,
                  Copy *copy) {
    const Storage *s = w->span->storage;
    if (!w->direct) return copied_run(w, group, codes, params, row_bytes, copy);
    const int64_t position = w->first + group * GROUP, block = position / s->block_size;
    const size_t row = w->head + (size_t)(position - block * s->block_size);
    const int64_t in_block = (s->block_size - position % s->block_size) / GROUP;
    const int64_t groups = in_block < w->groups - group ? in_block : w->groups - group;
    char *const *at = w->span->blocks + (block - w->span->first_block);
    int64_t ahead = (TOKENS_AHEAD + s->block_size - 1) / s->block_size;
    const int64_t last = (w->high - 1) / s->block_size - block;
    if (ahead > last) ahead = last;
    if (last) __builtin_prefetch(at[1] + params + w->head * 2);
    return (Run){*at + codes + row * row_bytes, *at + params + row * 2,
                 at[ahead] + codes + row * row_bytes, groups};
}

/* Blocks lie far apart, so no hardware follows from one to the next. */
INLINE void ask_for(const char **rows, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(*rows + i);
    *rows += bytes;
}

INLINE int at_edge(const Window *w, int64_t group) { return group == 0 || group == w->groups - 1; }

/* What the query does not see of a group at the window's edges becomes `hidden`. */
INLINE void hide(const Window *w, int64_t group, v8f *low, v8f *high, float hidden) {
    const int64_t position = w->first + group * GROUP, left = w->high - position;
    const v8i lane = {0, 1, 2, 3, 4, 5, 6, 7};
    const v8i from = splat_int(position < w->low ? (int32_t)(w->low - position) : 0);
    const v8i to = splat_int(left < GROUP ? (int32_t)left : GROUP);
    const v8i upper = lane + splat_int(8);
    *low = select8((lane >= from) & (lane < to), *low, splat(hidden));
    *high = select8((upper >= from) & (upper < to), *high, splat(hidden));
}

INLINE void append_head(const AttentionInput *in, const Span *span, int row, float *k,
                        const float *v) {
    const Storage *s = span->storage;
    const int dim = s->head_dim;
    const int64_t position = span->position + row, block = position / s->block_size;
    char *at = span->blocks[block - span->first_block];
    const size_t slot = ((size_t)in->layer_index * s->kv_heads + in->kv_head) * s->block_size +
                        (size_t)(position - block * s->block_size);
    if (s->format == FORMAT_FLOAT32) {
        memcpy(at + s->k_codes + slot * dim * 4, k, (size_t)dim * 4);
        memcpy(at + s->v_codes + slot * dim * 4, v, (size_t)dim * 4);
        return;
    }
    const uint16_t k_scale = encode_int8(k, dim, (int8_t *)at + s->k_codes + slot * dim);
    const uint16_t v_scale = encode_int8(v, dim, (int8_t *)at + s->v_codes + slot * dim);
    memcpy(at + s->k_params + slot * 2, &k_scale, 2);
    memcpy(at + s->v_params + slot * 2, &v_scale, 2);
}

/* --- int8 ------------------------------------------------------------------------------- */

/* Scores of `count` queries into the workspace, in powers of two; the largest of each. */
INLINE void score_int8(const Window *w, const Query *queries, int count, Workspace *work,
                       float *peaks, const int dim) {
    const Storage *s = w->span->storage;
    Copy copy;
    v8f best[MAX_GROUPED];
    for (int q = 0; q < count; q++) best[q] = splat(HIDDEN);
    for (int64_t group = 0; group < w->groups;) {
        Run run = run_at(w, group, s->k_codes, s->k_params, (size_t)dim, &copy);
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
        const v8i usable = exponent > splat_int((127 - 100) << 23);
        inverse[i] = (splat_int((254 + WEIGHT_BITS - 1) << 23) - exponent) & usable;
        steps[i] = ((v8f)((exponent - splat_int((WEIGHT_BITS - 1) << 23)) & usable))[0];
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
    for (int64_t group = 0; group < w->groups;) {
        const Run run = run_at(w, group, s->v_codes, s->v_params, (size_t)s->head_dim, &copy);
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
    for (int64_t group = 0; group < w->groups;) {
        Run run = run_at(w, group, s->v_codes, s->v_params, (size_t)dim, &copy);
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

INLINE void attend_int8(const Window *w, HeadRow *queries, const float *sinks, int count,
                        Workspace *work, HeadRow *sums, float *totals) {
    const int dim = w->span->storage->head_dim;
    const float root = LOG2_E / sqrtf((float)dim);
    Query codes[MAX_GROUPED];
    for (int q = 0; q < count; q++) {
        memset(queries[q] + dim, 0, 8 * sizeof(float));
        quantize(queries[q], (dim + 7) / 8 * 8, codes[q].codes, codes[q].mates, &codes[q].scale);
        codes[q].scale *= root;
    }
    if (dim == 32)
        attend_int8_32(w, codes, sinks, count, work, sums, totals);
    else if (dim == 64)
        attend_int8_64(w, codes, sinks, count, work, sums, totals);
    else if (dim == 128)
        attend_int8_128(w, codes, sinks, count, work, sums, totals);
    else
        attend_int8_0(w, codes, sinks, count, work, sums, totals);
}

/* --- float ------------------------------------------------------------------------------- */

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
    for (int64_t group = 0; group < w->groups;) {
        Run run = run_at(w, group, s->k_codes, s->k_params, (size_t)dim * 4, &copy);
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
                if (at_edge(w, group)) hide(w, group, &halves[0], &halves[1], HIDDEN);
                float *to = work->scores + q * work->span + group * GROUP;
                store8(to, halves[0]);
                store8(to + 8, halves[1]);
                best[q] = max8(max8(halves[0], halves[1]), best[q]);
            }
        }
    }
    for (int q = 0; q < count; q++) peaks[q] = largest(best[q]);
}

INLINE float weigh_float(const Window *w, Workspace *work, int q, float peak) {
    v8f total = splat(0);
    float *scores = work->scores + q * work->span;
    for (int64_t group = 0; group < w->groups; group++) {
        float *to = scores + group * GROUP;
        v8f x[2] = {load8(to) - splat(peak), load8(to + 8) - splat(peak)};
        exp2_of(x, 2);
        total += x[0] + x[1];
        store8(to, x[0]);
        store8(to + 8, x[1]);
    }
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
    for (int64_t group = 0; group < w->groups;) {
        Run run = run_at(w, group, s->v_codes, s->v_params, (size_t)dim * 4, &copy);
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
            totals[q] = weigh_float(w, work, q, peak) + exp2_8(splat(sink - peak))[0];         \
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

/* --- both -------------------------------------------------------------------------------- */

INLINE void attend_row(const AttentionInput *in, const Span *span, int row, Workspace *work,
                       HeadRow *queries) {
    const Shape *shape = &in->model->shape;
    const int dim = shape->head_dim, count = shape->heads / shape->kv_heads;
    const Window w = window_of(in, span, span->position + row);
    const float *sinks = in->layer->sink + in->kv_head * count;
    float totals[MAX_GROUPED];
    HeadRow sums[MAX_GROUPED];
    for (int q = 0; q < count; q++) memset(sums[q], 0, ((size_t)dim + 8) * sizeof(float));
    if (span->storage->format == FORMAT_FLOAT32)
        attend_float(&w, queries, sinks, count, work, sums, totals);
    else
        attend_int8(&w, queries, sinks, count, work, sums, totals);
    float *out = in->attended + (size_t)(span->first_row + row) * in->attended_stride +
                 (size_t)in->kv_head * count * dim;
    for (int q = 0; q < count; q++) {
        const v8f inverse = splat(1.0f / totals[q]);
        for (int i = 0; i < dim; i += 8)
            store_part(out + q * dim + i, load8(sums[q] + i) * inverse, dim - i);
    }
}

static TARGET void attend(const AttentionInput *in, const Span *span, Workspace *work) {
    const Shape *shape = &in->model->shape;
    const int dim = shape->head_dim, count = shape->heads / shape->kv_heads;
    HeadRow k, queries[MAX_GROUPED];
    for (int row = 0; row < span->rows; row++) {
        const size_t at = (size_t)(span->first_row + row);
        const float *qkv = in->qkv + at * in->qkv_stride;
        const float *cos = in->cos + at * (dim / 2), *sin = in->sin + at * (dim / 2);
        const float *k_raw = qkv + (shape->heads + in->kv_head) * dim;
        normalize(k_raw, in->layer->k_norm, dim, k);
        rotate(k, cos, sin, dim);
        append_head(in, span, row, k, k_raw + shape->kv_heads * dim);
        for (int q = 0; q < count; q++) {
            normalize(qkv + (in->kv_head * count + q) * dim, in->layer->q_norm, dim, queries[q]);
            rotate(queries[q], cos, sin, dim);
        }
        attend_row(in, span, row, work, queries);
    }
}
