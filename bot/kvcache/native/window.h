/* What a query sees: a window over a span's blocks, in groups of GROUP tokens that are aligned in
 * absolute positions, so that block sizes change nothing. */

#define HIDDEN (-1e30f) /* a score whose softmax weight is exactly 0 */

/* What a query sees, as groups. */
typedef struct {
    const Span *span;
    size_t head;       /* (layer * kv_heads + kv_head) * block_size: the first row of the head */
    int64_t low, high; /* positions [low, high) are seen */
    int64_t first;     /* position of the first group */
    int64_t groups;
    int64_t block, slot;   /* where the first group lies: index into the span's blocks, row in it */
    int64_t last, ahead;   /* index of the last block; how many blocks further on to ask for */
    int direct;            /* a group lies in one block */
} Window;

INLINE Window window_of(const AttentionInput *in, const Span *span, int64_t position) {
    const int64_t size = span->storage->block_size;
    Window w = {.span = span, .high = position + 1, .direct = size % GROUP == 0};
    w.low = position - in->model->shape.window + 1;
    if (w.low < span->start) w.low = span->start;
    w.first = w.low - w.low % GROUP;
    w.groups = (position - w.first) / GROUP + 1;
    w.block = w.first / size - span->first_block;
    w.slot = w.first % size;
    w.last = position / size - span->first_block;
    w.ahead = (TOKENS_AHEAD + size - 1) / size;
    return w;
}

/* Groups whose rows lie one after another in a block, or one group copied together. */
typedef struct {
    const char *codes, *params;
    const char *later; /* the same rows of a block further on, to be asked for while these are read */
    int64_t groups;
} Run;

/* A walk from run to run through one section of the blocks. */
typedef struct {
    const Window *window;
    int64_t codes, params; /* offsets of the sections within a block */
    size_t row_bytes;
    int64_t group, block, slot; /* where the next run starts */
} Walk;

INLINE Walk walk_of(const Window *w, int64_t codes, int64_t params, size_t row_bytes) {
    return (Walk){w, codes, params, row_bytes, 0, w->block, w->slot};
}

/* The copy; with zeros where nothing is seen. */
typedef struct {
    char codes[GROUP * MAX_HEAD_DIM * 4];
    uint16_t params[GROUP];
} Copy;

static TARGET __attribute__((noinline)) Run copied_run(const Walk *walk, Copy *copy) {
    const Window *w = walk->window;
    const Storage *s = w->span->storage;
    const size_t row_bytes = walk->row_bytes;
    memset(copy->codes, 0, GROUP * row_bytes);
    memset(copy->params, 0, sizeof copy->params);
    for (int i = 0; i < GROUP; i++) {
        const int64_t token = w->first + walk->group * GROUP + i;
        if (token < w->low || token >= w->high) continue;
        const char *block = w->span->blocks[token / s->block_size - w->span->first_block];
        const size_t row = w->head + (size_t)(token % s->block_size);
        memcpy(copy->codes + i * row_bytes, block + walk->codes + row * row_bytes, row_bytes);
        if (s->format != FORMAT_FLOAT32) memcpy(&copy->params[i], block + walk->params + row * 2, 2);
    }
    return (Run){copy->codes, (const char *)copy->params, copy->codes, 1};
}

/* The next run; the walk goes on behind it. */
INLINE Run next_run(Walk *walk, Copy *copy) {
    const Window *w = walk->window;
    if (!w->direct) {
        const Run run = copied_run(walk, copy);
        walk->group++;
        return run;
    }
    const int64_t left = w->groups - walk->group;
    const int64_t in_block = (w->span->storage->block_size - walk->slot) / GROUP;
    const int64_t groups = in_block < left ? in_block : left;
    const size_t row = w->head + (size_t)walk->slot;
    char *const *blocks = w->span->blocks;
    int64_t later = walk->block + w->ahead;
    if (later > w->last) later = w->last;
    if (walk->block < w->last)
        __builtin_prefetch(blocks[walk->block + 1] + walk->params + w->head * 2);
    const char *at = blocks[walk->block];
    const Run run = {at + walk->codes + row * walk->row_bytes, at + walk->params + row * 2,
                     blocks[later] + walk->codes + row * walk->row_bytes, groups};
    walk->group += groups;
    walk->block++;
    walk->slot = 0;
    return run;
}

/* Blocks lie far apart, so no hardware follows from one to the next. */
INLINE void ask_for(const char **rows, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(*rows + i);
    *rows += bytes;
}

INLINE int at_edge(const Window *w, int64_t group) { return group == 0 || group == w->groups - 1; }

/* What the query does not see of a group's scores at the window's edges is hidden. */
static TARGET __attribute__((noinline)) void hide(const Window *w, int64_t group, float scores[GROUP]) {
    const int64_t position = w->first + group * GROUP;
    for (int i = 0; i < GROUP; i++)
        if (position + i < w->low || position + i >= w->high) scores[i] = HIDDEN;
}
