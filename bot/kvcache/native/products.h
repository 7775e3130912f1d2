/* The epilogue of a product (its sums are given up), and the float product. An output sums its even and its odd columns
 * apart, each in order, so that no tiling and no batch changes a bit. */

INLINE void finish_tile(float *out, vwf x[VECTORS], int epilogue) {
    if (epilogue == GELU) gelu_of(x, VECTORS);
    for (int i = 0; i < VECTORS; i++) {
        if (epilogue == ADD) x[i] += load_wide(out + WIDE * i);
        store_wide(out + WIDE * i, x[i]);
    }
}

/* One column of a tile times one number. */
INLINE void float_column(vwf *sums, const float *w, float x) {
    for (int i = 0; i < VECTORS; i++) sums[i] += load_wide(w + WIDE * i) * wide(x);
}

INLINE void float_tile(const float *w, int cols, const float *x, float *out, int epilogue) {
    vwf even[VECTORS], odd[VECTORS];
    for (int i = 0; i < VECTORS; i++) even[i] = odd[i] = wide(0);
    int col = 0;
    for (; col + 2 <= cols; col += 2, w += 2 * TILE) {
        for (int i = 0; i < 2 * TILE * 4; i += 64)
            __builtin_prefetch((const char *)w + PREFETCH_BYTES + i);
        float_column(even, w, x[col]);
        float_column(odd, w + TILE, x[col + 1]);
    }
    if (col < cols) float_column(even, w, x[col]);
    for (int i = 0; i < VECTORS; i++) even[i] += odd[i];
    finish_tile(out, even, epilogue);
}

static TARGET void multiply_float(const Matrix *m, int first, int last, const Activations *x,
                                  int rows, float *out, int stride, int epilogue) {
    for (int tile = first; tile < last; tile++)
        for (int row = 0; row < rows; row++)
            float_tile((const float *)m->tiles + (size_t)tile * m->cols * TILE, m->cols,
                       x->values + (size_t)row * x->stride,
                       out + (size_t)row * stride + tile * TILE, epilogue);
}
