/* Products of prices, quantities and amounts, rounded half to even: what each order is judged by.
 *
 * The same as bot/core/instrument.py and bot/core/margin.py, for integers of any size: those of a
 * market fit 64 bits and their products 128, all others go through Python's own arithmetic. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>

typedef unsigned __int128 Wide;

#define E24_PER_E8 10000000000000000LL /* price * qty of E12 each, to E8 */
#define UNIT 1000000000000LL

/* `numerator / denominator`, a positive one, with integers of any size. */
static PyObject *divide_any(PyObject *numerator, PyObject *denominator) {
    PyObject *both = PyNumber_Divmod(numerator, denominator);
    if (both == NULL) return NULL;
    PyObject *quotient = PyTuple_GET_ITEM(both, 0), *rest = PyTuple_GET_ITEM(both, 1);
    PyObject *result = NULL, *one = PyLong_FromLong(1), *odd = PyNumber_And(quotient, one);
    PyObject *twice = PyNumber_Add(rest, rest);
    if (one && odd && twice) {
        const int over = PyObject_RichCompareBool(twice, denominator, Py_GT);
        const int tie = PyObject_RichCompareBool(twice, denominator, Py_EQ);
        if (over >= 0 && tie >= 0)
            result = over || (tie && PyObject_IsTrue(odd)) ? PyNumber_Add(quotient, one)
                                                           : Py_NewRef(quotient);
    }
    Py_XDECREF(one), Py_XDECREF(odd), Py_XDECREF(twice), Py_DECREF(both);
    return result;
}

static PyObject *product_any(PyObject *one, PyObject *other, PyObject *denominator) {
    PyObject *product = PyNumber_Multiply(one, other), *result = NULL;
    if (product && denominator) result = divide_any(product, denominator);
    Py_XDECREF(product);
    return result;
}

/* Whether `number` is an integer in [0, 2**63). -1 is an error. */
static int fits(PyObject *number, long long *value) {
    int overflow;
    if (!PyLong_Check(number)) return PyErr_Format(PyExc_TypeError, "not an integer"), -1;
    *value = PyLong_AsLongLongAndOverflow(number, &overflow);
    return !overflow && *value >= 0;
}

/* The quotient where it fits 64 bits, else NULL without an error. */
static PyObject *divide(Wide numerator, uint64_t denominator) {
    Wide quotient = numerator / denominator;
    const Wide twice = 2 * (numerator % denominator);
    quotient += twice > denominator || (twice == denominator && (quotient & 1));
    return quotient > UINT64_MAX ? NULL : PyLong_FromUnsignedLongLong((uint64_t)quotient);
}

static PyObject *value_of(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    long long price, qty;
    if (count != 2) return PyErr_Format(PyExc_TypeError, "value_of(price, qty)");
    const int one = fits(args[0], &price), other = one < 0 ? -1 : fits(args[1], &qty);
    if (one < 0 || other < 0) return NULL;
    if (one && other) {
        PyObject *value = divide((Wide)price * (Wide)qty, E24_PER_E8);
        if (value || PyErr_Occurred()) return value;
    }
    PyObject *unit = PyLong_FromLongLong(E24_PER_E8);
    PyObject *value = product_any(args[0], args[1], unit);
    Py_XDECREF(unit);
    return value;
}

static PyObject *initial(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    long long value, leverage;
    if (count != 2) return PyErr_Format(PyExc_TypeError, "initial(value, leverage)");
    const int one = fits(args[0], &value), other = one < 0 ? -1 : fits(args[1], &leverage);
    if (one < 0 || other < 0) return NULL;
    if (one && other && leverage) {
        PyObject *margin = divide((Wide)value * UNIT, (uint64_t)leverage);
        if (margin || PyErr_Occurred()) return margin;
    }
    PyObject *unit = PyLong_FromLongLong(UNIT);
    PyObject *margin = unit ? product_any(args[0], unit, args[1]) : NULL;
    Py_XDECREF(unit);
    return margin;
}

static PyMethodDef methods[] = {
    {"value_of", (PyCFunction)(void (*)(void))value_of, METH_FASTCALL,
     "price * qty (E12 each) in E8, rounded half to even."},
    {"initial", (PyCFunction)(void (*)(void))initial, METH_FASTCALL,
     "value (E8) / leverage (E12) in E8, rounded half to even."},
    {NULL, NULL, 0, NULL}};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT, .m_name = "_money", .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC PyInit__money(void) { return PyModuleDef_Init(&definition); }
