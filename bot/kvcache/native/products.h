/* The epilogue of a product, and the float product. An output sums its even and its odd columns
 * apart, each in order, so that no tiling and no batch changes a bit. */

INLINE void finish_tile(float *out, v8f low, v8f high, int epilogue) {
    if (epilogue == ADD) {
        low += load8(out);
        high += load8(out + 8);
    } else if (epilogue == GELU) {
        low = gelu8(low);
        high = gelu8(high);
    }
    store8(out, low);
    store8(out + 8, high);
}

#define MOST_PAIRED 2 /* tiles times rows of one block */

/* One column of tile_count tiles against row_count rows; both are constants once inlined. */
INLINE void float_column(v8f (*sums)[2], const float *w, size_t tile_step, const float *x,
                         size_t x_stride, const int tile_count, const int row_count) {
    for (int tile = 0; tile < tile_count; tile++)
        for (int row = 0; row < row_count; row++) {
            const v8f factor = splat(x[row * x_stride]);
            sums[tile * row_count + row][0] += load8(w + tile * tile_step) * factor;
            sums[tile * row_count + row][1] += load8(w + tile * tile_step + 8) * factor;
        }
}

INLINE void float_block(const float *w, int cols, const float *x, size_t x_stride, float *out,
                        size_t stride, int epilogue, const int tile_count, const int row_count) {
    const size_t tile_step = (size_t)cols * TILE;
    v8f even[MOST_PAIRED][2] = {{splat(0)}}, odd[MOST_PAIRED][2] = {{splat(0)}};
    for (int i = 0; i < MOST_PAIRED; i++)
        for (int half = 0; half < 2; half++) even[i][half] = odd[i][half] = splat(0);
    int col = 0;
    for (; col + 2 <= cols; col += 2) {
        __builtin_prefetch(w + col * TILE + PREFETCH_FLOATS);
        __builtin_prefetch(w + col * TILE + PREFETCH_FLOATS + TILE);
        float_column(even, w + col * TILE, tile_step, x + col, x_stride, tile_count, row_count);
        float_column(odd, w + (col + 1) * TILE, tile_step, x + col + 1, x_stride, tile_count,
                     row_count);
    }
    if (col < cols)
        float_column(even, w + col * TILE, tile_step, x + col, x_stride, tile_count, row_count);
    for (int tile = 0; tile < tile_count; tile++)
        for (int row = 0; row < row_count; row++) {
            const int at = tile * row_count + row;
            finish_tile(out + row * stride + tile * TILE, even[at][0] + odd[at][0],
                        even[at][1] + odd[at][1], epilogue);
        }
}

static TARGET void multiply_float(const Matrix *m, int first, int last, const Activations *x,
                                  int rows, float *out, int stride, int epilogue) {
    const size_t x_stride = (size_t)x->stride, step = (size_t)stride;
    for (int tile = first; tile < last;) {
        const float *w = (const float *)m->tiles + (size_t)tile * m->cols * TILE;
        float *to = out + tile * TILE;
        if (rows == 1 && last - tile >= 2) {
            float_block(w, m->cols, x->values, x_stride, to, step, epilogue, 2, 1);
            tile += 2;
            continue;
        }
        int row = 0;
        for (; row + 2 <= rows; row += 2)
            float_block(w, m->cols, x->values + row * x_stride, x_stride, to + row * step, step,
                        epilogue, 1, 2);
        if (row < rows)
            float_block(w, m->cols, x->values + row * x_stride, x_stride, to + row * step, step,
                        epilogue, 1, 1);
        tile++;
    }
}
