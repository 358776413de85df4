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

/* Asks for memory that is needed soon; a compiler that does not know how leaves it. */
#if defined(__GNUC__)
#define FETCH(address) __builtin_prefetch(address)
#else
#define FETCH(address) ((void)(address))
#endif

#define AXES 4
/* Values converted by a loop of known length, which compilers make vector instructions of. */
#define BLOCK 32
/* Short rows lie far apart in a volume, each on another line and often another page of memory, and the processor does
 * not guess the next. It is told this many rows ahead; more and less were slower. */
#define ROWS_AHEAD 12
/* bytes: rows longer than this the processor follows by itself; a line of its cache */
#define SHORT_ROW 4096
#define LINE 64

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

/* A place in an array some rows ahead of where it is copied. */
typedef struct {
    const char *row, *plane;
    Py_ssize_t to_row, to_plane, rows, nbytes;
    Py_ssize_t at, left; /* row of the plane; rows until the end */
} Ahead;

static inline void next_row(Ahead *ahead)
{
    ahead->left--;
    if (++ahead->at < ahead->rows) {
        ahead->row += ahead->to_row;
        return;
    }
    ahead->at = 0;
    ahead->row = ahead->plane += ahead->to_plane;
}

static Ahead look_ahead(const char *array, const Copy *copy, const Py_ssize_t *strides, Py_ssize_t size)
{
    Ahead ahead = {array, array, strides[2], strides[1], copy->shape[2], copy->shape[3] * size, 0, 0};
    ahead.left = ahead.nbytes > SHORT_ROW ? 0 : copy->shape[1] * copy->shape[2];
    for (int row = 0; row < ROWS_AHEAD && ahead.left > 0; row++)
        next_row(&ahead);
    return ahead;
}

static inline void fetch(Ahead *ahead)
{
    if (ahead->left <= 0)
        return;
    for (Py_ssize_t i = 0; i < ahead->nbytes + LINE - 1; i += LINE)
        FETCH(ahead->row + i);
    next_row(ahead);
}

/* The last three axes, rows of which are side by side in both arrays. */
FOR_EACH_PROCESSOR
static void convert(const Copy *copy, char *target, const char *source)
{
    Ahead to_come = look_ahead(source, copy, copy->source_strides, copy->source_size);
    Ahead to_fill = look_ahead(target, copy, copy->target_strides, copy->target_size);
    for (Py_ssize_t plane = 0; plane < copy->shape[1]; plane++)
        for (Py_ssize_t row = 0; row < copy->shape[2]; row++) {
            float *restrict to =
                (float *)(target + plane * copy->target_strides[1] + row * copy->target_strides[2]);
            const int16_t *restrict from =
                (const int16_t *)(source + plane * copy->source_strides[1] + row * copy->source_strides[2]);
            Py_ssize_t i = 0;
            fetch(&to_come);
            fetch(&to_fill);
            for (; i + BLOCK <= copy->shape[3]; i += BLOCK)
                for (int j = 0; j < BLOCK; j++)
                    to[i + j] = from[i + j];
            for (; i < copy->shape[3]; i++)
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

static void copy_row(const Copy *copy, char *to, const char *from, int side_by_side)
{
    Py_ssize_t length = copy->shape[3], size = copy->target_size;
    if (side_by_side && copy->fills)
        fill_row(to, from, size, length * size);
    else if (side_by_side)
        memcpy(to, from, length * size);
    else
        for (Py_ssize_t i = 0; i < length; i++, to += copy->target_strides[3], from += copy->source_strides[3])
            if (copy->converts)
                *(float *)to = *(const int16_t *)from;
            else
                memcpy(to, from, size);
}

static void run(const Copy *copy)
{
    const Py_ssize_t *shape = copy->shape, *ts = copy->target_strides, *ss = copy->source_strides;
    int side_by_side = ts[3] == copy->target_size && (copy->fills || ss[3] == copy->source_size);
    if (!shape[0] || !shape[1] || !shape[2] || !shape[3])
        return;
    for (Py_ssize_t a = 0; a < shape[0]; a++) {
        char *target = copy->target + a * ts[0];
        const char *source = copy->source + a * ss[0];
        if (side_by_side && copy->converts) {
            convert(copy, target, source);
            continue;
        }
        Ahead to_come = look_ahead(source, copy, ss, copy->source_size);
        if (copy->fills || !side_by_side)
            to_come.left = 0;
        for (Py_ssize_t plane = 0; plane < shape[1]; plane++)
            for (Py_ssize_t row = 0; row < shape[2]; row++) {
                fetch(&to_come);
                copy_row(copy, target + plane * ts[1] + row * ts[2], source + plane * ss[1] + row * ss[2],
                         side_by_side);
            }
    }
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
    .m_name = "hcc_tace_data.loaders.supply._copies",
    .m_doc = "Many copies in one call, without the interpreter's lock.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__copies(void)
{
    return PyModuleDef_Init(&module);
}
