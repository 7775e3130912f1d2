/* One key head of one span: append its keys and values, then softmax over the window.
 *
 * Tokens are taken in groups of GROUP, aligned in absolute positions, so that block sizes change
 * nothing. On an int8 cache scores are integer dot products, and a group's softmax weights times
 * its value scales become integers of 12 bits against the group's largest. */

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

/* A walk over the groups of a window; in a direct window every group lies in one block. */
typedef struct {
    int64_t block; /* index into the span's blocks */
    size_t slot;
} Cursor;

INLINE Cursor cursor_at(const Window *w, int64_t group) {
    const int64_t position = w->first + group * GROUP, size = w->span->storage->block_size;
    return (Cursor){position / size - w->span->first_block, (size_t)(position % size)};
}

INLINE void step_on(const Window *w, Cursor *at) {
    at->slot += GROUP;
    if (at->slot == (size_t)w->span->storage->block_size) {
        at->slot = 0;
        at->block++;
    }
}

INLINE const char *rows_at(const Window *w, Cursor at, int64_t section, size_t row_bytes) {
    return w->span->blocks[at.block] + section + (w->head + at.slot) * row_bytes;
}

/* A group's rows of one section copied together, with zeros where nothing is seen. */
static TARGET __attribute__((noinline)) const void *gather_rows(const Window *w, int64_t group,
                                                                int64_t section, size_t row_bytes,
                                                                void *room) {
    const Storage *s = w->span->storage;
    memset(room, 0, GROUP * row_bytes);
    for (int i = 0; i < GROUP; i++) {
        const int64_t token = w->first + group * GROUP + i;
        if (token < w->low || token >= w->high) continue;
        const Cursor at = {token / s->block_size - w->span->first_block,
                           (size_t)(token % s->block_size)};
        memcpy((char *)room + i * row_bytes, rows_at(w, at, section, row_bytes), row_bytes);
    }
    return room;
}

INLINE const void *group_rows(const Window *w, int64_t group, Cursor at, int64_t section,
                              size_t row_bytes, void *room) {
    if (w->direct) return rows_at(w, at, section, row_bytes);
    return gather_rows(w, group, section, row_bytes, room);
}

/* Ask for the rows that a walk reaches AHEAD groups later; blocks lie far apart, so no hardware
 * follows from one to the next. */
INLINE void prefetch_ahead(const Window *w, int64_t group, Cursor *ahead, int64_t section,
                           size_t row_bytes) {
    if (!w->direct || group + AHEAD >= w->groups) return;
    const char *rows = rows_at(w, *ahead, section, row_bytes);
    for (size_t i = 0; i < GROUP * row_bytes; i += 64) __builtin_prefetch(rows + i);
    step_on(w, ahead);
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

/* Scores of `count` queries into the workspace; returns through `peaks` the largest of each. */
INLINE void score_int8(const Window *w, const Query *queries, int count, Workspace *work,
                       float *peaks, const int dim) {
    const Storage *s = w->span->storage;
    int8_t room[GROUP * MAX_HEAD_DIM];
    uint16_t scale_room[GROUP];
    v8f best[MAX_GROUPED];
    for (int q = 0; q < count; q++) best[q] = splat(-INFINITY);
    Cursor at = cursor_at(w, 0), ahead = cursor_at(w, AHEAD);
    for (int64_t group = 0; group < w->groups; group++, step_on(w, &at)) {
        const int8_t *k = group_rows(w, group, at, s->k_codes, (size_t)dim, room);
        prefetch_ahead(w, group, &ahead, s->k_codes, (size_t)dim);
        const uint16_t *scales = group_rows(w, group, at, s->k_params, 2, scale_room);
        const v8f low_scale = load8_half(scales), high_scale = load8_half(scales + 8);
        for (int q = 0; q < count; q++) {
            v8i dots[2];
            dots_int8(k, &queries[q], dim, dots);
            const v8f scale = splat(queries[q].scale);
            v8f low = (to_float(dots[0]) * low_scale) * scale;
            v8f high = (to_float(dots[1]) * high_scale) * scale;
            if (at_edge(w, group)) hide(w, group, &low, &high, -INFINITY);
            float *to = work->scores + q * work->span + group * GROUP;
            store8(to, low);
            store8(to + 8, high);
            best[q] = max8(max8(low, high), best[q]);
        }
    }
    for (int q = 0; q < count; q++) peaks[q] = largest(best[q]);
}

/* Softmax weights times value scales as integers; returns the sum of the softmax weights.
 * A group's step is the power of two that makes its largest weight 12 bits wide: nothing is
 * divided and no scale is rounded. */
INLINE float weigh_int8(const Window *w, Workspace *work, int q, float peak) {
    const Storage *s = w->span->storage;
    uint16_t scale_room[GROUP];
    v8f total = splat(0);
    const float *scores = work->scores + q * work->span;
    int16_t *weights = work->weights + q * work->span;
    float *steps = work->steps + q * (work->span / GROUP);
    Cursor at = cursor_at(w, 0);
    for (int64_t group = 0; group < w->groups; group++, step_on(w, &at)) {
        const uint16_t *scales = group_rows(w, group, at, s->v_params, 2, scale_room);
        const float *from = scores + group * GROUP;
        v8f low = exp8(load8(from) - splat(peak)), high = exp8(load8(from + 8) - splat(peak));
        if (at_edge(w, group)) hide(w, group, &low, &high, 0);
        total += low + high;
        low *= load8_half(scales);
        high *= load8_half(scales + 8);
        if (at_edge(w, group)) hide(w, group, &low, &high, 0);
        const v8i exponent = (v8i)largest_everywhere(max8(low, high)) & splat_int(0x7f800000);
        const v8i usable = exponent > splat_int((127 - 100) << 23);
        const v8f inverse = (v8f)((splat_int((127 + 127 + WEIGHT_BITS - 1) << 23) - exponent) & usable);
        steps[group] = ((v8f)((exponent - splat_int((WEIGHT_BITS - 1) << 23)) & usable))[0];
        store16_weights(weights + group * GROUP, round8(low * inverse), round8(high * inverse));
    }
    return sum8(total);
}

INLINE void mix_int8(const Window *w, const Workspace *work, int count, HeadRow *sums,
                     const int dim) {
    const Storage *s = w->span->storage;
    int8_t room[GROUP * MAX_HEAD_DIM];
    Cursor at = cursor_at(w, 0), ahead = cursor_at(w, AHEAD);
    for (int64_t group = 0; group < w->groups; group++, step_on(w, &at)) {
        const int8_t *v = group_rows(w, group, at, s->v_codes, (size_t)dim, room);
        prefetch_ahead(w, group, &ahead, s->v_codes, (size_t)dim);
        for (int q = 0; q < count; q++) {
            const float step = work->steps[q * (work->span / GROUP) + group];
            const int16_t *weights = work->weights + q * work->span + group * GROUP;
            mix_group_int8(v, weights, dim, step, sums[q]);
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
            const float peak = peaks[q] > sinks[q] ? peaks[q] : sinks[q];                      \
            totals[q] = weigh_int8(w, work, q, peak) + exp8(splat(sinks[q] - peak))[0];        \
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
    const float root = 1.0f / sqrtf((float)dim);
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
                        Workspace *work, float *peaks) {
    const Storage *s = w->span->storage;
    const int dim = s->head_dim;
    float room[GROUP * MAX_HEAD_DIM];
    v8f best[MAX_GROUPED];
    for (int q = 0; q < count; q++) best[q] = splat(-INFINITY);
    Cursor at = cursor_at(w, 0), ahead = cursor_at(w, AHEAD);
    for (int64_t group = 0; group < w->groups; group++, step_on(w, &at)) {
        const float *k = group_rows(w, group, at, s->k_codes, (size_t)dim * 4, room);
        prefetch_ahead(w, group, &ahead, s->k_codes, (size_t)dim * 4);
        for (int q = 0; q < count; q++) {
            v8f halves[2];
            for (int half = 0; half < 2; half++) {
                v8f lanes[8];
                for (int i = 0; i < 8; i++)
                    lanes[i] = dot_lanes(k + (half * 8 + i) * dim, queries[q], dim);
                halves[half] = sum8_of_eight(lanes) * splat(scale);
            }
            if (at_edge(w, group)) hide(w, group, &halves[0], &halves[1], -INFINITY);
            float *to = work->scores + q * work->span + group * GROUP;
            store8(to, halves[0]);
            store8(to + 8, halves[1]);
            best[q] = max8(max8(halves[0], halves[1]), best[q]);
        }
    }
    for (int q = 0; q < count; q++) peaks[q] = largest(best[q]);
}

INLINE float weigh_float(const Window *w, Workspace *work, int q, float peak) {
    v8f total = splat(0);
    float *scores = work->scores + q * work->span;
    for (int64_t group = 0; group < w->groups; group++) {
        float *to = scores + group * GROUP;
        v8f low = exp8(load8(to) - splat(peak)), high = exp8(load8(to + 8) - splat(peak));
        if (at_edge(w, group)) hide(w, group, &low, &high, 0);
        total += low + high;
        store8(to, low);
        store8(to + 8, high);
    }
    return sum8(total);
}

INLINE void mix_float(const Window *w, const Workspace *work, int count,
                      HeadRow *sums) {
    const Storage *s = w->span->storage;
    const int dim = s->head_dim;
    float room[GROUP * MAX_HEAD_DIM];
    Cursor at = cursor_at(w, 0), ahead = cursor_at(w, AHEAD);
    for (int64_t group = 0; group < w->groups; group++, step_on(w, &at)) {
        const float *v = group_rows(w, group, at, s->v_codes, (size_t)dim * 4, room);
        prefetch_ahead(w, group, &ahead, s->v_codes, (size_t)dim * 4);
        const int64_t position = w->first + group * GROUP;
        const int from = position < w->low ? (int)(w->low - position) : 0;
        const int to = w->high - position < GROUP ? (int)(w->high - position) : GROUP;
        for (int q = 0; q < count; q++) {
            const float *weights = work->scores + q * work->span + group * GROUP;
            for (int i = 0; i < dim; i += 8) {
                v8f sum = load8(sums[q] + i);
                for (int token = from; token < to; token++)
                    sum += load_part(v + token * dim + i, dim - i) * splat(weights[token]);
                store8(sums[q] + i, sum);
            }
        }
    }
}

INLINE void attend_float(const Window *w, HeadRow *queries, const float *sinks, int count,
                         Workspace *work, HeadRow *sums, float *totals) {
    const float root = 1.0f / sqrtf((float)w->span->storage->head_dim);
    float peaks[MAX_GROUPED];
    score_float(w, queries, count, root, work, peaks);
    for (int q = 0; q < count; q++) {
        const float peak = peaks[q] > sinks[q] ? peaks[q] : sinks[q];
        totals[q] = weigh_float(w, work, q, peak) + exp8(splat(sinks[q] - peak))[0];
    }
    mix_float(w, work, count, sums);
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
