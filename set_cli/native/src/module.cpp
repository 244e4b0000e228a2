// The Python module set_cli.native._core: Python's arguments as the records of the headers, and back. Addresses come as
// integers: set_cli/sparse/engines/compiled.py and the other callers check dtype, shape, strides and device before they
// call. Index arrays are checked here, whatever calls.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <climits>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <new>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "calls.hpp"
#include "paths.hpp"
#include "rbm.hpp"
#include "stack.hpp"
#include "steps.hpp"
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

    Connections connections() const {
        return {{n_in, n_out, indptr, indices, nullptr},
                {n_out, n_in, transposed, transposed + n_out + 1, transposed + n_out + 1 + nnz}};
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

// take(value, target): the target's type says what is expected. False with Python's exception where it is not that.

bool take(PyObject* value, PyObject*& object) {
    object = value;
    return true;
}

bool take(PyObject* value, int64_t& number) {
    number = PyLong_AsLongLong(value);
    return number != -1 || !PyErr_Occurred();
}

bool take(PyObject* value, uint64_t& number) {
    number = PyLong_AsUnsignedLongLong(value);
    return number != UINT64_MAX || !PyErr_Occurred();
}

// An integer that has to fit into fewer bits, or be one of an enumeration's.
template <typename Narrow>
bool take_narrow(PyObject* value, Narrow& number, int64_t least, int64_t largest) {
    int64_t wide;
    if (!take(value, wide)) return false;
    number = static_cast<Narrow>(wide);
    if (wide >= least && wide <= largest) return true;
    PyErr_Format(PyExc_OverflowError, "expected an integer from %lld to %lld, got %lld", static_cast<long long>(least),
                 static_cast<long long>(largest), static_cast<long long>(wide));
    return false;
}
bool take(PyObject* value, int& number) { return take_narrow(value, number, INT_MIN, INT_MAX); }
bool take(PyObject* value, uint32_t& number) { return take_narrow(value, number, 0, UINT32_MAX); }
bool take(PyObject* value, bool& flag) { return take_narrow(value, flag, 0, 1); }
bool take(PyObject* value, Shape& shape) {
    return take_narrow(value, shape, static_cast<int64_t>(Shape::none), static_cast<int64_t>(Shape::srelu));
}
bool take(PyObject* value, NormKind& kind) {
    return take_narrow(value, kind, static_cast<int64_t>(NormKind::none), static_cast<int64_t>(NormKind::layer));
}

bool take(PyObject* value, double& number) {
    number = PyFloat_AsDouble(value);
    return number != -1 || !PyErr_Occurred();
}

bool take(PyObject* value, float& number) {
    double wide;
    if (!take(value, wide)) return false;
    number = static_cast<float>(wide);
    return true;
}

template <typename T>
bool take(PyObject* value, T*& address) {
    uint64_t number;
    if (!take(value, number)) return false;
    address = reinterpret_cast<T*>(static_cast<uintptr_t>(number));
    return true;
}

bool take(PyObject* value, Connections& connections) {
    if (Py_TYPE(value) != pattern_type) {
        PyErr_SetString(PyExc_TypeError, "expected a Pattern");
        return false;
    }
    const Pattern* pattern = reinterpret_cast<const Pattern*>(value);
    connections = pattern->connections();
    if (stays_within(pattern->indptr, pattern->indices, pattern->n_in, pattern->n_out, pattern->nnz)) return true;
    PyErr_SetString(PyExc_ValueError,
                    "the layer's indptr or indices were overwritten: an index is out of range; load_state_dict gives a "
                    "layer other connections");
    return false;
}

// A record from the tuple of its fields (set_cli/native/records.py).
template <typename Record>
bool take(PyObject* value, Record& record) {
    constexpr Py_ssize_t expected = std::size(Record::field_names);
    if (!PyTuple_Check(value)) {
        PyErr_Format(PyExc_TypeError, "expected a %s", Record::record_name);
        return false;
    }
    if (PyTuple_Size(value) != expected) {
        PyErr_Format(PyExc_TypeError, "%s: expected %zd fields, got %zd", Record::record_name, expected,
                     PyTuple_Size(value));
        return false;
    }
    Py_ssize_t next = 0;
    bool ok = true;
    record.visit_fields([&](auto& field) { ok = ok && take(PyTuple_GetItem(value, next++), field); });
    return ok;
}

// The records of a Python list, held while this lives.
template <typename Record>
struct List {
    Record* records = nullptr;
    int64_t count = 0;
    List() = default;
    List(const List&) = delete;
    ~List() { free(records); }
};

template <typename Record>
bool take(PyObject* value, List<Record>& list) {
    if (!PyList_Check(value)) {
        PyErr_Format(PyExc_TypeError, "expected a list of %s", Record::record_name);
        return false;
    }
    list.count = PyList_Size(value);
    list.records = static_cast<Record*>(calloc(static_cast<size_t>(list.count) + 1, sizeof(Record)));
    if (!list.records) {
        PyErr_NoMemory();
        return false;
    }
    for (int64_t i = 0; i < list.count; i++)
        if (!take(PyList_GetItem(value, static_cast<Py_ssize_t>(i)), list.records[i])) return false;
    return true;
}

// All arguments of a call, in order.
template <typename... Targets>
bool take_all(PyObject* const* objects, Py_ssize_t count, Targets&... targets) {
    constexpr Py_ssize_t expected = sizeof...(targets);
    if (count == expected) return (take(*objects++, targets) && ...);
    PyErr_Format(PyExc_TypeError, "expected %zd arguments, got %zd", expected, count);
    return false;
}

// Does the work without Python's lock; false, with Python's exception set, where there was no memory for it.
template <typename Work>
bool unlocked(Work work) {
    PyThreadState* state = PyEval_SaveThread();
    bool has_memory = true;
    try {
        work();
    } catch (const std::bad_alloc&) {
        has_memory = false;
    }
    PyEval_RestoreThread(state);
    if (!has_memory) PyErr_NoMemory();
    return has_memory;
}

// What a function of the headers that takes a record and a number of threads looks like from Python.
template <typename Record, void (*function)(const Kernels&, const Record&, int64_t)>
PyObject* call(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    Record record{};
    int64_t threads;
    if (!take_all(objects, count, record, threads)) return nullptr;
    if (!unlocked([&] { function(*kernels, record, threads); })) return nullptr;
    Py_RETURN_NONE;
}

// Of one that takes all layers of a stack: ([record], n_batch, threads).
template <typename Record, void (*function)(const Kernels&, const Record*, int64_t, int64_t, int64_t)>
PyObject* call(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    List<Record> layers;
    int64_t n_batch, threads;
    if (!take_all(objects, count, layers, n_batch, threads)) return nullptr;
    if (!unlocked([&] { function(*kernels, layers.records, layers.count, n_batch, threads); })) return nullptr;
    Py_RETURN_NONE;
}

// cross_entropy(record): the sum of the losses
PyObject* py_cross_entropy(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    CrossEntropy record{};
    if (!take_all(objects, count, record)) return nullptr;
    double loss;
    if (!unlocked([&] { loss = cross_entropy(*kernels, record); })) return nullptr;
    return PyFloat_FromDouble(loss);
}

// descend([record], rate, momentum, nesterov, threads)
PyObject* py_descend(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    List<Descent> all;
    float rate, momentum;
    bool nesterov;
    int64_t threads;
    if (!take_all(objects, count, all, rate, momentum, nesterov, threads)) return nullptr;
    if (!unlocked([&] { descend(*kernels, all.records, all.count, rate, momentum, nesterov, threads); })) return nullptr;
    Py_RETURN_NONE;
}

// train(steps, [forward], [backward], [values], [others], threads): the lists by layer, but for the last
PyObject* py_train(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    Steps steps{};
    List<LayerForward> forward;
    List<LayerBackward> backward;
    List<Descent> values;
    List<OfOutputs> others;
    int64_t threads;
    if (!take_all(objects, count, steps, forward, backward, values, others, threads)) return nullptr;
    if (!forward.count || backward.count != forward.count || values.count != forward.count) {
        PyErr_SetString(PyExc_ValueError, "expected a forward, a backward and values for every layer");
        return nullptr;
    }
    for (int64_t i = 0; i < others.count; i++)
        if (others.records[i].layer < 0 || others.records[i].layer >= forward.count) {
            PyErr_SetString(PyExc_ValueError, "expected parameters of layers that there are");
            return nullptr;
        }
    const Stack stack{forward.records, backward.records, values.records, forward.count, others.records, others.count};
    if (!unlocked([&] { train(*kernels, steps, stack, threads); })) return nullptr;
    Py_RETURN_NONE;
}

// contrast(record, threads): the loss
PyObject* py_contrast(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    Contrast record{};
    int64_t threads;
    if (!take_all(objects, count, record, threads)) return nullptr;
    double loss;
    if (!unlocked([&] { loss = contrast(*kernels, record, threads); })) return nullptr;
    return PyFloat_FromDouble(loss);
}

// anneal_hidden(record, from, to, threads)
PyObject* py_anneal_hidden(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    Annealing record{};
    float from, to;
    int64_t threads;
    if (!take_all(objects, count, record, from, to, threads)) return nullptr;
    if (!unlocked([&] { anneal_hidden(*kernels, record, from, to, threads); })) return nullptr;
    Py_RETURN_NONE;
}

// anneal_visible(record, z, from, to, threads)
PyObject* py_anneal_visible(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    Annealing record{};
    Columns z{};
    float from, to;
    int64_t threads;
    if (!take_all(objects, count, record, z, from, to, threads)) return nullptr;
    if (!unlocked([&] { anneal_visible(*kernels, record, z, from, to, threads); })) return nullptr;
    Py_RETURN_NONE;
}

// prune(weights, zeta, keep): fills keep
PyObject* py_prune(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    PyObject *weights_object = nullptr, *keep_object = nullptr;
    double zeta;
    bool ok = take_all(objects, count, weights_object, zeta, keep_object);
    const Array<float> weights(weights_object, "f", false, "weights", ok);
    const Array<bool> keep(keep_object, "?", true, "keep", ok);
    if (!ok || !keep.has(weights.length, "keep")) return nullptr;
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
    int64_t n_in, n_out;
    PyObject* o[7]{};
    bool ok = take_all(objects, count, n_in, n_out, o[0], o[1], o[2], o[3], o[4], o[5], o[6]);
    const Int32 indptr(o[0], int32_formats, false, "indptr", ok), indices(o[1], int32_formats, false, "indices", ok);
    const Array<uint8_t> keep(o[2], "?", false, "keep", ok);  // any byte: one that is no bool is refused below
    const Array<int64_t> ranks(o[3], "lq", false, "ranks", ok);
    const Int32 new_indptr(o[4], int32_formats, true, "new_indptr", ok);
    const Int32 new_indices(o[5], int32_formats, true, "new_indices", ok);
    const Int32 source(o[6], int32_formats, true, "source", ok);
    if (ok && (n_in < 1 || n_out < 1 || n_in > INT32_MAX || n_out > INT32_MAX)) {
        PyErr_SetString(PyExc_ValueError, "expected 1 to 2147483647 neurons on both sides");
        return nullptr;
    }
    if (!ok || !indptr.has(n_in + 1, "indptr") || !keep.has(indices.length, "keep")) return nullptr;
    if (const char* fault = find_fault(indptr.data, indices.data, n_in, n_out, indices.length)) {
        PyErr_SetString(PyExc_ValueError, fault);
        return nullptr;
    }
    int64_t kept = 0;
    uint8_t bits = 0;
    for (int64_t k = 0; k < keep.length; k++) kept += keep.data[k], bits |= keep.data[k];
    if (bits > 1) {
        PyErr_SetString(PyExc_ValueError, "keep: expected bytes 0 or 1");
        return nullptr;
    }
    for (int64_t j = 0, before = -1; j < ranks.length; before = ranks.data[j++])
        if (ranks.data[j] <= before || ranks.data[j] >= n_in * n_out - kept) {
            PyErr_SetString(PyExc_ValueError, "expected ascending ranks of empty cells");
            return nullptr;
        }
    if (!new_indptr.has(n_in + 1, "new_indptr") || !new_indices.has(kept + ranks.length, "new_indices") ||
        !source.has(kept + ranks.length, "source"))
        return nullptr;
    Py_BEGIN_ALLOW_THREADS;
    refill(indptr.data, indices.data, reinterpret_cast<const bool*>(keep.data), n_in, n_out, ranks.data, ranks.length, new_indptr.data,
           new_indices.data, source.data);
    Py_END_ALLOW_THREADS;
    Py_RETURN_NONE;
}

// grow_by_paths(pattern, is_soft, seed, cells, threads): fills the first of `cells`; how many
PyObject* py_grow_by_paths(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    Connections connections{};
    bool is_soft;
    uint64_t seed;
    PyObject* cells_object = nullptr;
    int64_t threads, found = 0;
    bool ok = take_all(objects, count, connections, is_soft, seed, cells_object, threads);
    const Array<int64_t> cells(cells_object, "lq", true, "cells", ok);
    if (!ok) return nullptr;
    if (!unlocked([&] { found = grow_by_paths(connections, cells.length, is_soft, seed, cells.data, threads); }))
        return nullptr;
    return PyLong_FromLongLong(found);
}

PyObject* py_simd(PyObject*, PyObject* const*, Py_ssize_t) { return PyUnicode_FromString(kernels->name); }

// use_simd(name): False where this processor or this build does not have it
PyObject* py_use_simd(PyObject*, PyObject* const* objects, Py_ssize_t count) {
    PyObject* name;
    if (!take_all(objects, count, name)) return nullptr;
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

// Adds a record's field names to the dictionary of them all.
template <typename Record>
bool add_names(PyObject* all) {
    constexpr Py_ssize_t count = std::size(Record::field_names);
    PyObject* names = PyTuple_New(count);
    for (Py_ssize_t i = 0; names && i < count; i++) {
        PyObject* name = PyUnicode_FromString(Record::field_names[i]);
        if (!name || PyTuple_SetItem(names, i, name) < 0) Py_CLEAR(names);
    }
    const bool done = names && PyDict_SetItemString(all, Record::record_name, names) == 0;
    Py_XDECREF(names);
    return done;
}

template <typename... Records>
PyObject* names_of() {
    PyObject* all = PyDict_New();
    if (all && !(add_names<Records>(all) && ...)) Py_CLEAR(all);
    return all;
}

// Every record that crosses, alone or within another one.
PyObject* names_of_all() {
    return names_of<Columns, Slopes, Normalization, NormGradients, Random, Dropout, Source, Image, Product, Gradients, Activation, ActivationBackward,
                    Layer, LayerForward, LayerBackward, Targets, CrossEntropy, Descent, Gather, GatherChanged, Feed, Update, Steps, OfOutputs, ContrastSteps, Mix,
                    ToColumns, Draw, Contrast, Annealing, SparseAnnealing>();
}

PyMethodDef method(const char* name, PyObject* (*function)(PyObject*, PyObject* const*, Py_ssize_t)) {
    return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function)), METH_FASTCALL, nullptr};
}
PyMethodDef methods[] = {
    method("product", call<Product, product>),
    method("gradients", call<Gradients, gradients>),
    method("activate", call<Activation, activate>),
    method("activate_backward", call<ActivationBackward, activate_backward>),
    method("stack_forward", call<LayerForward, stack_forward>),
    method("stack_backward", call<LayerBackward, stack_backward>),
    method("cross_entropy", py_cross_entropy),
    method("descend", py_descend),
    method("train", py_train),
    method("train_rbm", call<ContrastSteps, train_rbm>),
    method("draw", call<Draw, draw>),
    method("contrast", py_contrast),
    method("anneal", call<SparseAnnealing, anneal>),
    method("anneal_hidden", py_anneal_hidden),
    method("anneal_visible", py_anneal_visible),
    method("gather", call<Gather, gather>),
    method("gather_changed", call<GatherChanged, gather_changed>),
    method("mix", call<Mix, mix>),
    method("to_columns", call<ToColumns, to_columns>),
    method("prune", py_prune),
    method("refill", py_refill),
    method("grow_by_paths", py_grow_by_paths),
    method("simd", py_simd),
    method("use_simd", py_use_simd),
    {nullptr, nullptr, 0, nullptr},
};
PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_core", "Compiled kernels; see set_cli/native/__init__.py", -1,
                          methods,               nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__core() {
    kernels = best_kernels();
    pattern_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&pattern_spec));
    PyObject* records = names_of_all();
    PyObject* module = pattern_type && records ? PyModule_Create(&definition) : nullptr;
    if (module && (PyModule_AddObjectRef(module, "Pattern", reinterpret_cast<PyObject*>(pattern_type)) < 0 ||
                   PyModule_AddObjectRef(module, "RECORDS", records) < 0 ||
                   PyModule_AddIntConstant(module, "SUM_BLOCK", sum_block) < 0)) {
        Py_CLEAR(module);
    }
    Py_XDECREF(records);
    return module;
}
