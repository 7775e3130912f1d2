/* A whole transformer step: the phases between barriers, the same for every instruction set.
 *
 * A row is one token. Outputs of a product are shared out by tiles, attention by spans and key
 * heads, and whatever a member computes does not depend on how many members there are. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "decode.h"

/* What of a list is a member's to do first, on a cache line of its own. */
typedef struct {
    _Alignas(64) atomic_int next;
    int end;
} Share;

struct Decoder {
    Model model;
    const Kernels *kernels;
    Team *team;
    int threads;
    int width, qkv, attended, hidden, outputs; /* row strides: padded to whole tiles */
    float *h, *qkv_rows, *attended_rows, *hidden_rows, *out_rows, *cos, *sin;
    Activations shared;
    Workspace *work; /* [threads] */
    Share *shares; /* [layers][threads]: of a layer's attention */
    /* the step in flight */
    const Span *spans;
    int spans_count, rows;
    const float *x;
    const char *bytes;
    size_t bytes_count;
    atomic_ullong sink;
};

static int padded(int n) { return (n + TILE - 1) / TILE * TILE; }

/* Zeroed, on a cache line of its own. */
static void *rows_of(size_t count, size_t bytes) {
    const size_t size = (count * bytes + 127) / 64 * 64;
    void *memory = NULL;
    if (posix_memalign(&memory, 64, size)) return NULL;
    memset(memory, 0, size);
    return memory;
}

static int widest(const Decoder *d) {
    int most = d->width;
    if (d->attended > most) most = d->attended;
    if (d->hidden > most) most = d->hidden;
    return most + 64;
}

static int make_activations(Activations *a, int rows, int stride) {
    *a = (Activations){.stride = stride};
    a->values = rows_of((size_t)rows * stride, sizeof(float));
    a->codes = rows_of((size_t)rows * stride, 1);
    a->mates = rows_of((size_t)rows * stride, 1);
    a->scales = rows_of((size_t)rows, sizeof(float));
    return a->values && a->codes && a->mates && a->scales;
}

static void drop_activations(Activations *a) {
    free(a->values);
    free(a->codes);
    free(a->mates);
    free(a->scales);
}

static int make_workspace(Decoder *d, Workspace *w, int64_t span) {
    const size_t grouped = (size_t)(d->model.shape.heads / d->model.shape.kv_heads);
    w->span = (span + 3 * GROUP) / GROUP * GROUP;
    w->keys = rows_of((size_t)d->model.shape.kv_heads, sizeof(HeadRow));
    w->queries = rows_of((size_t)d->model.shape.heads, sizeof(HeadRow));
    w->codes = rows_of((size_t)d->model.shape.heads, sizeof(Query));
    w->scores = rows_of(grouped * w->span, sizeof(float));
    w->weights = rows_of(grouped * w->span, sizeof(int16_t));
    w->steps = rows_of(grouped * w->span / GROUP, sizeof(float));
    return make_activations(&w->own, 1, widest(d)) && w->keys && w->queries && w->codes &&
           w->scores && w->weights && w->steps;
}

static int allocate(Decoder *d, int64_t span) {
    const Shape *s = &d->model.shape;
    d->width = padded(s->width);
    d->qkv = padded((s->heads + 2 * s->kv_heads) * s->head_dim);
    d->attended = padded(s->heads * s->head_dim);
    d->hidden = padded(s->hidden);
    d->outputs = padded(s->outputs);
    d->h = rows_of((size_t)MAX_ROWS * d->width, sizeof(float));
    d->qkv_rows = rows_of((size_t)MAX_ROWS * d->qkv, sizeof(float));
    d->attended_rows = rows_of((size_t)MAX_ROWS * d->attended, sizeof(float));
    d->hidden_rows = rows_of((size_t)MAX_ROWS * d->hidden, sizeof(float));
    d->out_rows = rows_of((size_t)MAX_ROWS * d->outputs, sizeof(float));
    d->cos = rows_of((size_t)MAX_ROWS * MAX_HEAD_DIM / 2, sizeof(float));
    d->sin = rows_of((size_t)MAX_ROWS * MAX_HEAD_DIM / 2, sizeof(float));
    d->shares = rows_of((size_t)s->layers * (size_t)d->threads, sizeof *d->shares);
    d->work = rows_of((size_t)d->threads, sizeof *d->work);
    if (!d->h || !d->qkv_rows || !d->attended_rows || !d->hidden_rows || !d->out_rows || !d->cos ||
        !d->sin || !d->shares || !d->work || !make_activations(&d->shared, MAX_ROWS, widest(d)))
        return 0;
    for (int i = 0; i < d->threads; i++)
        if (!make_workspace(d, &d->work[i], span)) return 0;
    return 1;
}

Decoder *decoder_create(const Model *model, const Kernels *kernels, int threads, int64_t span) {
    Decoder *d = calloc(1, sizeof *d);
    if (!d) return NULL;
    d->model = *model;
    d->kernels = kernels;
    d->threads = threads;
    if (allocate(d, span)) d->team = team_create(threads);
    if (d->team) return d;
    d->model.layers = NULL; /* still the caller's */
    decoder_destroy(d);
    return NULL;
}

void decoder_destroy(Decoder *d) {
    if (!d) return;
    team_destroy(d->team);
    float *rows[] = {d->h, d->qkv_rows, d->attended_rows, d->hidden_rows, d->out_rows, d->cos, d->sin};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) free(rows[i]);
    for (int i = 0; d->work && i < d->threads; i++) {
        drop_activations(&d->work[i].own);
        free(d->work[i].keys);
        free(d->work[i].queries);
        free(d->work[i].codes);
        free(d->work[i].scores);
        free(d->work[i].weights);
        free(d->work[i].steps);
    }
    drop_activations(&d->shared);
    free(d->shares);
    free(d->work);
    free(d->model.layers);
    free(d);
}

/* --- phases ------------------------------------------------------------------------------ */

/* Cosine and sine of a phase in units of 2^-64 turns: an exact quarter turn, then Taylor to the
 * double's precision within an eighth. (Su et al., RoFormer, 2021.) */
static void phase(uint64_t turns, float *cos, float *sin) {
    const uint64_t quarter = (turns + (UINT64_C(1) << 61)) >> 62;
    const double x = (double)(int64_t)(turns - (quarter << 62)) * 0x1.921fb54442d18p-62;
    const double y = x * x;
    double s = 1.0 / 6227020800;
    s = s * y - 1.0 / 39916800;
    s = s * y + 1.0 / 362880;
    s = s * y - 1.0 / 5040;
    s = s * y + 1.0 / 120;
    s = s * y - 1.0 / 6;
    s = s * y * x + x;
    double c = -1.0 / 87178291200;
    c = c * y + 1.0 / 479001600;
    c = c * y - 1.0 / 3628800;
    c = c * y + 1.0 / 40320;
    c = c * y - 1.0 / 720;
    c = c * y + 1.0 / 24;
    c = c * y - 1.0 / 2;
    c = c * y + 1.0;
    const double by_quarter[4][2] = {{c, s}, {-s, c}, {-c, -s}, {s, -c}};
    *cos = (float)by_quarter[quarter & 3][0];
    *sin = (float)by_quarter[quarter & 3][1];
}

static void phases(Decoder *d, int member) {
    const int half = d->model.shape.head_dim / 2;
    for (int i = 0; i < d->spans_count; i++)
        for (int row = 0; row < d->spans[i].rows; row++) {
            const int at = d->spans[i].first_row + row;
            if (at % d->threads != member) continue;
            const uint64_t position = (uint64_t)(d->spans[i].position + row);
            for (int pair = 0; pair < half; pair++)
                phase(position * d->model.turns[pair], d->cos + at * half + pair,
                      d->sin + at * half + pair);
        }
}

/* out (=, +=, gelu of) the product with this member's share of the tiles. */
static void multiply(Decoder *d, int member, const Matrix *m, const Activations *x, float *out,
                     int stride, int epilogue) {
    const int tiles = padded(m->rows) / TILE;
    const int first = tiles * member / d->threads, last = tiles * (member + 1) / d->threads;
    (m->scales ? d->kernels->multiply_int8 : d->kernels->multiply_float)(m, first, last, x, d->rows,
                                                                        out, stride, epilogue);
}

/* Rows as the next product reads them: normed if there is a norm, coded if the weights are int8.
 * One row is made by every member for itself, which is cheaper than to wait for another. */
static Activations activations(Decoder *d, int member, const float *rows, int stride, int n,
                               const float *norm, const Matrix *for_matrix) {
    const int alone = d->rows == 1;
    Activations a = alone ? d->work[member].own : d->shared;
    if (!norm && !for_matrix->scales) {
        a.values = (float *)rows;
        a.stride = stride;
        return a;
    }
    for (int row = alone ? 0 : member; row < d->rows; row += alone ? 1 : d->threads) {
        const float *from = rows + (size_t)row * stride;
        const size_t at = (size_t)row * a.stride;
        if (norm) {
            d->kernels->normalize(from, norm, n, a.values + at);
            from = a.values + at;
            memset(a.values + at + n, 0, (size_t)(padded(n) - n) * sizeof(float));
        }
        if (for_matrix->scales)
            d->kernels->quantize(from, padded(n), a.codes + at, a.mates + at, a.scales + row);
    }
    if (!alone) team_wait(d->team);
    return a;
}

/* A sequence is one piece of work, or its heads are where sequences are few. */
static int pieces_of(const Decoder *d) {
    return d->spans_count >= 4 * d->threads ? 1 : d->model.shape.kv_heads;
}

static void share_out(Decoder *d) {
    const int units = d->spans_count * pieces_of(d), threads = d->threads;
    for (int i = 0; i < d->model.shape.layers * threads; i++) {
        const int member = i % threads;
        d->shares[i].end = units * (member + 1) / threads;
        atomic_store_explicit(&d->shares[i].next, units * member / threads, memory_order_relaxed);
    }
}

static void attend_layer(Decoder *d, int member, int layer) {
    const int heads = d->model.shape.kv_heads;
    const AttentionInput in = {
        .model = &d->model, .layer = &d->model.layers[layer], .layer_index = layer,
        .qkv = d->qkv_rows, .attended = d->attended_rows, .cos = d->cos, .sin = d->sin,
        .qkv_stride = d->qkv, .attended_stride = d->attended,
    };
    if (d->spans_count == 1) { /* the same heads on the same core each step */
        d->kernels->attend(&in, &d->spans[0], heads * member / d->threads,
                           heads * (member + 1) / d->threads, &d->work[member]);
        return;
    }
    /* the same sequences on the same core each step, and whoever is done early helps the others */
    const int pieces = pieces_of(d);
    for (int i = 0; i < d->threads; i++) {
        Share *share = &d->shares[layer * d->threads + (member + i) % d->threads];
        for (int unit; (unit = atomic_fetch_add(&share->next, 1)) < share->end;) {
            const int piece = unit % pieces;
            d->kernels->attend(&in, &d->spans[unit / pieces], heads * piece / pieces,
                               heads * (piece + 1) / pieces, &d->work[member]);
        }
    }
}

static void block_phases(Decoder *d, int member, int layer) {
    const Shape *s = &d->model.shape;
    const Layer *l = &d->model.layers[layer];
    Activations a = activations(d, member, d->h, d->width, s->width, l->attention_norm, &l->qkv);
    multiply(d, member, &l->qkv, &a, d->qkv_rows, d->qkv, STORE);
    team_wait(d->team);
    attend_layer(d, member, layer);
    team_wait(d->team);
    a = activations(d, member, d->attended_rows, d->attended, s->heads * s->head_dim, NULL, &l->out);
    multiply(d, member, &l->out, &a, d->h, d->width, ADD);
    team_wait(d->team);
    a = activations(d, member, d->h, d->width, s->width, l->mlp_norm, &l->up);
    multiply(d, member, &l->up, &a, d->hidden_rows, d->hidden, GELU);
    team_wait(d->team);
    a = activations(d, member, d->hidden_rows, d->hidden, s->hidden, NULL, &l->down);
    multiply(d, member, &l->down, &a, d->h, d->width, ADD);
    team_wait(d->team);
}

static void set_rows(Decoder *d, int member, float *rows, int stride, const float *bias, int n) {
    for (int row = member; row < d->rows; row += d->threads)
        memcpy(rows + (size_t)row * stride, bias, (size_t)n * sizeof(float));
}

static void step_work(void *argument, int member) {
    Decoder *d = argument;
    const Shape *s = &d->model.shape;
    set_rows(d, member, d->h, d->width, d->model.embed_bias, s->width);
    set_rows(d, member, d->out_rows, d->outputs, d->model.head_bias, s->outputs);
    phases(d, member);
    team_wait(d->team);
    Activations a = {.values = (float *)d->x, .stride = s->features};
    multiply(d, member, &d->model.embed, &a, d->h, d->width, ADD);
    team_wait(d->team);
    for (int layer = 0; layer < s->layers; layer++) block_phases(d, member, layer);
    a = activations(d, member, d->h, d->width, s->width, d->model.final_norm, &d->model.head);
    multiply(d, member, &d->model.head, &a, d->out_rows, d->outputs, ADD);
}

int decoder_step(Decoder *d, const Span *spans, int spans_count, const float *x, float *out) {
    d->spans = spans;
    d->spans_count = spans_count;
    d->x = x;
    d->rows = 0;
    for (int i = 0; i < spans_count; i++) d->rows += spans[i].rows;
    share_out(d);
    if (team_run(d->team, step_work, d)) return -1;
    for (int row = 0; row < d->rows; row++)
        memcpy(out + (size_t)row * d->model.shape.outputs, d->out_rows + (size_t)row * d->outputs,
               (size_t)d->model.shape.outputs * sizeof(float));
    return 0;
}

static void read_work(void *argument, int member) {
    Decoder *d = argument;
    const size_t first = d->bytes_count * (size_t)member / (size_t)d->threads / 64 * 64;
    const size_t last = d->bytes_count * ((size_t)member + 1) / (size_t)d->threads / 64 * 64;
    atomic_fetch_add(&d->sink, d->kernels->read(d->bytes + first, last - first));
}

int decoder_read(Decoder *d, const char *bytes, size_t count) {
    d->bytes = bytes;
    d->bytes_count = count;
    return team_run(d->team, read_work, d);
}
