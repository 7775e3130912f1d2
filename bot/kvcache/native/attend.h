/* Key heads of one span: append their keys and values, then attend with their query heads. Each
 * small job is done for all heads before the next: one head alone would wait for its own results. */

/* Byte `place` of each of eight quads becomes the next code. */
INLINE void put_bytes(char *quads, const int8_t *codes, int place) {
    uint8_t __attribute__((vector_size(8))) narrow;
    memcpy(&narrow, codes, sizeof narrow);
    const v8i bytes = __builtin_convertvector(narrow, v8i);
    const v8i mask = splat_int((int32_t)(0xffu << 8 * place));
    const v8i old = load8_int((const int32_t *)quads);
    const v8i new = (old & ~mask) | (bytes << (8 * place));
    memcpy(quads, &new, sizeof new);
}

/* Store a head's key and value as row `slot` of the sections of the block at `at`. */
INLINE void append_head(const Storage *s, char *at, size_t slot, const float *k, const float *v) {
    const int dim = s->head_dim;
    if (s->format == FORMAT_FLOAT32) {
        memcpy(at + s->k_codes + slot * dim * 4, k, (size_t)dim * 4);
        memcpy(at + s->v_codes + slot * dim * 4, v, (size_t)dim * 4);
        return;
    }
    int8_t k_codes[MAX_HEAD_DIM + 8], v_codes[MAX_HEAD_DIM + 8];
    const uint16_t k_scale = encode_int8(k, dim, k_codes), v_scale = encode_int8(v, dim, v_codes);
    if (s->format == FORMAT_INT8_TILES) {
        char *k_to = at + s->k_codes + slot / GROUP * GROUP * dim + slot % GROUP * 4;
        char *v_to = at + s->v_codes + slot / 4 * 4 * dim;
        for (int i = 0; i < dim; i += 4) memcpy(k_to + GROUP * i, k_codes + i, 4);
        for (int i = 0; i < dim; i += 8) put_bytes(v_to + 4 * i, v_codes + i, (int)(slot % 4));
    } else {
        memcpy(at + s->k_codes + slot * dim, k_codes, (size_t)dim);
        memcpy(at + s->v_codes + slot * dim, v_codes, (size_t)dim);
    }
    memcpy(at + s->k_params + slot * 2, &k_scale, 2);
    memcpy(at + s->v_params + slot * 2, &v_scale, 2);
}

INLINE void attend_head(const AttentionInput *in, const Window *w, int kv_head, size_t row,
                        Workspace *work, HeadRow *queries, const Query *codes) {
    const Shape *shape = &in->model->shape;
    const int dim = shape->head_dim, count = shape->heads / shape->kv_heads;
    const float *sinks = in->layer->sink + kv_head * count;
    float totals[MAX_GROUPED];
    HeadRow sums[MAX_GROUPED];
    for (int q = 0; q < count; q++) memset(sums[q], 0, ((size_t)dim + 8) * sizeof(float));
    if (w->span->storage->format == FORMAT_FLOAT32)
        attend_float(w, queries, sinks, count, work, sums, totals);
    else
        attend_int8(w, codes, sinks, count, work, sums, totals);
    float *out = in->attended + row * in->attended_stride + (size_t)kv_head * count * dim;
    for (int q = 0; q < count; q++) {
        const v8f inverse = splat(1.0f / totals[q]);
        for (int i = 0; i < dim; i += 8)
            store_part(out + q * dim + i, load8(sums[q] + i) * inverse, dim - i);
    }
}

/* Key heads [first, last) of one row. */
INLINE void attend_row(const AttentionInput *in, const Span *span, int span_row, int first,
                       int last, Workspace *work) {
    const Shape *shape = &in->model->shape;
    const Storage *s = span->storage;
    const int dim = shape->head_dim, count = shape->heads / shape->kv_heads;
    const size_t row = (size_t)(span->first_row + span_row);
    const float *qkv = in->qkv + row * in->qkv_stride;
    const float *cos = in->cos + row * (dim / 2), *sin = in->sin + row * (dim / 2);
    const float *k = qkv + shape->heads * dim, *v = k + shape->kv_heads * dim;
    HeadRow *keys = work->keys, *queries = work->queries;
    const int from = first * count, to = last * count;
    for (int h = first; h < last; h++) normalize(k + h * dim, in->layer->k_norm, dim, keys[h]);
    for (int q = from; q < to; q++) normalize(qkv + q * dim, in->layer->q_norm, dim, queries[q]);
    for (int h = first; h < last; h++) rotate(keys[h], cos, sin, dim);
    for (int q = from; q < to; q++) rotate(queries[q], cos, sin, dim);
    const int64_t position = span->position + span_row, block = position / s->block_size;
    const size_t layer_row = (size_t)in->layer_index * s->kv_heads * s->block_size;
    const size_t slot = layer_row + (size_t)(position - block * s->block_size);
    char *at = span->blocks[block - span->first_block];
    for (int h = first; h < last; h++)
        append_head(s, at, slot + (size_t)h * s->block_size, keys[h], v + h * dim);
    if (s->format != FORMAT_FLOAT32) {
        const float root = LOG2_E / sqrtf((float)dim);
        for (int q = from; q < to; q++) {
            Query *codes = &work->codes[q];
            memset(queries[q] + dim, 0, 16 * sizeof(float));
            quantize(queries[q], (dim + 15) / 16 * 16, codes->codes, codes->mates, &codes->scale);
            codes->scale *= root;
            if (s->format == FORMAT_INT8_TILES) prepare_query(codes, dim);
        }
    }
    Window w = window_of(in, span, position);
    for (int h = first; h < last; h++) {
        w.head = layer_row + (size_t)h * s->block_size;
        attend_head(in, &w, h, row, work, queries + h * count, work->codes + h * count);
    }
}

static TARGET void attend(const AttentionInput *in, const Span *span, int first, int last,
                          Workspace *work) {
    for (int row = 0; row < span->rows; row++) attend_row(in, span, row, first, last, work);
}
