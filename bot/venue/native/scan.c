/* Reads the frames that make up nearly all of a feed: order books and public trades.
 *
 * A fast reader of what is plainly right, and a judge of nothing: for whatever it does not know to
 * the last byte (white space, escapes, other or repeated keys, signs, exponents, long numbers) it
 * answers None, and bot/venue/payloads.py reads the frame. Fields are found by key. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

#define MS 1000000
#define MAX_MS (INT64_MAX / MS - 1) /* payloads.Milliseconds */
#define UNIT 1000000000000          /* E12: instrument.UNIT */
#define MAX_DIGITS 18               /* of an integer, or before a point: below 2**63 */
#define DECIMALS 12

/* A rule below returns 0 (or NULL) where the text is not its own; an exception may then be set.
 * `*at` is the next byte. The byte after the last one of a bytes object is 0, and no rule passes
 * a 0, so none reads beyond it. */

/* Prices come back again and again: those met lately, each at the place that its value hashes to. A
 * book then finds its level by the very object that it holds. */
enum { KNOWN_BITS = 10, KNOWN = 1 << KNOWN_BITS };

typedef struct {
    PyObject *buy, *sell;
    struct {
        int64_t value;
        PyObject *number; /* NULL while there is none */
    } known[KNOWN];
} State;

typedef struct {
    const char *start;
    Py_ssize_t size;
} Text;

static inline int is(Text text, const char *name) {
    return text.size == (Py_ssize_t)strlen(name) && !memcmp(text.start, name, text.size);
}

static inline int starts(Text text, const char *head) {
    const Py_ssize_t size = strlen(head);
    return text.size > size && !memcmp(text.start, head, size);
}

/* Notes that a key was met; false if it was met before. */
static inline int first(unsigned *met, unsigned key) {
    if (*met & key) return 0;
    *met |= key;
    return 1;
}

static inline int take(const char **at, char byte) {
    if (**at != byte) return 0;
    ++*at;
    return 1;
}

static inline int word(const char **at, const char *name) {
    const size_t size = strlen(name);
    if (strncmp(*at, name, size)) return 0;
    *at += size;
    return 1;
}

/* A string of printable ASCII without escapes. */
static inline int string(const char **at, Text *text) {
    if (!take(at, '"')) return 0;
    text->start = *at;
    while (**at >= ' ' && **at <= '~' && **at != '"' && **at != '\\') ++*at;
    text->size = *at - text->start;
    return take(at, '"');
}

/* Digits, at most `most`; returns how many. */
static inline int digits(const char **at, int most, int64_t *value) {
    const char *start = *at;
    int64_t sum = 0;
    for (; *at - start < most && **at >= '0' && **at <= '9'; ++*at) sum = 10 * sum + (**at - '0');
    *value = sum;
    return (int)(*at - start);
}

/* A JSON integer of either kind that payloads.py takes: no sign, no leading zero. */
static inline int integer(const char **at, int64_t *value) {
    const char head = **at;
    const int count = digits(at, MAX_DIGITS, value);
    return count == 1 || (count && head != '0');
}

static inline int milliseconds(const char **at, int64_t *value) {
    return integer(at, value) && *value <= MAX_MS;
}

static inline int boolean(const char **at, PyObject **value) {
    *value = word(at, "true") ? Py_True : word(at, "false") ? Py_False : NULL;
    return *value != NULL;
}

/* --- numbers ------------------------------------------------------------------------------- */

static PyObject *wide_e12(int64_t whole, int64_t fraction) {
    PyObject *product = NULL, *sum = NULL;
    PyObject *parts[] = {
        PyLong_FromLongLong(whole), PyLong_FromLongLong(UNIT), PyLong_FromLongLong(fraction)};
    if (parts[0] && parts[1] && parts[2]) product = PyNumber_Multiply(parts[0], parts[1]);
    if (product) sum = PyNumber_Add(product, parts[2]);
    Py_XDECREF(product);
    for (int i = 0; i < 3; i++) Py_XDECREF(parts[i]);
    return sum;
}

static inline PyObject *known(int64_t value, State *state) {
    const uint64_t place = (uint64_t)value * 0x9E3779B97F4A7C15u >> (64 - KNOWN_BITS);
    PyObject *number = state->known[place].number;
    if (number && state->known[place].value == value) return Py_NewRef(number);
    PyObject *made = PyLong_FromLongLong(value);
    if (!made) return NULL;
    Py_XDECREF(number);
    state->known[place].number = Py_NewRef(made), state->known[place].value = value;
    return made;
}

/* "65114.20" in units of 1e-12, as instrument.parse_e12 has it. A price says where it is known. */
static inline PyObject *e12(const char **at, State *prices) {
    static const int64_t scales[] = {UNIT,    100000000000, 10000000000, 1000000000, 100000000,
                                     10000000, 1000000,      100000,      10000,      1000,
                                     100,      10,           1};
    int64_t whole, fraction = 0;
    if (!take(at, '"') || !digits(at, MAX_DIGITS, &whole)) return NULL;
    if (take(at, '.')) {
        const int count = digits(at, DECIMALS, &fraction);
        if (!count) return NULL;
        fraction *= scales[count];
    }
    if (!take(at, '"')) return NULL;
    if (whole >= INT64_MAX / UNIT) return wide_e12(whole, fraction);
    const int64_t value = whole * UNIT + fraction;
    return prices ? known(value, prices) : PyLong_FromLongLong(value);
}

/* A JSON array of what `item` reads, as a list. */
static inline PyObject *list_of(
    const char **at, PyObject *(*item)(const char **, State *), State *state) {
    PyObject *list = take(at, '[') ? PyList_New(0) : NULL;
    if (!list || take(at, ']')) return list;
    do {
        PyObject *one = item(at, state);
        const int failed = !one || PyList_Append(list, one);
        Py_XDECREF(one);
        if (failed) goto failed;
    } while (take(at, ','));
    if (take(at, ']')) return list;
failed:
    Py_DECREF(list);
    return NULL;
}

/* --- order books --------------------------------------------------------------------------- */

typedef struct {
    PyObject *bids, *asks;
    int64_t u, seq;
} Book;

/* ["65114.20","0.004"] as (price, quantity) */
static inline PyObject *level(const char **at, State *state) {
    PyObject *price = NULL, *qty = NULL, *pair = NULL;
    if (take(at, '[') && (price = e12(at, state)) && take(at, ',') && (qty = e12(at, NULL)) &&
        take(at, ']'))
        pair = PyTuple_New(2);
    if (!pair) {
        Py_XDECREF(price), Py_XDECREF(qty);
        return NULL;
    }
    PyTuple_SET_ITEM(pair, 0, price), PyTuple_SET_ITEM(pair, 1, qty);
    return pair;
}

/* What is already in `book` when this fails is the caller's to release. */
static inline int book_field(const char **at, unsigned *met, Book *book, State *state) {
    enum { B = 1, A = 2, U = 4, SEQ = 8, S = 16 };
    Text key, symbol;
    if (!string(at, &key) || !take(at, ':')) return 0;
    if (is(key, "b")) return first(met, B) && (book->bids = list_of(at, level, state));
    if (is(key, "a")) return first(met, A) && (book->asks = list_of(at, level, state));
    if (is(key, "u")) return first(met, U) && integer(at, &book->u);
    if (is(key, "seq")) return first(met, SEQ) && integer(at, &book->seq);
    return is(key, "s") && first(met, S) && string(at, &symbol);
}

static inline int book(const char **at, Book *book, State *state) {
    unsigned met = 0;
    if (!take(at, '{')) return 0;
    do {
        if (!book_field(at, &met, book, state)) return 0;
    } while (take(at, ','));
    return (met & 15) == 15 && take(at, '}');
}

/* --- public trades ------------------------------------------------------------------------- */

typedef struct {
    PyObject *price, *qty, *side, *block, *rpi;
    int64_t at_ms, seq;
} Print;

static inline PyObject *side_of(const char **at, const State *state) {
    Text text;
    if (!string(at, &text)) return NULL;
    return is(text, "Buy") ? state->buy : is(text, "Sell") ? state->sell : NULL;
}

static inline int print_field(
    const char **at, unsigned *met, Print *print, State *state) {
    enum { T = 1, SIDE = 2, V = 4, P = 8, SEQ = 16, BT = 32, RPI = 64, S = 128, L = 256, I = 512 };
    Text key, ignored;
    if (!string(at, &key) || !take(at, ':')) return 0;
    if (is(key, "T")) return first(met, T) && milliseconds(at, &print->at_ms);
    if (is(key, "S")) return first(met, SIDE) && (print->side = side_of(at, state));
    if (is(key, "v")) return first(met, V) && (print->qty = e12(at, NULL));
    if (is(key, "p")) return first(met, P) && (print->price = e12(at, state));
    if (is(key, "seq")) return first(met, SEQ) && integer(at, &print->seq);
    if (is(key, "BT")) return first(met, BT) && boolean(at, &print->block);
    if (is(key, "RPI")) return first(met, RPI) && boolean(at, &print->rpi);
    const unsigned other = is(key, "s") ? S : is(key, "L") ? L : is(key, "i") ? I : 0;
    return other && first(met, other) && string(at, &ignored);
}

/* A trade as (exchange_ts, seq, side, price, qty, block, rpi) */
static PyObject *print(const char **at, State *state) {
    Print print = {.block = Py_False, .rpi = Py_False};
    unsigned met = 0;
    PyObject *stamp = NULL, *seq = NULL, *found = NULL;
    if (!take(at, '{')) return NULL;
    do {
        if (!print_field(at, &met, &print, state)) goto end;
    } while (take(at, ','));
    if ((met & 15) != 15 || !take(at, '}')) goto end;
    stamp = PyLong_FromLongLong(print.at_ms * MS);
    seq = PyLong_FromLongLong(print.seq);
    if (stamp && seq)
        found = PyTuple_Pack(
            7, stamp, seq, print.side, print.price, print.qty, print.block, print.rpi);
end:
    Py_XDECREF(stamp), Py_XDECREF(seq);
    Py_XDECREF(print.price), Py_XDECREF(print.qty);
    return found;
}

/* --- frames -------------------------------------------------------------------------------- */

typedef struct {
    Text topic;
    int is_snapshot;
    int64_t ts, cts;
    Book book;
    PyObject *prints; /* NULL where `data` was a book */
} Message;

static inline int type_of(const char **at, int *is_snapshot) {
    Text text;
    if (!string(at, &text)) return 0;
    *is_snapshot = is(text, "snapshot");
    return *is_snapshot || is(text, "delta");
}

static inline int data_of(const char **at, Message *message, State *state) {
    if (**at == '{') return book(at, &message->book, state);
    return (message->prints = list_of(at, print, state)) != NULL;
}

static inline int message_field(
    const char **at, unsigned *met, Message *message, State *state) {
    enum { TOPIC = 1, TYPE = 2, TS = 4, DATA = 8, CTS = 16 };
    Text key;
    if (!string(at, &key) || !take(at, ':')) return 0;
    if (is(key, "topic")) {
        return first(met, TOPIC) && string(at, &message->topic) &&
               (starts(message->topic, "orderbook.") || starts(message->topic, "publicTrade."));
    }
    if (is(key, "type")) return first(met, TYPE) && type_of(at, &message->is_snapshot);
    if (is(key, "ts")) return first(met, TS) && milliseconds(at, &message->ts);
    if (is(key, "data")) return first(met, DATA) && data_of(at, message, state);
    return is(key, "cts") && first(met, CTS) && milliseconds(at, &message->cts);
}

static int message(const char **at, Message *message, State *state) {
    unsigned met = 0;
    if (!take(at, '{')) return 0;
    do {
        if (!message_field(at, &met, message, state)) return 0;
    } while (take(at, ','));
    if ((met & 15) != 15 || !take(at, '}')) return 0;
    return starts(message->topic, message->prints ? "publicTrade." : "orderbook.");
}

/* (topic, prints) or (topic, is_snapshot, exchange_ts, u, seq, bids, asks) */
static PyObject *result_of(const Message *message) {
    const Book *book = &message->book;
    PyObject *topic = PyUnicode_FromStringAndSize(message->topic.start, message->topic.size);
    PyObject *stamp = NULL, *u = NULL, *seq = NULL, *result = NULL;
    if (topic && message->prints) {
        result = PyTuple_Pack(2, topic, message->prints);
    } else if (topic) {
        stamp = PyLong_FromLongLong((message->cts ? message->cts : message->ts) * MS);
        u = PyLong_FromLongLong(book->u);
        seq = PyLong_FromLongLong(book->seq);
        if (stamp && u && seq)
            result = PyTuple_Pack(
                7, topic, message->is_snapshot ? Py_True : Py_False, stamp, u, seq, book->bids,
                book->asks);
    }
    Py_XDECREF(topic), Py_XDECREF(stamp), Py_XDECREF(u), Py_XDECREF(seq);
    return result;
}

static PyObject *scan(PyObject *module, PyObject *data) {
    if (!PyBytes_Check(data)) return PyErr_Format(PyExc_TypeError, "a frame is bytes");
    const char *at = PyBytes_AS_STRING(data);
    const char *end = at + PyBytes_GET_SIZE(data);
    Message found = {0};
    PyObject *result = NULL;
    if (message(&at, &found, PyModule_GetState(module)) && at == end) result = result_of(&found);
    Py_XDECREF(found.book.bids), Py_XDECREF(found.book.asks), Py_XDECREF(found.prints);
    if (result || PyErr_Occurred()) return result;
    Py_RETURN_NONE;
}

/* --- the module ---------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"scan", scan, METH_O, "The parts of a plain order book or trade frame, else None."},
    {NULL, NULL, 0, NULL}};

static int fill(PyObject *module) {
    State *state = PyModule_GetState(module);
    state->buy = PyUnicode_InternFromString("Buy");
    state->sell = PyUnicode_InternFromString("Sell");
    return state->buy && state->sell ? 0 : -1;
}

static int visit_none(PyObject *module, visitproc visit, void *arg) {
    (void)module, (void)visit, (void)arg;
    return 0; /* strings and integers take no part in cycles */
}

static int clear(PyObject *module) {
    State *state = PyModule_GetState(module);
    Py_CLEAR(state->buy);
    Py_CLEAR(state->sell);
    for (int i = 0; i < KNOWN; i++) Py_CLEAR(state->known[i].number);
    return 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, fill}, {0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_scan",
    .m_size = sizeof(State),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = visit_none,
    .m_clear = clear,
};

PyMODINIT_FUNC PyInit__scan(void) { return PyModuleDef_Init(&definition); }
