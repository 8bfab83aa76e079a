// SPDX-License-Identifier: Apache-2.0
// From the arguments of a Python call to a problem and tensors of the library; plans that are kept; and a run.
#pragma once

#include <attend/attend.h>

#include <list>
#include <string>
#include <vector>

#include "array.h"

namespace attend_python {

// Throws what fits a status, with the library's text: MemoryError, else ValueError.
void check(attend_status status);

// The arguments of attention(), in their order: name.
// clang-format off
#define ATTEND_ARGUMENTS(X) \
  X(scale) X(softcap) X(causal) X(window) X(positions) X(mask) X(bias) X(bias_head_scale) X(alibi) X(sinks) \
  X(kv_lengths) X(kv_begins) X(q_starts) X(kv_starts) X(key_ranges) X(block_table) X(k_format) X(v_format) \
  X(k_scales) X(v_scales) X(k_zero_points) X(v_zero_points) X(dropout) X(seed) X(offset) X(lse) X(weights) X(scores) \
  X(out) X(batch_invariant) X(int8_products) X(threads) X(kernel)
// clang-format on

struct Arguments {
  nb::handle q, k, v;
#define X(name) nb::handle name;
  ATTEND_ARGUMENTS(X)
#undef X
  bool inner = false;    // attend.torch's: gradients are seen to, and out is to lie as PyTorch's does
  bool resolved = false; // no tensor of PyTorch's has its numbers negated: its dispatcher has seen to that
};

// What decides which plan a call runs. Compared byte by byte.
struct Key {
  attend_problem problem;
  int threads;
  char kernel[100]; // no padding after it
};

// A plan that is destroyed with the last that holds it.
struct Plan {
  Key key;
  attend_plan *plan = nullptr;
  size_t workspace = 0;

  explicit Plan(const Key &wanted);
  ~Plan() { attend_plan_destroy(plan); }
  Plan(const Plan &) = delete;
  Plan &operator=(const Plan &) = delete;
};

// A call that is ready to run: problem, addresses, and whatever must live as long.
struct Call {
  Key key;
  attend_tensors tensors;
  nb::object outputs[4]; // out, and lse, weights and scores where asked for
  int count = 0;

  // Reads all arguments. Makes the outputs, unless only the problem is wanted.
  Call(const Arguments &arguments, bool make_outputs);

  // The plan of the call, kept or made. Under the GIL.
  std::shared_ptr<Plan> plan() const;
  // Runs a plan of the same key, without the GIL, and returns out or a tuple.
  nb::object run(const Plan &plan);

private:
  void read_scales(nb::handle scales, nb::handle zero_points, const Array &x, const char *const names[2],
                   attend_dtype dtype, int64_t dim, attend_scaling &scaling, const void *&scale_data,
                   const void *&zero_data);
  void read_numbers(const Arguments &a);
  void read_masks(const Arguments &a);
  void read_sequences(const Arguments &a);
  void read_per_head(const Arguments &a);
  void read_options(const Arguments &a);
  void make_outputs(const Arguments &a);
  const int32_t *integers(nb::handle object, const char *name, int ndim, Array **kept = nullptr);
  const float *per_head(nb::handle object, const char *name);

  bool wanted_lse = false, wanted_weights = false;
  int rank = 4; // of q
  Array q, k, v, out;
  std::list<Array> held; // whose addresses stay; empty, and so for nothing, in most calls
};

// Forgets the plans that are kept: for when the environment or the profile has changed.
void clear_plans();

// The library's type of an array's numbers; throws TypeError for those that it does not take.
attend_dtype dtype_of(const Array &array, const char *name);
bool is_float(Type type); // of attend's
attend_strides strides_of(const Array &array);

// The type of a cache that is appended to, by the name of its format or by its dtype, and how many entries of the array
// a row of `dim` numbers takes. Throws ValueError for formats whose scales lie elsewhere.
attend_dtype cache_type(nb::handle format, const Array &cache, int64_t dim, int64_t &width);

// Bytes that 32 numbers take, by the names of the formats of blocks.
nb::dict block_bytes();

// Whole numbers of 32 bits, contiguous: a copy where they are others. Throws for what is none, or does not fit.
Array whole_numbers(nb::handle object, const char *name, int ndim);

// Runs a function of the library without the GIL.
template <typename F> void run_unlocked(F &&function) {
  attend_status status;
  char detail[512];
  {
    nb::gil_scoped_release release;
    status = function();
    if (status != ATTEND_OK) snprintf(detail, sizeof detail, "%s", attend_error_detail());
  }
  if (status == ATTEND_ERROR_OUT_OF_MEMORY) {
    PyErr_SetString(PyExc_MemoryError, detail);
    throw nb::python_error();
  }
  if (status != ATTEND_OK) fail_value("%s", detail);
}

} // namespace attend_python
