// SPDX-License-Identifier: Apache-2.0
// The module attend._attend. attend/__init__.py is what people import.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <cstdlib>
#include <cstring>

#include "call.h"
#include "documentation.h"
#include "internals.h"
#include "torch.h"

using namespace nb::literals;

namespace attend_python {
namespace {

#define PARAMETER(name) , nb::handle name
#define NAME(name) , name
#define KEYWORD(name) , nb::arg(#name) = nb::none()
#define PARAMETERS nb::handle q, nb::handle k, nb::handle v ATTEND_ARGUMENTS(PARAMETER)
#define NAMES                                                                                                          \
  Arguments { q, k, v ATTEND_ARGUMENTS(NAME) }
#define KEYWORDS nb::arg("q"), nb::arg("k"), nb::arg("v"), nb::kw_only() ATTEND_ARGUMENTS(KEYWORD)

nb::object attention(PARAMETERS) {
  Call call(NAMES, true);
  const std::shared_ptr<Plan> plan = call.plan();
  return call.run(*plan);
}

// For attend.torch and attend.transformers.
nb::object inner_attention(PARAMETERS) {
  Arguments arguments = NAMES;
  arguments.inner = true;
  Call call(arguments, true);
  const std::shared_ptr<Plan> plan = call.plan();
  return call.run(*plan);
}

std::string explanation(const attend_plan *plan) {
  char text[1024];
  attend_plan_explain(plan, text, sizeof text);
  return text;
}

nb::str explain(PARAMETERS) { return nb::str(explanation(Call(NAMES, false).plan()->plan).c_str()); }

// Where two problems differ, for an error.
std::string difference(const Key &wanted, const Key &got) {
  const struct {
    const char *name;
    int64_t wanted, got;
  } fields[] = {
#define FIELD(name) {#name, static_cast<int64_t>(wanted.problem.name), static_cast<int64_t>(got.problem.name)}
      FIELD(batch),
      FIELD(q_heads),
      FIELD(kv_heads),
      FIELD(q_len),
      FIELD(kv_len),
      FIELD(head_dim),
      FIELD(v_head_dim),
      FIELD(q_total),
      FIELD(kv_total),
      FIELD(page_rows),
      FIELD(pages),
      FIELD(q_dtype),
      FIELD(k_dtype),
      FIELD(v_dtype),
      FIELD(out_dtype),
      FIELD(causal),
      FIELD(causal_offset),
      FIELD(window),
      FIELD(window_left),
      FIELD(window_right),
      FIELD(kv_lengths),
      FIELD(positions),
      FIELD(q_starts),
      FIELD(kv_starts),
      FIELD(kv_begins),
      FIELD(key_ranges),
      FIELD(mask),
      FIELD(bias_dtype),
      FIELD(alibi),
      FIELD(sinks),
      FIELD(lse),
      FIELD(weights),
      FIELD(scores),
#undef FIELD
      {"threads", wanted.threads, got.threads},
  };
  for (const auto &f : fields)
    if (f.wanted != f.got)
      return std::string(f.name) + " is " + std::to_string(f.got) + ", in the plan " + std::to_string(f.wanted);
  return "strides, a number such as the scale, or the kernel differ";
}

struct PlanObject {
  std::shared_ptr<Plan> plan;

  PlanObject(PARAMETERS) : plan(std::make_shared<Plan>(Call(NAMES, true).key)) {}

  nb::object run(PARAMETERS) {
    Call call(NAMES, true);
    if (memcmp(&call.key, &plan->key, sizeof call.key) != 0) {
      const std::string what = difference(plan->key, call.key);
      fail_value("the arguments are not those that the plan was made for: %s", what.c_str());
    }
    return call.run(*plan);
  }
};

// ------------------------------------------------------------------------------------------------- append and merge

// append() and merge() of the library take three strides of 0 for "contiguous", so no array may have them that repeats
// one row: an input is copied, and an output cannot be one. Along dimensions of one element strides are not read.
void settle_strides(Array &a, const char *name, bool written) {
  if (a.strides[0] || a.strides[1] || a.strides[2]) return;
  if (a.shape[0] <= 1 && a.shape[1] <= 1 && a.shape[2] <= 1) {
    a.strides[2] = a.shape[3], a.strides[1] = a.shape[2] * a.shape[3], a.strides[0] = a.shape[1] * a.strides[1];
    return;
  }
  if (written) fail_value("%s repeats one row: expected memory for each", name);
  make_contiguous(a);
}

Array four(nb::handle object, const char *name, bool writable) {
  Array array = read_array(object, name);
  if (writable && !array.writable) fail_value("%s is read-only, or of a package whose arrays are", name);
  prepend_dims(array, 4, name);
  if (writable) {
    if (array.shape[3] > 1 && array.strides[3] != 1)
      fail_value("%s: expected the last dimension to be contiguous", name);
  } else {
    make_rows_contiguous(array);
  }
  settle_strides(array, name, writable);
  return array;
}

void append(nb::handle cache, nb::handle x, nb::handle positions, nb::handle starts, nb::handle block_table,
            nb::handle format, int threads) {
  Array to = four(cache, "cache", true), from = four(x, "x", false);
  Array at = whole_numbers(positions, "positions", 1), begin, table;
  attend_append_problem p = ATTEND_APPEND_PROBLEM_INIT;
  attend_append_tensors t = ATTEND_APPEND_TENSORS_INIT;
  p.batch = at.shape[0], p.heads = from.shape[1], p.rows = from.shape[2], p.dim = from.shape[3];
  p.cache_len = to.shape[2];
  int64_t width = 0;
  p.x_dtype = dtype_of(from, "x"), p.cache_dtype = cache_type(format, to, p.dim, width);
  if (to.shape[1] != p.heads || to.shape[3] != width) {
    const std::string ts = shape_text(to.shape, 4), fs = shape_text(from.shape, 4);
    fail_value("cache has the shape %s and x %s, expected the same heads and rows of %lld %s", ts.c_str(), fs.c_str(),
               static_cast<long long>(width), width == p.dim ? "numbers" : "bytes");
  }
  if (!starts.is_none()) {
    begin = whole_numbers(starts, "starts", 1);
    if (begin.shape[0] != p.batch + 1 || from.shape[0] != 1)
      fail_value("starts: expected a start for each of %lld sequences and the end of the last, and x of the shape (1, "
                 "heads, rows of all, dim)",
                 static_cast<long long>(p.batch));
    p.x_starts = 1, p.x_total = from.shape[2];
    t.x_starts = static_cast<const int32_t *>(begin.data);
    p.rows = 0;
    for (int64_t b = 0; b < p.batch; b++)
      p.rows = std::max<int64_t>(p.rows, static_cast<int64_t>(t.x_starts[b + 1]) - t.x_starts[b]);
  } else if (from.shape[0] != p.batch) {
    fail_value("x has a batch of %lld, expected %lld, as positions", static_cast<long long>(from.shape[0]),
               static_cast<long long>(p.batch));
  }
  if (!block_table.is_none()) {
    table = whole_numbers(block_table, "block_table", 2);
    if (table.shape[0] != p.batch)
      fail_value("block_table has %lld rows, expected %lld: one for each sequence",
                 static_cast<long long>(table.shape[0]), static_cast<long long>(p.batch));
    p.page_rows = to.shape[2], p.pages = to.shape[0];
    p.cache_len = table.shape[1] * p.page_rows, p.block_table_stride = table.shape[1];
    t.block_table = static_cast<const int32_t *>(table.data);
  } else if (to.shape[0] != p.batch) {
    fail_value("cache has a batch of %lld, expected %lld, as positions", static_cast<long long>(to.shape[0]),
               static_cast<long long>(p.batch));
  }
  p.x_strides = strides_of(from), p.cache_strides = strides_of(to);
  p.num_threads = threads;
  t.x = from.data, t.cache = to.data, t.positions = static_cast<const int32_t *>(at.data);
  run_unlocked([&] { return attend_append(&p, &t); });
}

nb::object merge(nb::sequence outs, nb::sequence lses, nb::handle out, nb::handle threads) {
  const size_t n = nb::len(outs);
  if (n == 0 || n != nb::len(lses))
    fail_value("outs and lses: expected as many of one as of the other, and at least one");
  std::vector<Array> parts(n), sums(n);
  std::vector<const void *> part_data(n);
  std::vector<const float *> sum_data(n);
  std::vector<nb::object> objects; // whose memory is used without the GIL, whatever the sequences do meanwhile
  nb::object first = outs[0];
  for (size_t i = 0; i < n; i++) {
    nb::object part = outs[i], sum = lses[i];
    objects.push_back(part), objects.push_back(sum);
    parts[i] = four(part, "outs", false);
    sums[i] = read_array(sum, "lses");
    if (!(sums[i].type == F32)) fail_type("lses: expected float32, as attention() returns them");
    prepend_dims(sums[i], 3, "lses");
    make_contiguous(sums[i]);
    for (int d = 0; d < 4; d++)
      if (parts[i].shape[d] != parts[0].shape[d] || (d < 3 && sums[i].shape[d] != parts[0].shape[d]))
        fail_value("outs and lses: expected all of one shape, and each LSE without the last dimension");
    if (parts[i].type != parts[0].type) fail_type("outs: expected all of one dtype");
    if (i > 0 && memcmp(parts[i].strides, parts[0].strides, 3 * sizeof(int64_t)) != 0) {
      for (size_t j = 0; j <= i; j++) make_contiguous(parts[j]);
    }
    sum_data[i] = static_cast<const float *>(sums[i].data);
  }
  for (size_t i = 1; i < n; i++)
    if (memcmp(parts[i].strides, parts[0].strides, 3 * sizeof(int64_t)) != 0)
      for (Array &part : parts) make_contiguous(part);
  for (size_t i = 0; i < n; i++) part_data[i] = parts[i].data;
  const int rank = read_array(first, "outs").ndim;
  Array result, lse;
  nb::object made = out.is_none() ? new_array(parts[0], first, parts[0].type, parts[0].shape + (4 - rank), rank, result)
                                  : nb::borrow(out);
  if (!out.is_none()) result = read_array(out, "out");
  if (!out.is_none() && !result.writable) fail_value("out is read-only");
  prepend_dims(result, 4, "out");
  for (int d = 0; d < 4; d++)
    if (result.shape[d] != parts[0].shape[d]) fail_value("out: expected the shape of the parts");
  if (result.shape[3] > 1 && result.strides[3] != 1) fail_value("out: expected the last dimension to be contiguous");
  settle_strides(result, "out", true);
  nb::object made_lse = new_array(parts[0], first, F32, parts[0].shape + (4 - rank), rank - 1, lse);
  attend_merge_problem p = ATTEND_MERGE_PROBLEM_INIT;
  attend_merge_tensors t = ATTEND_MERGE_TENSORS_INIT;
  p.parts = static_cast<int64_t>(n);
  p.batch = parts[0].shape[0], p.heads = parts[0].shape[1], p.rows = parts[0].shape[2], p.dim = parts[0].shape[3];
  p.part_strides = strides_of(parts[0]), p.out_strides = strides_of(result);
  p.part_dtype = dtype_of(parts[0], "outs"), p.out_dtype = dtype_of(result, "out");
  p.lse = 1;
  p.num_threads = threads.is_none() ? 0 : nb::cast<int>(threads);
  t.outs = part_data.data(), t.lses = sum_data.data(), t.out = result.data, t.lse = static_cast<float *>(lse.data);
  run_unlocked([&] { return attend_merge(&p, &t); });
  return nb::make_tuple(made, made_lse);
}

// ------------------------------------------------------------------------------------------------- the machine

struct Facts {
  nb::dict row;
  nb::list rows;
};

attend_python_sink sink_of(Facts &facts) {
  return {
      &facts,
      [](void *context, const char *name, const char *value, bool list) {
        nb::dict &row = static_cast<Facts *>(context)->row;
        if (!list) {
          row[name] = nb::str(value);
        } else {
          if (!row.contains(name)) row[name] = nb::list();
          if (value) nb::cast<nb::list>(row[name]).append(nb::str(value));
        }
      },
      [](void *context, const char *name, double value) {
        static_cast<Facts *>(context)->row[name] = nb::int_(static_cast<long long>(value));
      },
      [](void *context, const char *name, bool value) { static_cast<Facts *>(context)->row[name] = nb::bool_(value); },
      [](void *context) {
        auto *all = static_cast<Facts *>(context);
        all->row = nb::dict();
        all->rows.append(all->row);
      }};
}

nb::dict info() {
  Facts facts;
  const attend_python_sink sink = sink_of(facts);
  check(attend_python_info(&sink));
  return facts.row;
}

nb::list kernels() {
  Facts facts;
  const attend_python_sink sink = sink_of(facts);
  check(attend_python_kernels(&sink));
  return facts.rows;
}

std::string profile_path() {
  char path[ATTEND_PYTHON_PATH];
  check(attend_python_profile_path(path));
  return path;
}

volatile int stop_tuning;

nb::tuple tune(double seconds, int threads) {
  char *text = nullptr, report[4608];
  size_t length = 0;
  stop_tuning = 0;
  run_unlocked(
      [&] { return attend_python_tune(seconds, threads, &stop_tuning, &text, &length, report, sizeof report); });
  nb::object profile = text ? nb::object(nb::bytes(text, length)) : nb::object(nb::none());
  free(text);
  return nb::make_tuple(profile, nb::str(report));
}

} // namespace

NB_MODULE(_attend, m) {
  m.attr("__version__") = attend_version();
  m.def("attention", &attention, KEYWORDS, ATTENTION_DOC);
  m.def("_attention", &inner_attention, KEYWORDS);
  bind_torch(m);
  m.def("explain", &explain, KEYWORDS, EXPLAIN_DOC);
  nb::class_<PlanObject>(m, "Plan", PLAN_DOC)
      .def(
          "__init__", [](PlanObject *self, PARAMETERS) { new (self) PlanObject(q, k, v ATTEND_ARGUMENTS(NAME)); },
          KEYWORDS)
      .def("run", &PlanObject::run, KEYWORDS, RUN_DOC)
      .def(
          "explain", [](const PlanObject &self) { return explanation(self.plan->plan); },
          "Says on one line which kernel was chosen and why, and how the work is cut up.")
      .def_prop_ro(
          "kernel", [](const PlanObject &self) { return attend_plan_kernel(self.plan->plan); },
          "Name of the kernel that runs, \"none\" where there is nothing to compute.")
      .def_prop_ro(
          "threads", [](const PlanObject &self) { return attend_plan_max_parts(self.plan->plan); },
          "The most threads that work on a run.")
      .def_prop_ro(
          "workspace_size", [](const PlanObject &self) { return self.plan->workspace; },
          "Bytes of workspace that a run needs.");
  m.def("append", &append, "cache"_a, "x"_a, "positions"_a, nb::kw_only(), "starts"_a = nb::none(),
        "block_table"_a = nb::none(), "format"_a = nb::none(), "threads"_a = 0, APPEND_DOC);
  m.def("merge", &merge, "outs"_a, "lses"_a, nb::kw_only(), "out"_a = nb::none(), "threads"_a = nb::none(), MERGE_DOC);
  m.def("info", &info,
        "What this machine has and what of it is used: processor, features, caches, threads and the tuning profile.");
  m.def("kernels", &kernels,
        "A dict for each kernel, of every operation: its name, what it can do, and whether it runs here.");
  m.def("clear_plans", &clear_plans,
        "Forgets the plans that are kept. They are made anew, by the environment and the profile as they are then.");
  m.attr("_block_bytes") = block_bytes();
  m.def("_profile_path", &profile_path);
  m.def("_tune", &tune);
  m.def("_stop_tuning", [] { stop_tuning = 1; });
}

} // namespace attend_python
