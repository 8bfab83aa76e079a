// SPDX-License-Identifier: Apache-2.0
// Arrays of NumPy, PyTorch and whatever else has DLPack, as the binding sees them: an address, a shape, strides, a
// type.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <memory>

namespace nb = nanobind;

namespace attend_python {

constexpr int MOST_DIMS = 8;

using Type = nb::dlpack::dtype;
constexpr Type F32{2, 32, 1}, I32{0, 32, 1};

struct Exchange; // DLPack's table of C functions

// An array. It borrows the memory of `object`, which the caller keeps alive, or owns a contiguous copy.
struct Array {
  void *data = nullptr;
  int ndim = 0;
  int64_t shape[MOST_DIMS], strides[MOST_DIMS]; // in elements
  Type type;
  bool writable = false;
  bool of_torch = false;
  const Exchange *exchange = nullptr; // of the package the array came from, where that has one
  std::shared_ptr<void> owner;        // a copy, or what an export has to be told when it is over

  bool is_bool() const { return type.code == 6; }
  bool is_int() const { return type.code <= 1; }
  size_t itemsize() const { return type.bits / 8u; }
  int64_t size() const;
  bool is_contiguous() const;
};

// Reads an argument called `name`. Lists and numbers are taken as NumPy takes them. Throws TypeError and ValueError.
// `resolved`: a tensor of PyTorch's is known to have no numbers that lie there with the other sign.
Array read_array(nb::handle object, const char *name, bool resolved = false);

// Reads one of a package with DLPack's C functions, in the processor's memory, without copying; false for all others.
bool borrow_array(nb::handle object, Array &array);

// Makes every row lie together and be aligned: the array itself, where that is so, else a copy.
void make_rows_contiguous(Array &array);
void make_contiguous(Array &array);

// Whether the memory from an array's first to its last element has some of the other's.
bool overlap(const Array &a, const Array &b);

// As it would be with this number of dimensions, new ones of size 1 in front. ValueError for too many.
void prepend_dims(Array &array, int ndim, const char *name);
// Strides of 0 along what is repeated. ValueError where shapes do not fit.
void broadcast(Array &array, const int64_t *shape, int ndim, const char *name);

// A new contiguous array, in memory of its own, of the kind of `like`, read from `like_object`: of PyTorch for
// PyTorch's, else of NumPy. `interleaved`: of PyTorch's, rows of all heads lie side by side, (B, L, H, D) in memory.
nb::object new_array(const Array &like, nb::handle like_object, Type type, const int64_t *shape, int ndim, Array &array,
                     bool interleaved = false);

std::string shape_text(const int64_t *shape, int ndim);
std::string type_text(Type type);

[[noreturn]] void fail_value(const char *format, ...) __attribute__((format(printf, 1, 2)));
[[noreturn]] void fail_type(const char *format, ...) __attribute__((format(printf, 1, 2)));

} // namespace attend_python
