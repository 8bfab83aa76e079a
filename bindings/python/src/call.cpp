// SPDX-License-Identifier: Apache-2.0
#include "call.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <iterator>

namespace attend_python {

namespace {

bool given(nb::handle object) { return !object.is_none(); }

double number(nb::handle object, const char *name) {
  const double value = PyFloat_AsDouble(object.ptr());
  if (value == -1 && PyErr_Occurred()) {
    PyErr_Clear();
    const nb::str type(nb::handle(reinterpret_cast<PyObject *>(Py_TYPE(object.ptr()))).attr("__name__"));
    fail_type("%s is of type %s, expected a number", name, type.c_str());
  }
  return value;
}

int64_t integer(nb::handle object, const char *name) {
  nb::object index = nb::steal(PyNumber_Index(object.ptr()));
  if (!index.is_valid()) {
    PyErr_Clear();
    const nb::str type(nb::handle(reinterpret_cast<PyObject *>(Py_TYPE(object.ptr()))).attr("__name__"));
    fail_type("%s is of type %s, expected a whole number", name, type.c_str());
  }
  const long long value = PyLong_AsLongLong(index.ptr());
  if (value == -1 && PyErr_Occurred()) {
    PyErr_Clear();
    fail_value("%s is too large: expected a whole number of at most 63 bits", name);
  }
  return value;
}

bool truth(nb::handle object, const char *name) {
  const int value = PyObject_IsTrue(object.ptr());
  if (value < 0) {
    PyErr_Clear();
    fail_type("%s: expected True or False", name);
  }
  return value;
}

// Which name of a list an argument is; ValueError, or TypeError for what is no string.
int choice(nb::handle object, const char *name, const char *const *names, int count) {
  if (PyUnicode_Check(object.ptr()))
    for (int i = 0; i < count; i++)
      if (nb::borrow<nb::str>(object).equal(nb::str(names[i]))) return i;
  std::string list;
  for (int i = 0; i < count; i++)
    list += std::string(i ? (i == count - 1 ? " or " : ", ") : "") + "\"" + names[i] + "\"";
  const nb::str got = nb::repr(object);
  if (!PyUnicode_Check(object.ptr())) fail_type("%s is %s, expected %s", name, got.c_str(), list.c_str());
  fail_value("%s is %s, expected %s", name, got.c_str(), list.c_str());
}

attend_dtype library_type(Type type) {
  if (type.code == 2 && type.bits == 32) return ATTEND_F32;
  if (type.code == 2 && type.bits == 16) return ATTEND_F16;
  if (type.code == 4 && type.bits == 16) return ATTEND_BF16;
  return ATTEND_DTYPE_DEFAULT;
}

// Formats of keys and values by the names that Python gives them: integers without a sign have names of their own.
struct Format {
  const char *name;
  attend_dtype dtype;
  int elements, bytes; // so many elements take so many bytes
  bool scaled, is_unsigned;
};
constexpr int BLOCK_ELEMENTS = 32; // of ggml's blocks, which hold their scales
const Format formats[] = {
#define ATTEND_FORMAT_PLAIN(id, name, elements, bytes) {name, ATTEND_##id, elements, bytes, false, false},
#define ATTEND_FORMAT_SCALED(id, name, elements, bytes) {name, ATTEND_##id, elements, bytes, true, false},
#define ATTEND_FORMAT_BLOCK(id, name, elements, bytes, ...) {name, ATTEND_##id, elements, bytes, false, false},
#include "kernels/formats.def"
    {"u8", ATTEND_I8, 1, 1, true, true},
    {"u4", ATTEND_I4, 2, 1, true, true},
};

// The format of keys or values: by its name, or without one by the array's dtype.
const Format &read_format(nb::handle object, const char *name, const Array &array, const char *of) {
  const Format *format = nullptr;
  if (!object.is_none()) {
    const char *names[std::size(formats)];
    for (size_t i = 0; i < std::size(formats); i++) names[i] = formats[i].name;
    format = &formats[choice(object, name, names, static_cast<int>(std::size(formats)))];
    if (format->dtype <= ATTEND_BF16 && format->dtype != library_type(array.type)) {
      const std::string type = type_text(array.type);
      fail_value("%s is %s, but %s has dtype %s", name, format->name, of, type.c_str());
    }
    if (format->dtype > ATTEND_BF16 && array.type.bits != 8) {
      const std::string type = type_text(array.type);
      fail_type("%s has dtype %s, expected bytes of the format %s: uint8, int8 or an 8-bit float", of, type.c_str(),
                format->name);
    }
    return *format;
  }
  if (array.type.code == 10 && array.type.bits == 8) return formats[ATTEND_F8_E4M3 - 1];
  if (array.type.code == 12 && array.type.bits == 8) return formats[ATTEND_F8_E5M2 - 1];
  if (array.type.code == 0 && array.type.bits == 8) return formats[ATTEND_I8 - 1];
  if (array.is_int() && array.type.bits == 8)
    fail_type("%s has dtype uint8, expected %s to say what the bytes are", of, name);
  return formats[dtype_of(array, of) - 1];
}

int32_t narrow(int64_t value, const char *name) {
  if (value < INT32_MIN || value > INT32_MAX)
    fail_value("%s has the entry %lld, which 32 bits do not hold", name, static_cast<long long>(value));
  return static_cast<int32_t>(value);
}

int64_t entry(const Array &a, int64_t offset, const char *name) {
  const bool is_signed = a.type.code == 0;
  switch (a.type.bits) {
  case 8: return is_signed ? static_cast<const int8_t *>(a.data)[offset] : static_cast<const uint8_t *>(a.data)[offset];
  case 16:
    return is_signed ? static_cast<const int16_t *>(a.data)[offset] : static_cast<const uint16_t *>(a.data)[offset];
  case 32:
    return is_signed ? static_cast<const int32_t *>(a.data)[offset] : static_cast<const uint32_t *>(a.data)[offset];
  case 64:
    if (!is_signed && static_cast<const uint64_t *>(a.data)[offset] > INT32_MAX) break;
    return static_cast<const int64_t *>(a.data)[offset];
  }
  fail_value("%s has an entry that 32 bits do not hold", name);
}

// Widest step of starts: the most rows of one sequence.
int64_t widest(const int32_t *starts, int64_t batch, const char *name) {
  int64_t most = 0;
  if (starts[0] != 0) fail_value("%s[0] is %d, expected 0", name, starts[0]);
  for (int64_t b = 0; b < batch; b++) {
    const int64_t step = static_cast<int64_t>(starts[b + 1]) - starts[b];
    if (step < 0)
      fail_value("%s[%lld] is %d, less than the one before", name, static_cast<long long>(b + 1), starts[b + 1]);
    if (step > most) most = step;
  }
  return most;
}

// Whether PyTorch records gradients.
bool torch_records() {
  static nb::object *enabled;
  if (!enabled) enabled = new nb::object(nb::module_::import_("torch").attr("is_grad_enabled"));
  return nb::cast<bool>((*enabled)());
}

// PyTorch's number of threads: attend follows it for PyTorch's tensors.
int torch_threads() {
  static nb::object *get;
  if (!get) get = new nb::object(nb::module_::import_("torch").attr("get_num_threads"));
  nb::object threads = nb::steal(PyObject_CallNoArgs(get->ptr()));
  if (!threads.is_valid()) throw nb::python_error();
  return nb::cast<int>(threads);
}

} // namespace

bool is_float(Type type) { return library_type(type) != ATTEND_DTYPE_DEFAULT; }

attend_dtype dtype_of(const Array &array, const char *name) {
  const attend_dtype dtype = library_type(array.type);
  if (dtype == ATTEND_DTYPE_DEFAULT) {
    const std::string type = type_text(array.type);
    fail_type("%s has dtype %s, expected float32, float16 or bfloat16", name, type.c_str());
  }
  return dtype;
}

nb::dict block_bytes() {
  nb::dict bytes;
  for (const Format &f : formats)
    if (f.dtype > ATTEND_BF16 && f.elements == BLOCK_ELEMENTS) bytes[f.name] = f.bytes;
  return bytes;
}

attend_dtype cache_type(nb::handle format, const Array &cache, int64_t dim, int64_t &width) {
  const Format &f = read_format(format, "format", cache, "cache");
  if (f.scaled) fail_value("format is %s: appending quantises to ggml's formats only, which hold their scales", f.name);
  if (dim % f.elements)
    fail_value("x has a dim of %lld, expected a multiple of %d for %s", static_cast<long long>(dim), f.elements,
               f.name);
  width = f.dtype > ATTEND_BF16 ? dim / f.elements * f.bytes : dim;
  return f.dtype;
}

attend_strides strides_of(const Array &a) { return {a.strides[0], a.strides[1], a.strides[2]}; }

Array whole_numbers(nb::handle object, const char *name, int ndim) {
  Array a = read_array(object, name);
  if (!a.is_int()) {
    const std::string type = type_text(a.type);
    fail_type("%s has dtype %s, expected whole numbers", name, type.c_str());
  }
  if (a.ndim != ndim) {
    const std::string shape = shape_text(a.shape, a.ndim);
    fail_value("%s has the shape %s, expected %d dimension%s", name, shape.c_str(), ndim, ndim == 1 ? "" : "s");
  }
  make_contiguous(a);
  if (a.type.bits != 32 || a.type.code != 0) {
    const int64_t entries = a.size();
    std::shared_ptr<void> memory(malloc(4 * static_cast<size_t>(entries) + 4), free);
    if (!memory) throw std::bad_alloc();
    for (int64_t i = 0; i < entries; i++) static_cast<int32_t *>(memory.get())[i] = narrow(entry(a, i, name), name);
    a.data = memory.get();
    a.owner = std::move(memory);
    a.type = I32;
  }
  return a;
}

const int32_t *Call::integers(nb::handle object, const char *name, int ndim, Array **array) {
  held.push_back(whole_numbers(object, name, ndim));
  if (array) *array = &held.back();
  return static_cast<const int32_t *>(held.back().data);
}

const float *Call::per_head(nb::handle object, const char *name) {
  held.push_back(read_array(object, name));
  Array &a = held.back();
  if (a.ndim != 1 || a.shape[0] != key.problem.q_heads) {
    const std::string shape = shape_text(a.shape, a.ndim);
    fail_value("%s has the shape %s, expected (%lld,): a number for each query head", name, shape.c_str(),
               static_cast<long long>(key.problem.q_heads));
  }
  if (!(a.type == F32)) { // few numbers: converted one by one, in whatever type they come
    nb::object wide = nb::hasattr(object, "float") ? object.attr("detach")().attr("float")()
                                                   : nb::module_::import_("numpy").attr("asarray")(object, "float32");
    Array b = read_array(wide, name);
    make_contiguous(b);
    std::shared_ptr<void> memory(malloc(4 * static_cast<size_t>(b.size()) + 4), free);
    if (!memory) throw std::bad_alloc();
    memcpy(memory.get(), b.data, 4 * static_cast<size_t>(b.size()));
    a = b;
    a.data = memory.get();
    a.owner = std::move(memory);
  }
  make_contiguous(a);
  return static_cast<const float *>(a.data);
}

// Scales and zero points: (B, H, rows, groups) or what broadcasts to that, as keys or values lie, pages included.
void Call::read_scales(nb::handle scales, nb::handle zero_points, const Array &x, const char *const names[2],
                       attend_dtype dtype, int64_t dim, attend_scaling &scaling, const void *&scale_data,
                       const void *&zero_data) {
  if (!given(scales)) {
    if (given(zero_points)) fail_value("%s: expected %s too", names[1], names[0]);
    return;
  }
  const nb::handle objects[] = {scales, zero_points};
  const void **const data[] = {&scale_data, &zero_data};
  for (int i = 0; i < 2 && given(objects[i]); i++) {
    held.push_back(read_array(objects[i], names[i]));
    Array &a = held.back();
    const attend_dtype type = dtype_of(a, names[i]);
    if (type == ATTEND_BF16) fail_type("%s has dtype bfloat16, expected float32 or float16", names[i]);
    if (reinterpret_cast<uintptr_t>(a.data) % a.itemsize()) make_contiguous(a);
    const int64_t groups = a.ndim ? a.shape[a.ndim - 1] : 1;
    const int64_t shape[] = {x.shape[0], x.shape[1], x.shape[2], groups};
    broadcast(a, shape, 4, names[i]);
    if (groups == 0 || dim % groups)
      fail_value("%s has %lld groups, of which a row of %lld elements has no whole number each", names[i],
                 static_cast<long long>(groups), static_cast<long long>(dim));
    if (i == 0) {
      scaling.group = dim / groups, scaling.dtype = type;
      scaling.batch = a.strides[0], scaling.head = a.strides[1], scaling.row = a.strides[2],
      scaling.step = a.strides[3];
      if (groups == 1) scaling.group = 0;
    } else {
      if (dtype != ATTEND_I8 && dtype != ATTEND_I4) fail_value("%s go with i8, u8, i4 and u4", names[1]);
      if (type != scaling.dtype || a.strides[0] != scaling.batch || a.strides[1] != scaling.head ||
          a.strides[2] != scaling.row || a.strides[3] != scaling.step)
        fail_value("%s: expected dtype, shape and strides of %s", names[1], names[0]);
      scaling.zero_points = 1;
    }
    *data[i] = a.data;
  }
}

void Call::read_numbers(const Arguments &a) {
  attend_problem &p = key.problem;
  if (given(a.scale)) p.scale = static_cast<float>(number(a.scale, "scale")), p.as_given |= ATTEND_AS_GIVEN_SCALE;
  if (given(a.softcap)) p.softcap = static_cast<float>(number(a.softcap, "softcap"));
  if (given(a.causal)) {
    if (PyBool_Check(a.causal.ptr())) {
      p.causal = truth(a.causal, "causal") ? ATTEND_CAUSAL_BOTTOM_RIGHT : ATTEND_CAUSAL_NONE;
    } else if (PyUnicode_Check(a.causal.ptr())) {
      static const char *const names[] = {"top-left", "bottom-right"};
      p.causal = choice(a.causal, "causal", names, 2) ? ATTEND_CAUSAL_BOTTOM_RIGHT : ATTEND_CAUSAL_TOP_LEFT;
    } else {
      p.causal = ATTEND_CAUSAL_OFFSET;
      p.causal_offset = integer(a.causal, "causal");
    }
  }
  if (given(a.window)) {
    if (!PySequence_Check(a.window.ptr()) || PySequence_Size(a.window.ptr()) != 2)
      fail_type(
          "window: expected (left, right), keys before and after a query's position, None or -1 for an open side");
    p.window = 1;
    int64_t *const sides[] = {&p.window_left, &p.window_right};
    for (int i = 0; i < 2; i++) {
      nb::object side = a.window[i];
      *sides[i] = side.is_none() ? -1 : integer(side, "window");
    }
  }
  if (given(a.dropout)) p.dropout = static_cast<float>(number(a.dropout, "dropout"));
  if (given(a.seed)) {
    nb::object index = nb::steal(PyNumber_Index(a.seed.ptr()));
    if (!index.is_valid()) {
      PyErr_Clear();
      fail_type("seed: expected a whole number");
    }
    tensors.dropout_seed = PyLong_AsUnsignedLongLongMask(index.ptr());
    if (PyErr_Occurred()) throw nb::python_error();
  }
  if (given(a.offset)) tensors.dropout_offset = static_cast<uint64_t>(integer(a.offset, "offset"));
}

void Call::read_sequences(const Arguments &a) {
  attend_problem &p = key.problem;
  if (given(a.q_starts)) {
    Array *starts;
    tensors.q_starts = integers(a.q_starts, "q_starts", 1, &starts);
    if (starts->shape[0] < 1)
      fail_value("q_starts is empty, expected a start for each sequence and the end of the last");
    if (q.shape[0] != 1)
      fail_value("q has a batch of %lld: packed by q_starts, expected (1, heads, rows of all, dim)",
                 static_cast<long long>(q.shape[0]));
    p.q_starts = 1;
    p.batch = starts->shape[0] - 1;
    p.q_total = q.shape[2];
    p.q_len = widest(tensors.q_starts, p.batch, "q_starts");
  }
  if (given(a.kv_starts)) {
    Array *starts;
    tensors.kv_starts = integers(a.kv_starts, "kv_starts", 1, &starts);
    if (starts->shape[0] != p.batch + 1)
      fail_value("kv_starts has %lld entries, expected %lld: a start for each sequence and the end of the last",
                 static_cast<long long>(starts->shape[0]), static_cast<long long>(p.batch + 1));
    if (k.shape[0] != 1)
      fail_value("k has a batch of %lld: packed by kv_starts, expected (1, heads, rows of all, dim)",
                 static_cast<long long>(k.shape[0]));
    p.kv_starts = 1;
    p.kv_total = k.shape[2];
    p.kv_len = widest(tensors.kv_starts, p.batch, "kv_starts");
  } else if (given(a.block_table)) {
    Array *table;
    tensors.block_table = integers(a.block_table, "block_table", 2, &table);
    if (table->shape[0] != p.batch)
      fail_value("block_table has %lld rows, expected %lld: one for each sequence",
                 static_cast<long long>(table->shape[0]), static_cast<long long>(p.batch));
    p.page_rows = k.shape[2];
    p.pages = k.shape[0];
    p.kv_len = table->shape[1] * p.page_rows;
    p.block_table_stride = table->shape[1];
    if (p.page_rows == 0) fail_value("k has pages of 0 rows: expected (pages, heads, rows of a page, dim)");
    if (!given(a.kv_lengths))
      fail_value("kv_lengths: expected with block_table, which says how many pages there are at most");
  } else if (k.shape[0] != p.batch) {
    fail_value("k has a batch of %lld and q one of %lld, expected the same", static_cast<long long>(k.shape[0]),
               static_cast<long long>(p.batch));
  }
  const int64_t queries = p.q_starts ? p.q_total : p.batch * p.q_len;
  if (given(a.kv_lengths)) {
    held.push_back(read_array(a.kv_lengths, "kv_lengths"));
    const int ndim = held.back().ndim;
    const bool per_query = ndim == 2 || (p.q_starts && ndim == 1 && held.back().shape[0] != p.batch);
    held.pop_back();
    Array *lengths;
    tensors.kv_lengths = integers(a.kv_lengths, "kv_lengths", ndim == 2 ? 2 : 1, &lengths);
    const bool fits = per_query ? lengths->size() == queries : lengths->shape[0] == p.batch;
    if (!fits) {
      const std::string shape = shape_text(lengths->shape, lengths->ndim);
      fail_value("kv_lengths has the shape %s, expected (%lld,), or %lld numbers in all, one for each query",
                 shape.c_str(), static_cast<long long>(p.batch), static_cast<long long>(queries));
    }
    p.kv_lengths = per_query ? ATTEND_LENGTHS_PER_QUERY : ATTEND_LENGTHS_PER_BATCH;
  }
  struct PerSequence {
    nb::handle object;
    const char *name;
    int *flag;
    const int32_t **address;
  } const per_sequence[] = {{a.positions, "positions", &p.positions, &tensors.positions},
                            {a.kv_begins, "kv_begins", &p.kv_begins, &tensors.kv_begins}};
  for (const auto &s : per_sequence)
    if (given(s.object)) {
      Array *array;
      *s.address = integers(s.object, s.name, 1, &array);
      if (array->shape[0] != p.batch)
        fail_value("%s has %lld entries, expected %lld: one for each sequence", s.name,
                   static_cast<long long>(array->shape[0]), static_cast<long long>(p.batch));
      *s.flag = 1;
    }
  if (given(a.key_ranges)) {
    held.push_back(read_array(a.key_ranges, "key_ranges"));
    const int ndim = held.back().ndim;
    held.pop_back();
    Array *ranges;
    tensors.key_ranges = integers(a.key_ranges, "key_ranges", ndim == 2 ? 2 : 3, &ranges);
    if (ranges->shape[ranges->ndim - 1] != 2 || ranges->size() != 2 * queries) {
      const std::string shape = shape_text(ranges->shape, ranges->ndim);
      fail_value("key_ranges has the shape %s, expected (batch, queries, 2): begin and end for each query",
                 shape.c_str());
    }
    p.key_ranges = 1;
  }
}

void Call::read_masks(const Arguments &a) {
  attend_problem &p = key.problem;
  const int64_t shape[] = {p.q_starts ? 1 : p.batch, p.q_heads, p.q_starts ? p.q_total : p.q_len, p.kv_len};
  const auto strides4 = [](const Array &x) {
    return attend_strides4{x.strides[0], x.strides[1], x.strides[2], x.strides[3]};
  };
  if (given(a.mask)) {
    held.push_back(read_array(a.mask, "mask"));
    Array &mask = held.back();
    if (!(mask.is_bool() || (mask.is_int() && mask.type.bits == 8))) {
      const std::string type = type_text(mask.type);
      fail_type(
          "mask has dtype %s, expected bool: True where a key is attended. Numbers that are added to scores are a bias",
          type.c_str());
    }
    broadcast(mask, shape, 4, "mask");
    p.mask = 1, p.mask_strides = strides4(mask), tensors.mask = static_cast<const uint8_t *>(mask.data);
  }
  if (given(a.bias)) {
    held.push_back(read_array(a.bias, "bias"));
    Array &bias = held.back();
    p.bias_dtype = dtype_of(bias, "bias");
    if (reinterpret_cast<uintptr_t>(bias.data) % bias.itemsize()) make_contiguous(bias);
    broadcast(bias, shape, 4, "bias");
    p.bias_strides = strides4(bias), tensors.bias = bias.data;
  }
}

void Call::read_per_head(const Arguments &a) {
  attend_problem &p = key.problem;
  if (given(a.bias_head_scale))
    p.bias_head_scale = 1, tensors.bias_head_scale = per_head(a.bias_head_scale, "bias_head_scale");
  if (given(a.alibi)) p.alibi = 1, tensors.alibi_slopes = per_head(a.alibi, "alibi");
  if (given(a.sinks)) p.sinks = 1, tensors.sinks = per_head(a.sinks, "sinks");
}

void Call::read_options(const Arguments &a) {
  attend_problem &p = key.problem;
  wanted_lse = given(a.lse) && truth(a.lse, "lse");
  wanted_weights = given(a.weights) && truth(a.weights, "weights");
  p.lse = wanted_lse, p.weights = wanted_weights;
  if (given(a.scores)) {
    static const char *const names[] = {"raw", "softcap", "attended"};
    p.scores = static_cast<attend_scores_output>(ATTEND_SCORES_RAW + choice(a.scores, "scores", names, 3));
  }
  p.batch_invariant = given(a.batch_invariant) && truth(a.batch_invariant, "batch_invariant");
  p.int8_products = given(a.int8_products) && truth(a.int8_products, "int8_products");
  if (given(a.threads)) {
    const int64_t threads = integer(a.threads, "threads");
    if (threads < 1 || threads > 1024)
      fail_value("threads is %lld, expected 1 to 1024", static_cast<long long>(threads));
    key.threads = static_cast<int>(threads);
  } else if (q.of_torch) {
    key.threads = torch_threads();
  }
  if (given(a.kernel)) {
    if (!PyUnicode_Check(a.kernel.ptr())) fail_type("kernel: expected a name, as attend.kernels() lists them");
    Py_ssize_t length;
    const char *name = PyUnicode_AsUTF8AndSize(a.kernel.ptr(), &length);
    if (!name) throw nb::python_error();
    if (static_cast<size_t>(length) >= sizeof key.kernel)
      fail_value("kernel: no kernel has a name of %lld bytes", static_cast<long long>(length));
    memcpy(key.kernel, name, static_cast<size_t>(length));
  }
}

Call::Call(const Arguments &a, bool make) {
  memset(&key, 0, sizeof key);
  key.problem.struct_size = sizeof key.problem;
  tensors = attend_tensors ATTEND_TENSORS_INIT;
  attend_problem &p = key.problem;
  q = read_array(a.q, "q", a.resolved), k = read_array(a.k, "k", a.resolved), v = read_array(a.v, "v", a.resolved);
  rank = q.ndim;
  Array *const all[] = {&q, &k, &v};
  const char *const names[] = {"q", "k", "v"};
  for (int i = 0; i < 3; i++) {
    if (all[i]->ndim < 2) {
      const std::string shape = shape_text(all[i]->shape, all[i]->ndim);
      fail_value("%s has the shape %s, expected (batch, heads, rows, dim)", names[i], shape.c_str());
    }
    prepend_dims(*all[i], 4, names[i]);
    make_rows_contiguous(*all[i]);
  }
  if (q.of_torch && !a.inner)
    for (nb::handle x : {a.q, a.k, a.v})
      if (nb::hasattr(x, "requires_grad") && nb::cast<bool>(x.attr("requires_grad")) && torch_records())
        fail_value("q, k or v requires a gradient, which attention() does not compute: expected torch.no_grad(), or "
                   "attend.torch.sdpa() in its place");
  for (int i = 0; i < 3; i++)
    if (k.shape[i] != v.shape[i]) {
      const std::string ks = shape_text(k.shape, 4), vs = shape_text(v.shape, 4);
      fail_value("k has the shape %s and v %s, expected the same but for the last dimension", ks.c_str(), vs.c_str());
    }
  const Format &k_format = read_format(a.k_format, "k_format", k, "k"),
               &v_format = read_format(a.v_format, "v_format", v, "v");
  const auto dim_of = [](const Array &x, const Format &f, const char *name) {
    if (x.shape[3] % f.bytes && f.dtype > ATTEND_BF16)
      fail_value("%s has rows of %lld bytes, expected whole blocks of %d bytes: its format is %s", name,
                 static_cast<long long>(x.shape[3]), f.bytes, f.name);
    return f.dtype > ATTEND_BF16 ? x.shape[3] / f.bytes * f.elements : x.shape[3];
  };
  const int64_t k_dim = dim_of(k, k_format, "k"), v_dim = dim_of(v, v_format, "v");
  if (q.shape[3] != k_dim)
    fail_value("q has head dim %lld and k %lld, expected the same", static_cast<long long>(q.shape[3]),
               static_cast<long long>(k_dim));
  p.batch = q.shape[0], p.q_heads = q.shape[1], p.kv_heads = k.shape[1], p.q_len = q.shape[2], p.kv_len = k.shape[2];
  p.head_dim = q.shape[3], p.v_head_dim = v_dim;
  if (p.kv_heads == 0 && p.q_heads != 0) fail_value("k has no head, q has %lld", static_cast<long long>(p.q_heads));
  p.q_dtype = dtype_of(q, "q"), p.k_dtype = k_format.dtype, p.v_dtype = v_format.dtype;
  p.as_given = ATTEND_AS_GIVEN_V_HEAD_DIM | ATTEND_AS_GIVEN_STRIDES;
  p.q_strides = strides_of(q), p.k_strides = strides_of(k), p.v_strides = strides_of(v);
  const auto read_scaling = [this](const Format &f, nb::handle scales, nb::handle zero_points, const Array &x,
                                   const char *const(&params)[2], int64_t dim, attend_scaling &scaling,
                                   const void *&scale_data, const void *&zero_data) {
    if (f.scaled) {
      scaling.is_unsigned = f.is_unsigned;
      read_scales(scales, zero_points, x, params, f.dtype, dim, scaling, scale_data, zero_data);
    } else if (given(scales) || given(zero_points)) {
      fail_value("%s and %s go with f8, i8 and i4, not with %s", params[0], params[1], f.name);
    }
  };
  static const char *const names_of_k[] = {"k_scales", "k_zero_points"}, *const names_of_v[] = {"v_scales",
                                                                                                "v_zero_points"};
  read_scaling(k_format, a.k_scales, a.k_zero_points, k, names_of_k, k_dim, p.k_scaling, tensors.k_scales,
               tensors.k_zero_points);
  read_scaling(v_format, a.v_scales, a.v_zero_points, v, names_of_v, v_dim, p.v_scaling, tensors.v_scales,
               tensors.v_zero_points);
  read_numbers(a);
  read_sequences(a);
  read_masks(a);
  read_per_head(a);
  read_options(a);
  tensors.q = q.data, tensors.k = k.data, tensors.v = v.data;
  if (make) {
    make_outputs(a);
  } else {
    p.out_dtype = p.q_dtype;
    p.out_strides = {p.q_heads * q.shape[2] * p.v_head_dim, q.shape[2] * p.v_head_dim, p.v_head_dim};
  }
}

void Call::make_outputs(const Arguments &a) {
  attend_problem &p = key.problem;
  int64_t shape[5] = {q.shape[0], q.shape[1], q.shape[2], p.v_head_dim};
  if (given(a.out)) {
    out = read_array(a.out, "out");
    if (!out.writable) fail_value("out is read-only, or of a package whose arrays are");
    prepend_dims(out, 4, "out");
    for (int i = 0; i < 4; i++)
      if (out.shape[i] != shape[i]) {
        const std::string got = shape_text(out.shape, 4), wanted = shape_text(shape, 4);
        fail_value("out has the shape %s, expected %s", got.c_str(), wanted.c_str());
      }
    if ((out.shape[3] > 1 && out.strides[3] != 1)) fail_value("out: expected the last dimension to be contiguous");
    dtype_of(out, "out");
    const char *const names[] = {"q", "k", "v"};
    const Array *const inputs[] = {&q, &k, &v};
    for (int i = 0; i < 3; i++)
      if (overlap(out, *inputs[i])) fail_value("out overlaps %s: expected memory of its own", names[i]);
    outputs[0] = nb::borrow(a.out);
  } else {
    outputs[0] = new_array(q, a.q, q.type, shape + (4 - rank), rank, out, a.inner && rank == 4);
    prepend_dims(out, 4, "out");
  }
  count = 1;
  p.out_dtype = dtype_of(out, "out"), p.out_strides = strides_of(out), tensors.out = out.data;
  shape[3] = p.kv_len;
  struct {
    bool wanted;
    int last; // dimensions but the leading ones
    float **address;
  } const more[] = {{wanted_lse, 0, &tensors.lse},
                    {wanted_weights, 1, &tensors.weights},
                    {p.scores != ATTEND_SCORES_NONE, 1, &tensors.scores}};
  for (const auto &m : more)
    if (m.wanted) {
      Array array;
      outputs[count++] = new_array(q, a.q, F32, shape + (4 - rank), rank - 1 + m.last, array);
      *m.address = static_cast<float *>(array.data);
    }
}

} // namespace attend_python
