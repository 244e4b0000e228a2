// The Python module set_cli.native._core. Addresses come as integers: set_cli/sparse/engines/compiled.py and the
// other callers check dtype, shape, strides and device before they call. Index arrays are checked here, whatever calls.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <cstdlib>
#include <cstring>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "kernels.hpp"
#include "team.hpp"
#include "topology.hpp"

using namespace set_native;

namespace {

const Kernels* kernels = &portable::kernels;

#ifdef SET_X86
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}
const Kernels* best_kernels() {
    return has_avx512() ? &avx512::kernels : has_avx2() ? &avx2::kernels : &portable::kernels;
}
#else
const Kernels* best_kernels() { return &portable::kernels; }
#endif

// Arguments in order, each converted on demand; the first failure sticks and is Python's current exception.
class Arguments {
    PyObject* const* next;
    Py_ssize_t left;

  public:
    bool ok = true;
    Arguments(PyObject* const* arguments, Py_ssize_t count, Py_ssize_t expected) : next(arguments), left(count) {
        if (count == expected) return;
        PyErr_Format(PyExc_TypeError, "expected %zd arguments, got %zd", expected, count);
        ok = false;
    }
    PyObject* object() { return ok && left-- > 0 ? *next++ : nullptr; }
    int64_t integer() {
        PyObject* value = object();
        if (!ok) return 0;
        const long long number = PyLong_AsLongLong(value);
        if (number == -1 && PyErr_Occurred()) ok = false;
        return number;
    }
    uint64_t word() {
        PyObject* value = object();
        if (!ok) return 0;
        const unsigned long long number = PyLong_AsUnsignedLongLong(value);
        if (number == ~0ull && PyErr_Occurred()) ok = false;
        return number;
    }
    double real() {
        PyObject* value = object();
        if (!ok) return 0;
        const double number = PyFloat_AsDouble(value);
        if (number == -1 && PyErr_Occurred()) ok = false;
        return number;
    }
    template <typename T>
    T* address() {
        return reinterpret_cast<T*>(static_cast<uintptr_t>(word()));
    }
    Columns columns() {
        float* data = address<float>();
        return {data, integer()};
    }
};

// A contiguous one-dimensional buffer of T, held while this lives.
template <typename T>
class Array {
    Py_buffer view{};
    bool held = false;

  public:
    T* data = nullptr;
    int64_t length = 0;
    Array(PyObject* object, const char* formats, bool writable, const char* name, bool& ok) {
        if (!ok) return;
        const int flags = PyBUF_FORMAT | PyBUF_C_CONTIGUOUS | (writable ? PyBUF_WRITABLE : 0);
        ok = false;
        if (PyObject_GetBuffer(object, &view, flags) != 0) return;
        held = true;
        const char* format = view.format ? view.format : "B";
        if (view.ndim != 1 || view.itemsize != sizeof(T) || strlen(format) != 1 || !strchr(formats, *format)) {
            PyErr_Format(PyExc_TypeError, "%s: expected a one-dimensional array of %s with %zd bytes each, got %s",
                         name, formats, static_cast<Py_ssize_t>(sizeof(T)), format);
            return;
        }
        data = static_cast<T*>(view.buf);
        length = view.len / static_cast<Py_ssize_t>(sizeof(T));
        ok = true;
    }
    Array(const Array&) = delete;
    ~Array() {
        if (held) PyBuffer_Release(&view);
    }
    // Whether there are this many; otherwise Python's exception says what was expected.
    bool has(int64_t expected, const char* name) const {
        if (length == expected) return true;
        PyErr_Format(PyExc_ValueError, "%s: expected length %lld, got %lld", name, static_cast<long long>(expected),
                     static_cast<long long>(length));
        return false;
    }
};
using Int32 = Array<int32_t>;
constexpr const char* int32_formats = "il";

// Pattern: one layer's connections, checked once, in both orders. Holds the caller's arrays, owns the transposed ones.
struct Pattern {
    PyObject_HEAD
    Py_buffer indptr_view, indices_view;
    int32_t n_in, n_out;
    int64_t nnz;
    const int32_t *indptr, *indices;
    int32_t* transposed;  // out_indptr, out_indices, out_order behind one another

    Rows by_input() const { return {n_in, n_out, indptr, indices, nullptr}; }
    Rows by_output() const {
        return {n_out, n_in, transposed, transposed + n_out + 1, transposed + n_out + 1 + nnz};
    }
};

// malloc for what is read at random: large blocks on huge pages, where the system has them, miss the TLB less.
void* allocate(size_t bytes) {
#ifdef __linux__
    constexpr size_t huge = 2 << 20;
    void* block = nullptr;
    if (bytes >= huge) {
        if (posix_memalign(&block, huge, bytes) != 0) return nullptr;
        madvise(block, bytes, MADV_HUGEPAGE);
        return block;
    }
#endif
    return malloc(bytes);
}

PyTypeObject* pattern_type = nullptr;

void pattern_dealloc(PyObject* object) {
    Pattern* self = reinterpret_cast<Pattern*>(object);
    if (self->indptr_view.obj) PyBuffer_Release(&self->indptr_view);
    if (self->indices_view.obj) PyBuffer_Release(&self->indices_view);
    free(self->transposed);
    PyTypeObject* type = Py_TYPE(object);
    reinterpret_cast<freefunc>(PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

PyObject* pattern_new(PyTypeObject* type, PyObject* arguments, PyObject*) {
    int n_in, n_out;
    PyObject *indptr_object, *indices_object;
    if (!PyArg_ParseTuple(arguments, "iiOO", &n_in, &n_out, &indptr_object, &indices_object)) return nullptr;
    if (n_in < 1 || n_out < 1) {
        PyErr_Format(PyExc_ValueError, "expected at least one neuron on both sides, got %d and %d", n_in, n_out);
        return nullptr;
    }
    bool ok = true;
    const Int32 indptr(indptr_object, int32_formats, false, "indptr", ok);
    const Int32 indices(indices_object, int32_formats, false, "indices", ok);
    if (!ok || !indptr.has(int64_t{n_in} + 1, "indptr")) return nullptr;
    if (const char* fault = find_fault(indptr.data, indices.data, n_in, n_out, indices.length)) {
        PyErr_Format(PyExc_ValueError, "%s in a pattern of %d x %d with %lld connections", fault, n_in, n_out,
                     static_cast<long long>(indices.length));
        return nullptr;
    }
    int32_t* transposed =
        static_cast<int32_t*>(allocate(sizeof(int32_t) * static_cast<size_t>(int64_t{n_out} + 1 + 2 * indices.length)));
    if (!transposed) return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS;
    transpose(indptr.data, indices.data, n_in, n_out, transposed, transposed + n_out + 1,
              transposed + n_out + 1 + indices.length);
    Py_END_ALLOW_THREADS;
    allocfunc make = reinterpret_cast<allocfunc>(PyType_GetSlot(type, Py_tp_alloc));
    Pattern* self = reinterpret_cast<Pattern*>(make(type, 0));
    if (!self) {
        free(transposed);
        return nullptr;
    }
    self->transposed = transposed;
    self->n_in = n_in, self->n_out = n_out, self->nnz = indices.length;
    self->indptr = indptr.data, self->indices = indices.data;
    if (PyObject_GetBuffer(indptr_object, &self->indptr_view, PyBUF_SIMPLE) != 0 ||
        PyObject_GetBuffer(indices_object, &self->indices_view, PyBUF_SIMPLE) != 0) {
        Py_DECREF(reinterpret_cast<PyObject*>(self));
        return nullptr;
    }
    return reinterpret_cast<PyObject*>(self);
}

PyType_Slot pattern_slots[] = {
    {Py_tp_new, reinterpret_cast<void*>(pattern_new)},
    {Py_tp_dealloc, reinterpret_cast<void*>(pattern_dealloc)},
    {Py_tp_doc, const_cast<char*>("Pattern(n_in, n_out, indptr, indices): checked connections in both orders")},
    {0, nullptr},
};
PyType_Spec pattern_spec = {"set_cli.native._core.Pattern", sizeof(Pattern), 0, Py_TPFLAGS_DEFAULT, pattern_slots};

const Pattern* as_pattern(Arguments& arguments) {
    PyObject* object = arguments.object();
    if (!arguments.ok) return nullptr;
    if (Py_TYPE(object) != pattern_type) {
        PyErr_SetString(PyExc_TypeError, "expected a Pattern");
        arguments.ok = false;
        return nullptr;
    }
    return reinterpret_cast<const Pattern*>(object);
}

// Runs work() in every thread of a team, without Python's lock.
template <typename Work>
PyObject* run(const Arguments& a, int64_t threads, Work work) {
    if (!a.ok) return nullptr;
    Py_BEGIN_ALLOW_THREADS;
    in_team(threads, work);
    Py_END_ALLOW_THREADS;
    Py_RETURN_NONE;
}

Slopes take_slopes(Arguments& a) {
    float *t_left = a.address<float>(), *a_left = a.address<float>();
    float *right_width = a.address<float>(), *a_right = a.address<float>();
    return {t_left, a_left, right_width, a_right};
}

Dropout take_dropout(Arguments& a) {
    uint16_t* kept = a.address<uint16_t>();
    const uint32_t threshold = static_cast<uint32_t>(a.word());
    const float scale = static_cast<float>(a.real());
    const uint64_t seed = a.word(), step = a.word();
    return {kept, threshold, scale, {seed, step}};
}

// product(pattern, by_output, values, bias, in, stride, out, stride, n_batch, threads)
PyObject* py_product(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    Arguments a(objects, count, 10);
    const Pattern* pattern = as_pattern(a);
    const bool by_output = a.integer() != 0;
    const float *values = a.address<float>(), *bias = a.address<float>();
    const Columns in = a.columns(), out = a.columns();
    const int64_t n_batch = a.integer(), threads = a.integer();
    if (!a.ok) return nullptr;
    const Rows rows = by_output ? pattern->by_output() : pattern->by_input();
    return run(a, threads, [=] {
        kernels->product(rows, my_rows(rows.indptr, rows.count), values, bias, in, out, n_batch);
    });
}

// gradients(pattern, values, x, stride, dy, stride, dx, stride, dw, db, n_batch, threads)
PyObject* py_gradients(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    Arguments a(objects, count, 12);
    const Pattern* pattern = as_pattern(a);
    const float* values = a.address<float>();
    const Columns x = a.columns(), dy = a.columns(), dx = a.columns();
    float *dw = a.address<float>(), *db = a.address<float>();
    const int64_t n_batch = a.integer(), threads = a.integer();
    if (!a.ok) return nullptr;
    const Rows rows = pattern->by_input();
    return run(a, threads, [=] {
        kernels->gradients(rows, my_rows(rows.indptr, rows.count), values, x, dy, dx, dw, false, 0, n_batch);
        if (db) kernels->sum_rows(my_share(rows.others), dy, db, n_batch);
    });
}

// activate(shape, 4 parameters, kept, threshold, scale, seed, step, z, stride, y, stride, neurons, n_batch, threads)
PyObject* py_activate(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    Arguments a(objects, count, 17);
    const Shape shape = static_cast<Shape>(a.integer());
    const Slopes slopes = take_slopes(a);
    const Dropout dropout = take_dropout(a);
    const Columns z = a.columns(), y = a.columns();
    const int64_t neurons = a.integer(), n_batch = a.integer(), threads = a.integer();
    return run(a, threads, [=] { kernels->activate(shape, my_share(neurons), slopes, dropout, z, y, n_batch); });
}

// activate_backward(shape, 4 parameters, 4 gradients, kept, threshold, scale, seed, step, z, stride, dy, stride,
//                   dz, stride, neurons, n_batch, threads)
PyObject* py_activate_backward(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    Arguments a(objects, count, 23);
    const Shape shape = static_cast<Shape>(a.integer());
    const Slopes slopes = take_slopes(a), gradients = take_slopes(a);
    const Dropout dropout = take_dropout(a);
    const Columns z = a.columns(), dy = a.columns(), dz = a.columns();
    const int64_t neurons = a.integer(), n_batch = a.integer(), threads = a.integer();
    return run(a, threads, [=] {
        kernels->activate_backward(shape, my_share(neurons), slopes, gradients, dropout, z, dy, dz, n_batch);
    });
}

// One layer of a stack, with its activation: what the forward and the backward of it read and write.
struct Layer {
    Rows by_input, by_output;
    float *values, *bias;
    int shape;  // of the activation; -1: none
    Slopes slopes;
    Dropout dropout;
    Columns x, z, y;
    Slopes slope_gradients;
    Columns dy, dz, dx;
    float *dw, *db, relu;
};

// The records that a list of tuples describes; free() them. Null with Python's exception where one is malformed.
template <typename T>
T* take_all(PyObject* list, Py_ssize_t fields, Py_ssize_t& count, void (*take)(T&, Arguments&)) {
    count = PyList_Size(list);
    if (count < 0) return nullptr;
    T* records = static_cast<T*>(calloc(static_cast<size_t>(count) + 1, sizeof(T)));
    if (!records) {
        PyErr_NoMemory();
        return nullptr;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject* tuple = PyList_GetItem(list, i);
        PyObject* items[32];
        const Py_ssize_t length = tuple ? PyTuple_Size(tuple) : -1;
        bool ok = length >= 0;
        for (Py_ssize_t j = 0; ok && j < length && j < 32; j++) items[j] = PyTuple_GetItem(tuple, j);
        if (ok) {
            Arguments a(items, length, fields);
            take(records[i], a);
            ok = a.ok;
        }
        if (!ok) {
            free(records);
            return nullptr;
        }
    }
    return records;
}

// What both directions need: (pattern, values, shape, 4 parameters, kept, threshold, scale, seed, step, x, stride,
// z, stride, ...)
void take_common(Layer& layer, Arguments& a) {
    if (const Pattern* pattern = as_pattern(a)) {
        layer.by_input = pattern->by_input();
        layer.by_output = pattern->by_output();
    }
    layer.values = a.address<float>();
    layer.shape = static_cast<int>(a.integer());
    layer.slopes = take_slopes(a);
    layer.dropout = take_dropout(a);
    layer.x = a.columns();
    layer.z = a.columns();
}

// stack_forward([(common..., bias, y, stride)], n_batch, threads): layer by layer, each thread activating the rows it
// has just computed.
PyObject* py_stack_forward(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    Arguments a(objects, count, 3);
    PyObject* list = a.object();
    const int64_t n_batch = a.integer(), threads = a.integer();
    if (!a.ok) return nullptr;
    Py_ssize_t number;
    Layer* layers = take_all<Layer>(list, 19, number, [](Layer& layer, Arguments& each) {
        take_common(layer, each);
        layer.bias = each.address<float>();
        layer.y = each.columns();
    });
    if (!layers) return nullptr;
    PyObject* result = run(a, threads, [=] {
        for (Py_ssize_t i = 0; i < number; i++) {
            const Layer& layer = layers[i];
            if (i) wait_for_team();
            const Range mine = my_rows(layer.by_output.indptr, layer.by_output.count);
            kernels->product(layer.by_output, mine, layer.values, layer.bias, layer.x, layer.z, n_batch);
            if (layer.shape >= 0)
                kernels->activate(static_cast<Shape>(layer.shape), mine, layer.slopes, layer.dropout, layer.z, layer.y,
                                  n_batch);
        }
    });
    free(layers);
    return result;
}

// stack_backward([(common..., 4 gradients, dy, stride, dz, stride, dx, stride, dw, db, relu)], n_batch, threads): the
// last layer first. A layer whose ReLU the layer behind it has taken along (relu) has shape -1.
PyObject* py_stack_backward(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    Arguments a(objects, count, 3);
    PyObject* list = a.object();
    const int64_t n_batch = a.integer(), threads = a.integer();
    if (!a.ok) return nullptr;
    Py_ssize_t number;
    Layer* layers = take_all<Layer>(list, 29, number, [](Layer& layer, Arguments& each) {
        take_common(layer, each);
        layer.slope_gradients = take_slopes(each);
        layer.dy = each.columns(), layer.dz = each.columns(), layer.dx = each.columns();
        layer.dw = each.address<float>(), layer.db = each.address<float>();
        layer.relu = static_cast<float>(each.real());
    });
    if (!layers) return nullptr;
    PyObject* result = run(a, threads, [=] {
        for (Py_ssize_t i = number; i-- > 0;) {
            const Layer& layer = layers[i];
            // This layer's outputs are the inputs of the one behind it: each thread goes on with the rows whose dx it
            // has just computed.
            const Range outputs = i + 1 < number ? my_rows(layers[i + 1].by_input.indptr, layers[i + 1].by_input.count)
                                                 : my_share(layer.by_output.count);
            if (layer.shape >= 0)
                kernels->activate_backward(static_cast<Shape>(layer.shape), outputs, layer.slopes,
                                           layer.slope_gradients, layer.dropout, layer.z, layer.dy, layer.dz, n_batch);
            kernels->sum_rows(outputs, layer.dz, layer.db, n_batch);
            wait_for_team();
            kernels->gradients(layer.by_input, my_rows(layer.by_input.indptr, layer.by_input.count), layer.values,
                               layer.x, layer.dz, layer.dx, layer.dw, false, layer.relu, n_batch);
        }
    });
    free(layers);
    return result;
}

// units(z, stride, p, stride, drawn, stride, rows, n_batch, seed, step, threads): p or drawn may be 0
PyObject* py_units(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    Arguments a(objects, count, 11);
    const Columns z = a.columns(), p = a.columns(), drawn = a.columns();
    const int64_t rows = a.integer(), n_batch = a.integer();
    const uint64_t seed = a.word(), step = a.word();
    const int64_t threads = a.integer();
    return run(a, threads, [=] {
        kernels->units({z, 1, nullptr, p, 1, drawn, {seed, step}}, my_share(rows), n_batch);
    });
}

// Calls work(block) for the blocks of sum_block rows in this range.
template <typename Work>
void for_blocks(Range mine, Work work) {
    for (int64_t row = mine.begin; row < mine.end; row += sum_block)
        work(Range{row, row + sum_block < mine.end ? row + sum_block : mine.end});
}

// A step of contrastive divergence: what it reads, writes, and the buffers between.
struct Contrast {
    Rows by_input, by_output;
    const float *values, *hidden_bias, *visible_bias;
    Columns v0, v1, h0, h1, drawn, chain;
    float *dw, *dc, *db;
    int64_t n_batch, n_chains, steps;
    Random random;
    double* losses;  // per block of visible units
    float* sums;     // of the data's visible, then hidden units

    // The positive phase; the draws for the reconstruction in `drawn`.
    void see(Range hidden) const {
        kernels->product(by_output, hidden, values, hidden_bias, v0, h0, n_batch);
        kernels->units({h0, 1, nullptr, h0, -1.0f / static_cast<float>(n_batch), drawn, random}, hidden, n_batch);
    }
    // Visible units given hidden ones, in blocks, and where asked for the loss of the reconstruction.
    void reconstruct(Range visible, Columns hidden, int64_t columns, bool draw, bool measure, int64_t step) const {
        for_blocks(visible, [&](Range block) {
            kernels->product(by_input, block, values, visible_bias, hidden, v1, columns);
            if (measure)
                losses[block.begin / sum_block] = kernels->cross_entropy_of_units(block, v1, v0, columns);
            if (draw)
                kernels->units({v1, 1, nullptr, {nullptr, 0}, 1, v1, at(step)}, block, columns);
        });
    }
    Random at(int64_t step) const { return {random.seed, random.step + static_cast<uint64_t>(step)}; }

    void run() const {
        const Range hidden = my_rows(by_output.indptr, by_output.count);
        const Range visible = my_blocks(by_input.indptr, by_input.count);
        const bool persistent = chain.data != nullptr;
        const Columns between = persistent ? chain : drawn;
        see(hidden);
        wait_for_team();
        reconstruct(visible, drawn, n_batch, !persistent, true, 1);
        if (persistent) reconstruct(visible, chain, n_chains, true, false, 1);
        for (int64_t step = 1; step < steps; step++) {
            wait_for_team();
            kernels->product(by_output, hidden, values, hidden_bias, v1, between, n_chains);
            kernels->units({between, 1, nullptr, {nullptr, 0}, 1, between, at(2 * step)}, hidden, n_chains);
            wait_for_team();
            reconstruct(visible, between, n_chains, true, false, 2 * step + 1);
        }
        wait_for_team();
        kernels->product(by_output, hidden, values, hidden_bias, v1, h1, n_chains);
        const float share = 1.0f / static_cast<float>(n_chains);
        kernels->units({h1, 1, nullptr, h1, share, chain, at(2 * steps)}, hidden, n_chains);
        wait_for_team();
        compare(hidden, visible);
    }

    // Minus the gradient of the log-probability: the model's statistics minus the data's.
    void compare(Range hidden, Range visible) const {
        const Range mine = my_rows(by_input.indptr, by_input.count);
        kernels->gradients(by_input, mine, values, v0, h0, {nullptr, 0}, dw, false, 0, n_batch);
        kernels->gradients(by_input, mine, values, v1, h1, {nullptr, 0}, dw, true, 0, n_chains);
        kernels->sum_rows(visible, v0, sums, n_batch);
        kernels->sum_rows(visible, v1, db, n_chains);
        for (int64_t i = visible.begin; i < visible.end; i++)
            db[i] = db[i] / static_cast<float>(n_chains) - sums[i] / static_cast<float>(n_batch);
        kernels->sum_rows(hidden, h0, sums + by_input.count, n_batch);
        kernels->sum_rows(hidden, h1, dc, n_chains);
        for (int64_t j = hidden.begin; j < hidden.end; j++) dc[j] += sums[by_input.count + j];
    }
};

// contrast(pattern, values, hidden bias, visible bias, v0, stride, v1, stride, h0, stride, h1, stride, drawn, stride,
//          chain, stride, dw, dc, db, n_batch, n_chains, steps, seed, step, threads): the sum over the batch of the
// reconstruction's cross-entropy. Takes 2 steps + 1 of the random steps from `step` on.
PyObject* py_contrast(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    Arguments a(objects, count, 25);
    Contrast c{};
    if (const Pattern* pattern = as_pattern(a)) c.by_input = pattern->by_input(), c.by_output = pattern->by_output();
    c.values = a.address<float>(), c.hidden_bias = a.address<float>(), c.visible_bias = a.address<float>();
    c.v0 = a.columns(), c.v1 = a.columns(), c.h0 = a.columns(), c.h1 = a.columns(), c.drawn = a.columns();
    c.chain = a.columns();
    c.dw = a.address<float>(), c.dc = a.address<float>(), c.db = a.address<float>();
    c.n_batch = a.integer(), c.n_chains = a.integer(), c.steps = a.integer();
    c.random.seed = a.word(), c.random.step = a.word();
    const int64_t threads = a.integer();
    if (!a.ok) return nullptr;
    const int64_t rows = int64_t{c.by_input.count} + c.by_output.count;
    const int64_t blocks = (c.by_input.count + sum_block - 1) / sum_block;
    c.losses = static_cast<double*>(malloc(static_cast<size_t>(blocks) * sizeof(double)));
    c.sums = static_cast<float*>(malloc(static_cast<size_t>(rows) * sizeof(float)));
    double loss = 0;
    if (c.losses && c.sums) {
        Py_BEGIN_ALLOW_THREADS;
        in_team(threads, [&] { c.run(); });
        Py_END_ALLOW_THREADS;
        for (int64_t block = 0; block < blocks; block++) loss += c.losses[block];
    }
    const bool had_memory = c.losses && c.sums;
    free(c.losses);
    free(c.sums);
    return had_memory ? PyFloat_FromDouble(loss) : PyErr_NoMemory();
}

// Annealed chains on their way to an RBM.
struct Annealing {
    const float *base, *shift;  // visible biases of the base-rate model; those of the RBM minus these
    float* bias;                // those at the temperature of the moment
    Columns v, h;
    int64_t n_visible, n_hidden, n_chains;
    double* sums;  // n_chains for every block of hidden, then of visible units
    uint64_t seed, step;

    // From inputs h to draws, a block of hidden units.
    void draw_hidden(Range block, float from, float to, uint64_t now) const {
        kernels->anneal(block, from, to, h, sums + block.begin / sum_block * n_chains, n_chains);
        kernels->units({h, to, nullptr, {nullptr, 0}, 1, h, {seed, now}}, block, n_chains);
    }
    // What the visible units of a block, drawn one temperature before, add to the weights; fills bias for the block.
    void weigh_visible(Range block, float from, float to) const {
        double* to_add = sums + ((n_hidden + sum_block - 1) / sum_block + block.begin / sum_block) * n_chains;
        kernels->weigh(block, shift, static_cast<double>(to) - static_cast<double>(from), v, to_add, n_chains);
        for (int64_t i = block.begin; i < block.end; i++) bias[i] = base[i] + to * shift[i];
    }
    // From products z without biases to draws v, a block of visible units.
    void draw_visible(Range block, Columns z, float to, uint64_t now) const {
        kernels->units({z, to, bias, {nullptr, 0}, 1, v, {seed, now}}, block, n_chains);
    }
};

Annealing take_annealing(Arguments& a) {
    Annealing all{};
    all.base = a.address<float>(), all.shift = a.address<float>(), all.bias = a.address<float>();
    all.v = a.columns(), all.h = a.columns();
    all.n_visible = a.integer(), all.n_hidden = a.integer(), all.n_chains = a.integer();
    all.sums = a.address<double>();
    all.seed = a.word(), all.step = a.word();
    return all;
}

// anneal(base bias, visible bias - base bias, scratch (n_visible), v, stride, h, stride, n_visible, n_hidden, n_chains,
//        sums, seed, step, pattern, values, hidden bias, betas, count, threads): from betas[0], where v was drawn, to
// betas[count - 1], adding to the logarithms of the weights. Takes 2 (count - 1) of the random steps.
PyObject* py_anneal(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    Arguments a(objects, count, 19);
    const Annealing all = take_annealing(a);
    const Pattern* pattern = as_pattern(a);
    const float *values = a.address<float>(), *hidden_bias = a.address<float>(), *betas = a.address<float>();
    const int64_t temperatures = a.integer(), threads = a.integer();
    if (!a.ok) return nullptr;
    const Rows by_input = pattern->by_input(), by_output = pattern->by_output();
    return run(a, threads, [=] {
        const Range hidden = my_blocks(by_output.indptr, by_output.count);
        const Range visible = my_blocks(by_input.indptr, by_input.count);
        for (int64_t t = 1; t < temperatures; t++) {
            const float from = betas[t - 1], to = betas[t];
            const uint64_t now = all.step + 2 * static_cast<uint64_t>(t - 1);
            for_blocks(hidden, [&](Range block) {
                kernels->product(by_output, block, values, hidden_bias, all.v, all.h, all.n_chains);
                all.draw_hidden(block, from, to, now);
            });
            wait_for_team();
            for_blocks(visible, [&](Range block) {
                all.weigh_visible(block, from, to);
                kernels->product(by_input, block, values, nullptr, all.h, all.v, all.n_chains);
                all.draw_visible(block, all.v, to, now + 1);
            });
            wait_for_team();
        }
    });
}

// anneal_hidden(as anneal up to step, from, to, threads): h holds the inputs of the hidden units, then their draws
PyObject* py_anneal_hidden(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    Arguments a(objects, count, 16);
    const Annealing all = take_annealing(a);
    const float from = static_cast<float>(a.real()), to = static_cast<float>(a.real());
    const int64_t threads = a.integer();
    return run(a, threads, [=] {
        for_blocks(my_blocks(all.n_hidden), [&](Range block) { all.draw_hidden(block, from, to, all.step); });
    });
}

// anneal_visible(as anneal up to step, z, stride, from, to, threads): z holds the products of the hidden units' draws
PyObject* py_anneal_visible(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    Arguments a(objects, count, 18);
    const Annealing all = take_annealing(a);
    const Columns z = a.columns();
    const float from = static_cast<float>(a.real()), to = static_cast<float>(a.real());
    const int64_t threads = a.integer();
    return run(a, threads, [=] {
        for_blocks(my_blocks(all.n_visible), [&](Range block) {
            all.weigh_visible(block, from, to);
            all.draw_visible(block, z, to, all.step + 1);
        });
    });
}

// cross_entropy(logits, stride, labels, classes, n_batch, gradient, stride, scale): the sum of the losses
PyObject* py_cross_entropy(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    Arguments a(objects, count, 8);
    const Columns logits = a.columns();
    const int64_t* labels = a.address<int64_t>();
    const int64_t classes = a.integer(), n_batch = a.integer();
    const Columns gradient = a.columns();
    const float scale = static_cast<float>(a.real());
    if (!a.ok) return nullptr;
    double loss = 0;
    Py_BEGIN_ALLOW_THREADS;
    loss = kernels->cross_entropy(logits, labels, classes, n_batch, gradient, scale);
    Py_END_ALLOW_THREADS;
    return PyFloat_FromDouble(loss);
}

struct Descent {
    float *w, *g, *m;
    int64_t count;
    float decay;
};

// descend([(w, g, m, count, decay)], rate, momentum, nesterov, threads)
PyObject* py_descend(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    Arguments a(objects, count, 5);
    PyObject* list = a.object();
    const float rate = static_cast<float>(a.real()), momentum = static_cast<float>(a.real());
    const bool nesterov = a.integer() != 0;
    const int64_t threads = a.integer();
    if (!a.ok) return nullptr;
    Py_ssize_t number;
    Descent* all = take_all<Descent>(list, 5, number, [](Descent& each, Arguments& fields) {
        each.w = fields.address<float>(), each.g = fields.address<float>(), each.m = fields.address<float>();
        each.count = fields.integer();
        each.decay = static_cast<float>(fields.real());
    });
    if (!all) return nullptr;
    PyObject* result = run(a, threads, [=] {
        for (Py_ssize_t i = 0; i < number; i++)
            kernels->descend(my_share(all[i].count), all[i].w, all[i].g, all[i].m, rate, momentum, all[i].decay,
                             nesterov);
    });
    free(all);
    return result;
}

Source take_source(Arguments& a) {
    const void* data = a.address<void>();
    const bool is_bytes = a.integer() != 0;
    const int64_t features = a.integer();
    const float *offset = a.address<float>(), *scale = a.address<float>();
    return {data, is_bytes, features, offset, scale};
}

// gather(data, is_bytes, features, offset, scale, rows, out, stride, n_batch, threads)
PyObject* py_gather(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    Arguments a(objects, count, 10);
    const Source source = take_source(a);
    const int64_t* rows = a.address<int64_t>();
    const Columns out = a.columns();
    const int64_t n_batch = a.integer(), threads = a.integer();
    return run(a, threads, [=] { kernels->gather(source, my_share(source.features), rows, out, n_batch); });
}

// gather_moved(data, is_bytes, features, offset, scale, channels, height, width, rows, maps, out, stride, n_batch,
//              threads)
PyObject* py_gather_moved(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    Arguments a(objects, count, 14);
    const Source source = take_source(a);
    const int channels = static_cast<int>(a.integer()), height = static_cast<int>(a.integer());
    const Image image{channels, height, static_cast<int>(a.integer())};
    const int64_t* rows = a.address<int64_t>();
    const float* maps = a.address<float>();
    const Columns out = a.columns();
    const int64_t n_batch = a.integer(), threads = a.integer();
    if (!a.ok) return nullptr;
    const int64_t each = moved_scratch(source, image);
    float* scratch = static_cast<float*>(malloc(static_cast<size_t>(each * threads) * sizeof(float)));
    if (!scratch) return PyErr_NoMemory();
    PyObject* result = run(a, threads, [=] {
        kernels->gather_moved(source, my_share(n_batch), image, rows, maps, out, scratch + each * thread_number());
    });
    free(scratch);
    return result;
}

// to_columns(in, stride_batch, stride_feature, out, stride, features, n_batch, threads)
PyObject* py_to_columns(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    Arguments a(objects, count, 8);
    const float* in = a.address<float>();
    const int64_t stride_batch = a.integer(), stride_feature = a.integer();
    const Columns out = a.columns();
    const int64_t features = a.integer(), n_batch = a.integer(), threads = a.integer();
    return run(a, threads, [=] {
        kernels->to_columns(in, my_share(features), stride_batch, stride_feature, out, n_batch);
    });
}

// prune(weights, zeta, keep): fills keep
PyObject* py_prune(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    Arguments a(objects, count, 3);
    PyObject* weights_object = a.object();
    const double zeta = a.real();
    PyObject* keep_object = a.object();
    const Array<float> weights(weights_object, "f", false, "weights", a.ok);
    const Array<bool> keep(keep_object, "?", true, "keep", a.ok);
    if (!a.ok || !keep.has(weights.length, "keep")) return nullptr;
    if (!(zeta >= 0 && zeta < 1)) {
        PyErr_SetString(PyExc_ValueError, "expected 0 <= zeta < 1");
        return nullptr;
    }
    bool done = false;
    Py_BEGIN_ALLOW_THREADS;
    done = prune(weights.data, weights.length, zeta, keep.data);
    Py_END_ALLOW_THREADS;
    if (!done) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

// refill(n_in, n_out, indptr, indices, keep, ranks, new_indptr, new_indices, source): fills the last three
PyObject* py_refill(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    Arguments a(objects, count, 9);
    const int64_t n_in = a.integer(), n_out = a.integer();
    PyObject* o[7];
    for (PyObject*& object : o) object = a.object();
    const Int32 indptr(o[0], int32_formats, false, "indptr", a.ok), indices(o[1], int32_formats, false, "indices", a.ok);
    const Array<bool> keep(o[2], "?", false, "keep", a.ok);
    const Array<int64_t> ranks(o[3], "lq", false, "ranks", a.ok);
    const Int32 new_indptr(o[4], int32_formats, true, "new_indptr", a.ok);
    const Int32 new_indices(o[5], int32_formats, true, "new_indices", a.ok);
    const Int32 source(o[6], int32_formats, true, "source", a.ok);
    if (a.ok && (n_in < 1 || n_out < 1 || n_in > INT32_MAX || n_out > INT32_MAX)) {
        PyErr_SetString(PyExc_ValueError, "expected 1 to 2147483647 neurons on both sides");
        return nullptr;
    }
    if (!a.ok || !indptr.has(n_in + 1, "indptr") || !keep.has(indices.length, "keep")) return nullptr;
    if (const char* fault = find_fault(indptr.data, indices.data, n_in, n_out, indices.length)) {
        PyErr_SetString(PyExc_ValueError, fault);
        return nullptr;
    }
    int64_t kept = 0;
    for (int64_t k = 0; k < keep.length; k++) kept += keep.data[k];
    for (int64_t j = 0, before = -1; j < ranks.length; before = ranks.data[j++])
        if (ranks.data[j] <= before || ranks.data[j] >= n_in * n_out - kept) {
            PyErr_SetString(PyExc_ValueError, "expected ascending ranks of empty cells");
            return nullptr;
        }
    if (!new_indptr.has(n_in + 1, "new_indptr") || !new_indices.has(kept + ranks.length, "new_indices") ||
        !source.has(kept + ranks.length, "source"))
        return nullptr;
    Py_BEGIN_ALLOW_THREADS;
    refill(indptr.data, indices.data, keep.data, n_in, n_out, ranks.data, ranks.length, new_indptr.data,
           new_indices.data, source.data);
    Py_END_ALLOW_THREADS;
    Py_RETURN_NONE;
}

PyObject* py_simd(PyObject*, PyObject* const*, Py_ssize_t) { return PyUnicode_FromString(kernels->name); }

// use_simd(name): False where this processor or this build does not have it
PyObject* py_use_simd(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    Arguments a(objects, count, 1);
    PyObject* name = a.object();
    if (!a.ok) return nullptr;
    const Kernels* candidates[] = {
        &portable::kernels,
#ifdef SET_X86
        has_avx2() ? &avx2::kernels : nullptr,
        has_avx512() ? &avx512::kernels : nullptr,
#endif
    };
    for (const Kernels* candidate : candidates)
        if (candidate && PyUnicode_CompareWithASCIIString(name, candidate->name) == 0) {
            kernels = candidate;
            Py_RETURN_TRUE;
        }
    Py_RETURN_FALSE;
}

PyObject* py_has_openmp(PyObject*, PyObject* const*, Py_ssize_t) {
#ifdef _OPENMP
    Py_RETURN_TRUE;
#else
    Py_RETURN_FALSE;
#endif
}

#define METHOD(name) \
    {#name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(py_##name)), METH_FASTCALL, nullptr}
PyMethodDef methods[] = {
    METHOD(product), METHOD(gradients), METHOD(activate), METHOD(activate_backward), METHOD(stack_forward),
    METHOD(stack_backward), METHOD(descend), METHOD(cross_entropy), METHOD(contrast), METHOD(units), METHOD(anneal),
    METHOD(anneal_hidden), METHOD(anneal_visible), METHOD(gather), METHOD(gather_moved), METHOD(to_columns),
    METHOD(prune), METHOD(refill), METHOD(simd), METHOD(use_simd), METHOD(has_openmp),
    {nullptr, nullptr, 0, nullptr},
};
PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_core", "Compiled kernels; see set_cli/native/__init__.py", -1,
                          methods,               nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__core() {
    kernels = best_kernels();
    pattern_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&pattern_spec));
    PyObject* module = pattern_type ? PyModule_Create(&definition) : nullptr;
    if (module && (PyModule_AddObjectRef(module, "Pattern", reinterpret_cast<PyObject*>(pattern_type)) < 0 ||
                   PyModule_AddIntConstant(module, "SUM_BLOCK", sum_block) < 0)) {
        Py_DECREF(module);
        return nullptr;
    }
    return module;
}
