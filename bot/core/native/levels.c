/* The changes of one side of a book, put into its levels, and held against what we marked there:
 * done for most messages of a feed.
 *
 * The same as `change_levels` and `lower_marks` of bot/core/levels.py, the reference. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>

/* Whether `one` is better than `other`: higher for bids, lower for asks. -1 is an error. */
static int is_better(PyObject *one, PyObject *other, int is_bid) {
    int overflow;
    const long long a = PyLong_AsLongLongAndOverflow(one, &overflow);
    if (!overflow && !(a == -1 && PyErr_Occurred())) {
        const long long b = PyLong_AsLongLongAndOverflow(other, &overflow);
        if (!overflow && !(b == -1 && PyErr_Occurred())) return is_bid ? a > b : a < b;
    }
    if (PyErr_Occurred()) return -1;
    return PyObject_RichCompareBool(one, other, is_bid ? Py_GT : Py_LT);
}

/* The best price of a side, a new reference; 0 where there is none. */
static PyObject *best_of(PyObject *levels, int is_bid) {
    PyObject *price, *qty, *best = NULL;
    Py_ssize_t at = 0;
    while (PyDict_Next(levels, &at, &price, &qty)) {
        if (best == NULL) {
            best = price;
            continue;
        }
        const int better = is_better(price, best, is_bid);
        if (better < 0) return NULL;
        if (better) best = price;
    }
    return best ? Py_NewRef(best) : PyLong_FromLong(0);
}

/* Puts one level in or takes it out; `*best` (borrowed from a level) follows. -1 is an error. */
static int change(PyObject *levels, PyObject *level, PyObject **best, int is_bid) {
    if (!PyTuple_CheckExact(level) || PyTuple_GET_SIZE(level) != 2)
        return PyErr_Format(PyExc_TypeError, "a level is (price, quantity)"), -1;
    PyObject *price = PyTuple_GET_ITEM(level, 0), *qty = PyTuple_GET_ITEM(level, 1);
    const int is_there = PyObject_IsTrue(qty);
    if (is_there < 0) return -1;
    if (is_there) {
        const int better = *best == NULL ? 1 : is_better(price, *best, is_bid);
        if (better < 0 || PyDict_SetItem(levels, price, qty) < 0) return -1;
        if (better) *best = price;
        return 0;
    }
    if (PyDict_DelItem(levels, price) == 0) return 0;
    if (!PyErr_ExceptionMatches(PyExc_KeyError)) return -1;
    PyErr_Clear(); /* it was not shown: nothing changes */
    return 0;
}

static PyObject *apply_levels(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    if (count != 4 || !PyDict_CheckExact(args[0]) || !PyList_CheckExact(args[1]) ||
        !PyLong_CheckExact(args[2]))
        return PyErr_Format(PyExc_TypeError, "apply_levels(levels: dict, changes: list, best: int, "
                                             "is_bid)");
    PyObject *levels = args[0], *changes = args[1];
    const int is_bid = PyObject_IsTrue(args[3]);
    if (is_bid < 0) return NULL;
    const int had_best = PyObject_IsTrue(args[2]);
    PyObject *best = had_best ? args[2] : NULL; /* held by the caller, or by `changes` */
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(changes); i++)
        if (change(levels, PyList_GET_ITEM(changes, i), &best, is_bid) < 0) return NULL;
    if (best == NULL) return best_of(levels, is_bid);
    const int is_shown = PyDict_Contains(levels, best);
    if (is_shown < 0) return NULL;
    return is_shown ? Py_NewRef(best) : best_of(levels, is_bid);
}

/* Whether the mark at `price` must be looked at again; if its level is shown it is held against it
 * here. -1 is an error. */
static int hold(PyObject *marks, PyObject *levels, PyObject *price, PyObject *unseen) {
    PyObject *taken = PyDict_GetItemWithError(marks, price);
    if (taken == NULL) return PyErr_Occurred() ? -1 : 0;
    PyObject *shown = PyDict_GetItemWithError(levels, price);
    if (shown == NULL) return PyErr_Occurred() ? -1 : 1;
    if (PyList_GET_SIZE(unseen)) {
        const int was_unseen = PySequence_Contains(unseen, price);
        if (was_unseen) return was_unseen;
    }
    const int is_more = PyObject_RichCompareBool(taken, shown, Py_GT);
    if (is_more > 0) return PyDict_SetItem(marks, price, shown);
    return is_more;
}

static PyObject *hold_marks(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    if (count != 4 || !PyDict_CheckExact(args[0]) || !PyDict_CheckExact(args[1]) ||
        !PyList_CheckExact(args[2]) || !PyList_CheckExact(args[3]))
        return PyErr_Format(PyExc_TypeError, "hold_marks(marks: dict, levels: dict, "
                                             "changes: list, unseen: list)");
    PyObject *changes = args[2], *found = NULL;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(changes); i++) {
        PyObject *level = PyList_GET_ITEM(changes, i);
        if (!PyTuple_CheckExact(level) || PyTuple_GET_SIZE(level) != 2) {
            PyErr_SetString(PyExc_TypeError, "a level is (price, quantity)");
            goto failed;
        }
        PyObject *price = PyTuple_GET_ITEM(level, 0);
        const int is_open = hold(args[0], args[1], price, args[3]);
        if (is_open < 0) goto failed;
        if (!is_open) continue;
        if (found == NULL && (found = PyList_New(0)) == NULL) return NULL;
        if (PyList_Append(found, price) < 0) goto failed;
    }
    if (found) return found;
    Py_RETURN_NONE;
failed:
    Py_XDECREF(found);
    return NULL;
}

static PyMethodDef methods[] = {
    {"hold_marks", (PyCFunction)(void (*)(void))hold_marks, METH_FASTCALL,
     "Hold the changed levels' marks against them; the prices to look at again, None for none."},
    {"apply_levels", (PyCFunction)(void (*)(void))apply_levels, METH_FASTCALL,
     "Put a side's changes into its levels; returns the best price, 0 for none."},
    {NULL, NULL, 0, NULL}};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT, .m_name = "_levels", .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC PyInit__levels(void) { return PyModuleDef_Init(&definition); }
