/* Many copies in one call, without the interpreter's lock.
 *
 * A batch is gathered from arrays that lie in different files. NumPy takes the lock again after each of them, and
 * threads that gather together wait for each other there. Here they come back once. copies.py is the face of this
 * module, and does the same by NumPy where it could not be compiled.
 */
#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Compiled for several generations of processors; the loader chooses the one at hand. Elsewhere the default does. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif

#define AXES 4
/* Values converted by a loop of known length, which compilers make vector instructions of. */
#define BLOCK 32

typedef struct {
    char *target;
    const char *source;
    Py_ssize_t shape[AXES], target_strides[AXES], source_strides[AXES]; /* the last axis is a row */
    Py_ssize_t target_size, source_size;                                /* bytes of a value */
    int converts;                                                       /* int16 to float32; else both of one type */
    int fills;                                                          /* the source is one value */
} Copy;

typedef struct {
    Py_buffer target, source;
    int has_target, has_source; /* to be released */
    Copy copy;
} Pair;

FOR_EACH_PROCESSOR
static void convert_rows(char *target, const char *source, Py_ssize_t rows, Py_ssize_t target_stride,
                         Py_ssize_t source_stride, Py_ssize_t length)
{
    for (Py_ssize_t row = 0; row < rows; row++) {
        float *restrict to = (float *)(target + row * target_stride);
        const int16_t *restrict from = (const int16_t *)(source + row * source_stride);
        Py_ssize_t i = 0;
        for (; i + BLOCK <= length; i += BLOCK)
            for (int j = 0; j < BLOCK; j++)
                to[i + j] = from[i + j];
        for (; i < length; i++)
            to[i] = from[i];
    }
}

static void fill_row(char *to, const char *value, Py_ssize_t size, Py_ssize_t nbytes)
{
    if (size == 1) {
        memset(to, *value, nbytes);
        return;
    }
    memcpy(to, value, size);
    for (Py_ssize_t done = size; done < nbytes; done *= 2)
        memcpy(to + done, to, done < nbytes - done ? done : nbytes - done);
}

static void copy_rows(const Copy *copy, char *target, const char *source)
{
    Py_ssize_t rows = copy->shape[AXES - 2], length = copy->shape[AXES - 1], size = copy->target_size;
    Py_ssize_t to_row = copy->target_strides[AXES - 2], from_row = copy->source_strides[AXES - 2];
    Py_ssize_t to_next = copy->target_strides[AXES - 1], from_next = copy->source_strides[AXES - 1];
    int side_by_side = to_next == size && (copy->fills || from_next == copy->source_size);

    if (side_by_side && copy->converts) {
        convert_rows(target, source, rows, to_row, from_row, length);
        return;
    }
    for (; rows > 0 && length > 0; rows--, target += to_row, source += from_row)
        if (side_by_side && copy->fills)
            fill_row(target, source, size, length * size);
        else if (side_by_side)
            memcpy(target, source, length * size);
        else
            for (Py_ssize_t i = 0; i < length; i++) {
                char *to = target + i * to_next;
                const char *from = source + i * from_next;
                if (copy->converts)
                    *(float *)to = *(const int16_t *)from;
                else
                    memcpy(to, from, size);
            }
}

static void run(const Copy *copy)
{
    for (Py_ssize_t a = 0; a < copy->shape[0]; a++)
        for (Py_ssize_t b = 0; b < copy->shape[1]; b++)
            copy_rows(copy, copy->target + a * copy->target_strides[0] + b * copy->target_strides[1],
                      copy->source + a * copy->source_strides[0] + b * copy->source_strides[1]);
}

/* Take over the axes, from the innermost outward. Those that lie end to end in both arrays become one, so that rows
 * are as long as can be. */
static void set_axes(Copy *copy, const Py_buffer *target, const Py_buffer *source)
{
    int at = AXES;
    for (int axis = target->ndim - 1; axis >= 0; axis--) {
        Py_ssize_t length = target->shape[axis], to = target->strides[axis];
        Py_ssize_t from = copy->fills ? 0 : source->strides[axis];
        if (length == 1)
            continue;
        if (at < AXES && to == copy->shape[at] * copy->target_strides[at] &&
            from == copy->shape[at] * copy->source_strides[at]) {
            copy->shape[at] *= length;
            continue;
        }
        at--;
        copy->shape[at] = length;
        copy->target_strides[at] = to;
        copy->source_strides[at] = from;
    }
    while (at-- > 0) {
        copy->shape[at] = 1;
        copy->target_strides[at] = copy->source_strides[at] = 0;
    }
}

static int aligned(const Py_buffer *view)
{
    Py_ssize_t all = (Py_ssize_t)(uintptr_t)view->buf;
    for (int axis = 0; axis < view->ndim; axis++)
        all |= view->strides[axis];
    return all % view->itemsize == 0;
}

/* Whether the values are numbers in the byte order of the machine: one letter says so. */
static int is_number(const Py_buffer *view)
{
    return strlen(view->format) == 1 && strchr("?bBhHiIlLqQefd", view->format[0]) != NULL;
}

/* Set what is to be copied. 1: done; 0: not a copy that is done here; -1: an error is set. */
static int set_copy(Copy *copy, const Py_buffer *target, const Py_buffer *source)
{
    copy->fills = source->ndim == 0;
    if (!copy->fills && (source->ndim != target->ndim ||
                         memcmp(source->shape, target->shape, target->ndim * sizeof(Py_ssize_t)) != 0)) {
        PyErr_SetString(PyExc_ValueError, "a copy has another shape than its source");
        return -1;
    }
    if (target->ndim > AXES || !is_number(target) || !is_number(source))
        return 0;
    copy->converts = source->format[0] == 'h' && target->format[0] == 'f';
    if (copy->converts ? copy->fills : source->format[0] != target->format[0])
        return 0;
    if (!aligned(target) || !aligned(source))
        return 0;
    copy->target = target->buf;
    copy->source = source->buf;
    copy->target_size = target->itemsize;
    copy->source_size = source->itemsize;
    set_axes(copy, target, source);
    return 1;
}

static int set_pair(Pair *pair, PyObject *target, PyObject *source)
{
    if (PyObject_GetBuffer(target, &pair->target, PyBUF_RECORDS) < 0)
        return -1;
    pair->has_target = 1;
    if (PyObject_GetBuffer(source, &pair->source, PyBUF_RECORDS_RO) < 0)
        return -1;
    pair->has_source = 1;
    return set_copy(&pair->copy, &pair->target, &pair->source);
}

static PyObject *copy_all(PyObject *self, PyObject *args)
{
    PyObject *targets, *sources;
    (void)self;
    if (!PyArg_ParseTuple(args, "O!O!:copy_all", &PyTuple_Type, &targets, &PyTuple_Type, &sources))
        return NULL;
    Py_ssize_t count = PyTuple_Size(targets);
    if (PyTuple_Size(sources) != count) {
        PyErr_SetString(PyExc_ValueError, "there are not as many sources as targets");
        return NULL;
    }
    Pair *pairs = calloc(count ? count : 1, sizeof(Pair));
    if (!pairs)
        return PyErr_NoMemory();

    int able = 1;
    for (Py_ssize_t i = 0; i < count && able == 1; i++)
        able = set_pair(&pairs[i], PyTuple_GetItem(targets, i), PyTuple_GetItem(sources, i));
    if (able == 1) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < count; i++)
            run(&pairs[i].copy);
        Py_END_ALLOW_THREADS
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (pairs[i].has_target)
            PyBuffer_Release(&pairs[i].target);
        if (pairs[i].has_source)
            PyBuffer_Release(&pairs[i].source);
    }
    free(pairs);
    return able < 0 ? NULL : PyBool_FromLong(able);
}

static PyMethodDef methods[] = {
    {"copy_all", copy_all, METH_VARARGS,
     "copy_all(targets, sources, /)\n--\n\n"
     "Copy each source to its target, in order; False, and nothing is copied, if one is none that is done here."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "hcc_tace_data.loaders._copies",
    .m_doc = "Many copies in one call, without the interpreter's lock.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__copies(void)
{
    return PyModuleDef_Init(&module);
}
