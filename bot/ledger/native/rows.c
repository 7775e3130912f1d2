/* A fact as it is kept: its line for the digest, and its row for the database, made in one pass.
 *
 * The same bytes and values as bot/ledger/digest.py, which has the rules and stays the reference:
 * whatever is not plainly one of the common values (an exponent, an escape, a float) goes through
 * its functions. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <string.h>

typedef struct {
    PyObject *name; /* interned */
    PyObject *key;  /* bytes, `"name":` */
    int is_decimal, is_later;
} Field;

/* A decimal that was written lately, and its text. A run's are made once and met often. */
typedef struct {
    PyObject *number, *text;
} Known;
enum { KNOWN = 256 };

/* How facts of one kind are written. `tag` stands before the field at `tag_at`. */
typedef struct {
    PyObject_HEAD
    Py_ssize_t count, tag_at;
    Field *fields;
    PyObject *kind;           /* str */
    PyObject *tag;            /* bytes, `"type":"Kind"` */
    PyObject *plain, *encode; /* of digest.py: a decimal's text, any value's JSON */
    Known known[KNOWN];       /* by address */
} Shape;

/* --- bytes ------------------------------------------------------------------------------------ */

/* A line being written; a long one moves to the heap. */
typedef struct {
    char *bytes;
    Py_ssize_t size, room;
    char small[1024];
} Line;

static void begin(Line *line) {
    line->bytes = line->small;
    line->size = 0, line->room = sizeof line->small;
}

static void end(Line *line) {
    if (line->bytes != line->small) PyMem_Free(line->bytes);
}

/* Room for `size` more bytes. */
static int reserve(Line *line, Py_ssize_t size) {
    if (size <= line->room - line->size) return 0;
    const Py_ssize_t room = 2 * line->room + size;
    char *bytes = PyMem_Malloc(room);
    if (bytes == NULL) return PyErr_NoMemory(), -1;
    memcpy(bytes, line->bytes, line->size);
    end(line);
    line->bytes = bytes, line->room = room;
    return 0;
}

static int put(Line *line, const char *bytes, Py_ssize_t size) {
    if (reserve(line, size) < 0) return -1;
    memcpy(line->bytes + line->size, bytes, size);
    line->size += size;
    return 0;
}

static int put_bytes(Line *line, PyObject *bytes) {
    return put(line, PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes));
}

/* The line behind those before it. */
static int append(PyObject *lines, const Line *line) {
    const Py_ssize_t before = PyByteArray_GET_SIZE(lines);
    if (PyByteArray_Resize(lines, before + line->size) < 0) return -1;
    memcpy(PyByteArray_AS_STRING(lines) + before, line->bytes, line->size);
    return 0;
}

/* Any value as the encoder of digest.py writes it. */
static int put_encoded(const Shape *shape, Line *line, PyObject *value) {
    PyObject *text = PyObject_CallOneArg(shape->encode, value);
    if (text == NULL) return -1;
    if (!PyBytes_Check(text)) {
        PyErr_SetString(PyExc_TypeError, "an encoder makes bytes");
        Py_DECREF(text);
        return -1;
    }
    const int result = put_bytes(line, text);
    Py_DECREF(text);
    return result;
}

static int put_int(const Shape *shape, Line *line, PyObject *value) {
    int overflow;
    const long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow) return put_encoded(shape, line, value);
    char digits[24], *at = digits + sizeof digits;
    unsigned long long left = number < 0 ? 0 - (unsigned long long)number : (unsigned long long)number;
    do *--at = '0' + left % 10;
    while (left /= 10);
    if (number < 0) *--at = '-';
    return put(line, at, digits + sizeof digits - at);
}

/* Text between quotes; what JSON would escape, or is not ASCII, is left to the encoder. */
static int put_text(const Shape *shape, Line *line, PyObject *value) {
    if (!PyUnicode_IS_COMPACT_ASCII(value)) return put_encoded(shape, line, value);
    const Py_ssize_t size = PyUnicode_GET_LENGTH(value);
    const unsigned char *text = PyUnicode_1BYTE_DATA(value);
    for (Py_ssize_t i = 0; i < size; i++)
        if (text[i] < 0x20 || text[i] == '"' || text[i] == '\\' || text[i] == 0x7f)
            return put_encoded(shape, line, value);
    if (reserve(line, size + 2) < 0) return -1;
    char *at = line->bytes + line->size;
    *at = '"';
    memcpy(at + 1, text, size);
    at[size + 1] = '"';
    line->size += size + 2;
    return 0;
}

static int put_value(const Shape *shape, Line *line, PyObject *value) {
    if (value == Py_None) return put(line, "null", 4);
    if (value == Py_True) return put(line, "true", 4);
    if (value == Py_False) return put(line, "false", 5);
    if (PyUnicode_CheckExact(value)) return put_text(shape, line, value);
    if (PyLong_CheckExact(value)) return put_int(shape, line, value);
    return put_encoded(shape, line, value);
}

/* --- values ----------------------------------------------------------------------------------- */

/* A decimal as plain text: that of `str`, unless it has an exponent, zeros to strip, or a sign. */
static PyObject *plain(const Shape *shape, PyObject *number) {
    PyObject *text = PyObject_Str(number);
    if (text == NULL) return NULL;
    const Py_ssize_t size = PyUnicode_GET_LENGTH(text);
    if (PyUnicode_IS_COMPACT_ASCII(text) && size) {
        const char *at = (const char *)PyUnicode_1BYTE_DATA(text);
        if (at[0] != '-' && at[size - 1] != '0' && !memchr(at, 'E', size)) return text;
        if (size == 1) return text; /* "0" */
    }
    Py_DECREF(text);
    return PyObject_CallOneArg(shape->plain, number);
}

/* The same, of a decimal that may be known. */
static PyObject *known_plain(Shape *shape, PyObject *number) {
    Known *known = &shape->known[((uintptr_t)number >> 5) % KNOWN];
    if (known->number == number) return Py_NewRef(known->text);
    PyObject *text = plain(shape, number);
    if (text == NULL) return NULL;
    Py_XSETREF(known->number, Py_NewRef(number));
    Py_XSETREF(known->text, Py_NewRef(text));
    return text;
}

/* Writes the fact's line and puts its plain values behind `at`, each a new reference. */
static int write_fact(Shape *shape, PyObject *fact, Line *line, PyObject **at) {
    if (put(line, "{", 1) < 0) return -1;
    int is_first = 1;
    for (Py_ssize_t i = 0; i <= shape->count; i++) {
        if (i == shape->tag_at) {
            if (!is_first && put(line, ",", 1) < 0) return -1;
            if (put_bytes(line, shape->tag) < 0) return -1;
            is_first = 0;
        }
        if (i == shape->count) break;
        const Field *field = &shape->fields[i];
        PyObject *value = PyObject_GetAttr(fact, field->name);
        if (value == NULL) return -1;
        if (field->is_decimal && value != Py_None) Py_SETREF(value, known_plain(shape, value));
        at[i] = value;
        if (value == NULL) return -1;
        if (field->is_later && value == Py_None) continue;
        if (!is_first && put(line, ",", 1) < 0) return -1;
        if (put_bytes(line, field->key) < 0 || put_value(shape, line, value) < 0) return -1;
        is_first = 0;
    }
    return put(line, "}\n", 2);
}

/* The fact's line goes behind `lines`, its plain values into `row` from `first` on. A fact that
 * cannot be written leaves no half a line. */
static int write_into(Shape *shape, PyObject *fact, PyObject *lines, PyObject *row,
                      Py_ssize_t first) {
    Line line;
    begin(&line);
    int result = write_fact(shape, fact, &line, ((PyTupleObject *)row)->ob_item + first);
    if (result == 0) result = append(lines, &line);
    end(&line);
    return result;
}

static PyObject *shape_row(Shape *shape, PyObject *const *args, Py_ssize_t count) {
    if (count != 3 || !PyTuple_CheckExact(args[1]) || !PyByteArray_CheckExact(args[2]))
        return PyErr_Format(PyExc_TypeError, "row(fact, head: tuple, lines: bytearray)");
    PyObject *head = args[1];
    const Py_ssize_t first = PyTuple_GET_SIZE(head);
    PyObject *row = PyTuple_New(first + shape->count);
    if (row == NULL) return NULL;
    for (Py_ssize_t i = 0; i < first; i++)
        PyTuple_SET_ITEM(row, i, Py_NewRef(PyTuple_GET_ITEM(head, i)));
    if (write_into(shape, args[0], args[2], row, first) == 0) return row;
    Py_DECREF(row);
    return NULL;
}

/* --- the rows of a step ----------------------------------------------------------------------- */

/* The row of a fact, a new reference: run, number, position, perhaps its kind, its values. */
static PyObject *numbered_row(Shape *shape, PyObject *fact, PyObject *const *head, int is_named,
                              PyObject *lines) {
    PyObject *row = PyTuple_New(3 + is_named + shape->count);
    if (row == NULL) return NULL;
    for (Py_ssize_t i = 0; i < 3; i++) PyTuple_SET_ITEM(row, i, Py_NewRef(head[i]));
    if (is_named) PyTuple_SET_ITEM(row, 3, Py_NewRef(shape->kind));
    if (write_into(shape, fact, lines, row, 3 + is_named) == 0) return row;
    Py_DECREF(row);
    return NULL;
}

/* Puts `row` to the others of its kind. */
static int keep(PyObject *rows, PyObject *kind, PyObject *row) {
    PyObject *many = PyDict_GetItemWithError(rows, kind);
    if (many && PyList_CheckExact(many)) return PyList_Append(many, row);
    if (many) PyErr_SetString(PyExc_TypeError, "rows are in lists");
    if (PyErr_Occurred()) return -1;
    if ((many = PyList_New(0)) == NULL) return -1;
    const int result = PyList_Append(many, row) < 0 ? -1 : PyDict_SetItem(rows, kind, many);
    Py_DECREF(many);
    return result;
}

static int take_fact(PyTypeObject *shape_type, PyObject *const *args, PyObject *fact,
                     PyObject *const *head) {
    PyObject *kind = (PyObject *)Py_TYPE(fact);
    PyObject *shape = PyDict_GetItemWithError(args[0], kind);
    if (shape == NULL || Py_TYPE(shape) != shape_type) {
        if (!PyErr_Occurred()) PyErr_Format(PyExc_TypeError, "%R is no kind of fact", kind);
        return -1;
    }
    const int is_named = PySet_Contains(args[1], kind);
    if (is_named < 0) return -1;
    PyObject *row = numbered_row((Shape *)shape, fact, head, is_named, args[4]);
    const int result = row ? keep(args[5], kind, row) : -1;
    Py_XDECREF(row);
    return result;
}

static PyObject *take_step(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    if (count != 6 || !PyDict_CheckExact(args[0]) || !PyAnySet_CheckExact(args[1]) ||
        !PyTuple_CheckExact(args[2]) || !PyTuple_CheckExact(args[3]) ||
        PyTuple_GET_SIZE(args[3]) != 3 || !PyByteArray_CheckExact(args[4]) ||
        !PyDict_CheckExact(args[5]))
        return PyErr_Format(PyExc_TypeError, "take_step(shapes: dict, named: set, facts: tuple, "
                                             "(run, first, position), lines: bytearray, rows: dict)");
    PyTypeObject *shape_type = *(PyTypeObject **)PyModule_GetState(module);
    PyObject *facts = args[2], *place = args[3];
    const long long first = PyLong_AsLongLong(PyTuple_GET_ITEM(place, 1));
    if (first == -1 && PyErr_Occurred()) return NULL;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(facts); i++) {
        PyObject *number = PyLong_FromLongLong(first + i);
        if (number == NULL) return NULL;
        PyObject *const head[3] = {PyTuple_GET_ITEM(place, 0), number, PyTuple_GET_ITEM(place, 2)};
        const int result = take_fact(shape_type, args, PyTuple_GET_ITEM(facts, i), head);
        Py_DECREF(number);
        if (result < 0) return NULL;
    }
    Py_RETURN_NONE;
}

/* --- the type --------------------------------------------------------------------------------- */

static int contains(PyObject *names, PyObject *name) {
    return names == NULL ? 0 : PySequence_Contains(names, name);
}

static int fill_field(Field *field, PyObject *name, PyObject *decimals, PyObject *later) {
    if (!PyUnicode_Check(name)) return PyErr_Format(PyExc_TypeError, "names are str"), -1;
    field->name = Py_NewRef(name);
    PyUnicode_InternInPlace(&field->name);
    field->key = PyBytes_FromFormat("\"%s\":", PyUnicode_AsUTF8(name));
    field->is_decimal = contains(decimals, name);
    field->is_later = contains(later, name);
    return field->key == NULL || field->is_decimal < 0 || field->is_later < 0 ? -1 : 0;
}

static void shape_dealloc(Shape *shape) {
    for (Py_ssize_t i = 0; shape->fields && i < shape->count; i++)
        Py_XDECREF(shape->fields[i].name), Py_XDECREF(shape->fields[i].key);
    PyMem_Free(shape->fields);
    for (Py_ssize_t i = 0; i < KNOWN; i++)
        Py_XDECREF(shape->known[i].number), Py_XDECREF(shape->known[i].text);
    Py_XDECREF(shape->kind), Py_XDECREF(shape->tag);
    Py_XDECREF(shape->plain), Py_XDECREF(shape->encode);
    PyTypeObject *type = Py_TYPE(shape);
    type->tp_free(shape);
    Py_DECREF(type);
}

static PyObject *shape_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    const char *kind;
    PyObject *names, *decimals, *later, *to_plain, *encode;
    if (kwargs && PyDict_GET_SIZE(kwargs)) return PyErr_Format(PyExc_TypeError, "no keywords");
    if (!PyArg_ParseTuple(args, "sO!O!O!OO:Shape", &kind, &PyTuple_Type, &names, &PyTuple_Type,
                          &decimals, &PyTuple_Type, &later, &to_plain, &encode))
        return NULL;
    Shape *shape = (Shape *)type->tp_alloc(type, 0);
    if (shape == NULL) return NULL;
    shape->plain = Py_NewRef(to_plain), shape->encode = Py_NewRef(encode);
    shape->count = PyTuple_GET_SIZE(names);
    shape->kind = PyUnicode_FromString(kind);
    shape->tag = PyBytes_FromFormat("\"type\":\"%s\"", kind);
    shape->fields = PyMem_Calloc(shape->count + 1, sizeof(Field));
    int is_right = shape->kind && shape->tag && shape->fields;
    if (!shape->fields) PyErr_NoMemory();
    for (Py_ssize_t i = 0; is_right && i < shape->count; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        is_right = fill_field(&shape->fields[i], name, decimals, later) == 0;
        if (is_right && PyUnicode_CompareWithASCIIString(name, "type") < 0) shape->tag_at = i + 1;
    }
    if (is_right) return (PyObject *)shape;
    Py_DECREF(shape);
    return NULL;
}

static PyMethodDef shape_methods[] = {
    {"row", (PyCFunction)(void (*)(void))shape_row, METH_FASTCALL,
     "Append a fact's line to `lines`; returns `head` and the fact's plain values."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot shape_slots[] = {{Py_tp_new, shape_new},
                                    {Py_tp_dealloc, shape_dealloc},
                                    {Py_tp_methods, shape_methods},
                                    {0, NULL}};

/* Its callables are functions of modules, so it takes no part in cycles. */
static PyType_Spec shape_spec = {.name = "bot.ledger.native._rows.Shape",
                                 .basicsize = sizeof(Shape),
                                 .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
                                 .slots = shape_slots};

static int fill(PyObject *module) {
    PyObject *type = PyType_FromModuleAndSpec(module, &shape_spec, NULL);
    if (type == NULL) return -1;
    *(PyObject **)PyModule_GetState(module) = type; /* the module's own reference */
    return PyModule_AddType(module, (PyTypeObject *)type);
}

static int traverse(PyObject *module, visitproc visit, void *arg) {
    PyObject **type = PyModule_GetState(module);
    if (type) Py_VISIT(*type);
    return 0;
}

static int clear(PyObject *module) {
    PyObject **type = PyModule_GetState(module);
    if (type) Py_CLEAR(*type);
    return 0;
}

static void release(void *module) { clear(module); }

static PyMethodDef methods[] = {
    {"take_step", (PyCFunction)(void (*)(void))take_step, METH_FASTCALL,
     "Append the lines of a step's facts to `lines`, and their numbered rows to `rows` by kind."},
    {NULL, NULL, 0, NULL}};

static PyModuleDef_Slot slots[] = {{Py_mod_exec, fill}, {0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_rows",
    .m_size = sizeof(PyObject *),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
    .m_free = release};

PyMODINIT_FUNC PyInit__rows(void) { return PyModuleDef_Init(&definition); }
