/* The epilogue of a product (its sums are given up), and the float product. An output sums its even and its odd columns
 * apart, each in order, so that no tiling and no batch changes a bit. */

INLINE void finish(float *out, vwf *x, const int vectors, int epilogue) {
    if (epilogue == GELU) gelu_of(x, vectors);
    for (int i = 0; i < vectors; i++) {
        if (epilogue == ADD) x[i] += load_wide(out + WIDE * i);
        store_wide(out + WIDE * i, x[i]);
    }
}

/* One column of a tile, or of a part of it, times one number of each row. */
INLINE void float_column(vwf (*sums)[VECTORS], const float *w, const float *x, int stride,
                         const int rows, const int vectors) {
    for (int r = 0; r < rows; r++) {
        const vwf number = wide(x[(size_t)r * stride]);
        for (int i = 0; i < vectors; i++) sums[r][i] += load_wide(w + WIDE * i) * number;
    }
}

/* The part of a tile that begins at `w` against rows that share its reads; rows and vectors are
 * constants where this is inlined. */
INLINE void float_part(const float *w, int cols, const float *x, int x_stride, float *out,
                       int out_stride, int epilogue, const int rows, const int vectors) {
    vwf even[ROWS][VECTORS], odd[ROWS][VECTORS];
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < vectors; i++) even[r][i] = odd[r][i] = wide(0);
    int col = 0;
    for (; col + 2 <= cols; col += 2, w += 2 * TILE) {
        if (rows == 1)
            for (int i = 0; i < 2 * TILE * 4; i += 64)
                __builtin_prefetch((const char *)w + PREFETCH_BYTES + i);
        float_column(even, w, x + col, x_stride, rows, vectors);
        float_column(odd, w + TILE, x + col + 1, x_stride, rows, vectors);
    }
    if (col < cols) float_column(even, w, x + col, x_stride, rows, vectors);
    for (int r = 0; r < rows; r++) {
        for (int i = 0; i < vectors; i++) even[r][i] += odd[r][i];
        finish(out + (size_t)r * out_stride, even[r], vectors, epilogue);
    }
}

/* Two vectors of a tile against all rows, ROWS at a time: as many sums as there are registers. */
INLINE void float_strip(const float *w, int cols, const Activations *x, int rows, float *out,
                        int stride, int epilogue) {
    int row = 0;
    for (; row + ROWS <= rows; row += ROWS)
        float_part(w, cols, x->values + (size_t)row * x->stride, x->stride,
                   out + (size_t)row * stride, stride, epilogue, ROWS, 2);
    for (; row < rows; row++)
        float_part(w, cols, x->values + (size_t)row * x->stride, x->stride,
                   out + (size_t)row * stride, stride, epilogue, 1, 2);
}

static TARGET void multiply_float(const Matrix *m, int first, int last, const Activations *x,
                                  int rows, float *out, int stride, int epilogue) {
    for (int tile = first; tile < last; tile++) {
        const float *w = (const float *)m->tiles + (size_t)tile * m->cols * TILE;
        float *to = out + tile * TILE;
        if (rows == 1) {
            float_part(w, m->cols, x->values, x->stride, to, stride, epilogue, 1, VECTORS);
            continue;
        }
        for (int at = 0; at < TILE; at += 2 * WIDE)
            float_strip(w + at, m->cols, x, rows, to + at, stride, epilogue);
    }
}
