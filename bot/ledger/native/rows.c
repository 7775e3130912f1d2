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

/* How facts of one kind are written. `tag` stands before the field at `tag_at`. */
typedef struct {
    PyObject_HEAD
    Py_ssize_t count, tag_at;
    Field *fields;
    PyObject *tag;           /* bytes, `"type":"Kind"` */
    PyObject *plain, *encode; /* of digest.py: a decimal's text, any value's JSON */
} Shape;

/* --- bytes ------------------------------------------------------------------------------------ */

static int put(PyObject *lines, const char *bytes, Py_ssize_t size) {
    const Py_ssize_t before = PyByteArray_GET_SIZE(lines);
    if (PyByteArray_Resize(lines, before + size) < 0) return -1;
    memcpy(PyByteArray_AS_STRING(lines) + before, bytes, size);
    return 0;
}

static int put_bytes(PyObject *lines, PyObject *bytes) {
    return put(lines, PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes));
}

/* Any value as the encoder of digest.py writes it. */
static int put_encoded(const Shape *shape, PyObject *lines, PyObject *value) {
    PyObject *text = PyObject_CallOneArg(shape->encode, value);
    if (text == NULL) return -1;
    if (!PyBytes_Check(text)) {
        PyErr_SetString(PyExc_TypeError, "an encoder makes bytes");
        Py_DECREF(text);
        return -1;
    }
    const int result = put_bytes(lines, text);
    Py_DECREF(text);
    return result;
}

static int put_int(const Shape *shape, PyObject *lines, PyObject *value) {
    int overflow;
    const long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow) return put_encoded(shape, lines, value);
    char digits[24], *at = digits + sizeof digits;
    unsigned long long left = number < 0 ? 0 - (unsigned long long)number : (unsigned long long)number;
    do *--at = '0' + left % 10;
    while (left /= 10);
    if (number < 0) *--at = '-';
    return put(lines, at, digits + sizeof digits - at);
}

/* Text between quotes; what JSON would escape, or is not ASCII, is left to the encoder. */
static int put_text(const Shape *shape, PyObject *lines, PyObject *value) {
    if (!PyUnicode_IS_COMPACT_ASCII(value)) return put_encoded(shape, lines, value);
    const Py_ssize_t size = PyUnicode_GET_LENGTH(value);
    const unsigned char *text = PyUnicode_1BYTE_DATA(value);
    for (Py_ssize_t i = 0; i < size; i++)
        if (text[i] < 0x20 || text[i] == '"' || text[i] == '\\' || text[i] == 0x7f)
            return put_encoded(shape, lines, value);
    const Py_ssize_t before = PyByteArray_GET_SIZE(lines);
    if (PyByteArray_Resize(lines, before + size + 2) < 0) return -1;
    char *at = PyByteArray_AS_STRING(lines) + before;
    *at = '"';
    memcpy(at + 1, text, size);
    at[size + 1] = '"';
    return 0;
}

static int put_value(const Shape *shape, PyObject *lines, PyObject *value) {
    if (value == Py_None) return put(lines, "null", 4);
    if (value == Py_True) return put(lines, "true", 4);
    if (value == Py_False) return put(lines, "false", 5);
    if (PyUnicode_CheckExact(value)) return put_text(shape, lines, value);
    if (PyLong_CheckExact(value)) return put_int(shape, lines, value);
    return put_encoded(shape, lines, value);
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

/* Writes the fact's line and puts its plain values behind `at`, each a new reference. */
static int write_fact(const Shape *shape, PyObject *fact, PyObject *lines, PyObject **at) {
    if (put(lines, "{", 1) < 0) return -1;
    int is_first = 1;
    for (Py_ssize_t i = 0; i <= shape->count; i++) {
        if (i == shape->tag_at) {
            if (!is_first && put(lines, ",", 1) < 0) return -1;
            if (put_bytes(lines, shape->tag) < 0) return -1;
            is_first = 0;
        }
        if (i == shape->count) break;
        const Field *field = &shape->fields[i];
        PyObject *value = PyObject_GetAttr(fact, field->name);
        if (value == NULL) return -1;
        if (field->is_decimal && value != Py_None) Py_SETREF(value, plain(shape, value));
        at[i] = value;
        if (value == NULL) return -1;
        if (field->is_later && value == Py_None) continue;
        if (!is_first && put(lines, ",", 1) < 0) return -1;
        if (put_bytes(lines, field->key) < 0 || put_value(shape, lines, value) < 0) return -1;
        is_first = 0;
    }
    return put(lines, "}\n", 2);
}

static PyObject *shape_row(Shape *shape, PyObject *const *args, Py_ssize_t count) {
    if (count != 3 || !PyTuple_CheckExact(args[1]) || !PyByteArray_CheckExact(args[2]))
        return PyErr_Format(PyExc_TypeError, "row(fact, head: tuple, lines: bytearray)");
    PyObject *fact = args[0], *head = args[1], *lines = args[2];
    const Py_ssize_t first = PyTuple_GET_SIZE(head), before = PyByteArray_GET_SIZE(lines);
    PyObject *row = PyTuple_New(first + shape->count);
    if (row == NULL) return NULL;
    for (Py_ssize_t i = 0; i < first; i++)
        PyTuple_SET_ITEM(row, i, Py_NewRef(PyTuple_GET_ITEM(head, i)));
    if (write_fact(shape, fact, lines, ((PyTupleObject *)row)->ob_item + first) == 0) return row;
    Py_DECREF(row);
    PyObject *type, *value, *traceback; /* a fact that cannot be written leaves no half a line */
    PyErr_Fetch(&type, &value, &traceback);
    PyByteArray_Resize(lines, before);
    PyErr_Restore(type, value, traceback);
    return NULL;
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
    Py_XDECREF(shape->tag), Py_XDECREF(shape->plain), Py_XDECREF(shape->encode);
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
    shape->tag = PyBytes_FromFormat("\"type\":\"%s\"", kind);
    shape->fields = PyMem_Calloc(shape->count + 1, sizeof(Field));
    int is_right = shape->tag && shape->fields;
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
    const int result = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return result;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, fill}, {0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT, .m_name = "_rows", .m_slots = slots};

PyMODINIT_FUNC PyInit__rows(void) { return PyModuleDef_Init(&definition); }
