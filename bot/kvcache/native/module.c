/* The Python face: addresses in, addresses checked, the global lock released while it counts. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "decode.h"

#define DECODER "bot.kvcache.native.decoder"
#define STORAGE "bot.kvcache.native.storage"

typedef struct {
    Decoder *decoder;
    Shape shape;
    char **blocks; /* every span's block addresses, one after another */
    Py_ssize_t capacity;
    Span spans[MAX_ROWS];
    int busy;
} Session;

typedef struct {
    Storage storage;
    int64_t blocks;
} Pool;

/* --- which instruction sets ---------------------------------------------------------------- */

static const Kernels *kernels_named(const char *name) {
#ifdef HAVE_X86
    __builtin_cpu_init();
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
    if (!strcmp(name, "avx2") && avx2) return &kernels_avx2;
    if (!strcmp(name, "vnni") && avx2 && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vnni"))
        return &kernels_vnni;
#endif
    return strcmp(name, "plain") ? NULL : &kernels_plain;
}

static PyObject *isas(PyObject *self, PyObject *none) {
    (void)self, (void)none;
    static const char *const names[] = {"vnni", "avx2", "plain"};
    PyObject *found = PyList_New(0);
    for (size_t i = 0; found && i < sizeof names / sizeof *names; i++) {
        if (!kernels_named(names[i])) continue;
        PyObject *name = PyUnicode_FromString(names[i]);
        if (!name || PyList_Append(found, name)) Py_CLEAR(found);
        Py_XDECREF(name);
    }
    return found;
}

/* --- decoders ------------------------------------------------------------------------------ */

static void drop_session(PyObject *capsule) {
    Session *session = PyCapsule_GetPointer(capsule, DECODER);
    if (!session) return;
    decoder_destroy(session->decoder);
    free(session->blocks);
    free(session);
}

/* The next of a tuple's addresses. */
static const void *next_address(PyObject *addresses, Py_ssize_t *at) {
    if (*at >= PyTuple_GET_SIZE(addresses)) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "too few addresses");
        return NULL;
    }
    return PyLong_AsVoidPtr(PyTuple_GET_ITEM(addresses, (*at)++));
}

static Matrix next_matrix(PyObject *addresses, Py_ssize_t *at, int rows, int cols) {
    Matrix m = {.rows = rows, .cols = cols};
    m.tiles = next_address(addresses, at);
    m.scales = next_address(addresses, at);
    m.sums = next_address(addresses, at);
    return m;
}

/* Addresses in the order of bot/model/native.py; 0 or -1 with an exception set. */
static int read_model(Model *model, PyObject *addresses) {
    const Shape *s = &model->shape;
    const int heads_width = s->heads * s->head_dim;
    Py_ssize_t at = 0;
    model->turns = next_address(addresses, &at);
    model->embed = next_matrix(addresses, &at, s->width, s->features);
    model->embed_bias = next_address(addresses, &at);
    model->layers = calloc((size_t)s->layers, sizeof *model->layers);
    if (!model->layers) {
        PyErr_NoMemory();
        return -1;
    }
    for (int i = 0; i < s->layers; i++) {
        Layer *l = &model->layers[i];
        l->attention_norm = next_address(addresses, &at);
        l->qkv = next_matrix(addresses, &at, heads_width + 2 * s->kv_heads * s->head_dim, s->width);
        l->q_norm = next_address(addresses, &at);
        l->k_norm = next_address(addresses, &at);
        l->sink = next_address(addresses, &at);
        l->out = next_matrix(addresses, &at, s->width, heads_width);
        l->mlp_norm = next_address(addresses, &at);
        l->up = next_matrix(addresses, &at, s->hidden, s->width);
        l->down = next_matrix(addresses, &at, s->width, s->hidden);
    }
    model->final_norm = next_address(addresses, &at);
    model->head = next_matrix(addresses, &at, s->outputs, s->width);
    model->head_bias = next_address(addresses, &at);
    return PyErr_Occurred() ? -1 : 0;
}

static int shape_fits(const Shape *s) {
    const int sizes[] = {s->features, s->width,    s->layers, s->heads,
                         s->kv_heads, s->head_dim, s->hidden, s->outputs};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i] < 1 || sizes[i] > 1 << 16) return 0;
    return s->head_dim % 2 == 0 && s->head_dim <= MAX_HEAD_DIM && s->heads % s->kv_heads == 0 &&
           s->heads / s->kv_heads <= MAX_GROUPED && s->window >= 1;
}

/* create(isa, threads, (features, width, layers, heads, kv_heads, head_dim, hidden, outputs,
 * window), addresses) -> decoder. The addresses must outlive it. */
static PyObject *create(PyObject *self, PyObject *args) {
    (void)self;
    const char *isa;
    int threads;
    PyObject *addresses;
    Model model = {0};
    Shape *s = &model.shape;
    long long window;
    if (!PyArg_ParseTuple(args, "si(iiiiiiiiL)O!", &isa, &threads, &s->features, &s->width,
                          &s->layers, &s->heads, &s->kv_heads, &s->head_dim, &s->hidden,
                          &s->outputs, &window, &PyTuple_Type, &addresses))
        return NULL;
    s->window = window;
    const Kernels *kernels = kernels_named(isa);
    if (!kernels) return PyErr_Format(PyExc_ValueError, "isa '%s' is not one of isas()", isa);
    if (threads < 1 || threads > 256)
        return PyErr_Format(PyExc_ValueError, "threads must be 1 to 256, got %d", threads);
    if (!shape_fits(s))
        return PyErr_Format(PyExc_ValueError, "the model's shape is beyond the native decoder's");
    Session *session = calloc(1, sizeof *session);
    if (!session) return PyErr_NoMemory();
    if (read_model(&model, addresses)) {
        free(model.layers);
        free(session);
        return NULL;
    }
    session->shape = *s;
    session->capacity = (Py_ssize_t)(s->window + MAX_ROWS + 2) * MAX_ROWS;
    session->blocks = malloc((size_t)session->capacity * sizeof *session->blocks);
    session->decoder = decoder_create(&model, kernels, threads, s->window);
    PyObject *capsule = NULL;
    if (session->blocks && session->decoder)
        capsule = PyCapsule_New(session, DECODER, drop_session);
    else
        PyErr_Format(PyExc_MemoryError, "no memory or no %d threads for a decoder", threads);
    if (!capsule) {
        if (!session->decoder) free(model.layers);
        decoder_destroy(session->decoder);
        free(session->blocks);
        free(session);
    }
    return capsule;
}

/* --- storages ------------------------------------------------------------------------------ */

static void drop_pool(PyObject *capsule) { free(PyCapsule_GetPointer(capsule, STORAGE)); }

/* storage(address, slabs, slab_bytes, per_slab, block_bytes, format, layers, kv_heads, head_dim,
 * block_size, (k_codes, v_codes, k_params, v_params)) -> storage. The address must outlive it. */
static PyObject *storage(PyObject *self, PyObject *args) {
    (void)self;
    unsigned long long address;
    long long slabs, slab_bytes, per_slab, block_bytes, offsets[4];
    Storage s = {0};
    if (!PyArg_ParseTuple(args, "KLLLLiiiii(LLLL)", &address, &slabs, &slab_bytes, &per_slab,
                          &block_bytes, &s.format, &s.layers, &s.kv_heads, &s.head_dim,
                          &s.block_size, &offsets[0], &offsets[1], &offsets[2], &offsets[3]))
        return NULL;
    if (s.format < FORMAT_FLOAT32 || s.format > FORMAT_INT8_TILES ||
        (s.format == FORMAT_INT8_TILES && (s.block_size % GROUP || s.head_dim % 32)))
        return PyErr_Format(PyExc_ValueError, "format %d is not known, or not for this shape", s.format);
    if (slabs < 1 || per_slab < 1 || block_bytes < 1 || per_slab * block_bytes > slab_bytes ||
        s.block_size < 1)
        return PyErr_Format(PyExc_ValueError, "blocks do not fit their slabs");
    s.base = (char *)(uintptr_t)address;
    s.slab_bytes = slab_bytes;
    s.per_slab = per_slab;
    s.block_bytes = block_bytes;
    s.k_codes = offsets[0];
    s.v_codes = offsets[1];
    s.k_params = offsets[2];
    s.v_params = offsets[3];
    Pool *pool = malloc(sizeof *pool);
    if (!pool) return PyErr_NoMemory();
    *pool = (Pool){s, slabs * per_slab};
    PyObject *capsule = PyCapsule_New(pool, STORAGE, drop_pool);
    if (!capsule) free(pool);
    return capsule;
}

/* --- steps --------------------------------------------------------------------------------- */

/* The addresses of a table's blocks, whose logical numbers must follow one another, into `to`.
 * Returns the first number, or -1 with an exception set. */
static int64_t read_table(const Pool *pool, PyObject *table, char **to) {
    const Storage *s = &pool->storage;
    PyObject *key, *value;
    Py_ssize_t at = 0, i = 0;
    long long first = 0;
    for (; PyDict_Next(table, &at, &key, &value); i++) {
        const long long number = PyLong_AsLongLong(key), block = PyLong_AsLongLong(value);
        if (!i) first = number;
        if (number != first + i || number < 0 || block < 0 || block >= pool->blocks) {
            if (!PyErr_Occurred())
                PyErr_Format(PyExc_ValueError,
                             "block %lld as number %lld of a table from %lld on: out of order, or "
                             "not one of the pool's %lld",
                             block, number, first, (long long)pool->blocks);
            return -1;
        }
        to[i] = s->base + block / s->per_slab * s->slab_bytes + block % s->per_slab * s->block_bytes;
    }
    return first;
}

/* One (storage, table, position, start, rows); returns the blocks used, or -1. */
static Py_ssize_t read_span(Session *session, PyObject *tuple, Py_ssize_t used, Span *span) {
    PyObject *capsule, *table;
    long long position, start;
    if (!PyArg_ParseTuple(tuple, "OO!LLi", &capsule, &PyDict_Type, &table, &position, &start,
                          &span->rows))
        return -1;
    const Pool *pool = PyCapsule_GetPointer(capsule, STORAGE);
    if (!pool) return -1;
    const Shape *shape = &session->shape;
    const Storage *s = &pool->storage;
    const Py_ssize_t blocks = PyDict_GET_SIZE(table);
    if (used + blocks > session->capacity)
        return PyErr_Format(PyExc_ValueError, "a table of %zd blocks is too long", blocks), -1;
    const int64_t first_block = read_table(pool, table, session->blocks + used);
    if (first_block < 0) return -1;
    int64_t low = position - shape->window + 1;
    if (low < start) low = start;
    if (s->layers != shape->layers || s->kv_heads != shape->kv_heads ||
        s->head_dim != shape->head_dim || span->rows < 1 || span->rows > MAX_ROWS ||
        position < start || start < 0 || low / s->block_size < first_block ||
        (position + span->rows - 1) / s->block_size >= first_block + blocks) {
        PyErr_Format(PyExc_ValueError,
                     "a table of %zd blocks from block %lld does not hold positions %lld to %lld of "
                     "this model",
                     blocks, (long long)first_block, (long long)low, position + span->rows - 1);
        return -1;
    }
    span->storage = s;
    span->blocks = session->blocks + used;
    span->first_block = first_block;
    span->position = position;
    span->start = start;
    return blocks;
}

/* step(decoder, x address, out address, [(storage, table, position, start, rows)]) */
static PyObject *step(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    (void)self;
    if (count != 4 || !PyList_Check(args[3]) || PyList_GET_SIZE(args[3]) > MAX_ROWS)
        return PyErr_Format(PyExc_TypeError, "step(decoder, x, out, spans of at most %d)", MAX_ROWS);
    Session *session = PyCapsule_GetPointer(args[0], DECODER);
    if (!session) return NULL;
    const float *x = PyLong_AsVoidPtr(args[1]);
    float *out = PyLong_AsVoidPtr(args[2]);
    if (PyErr_Occurred()) return NULL;
    if (session->busy)
        return PyErr_Format(PyExc_RuntimeError, "the decoder is stepping in another thread");
    const int spans = (int)PyList_GET_SIZE(args[3]);
    int rows = 0;
    Py_ssize_t used = 0;
    for (int i = 0; i < spans; i++) {
        const Py_ssize_t blocks =
            read_span(session, PyList_GET_ITEM(args[3], i), used, &session->spans[i]);
        if (blocks < 0) return NULL;
        used += blocks;
        session->spans[i].first_row = rows;
        rows += session->spans[i].rows;
        if (rows > MAX_ROWS)
            return PyErr_Format(PyExc_ValueError, "a step takes at most %d rows", MAX_ROWS);
    }
    session->busy = 1;
    int failed;
    Py_BEGIN_ALLOW_THREADS
    failed = rows ? decoder_step(session->decoder, session->spans, spans, x, out) : 0;
    Py_END_ALLOW_THREADS
    session->busy = 0;
    if (failed) return PyErr_Format(PyExc_OSError, "the decoder's threads could not be started");
    Py_RETURN_NONE;
}

/* first_not_finite(address, count) -> index, or -1 */
static PyObject *first_not_finite(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    (void)self;
    if (count != 2) return PyErr_Format(PyExc_TypeError, "first_not_finite(address, count)");
    const float *x = PyLong_AsVoidPtr(args[0]);
    const Py_ssize_t numbers = PyLong_AsSsize_t(args[1]);
    if (PyErr_Occurred()) return NULL;
    for (Py_ssize_t i = 0; i < numbers; i++)
        if (!isfinite(x[i])) return PyLong_FromSsize_t(i);
    return PyLong_FromLong(-1);
}

/* read(decoder, address, bytes): the team reads the bytes and drops them */
static PyObject *read_all(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    (void)self;
    if (count != 3) return PyErr_Format(PyExc_TypeError, "read(decoder, address, bytes)");
    Session *session = PyCapsule_GetPointer(args[0], DECODER);
    if (!session) return NULL;
    const char *bytes = PyLong_AsVoidPtr(args[1]);
    const size_t size = PyLong_AsSize_t(args[2]);
    if (PyErr_Occurred()) return NULL;
    if (session->busy)
        return PyErr_Format(PyExc_RuntimeError, "the decoder is stepping in another thread");
    session->busy = 1;
    int failed;
    Py_BEGIN_ALLOW_THREADS
    failed = decoder_read(session->decoder, bytes, size);
    Py_END_ALLOW_THREADS
    session->busy = 0;
    if (failed) return PyErr_Format(PyExc_OSError, "the decoder's threads could not be started");
    Py_RETURN_NONE;
}

/* advise_huge_pages(address, bytes): fewer page walks; the system may ignore it */
static PyObject *advise_huge_pages(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    (void)self;
    if (count != 2) return PyErr_Format(PyExc_TypeError, "advise_huge_pages(address, bytes)");
    const uintptr_t first = (uintptr_t)PyLong_AsVoidPtr(args[0]);
    const size_t bytes = PyLong_AsSize_t(args[1]);
    if (PyErr_Occurred()) return NULL;
#ifdef MADV_HUGEPAGE
    const uintptr_t page = 1 << 21, from = (first + page - 1) / page * page;
    if (first + bytes >= from + page)
        (void)madvise((void *)from, (first + bytes - from) / page * page, MADV_HUGEPAGE);
#else
    (void)first, (void)bytes;
#endif
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"isas", isas, METH_NOARGS, "Instruction sets of this machine, the best first."},
    {"create", create, METH_VARARGS, "A decoder over packed weights."},
    {"storage", storage, METH_VARARGS, "A pool's blocks and their layout."},
    {"step", (PyCFunction)(void (*)(void))step, METH_FASTCALL, "One step of every span."},
    {"first_not_finite", (PyCFunction)(void (*)(void))first_not_finite, METH_FASTCALL,
     "The index of the first number that is none, or -1."},
    {"advise_huge_pages", (PyCFunction)(void (*)(void))advise_huge_pages, METH_FASTCALL,
     "Ask for huge pages."},
    {"read", (PyCFunction)(void (*)(void))read_all, METH_FASTCALL, "Read bytes with the team."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "bot.kvcache.native._decode", .m_size = 0, .m_methods = methods,
};

PyMODINIT_FUNC PyInit__decode(void) {
    PyObject *module = PyModule_Create(&definition);
    if (module && PyModule_AddIntConstant(module, "MAX_ROWS", MAX_ROWS)) Py_CLEAR(module);
    return module;
}
