// SPDX-License-Identifier: Apache-2.0
#include "array.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

namespace attend_python {

// What follows is the binary interface of DLPack 1 (https://dmlc.github.io/dlpack/latest/), as far as it is used.
struct Version {
  uint32_t major, minor;
};
struct Managed { // before DLPack 1
  nb::dlpack::dltensor tensor;
  void *context;
  void (*deleter)(Managed *);
};
struct ManagedVersioned {
  Version version;
  void *context;
  void (*deleter)(ManagedVersioned *);
  uint64_t flags; // bit 0: read only
  nb::dlpack::dltensor tensor;
};
struct Exchange {
  Version version;
  Exchange *previous;
  int (*allocate)(nb::dlpack::dltensor *prototype, ManagedVersioned **out, void *context,
                  void (*set_error)(void *context, const char *kind, const char *message));
  int (*from_object)(void *object, ManagedVersioned **out);
  int (*to_object)(ManagedVersioned *tensor, void **object);
  int (*borrow)(void *object, nb::dlpack::dltensor *out);
  int (*stream)(int32_t device_type, int32_t device, void **stream);
};

// NumPy's array interface (https://numpy.org/doc/stable/reference/arrays.interface.html), C side.
struct ArrayStruct {
  int two, ndim;
  char kind;
  int itemsize, flags;
  Py_ssize_t *shape, *strides; // strides in bytes
  void *data;
};
enum { NUMPY_ALIGNED = 0x100, NUMPY_NATIVE = 0x200, NUMPY_WRITEABLE = 0x400 };

namespace {

void text_of(const char *format, va_list list, char (&text)[1024]) { vsnprintf(text, sizeof text, format, list); }

// How arrays of a type are read. The types that occur are few: they are found by looking at all of them.
enum class Way { EXCHANGE, ARRAY_STRUCT, DLPACK, CONVERT };
struct Reader {
  PyTypeObject *type;
  Way way;
  const Exchange *exchange;
  bool of_torch;
};
std::vector<Reader> readers; // under the GIL

Reader make_reader(PyTypeObject *type) {
  nb::handle object(reinterpret_cast<PyObject *>(type));
  Reader reader{type, Way::CONVERT, nullptr, false};
  for (nb::handle base : nb::borrow<nb::tuple>(object.attr("__mro__")))
    if (nb::cast<nb::str>(nb::str(base.attr("__module__"))).equal(nb::str("torch")) && //
        nb::str(base.attr("__name__")).equal(nb::str("Tensor")))
      reader.of_torch = true;
  if (nb::hasattr(object, "__dlpack_c_exchange_api__")) {
    nb::object capsule = object.attr("__dlpack_c_exchange_api__");
    auto *api = static_cast<const Exchange *>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
    if (!api) throw nb::python_error();
    while (api && api->version.major != 1) api = api->previous;
    if (api && api->borrow) {
      reader.way = Way::EXCHANGE, reader.exchange = api;
      return reader;
    }
  }
  if (nb::hasattr(object, "__array_struct__"))
    reader.way = Way::ARRAY_STRUCT;
  else if (nb::hasattr(object, "__dlpack__"))
    reader.way = Way::DLPACK;
  return reader;
}

Reader reader_of(nb::handle object) {
  PyTypeObject *type = Py_TYPE(object.ptr());
  for (const Reader &reader : readers)
    if (reader.type == type) return reader;
  const Reader reader = make_reader(type);
  if (readers.size() < 64) { // so many at most: others are looked up again and again
    Py_INCREF(reinterpret_cast<PyObject *>(type));
    readers.push_back(reader);
  }
  return reader;
}

// The stride of the dimension before one of n elements. Dimensions of 0 count as 1: beside them others may be as large
// as they like, and a stride that 64 bits do not hold is then of no element.
int64_t next_stride(int64_t stride, int64_t n) {
  return __builtin_mul_overflow(stride, std::max<int64_t>(n, 1), &stride) ? 0 : stride;
}

void take(Array &array, const nb::dlpack::dltensor &tensor, const char *name) {
  if (tensor.device.device_type != 1)
    fail_value("%s is not in the processor's memory: expected an array of the CPU (DLPack device type 1, not %d)", name,
               tensor.device.device_type);
  if (tensor.ndim > MOST_DIMS) fail_value("%s has %d dimensions, expected at most %d", name, tensor.ndim, MOST_DIMS);
  array.data = static_cast<char *>(tensor.data) + tensor.byte_offset;
  array.ndim = tensor.ndim;
  array.type = tensor.dtype;
  int64_t step = 1;
  for (int i = tensor.ndim - 1; i >= 0; i--) {
    array.shape[i] = tensor.shape[i];
    array.strides[i] = tensor.strides ? tensor.strides[i] : step;
    step = next_stride(step, tensor.shape[i]);
  }
}

// ml_dtypes' types, of which NumPy's interface says no more than how long they are.
Type named_type(nb::handle object) {
  const std::string name = nb::str(object.attr("dtype").attr("name")).c_str();
  if (name == "bfloat16") return {4, 16, 1};
  if (name == "float8_e4m3fn") return {10, 8, 1};
  if (name == "float8_e5m2") return {12, 8, 1};
  return {255, 0, 1};
}

void hold(Array &array, nb::object object) {
  auto *kept = new nb::object(std::move(object));
  array.owner = std::shared_ptr<void>(kept, [](void *p) { delete static_cast<nb::object *>(p); });
}

bool read_array_struct(Array &array, nb::handle object, const char *name) {
  nb::object capsule = object.attr("__array_struct__");
  auto *s = static_cast<const ArrayStruct *>(PyCapsule_GetPointer(capsule.ptr(), nullptr));
  if (!s) throw nb::python_error();
  if (s->two != 2) fail_type("%s has an __array_struct__ of an unknown version", name);
  if (s->ndim > MOST_DIMS) fail_value("%s has %d dimensions, expected at most %d", name, s->ndim, MOST_DIMS);
  const uint8_t bits = static_cast<uint8_t>(s->itemsize * 8);
  switch (s->kind) {
  case 'f': array.type = bits == 8 ? named_type(object) : Type{2, bits, 1}; break;
  case 'i': array.type = {0, bits, 1}; break;
  case 'u': array.type = {1, bits, 1}; break;
  case 'b': array.type = {6, 8, 1}; break;
  case 'V': array.type = named_type(object); break;
  default: array.type = {255, bits, 1};
  }
  if (array.type.code == 255) {
    nb::str dtype(object.attr("dtype"));
    fail_type("%s has dtype %s, which attend does not know", name, dtype.c_str());
  }
  array.ndim = s->ndim;
  if (s->ndim == 0) hold(array, capsule); // of a number that is no array, the capsule has the only copy
  array.data = s->data;
  array.writable = s->flags & NUMPY_WRITEABLE;
  bool usable = (s->flags & NUMPY_ALIGNED) && (s->flags & NUMPY_NATIVE);
  for (int i = 0; i < s->ndim; i++) {
    array.shape[i] = s->shape[i];
    array.strides[i] = s->strides[i] / s->itemsize;
    if (s->strides[i] % s->itemsize && s->shape[i] > 1) usable = false;
  }
  return usable;
}

void read_dlpack(Array &array, nb::handle object, const char *name) {
  nb::object capsule = object.attr("__dlpack__")();
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned")) {
    auto *m = static_cast<ManagedVersioned *>(PyCapsule_GetPointer(capsule.ptr(), "dltensor_versioned"));
    PyCapsule_SetName(capsule.ptr(), "used_dltensor_versioned");
    array.owner = std::shared_ptr<void>(m, [](void *p) {
      auto *managed = static_cast<ManagedVersioned *>(p);
      if (managed->deleter) managed->deleter(managed);
    });
    take(array, m->tensor, name);
    return;
  }
  auto *m = static_cast<Managed *>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
  if (!m) throw nb::python_error();
  PyCapsule_SetName(capsule.ptr(), "used_dltensor");
  array.owner = std::shared_ptr<void>(m, [](void *p) {
    auto *managed = static_cast<Managed *>(p);
    if (managed->deleter) managed->deleter(managed);
  });
  take(array, m->tensor, name);
}

nb::object &numpy(const char *attribute) {
  static nb::object *empty, *asarray, *ascontiguousarray; // never freed: Python may be gone when statics are
  nb::object *&kept = attribute[0] == 'e' ? empty : attribute[2] == 'a' ? asarray : ascontiguousarray;
  if (!kept) kept = new nb::object(nb::module_::import_("numpy").attr(attribute));
  return *kept;
}

void copy_rows(char *&to, const char *from, const Array &a, int dim) {
  const size_t item = a.itemsize();
  if (dim == a.ndim) {
    memcpy(to, from, item);
    to += item;
    return;
  }
  if (dim == a.ndim - 1 && a.strides[dim] == 1) {
    memcpy(to, from, item * static_cast<size_t>(a.shape[dim]));
    to += item * static_cast<size_t>(a.shape[dim]);
    return;
  }
  for (int64_t i = 0; i < a.shape[dim]; i++)
    copy_rows(to, from + i * a.strides[dim] * static_cast<int64_t>(item), a, dim + 1);
}

} // namespace

void fail_value(const char *format, ...) {
  char text[1024];
  va_list list;
  va_start(list, format);
  text_of(format, list, text);
  va_end(list);
  throw nb::value_error(text);
}

void fail_type(const char *format, ...) {
  char text[1024];
  va_list list;
  va_start(list, format);
  text_of(format, list, text);
  va_end(list);
  throw nb::type_error(text);
}

int64_t Array::size() const {
  int64_t count = 1;
  for (int i = 0; i < ndim; i++)
    if (shape[i] == 0) return 0; // whatever the others are
  for (int i = 0; i < ndim; i++) count *= shape[i];
  return count;
}

bool Array::is_contiguous() const {
  int64_t step = 1;
  if (size() == 0) return true;
  for (int i = ndim - 1; i >= 0; i--) {
    if (shape[i] > 1 && strides[i] != step) return false;
    step *= shape[i];
  }
  return true;
}

Array read_array(nb::handle object, const char *name, bool resolved) {
  Array array;
  const Reader reader = reader_of(object);
  array.of_torch = reader.of_torch;
  switch (reader.way) {
  case Way::EXCHANGE: {
    nb::dlpack::dltensor tensor;
    if (reader.of_torch && !resolved && nb::cast<bool>(object.attr("is_neg")())) {
      nb::object plain = object.attr("resolve_neg")();
      array = read_array(plain, name);
      array.writable = false;
      hold(array, std::move(plain));
      return array;
    }
    if (reader.exchange->borrow(object.ptr(), &tensor) != 0) {
      nb::python_error error;
      const std::string text = error.what();
      fail_type("%s cannot be read: expected a dense array in the processor's memory (%s)", name,
                text.substr(0, text.find('\n')).c_str());
    }
    take(array, tensor, name);
    array.exchange = reader.exchange;
    array.writable = true;
    break;
  }
  case Way::ARRAY_STRUCT:
    if (!read_array_struct(array, object, name)) { // other bytes first, or at odd addresses: NumPy mends both
      nb::object dtype = object.attr("dtype").attr("newbyteorder")("=");
      nb::object copy = numpy("ascontiguousarray")(object, dtype).attr("copy")();
      array = Array();
      read_array_struct(array, copy, name);
      array.writable = false;
      hold(array, std::move(copy));
    }
    break;
  case Way::DLPACK: read_dlpack(array, object, name); break;
  case Way::CONVERT: {
    const nb::str type(nb::handle(reinterpret_cast<PyObject *>(Py_TYPE(object.ptr()))).attr("__name__"));
    if (!PyList_Check(object.ptr()) && !PyTuple_Check(object.ptr()) && !PyLong_Check(object.ptr()) &&
        !PyFloat_Check(object.ptr()) && !PyBool_Check(object.ptr()))
      fail_type("%s is of type %s, expected an array of NumPy, PyTorch or another package with DLPack", name,
                type.c_str());
    nb::object converted = numpy("asarray")(object);
    array = read_array(converted, name);
    array.writable = false;
    hold(array, std::move(converted));
  }
  }
  if (array.type.lanes != 1) fail_type("%s has a vector type, expected numbers", name);
  return array;
}

bool borrow_array(nb::handle object, Array &array) {
  const Reader reader = reader_of(object);
  nb::dlpack::dltensor tensor;
  if (reader.way != Way::EXCHANGE) return false;
  if (reader.exchange->borrow(object.ptr(), &tensor) != 0) {
    PyErr_Clear();
    return false;
  }
  if (tensor.device.device_type != 1 || tensor.ndim > MOST_DIMS) return false;
  take(array, tensor, "");
  return true;
}

void make_contiguous(Array &a) {
  const size_t item = a.itemsize();
  if (a.is_contiguous() && reinterpret_cast<uintptr_t>(a.data) % (item ? item : 1) == 0) return;
  size_t bytes; // of what one element repeated may seem to be, more than there are addresses
  const bool fits = !__builtin_mul_overflow(item, static_cast<size_t>(a.size()), &bytes);
  std::shared_ptr<void> memory(fits ? malloc(bytes ? bytes : 1) : nullptr, free);
  if (!memory) throw std::bad_alloc();
  char *to = static_cast<char *>(memory.get());
  if (a.size() > 0) copy_rows(to, static_cast<const char *>(a.data), a, 0);
  a.data = memory.get();
  a.owner = std::move(memory);
  a.writable = false;
  int64_t step = 1;
  for (int i = a.ndim - 1; i >= 0; i--) a.strides[i] = step, step = next_stride(step, a.shape[i]);
}

void make_rows_contiguous(Array &a) {
  const bool together = a.ndim == 0 || a.shape[a.ndim - 1] <= 1 || a.strides[a.ndim - 1] == 1;
  if (!together || reinterpret_cast<uintptr_t>(a.data) % a.itemsize() != 0) make_contiguous(a);
}

bool overlap(const Array &a, const Array &b) {
  if (a.size() == 0 || b.size() == 0) return false;
  intptr_t begin[2], end[2];
  const Array *const both[] = {&a, &b};
  for (int i = 0; i < 2; i++) {
    int64_t low = 0, high = 1;
    for (int d = 0; d < both[i]->ndim; d++) {
      const int64_t reach = (both[i]->shape[d] - 1) * both[i]->strides[d];
      (reach < 0 ? low : high) += reach;
    }
    begin[i] = reinterpret_cast<intptr_t>(both[i]->data) + low * static_cast<int64_t>(both[i]->itemsize());
    end[i] = reinterpret_cast<intptr_t>(both[i]->data) + high * static_cast<int64_t>(both[i]->itemsize());
  }
  return begin[0] < end[1] && begin[1] < end[0];
}

void prepend_dims(Array &a, int ndim, const char *name) {
  if (a.ndim > ndim) {
    const std::string shape = shape_text(a.shape, a.ndim);
    fail_value("%s has the shape %s, expected at most %d dimensions", name, shape.c_str(), ndim);
  }
  const int more = ndim - a.ndim;
  for (int i = ndim - 1; i >= 0; i--) {
    a.shape[i] = i < more ? 1 : a.shape[i - more];
    a.strides[i] = i < more ? 0 : a.strides[i - more];
  }
  a.ndim = ndim;
}

void broadcast(Array &a, const int64_t *shape, int ndim, const char *name) {
  const std::string before = shape_text(a.shape, a.ndim);
  prepend_dims(a, ndim, name);
  for (int i = 0; i < ndim; i++) {
    if (a.shape[i] == 1) a.strides[i] = 0;
    if (a.shape[i] != 1 && a.shape[i] != shape[i]) {
      const std::string wanted = shape_text(shape, ndim);
      fail_value("%s has the shape %s, which does not broadcast to %s", name, before.c_str(), wanted.c_str());
    }
    a.shape[i] = shape[i];
  }
}

namespace {

// Memory for an array in one block with what DLPack says of it. Asking the other package for memory would cost 0.25 us
// more, as it makes an array of it that only serves to be handed over.
ManagedVersioned *new_managed(Type type, const int64_t *shape, int ndim) {
  constexpr size_t ALIGNMENT = 64;
  struct Block {
    ManagedVersioned managed;
    int64_t shape[MOST_DIMS], strides[MOST_DIMS];
  };
  size_t bytes = type.bits / 8u;
  bool fits = true;
  if (std::find(shape, shape + ndim, 0) != shape + ndim) bytes = 0; // whatever the others are
  for (int i = 0; i < ndim; i++) fits = fits && !__builtin_mul_overflow(bytes, static_cast<size_t>(shape[i]), &bytes);
  fits = fits && !__builtin_add_overflow(bytes, sizeof(Block) + ALIGNMENT, &bytes);
  void *memory = fits ? malloc(bytes) : nullptr;
  if (!memory) {
    const std::string text = shape_text(shape, ndim);
    PyErr_Format(PyExc_MemoryError, "no memory for an output of the shape %s", text.c_str());
    throw nb::python_error();
  }
  auto *block = new (memory) Block();
  block->managed.version = {1, 0};
  block->managed.deleter = [](ManagedVersioned *managed) { free(managed); };
  nb::dlpack::dltensor &tensor = block->managed.tensor;
  const uintptr_t end = reinterpret_cast<uintptr_t>(block + 1);
  tensor.data = reinterpret_cast<void *>((end + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
  tensor.device.device_type = 1;
  tensor.ndim = ndim;
  tensor.dtype = type;
  tensor.shape = block->shape, tensor.strides = block->strides;
  int64_t step = 1;
  for (int i = ndim - 1; i >= 0; i--)
    block->shape[i] = shape[i], block->strides[i] = step, step = next_stride(step, shape[i]);
  return &block->managed;
}

} // namespace

nb::object new_array(const Array &like, nb::handle like_object, Type type, const int64_t *shape, int ndim, Array &array,
                     bool interleaved) {
  if (like.exchange) {
    int64_t swapped[4] = {};
    if (interleaved) swapped[0] = shape[0], swapped[1] = shape[2], swapped[2] = shape[1], swapped[3] = shape[3];
    ManagedVersioned *managed = new_managed(type, interleaved ? swapped : shape, ndim);
    if (interleaved) {
      std::swap(managed->tensor.shape[1], managed->tensor.shape[2]);
      std::swap(managed->tensor.strides[1], managed->tensor.strides[2]);
    }
    take(array, managed->tensor, "out");
    void *object = nullptr;
    if (like.exchange->to_object(managed, &object) != 0) throw nb::python_error();
    return nb::steal(static_cast<PyObject *>(object));
  }
  nb::object dims = nb::steal(PyTuple_New(ndim));
  for (int i = 0; i < ndim; i++) PyTuple_SetItem(dims.ptr(), i, PyLong_FromLongLong(shape[i]));
  nb::object dtype;
  if (type == F32) {
    static nb::object *single;
    if (!single) single = new nb::object(nb::module_::import_("numpy").attr("dtype")("float32"));
    dtype = *single;
  } else if (type == like.type && nb::hasattr(like_object, "dtype") && !like.of_torch) {
    dtype = nb::object(like_object.attr("dtype"));
    if (nb::hasattr(dtype, "newbyteorder")) dtype = dtype.attr("newbyteorder")("=");
  } else if (type.code == 4) {
    dtype = nb::module_::import_("ml_dtypes").attr("bfloat16");
  } else {
    dtype = nb::str(type_text(type).c_str());
  }
  nb::object object = numpy("empty")(dims, dtype);
  read_array_struct(array, object, "out");
  return object;
}

std::string shape_text(const int64_t *shape, int ndim) {
  std::string text = "(";
  for (int i = 0; i < ndim; i++) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + (ndim == 1 ? ",)" : ")");
}

std::string type_text(Type type) {
  const std::string bits = std::to_string(type.bits);
  switch (type.code) {
  case 0: return "int" + bits;
  case 1: return "uint" + bits;
  case 2: return "float" + bits;
  case 4: return "bfloat" + bits;
  case 5: return "complex" + bits;
  case 6: return "bool";
  case 10: return "float8_e4m3fn";
  case 12: return "float8_e5m2";
  default: return "an unknown type (DLPack code " + std::to_string(type.code) + ", " + bits + " bits)";
  }
}

} // namespace attend_python
