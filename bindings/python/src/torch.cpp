// SPDX-License-Identifier: Apache-2.0
#include "torch.h"

#include "call.h"

using namespace nb::literals;

namespace attend_python {

namespace {

Arguments arguments_of(nb::handle q, nb::handle k, nb::handle v) {
  const nb::handle none = Py_None;
#define NOTHING(name) , none
  Arguments arguments = {q, k, v ATTEND_ARGUMENTS(NOTHING)};
#undef NOTHING
  arguments.inner = arguments.resolved = true;
  return arguments;
}

nb::object run(const Arguments &arguments) {
  Call call(arguments, true);
  const std::shared_ptr<Plan> plan = call.plan();
  return call.run(*plan);
}

// The kernel of torch.ops.attend.sdpa on the CPU, its arguments in order of its schema. All by position, and PyTorch's
// tensors as they are: of a call that takes 5 us, names and what attention() looks into take one.
nb::object sdpa(nb::handle q, nb::handle k, nb::handle v, nb::handle attn_mask, nb::handle dropout_p, bool is_causal,
                nb::handle scale, nb::handle softcap, int64_t window_left, int64_t window_right, nb::handle seed,
                bool weights) {
  Arguments arguments = arguments_of(q, k, v);
  nb::object causal, window;
  arguments.dropout = dropout_p, arguments.scale = scale, arguments.softcap = softcap, arguments.seed = seed;
  arguments.lse = Py_True, arguments.weights = weights ? Py_True : Py_False;
  if (is_causal) arguments.causal = causal = nb::str("top-left");
  if (window_left >= 0 || window_right >= 0) arguments.window = window = nb::make_tuple(window_left, window_right);
  if (!attn_mask.is_none())
    (read_array(attn_mask, "attn_mask").is_bool() ? arguments.mask : arguments.bias) = attn_mask;
  return run(arguments);
}

// What is asked of PyTorch before a call that goes past its dispatcher.
struct Torch {
  nb::object tensor, parameter, is_grad_enabled, interpreters, modes, is_autocast_enabled, is_neg, is_zero, cpu;
  Torch() {
    nb::module_ torch = nb::module_::import_("torch");
    tensor = torch.attr("Tensor"), parameter = torch.attr("nn").attr("Parameter");
    is_grad_enabled = torch.attr("is_grad_enabled"), is_autocast_enabled = torch.attr("is_autocast_enabled");
    interpreters = torch.attr("_C").attr("_functorch").attr("peek_interpreter_stack");
    modes = torch.attr("_C").attr("_len_torch_dispatch_stack");
    is_neg = tensor.attr("is_neg"), is_zero = tensor.attr("_is_zerotensor"), cpu = nb::str("cpu");
  }
};

// F.scaled_dot_product_attention without mask and dropout, where nothing but the numbers of three plain tensors
// matters; else None. Asked in Python, all that took longer than the call: beside keys and values that fill the
// second-level cache, every object that is looked at comes from memory again.
nb::object sdpa_at_once(nb::handle q, nb::handle k, nb::handle v, nb::handle is_causal, nb::handle scale) {
  // Never freed: Python may be gone when statics are. And no guard of C++'s: importing gives up the GIL, so that a
  // second thread would wait for the first, which waits for the GIL.
  static const Torch *torch;
  if (!torch) {
    const Torch *made = new Torch();
    torch = made;
  }
  const nb::handle all[] = {q, k, v};
  Array arrays[3];
  for (int i = 0; i < 3; i++) {
    nb::handle type(reinterpret_cast<PyObject *>(Py_TYPE(all[i].ptr())));
    if (!type.is(torch->tensor) && !type.is(torch->parameter)) return nb::none();
    if (!borrow_array(all[i], arrays[i]) || arrays[i].ndim != 4) return nb::none();
  }
  const Array &query = arrays[0], &key = arrays[1], &value = arrays[2];
  if (query.type != key.type || query.type != value.type || !is_float(query.type)) return nb::none();
  if (query.shape[0] != key.shape[0] || query.shape[1] != key.shape[1] || query.shape[1] != value.shape[1])
    return nb::none();
  if (nb::cast<bool>(torch->is_grad_enabled()))
    for (nb::handle x : all)
      if (nb::cast<bool>(x.attr("requires_grad"))) return nb::none();
  if (!torch->interpreters().is_none() || nb::cast<int>(torch->modes()) != 0 ||
      nb::cast<bool>(torch->is_autocast_enabled(torch->cpu)))
    return nb::none();
  for (nb::handle x : all)
    if (nb::cast<bool>(torch->is_neg(x)) || nb::cast<bool>(torch->is_zero(x)))
      return nb::none(); // zeros without memory
  Arguments arguments = arguments_of(q, k, v);
  nb::object causal;
  const int truth = PyObject_IsTrue(is_causal.ptr());
  if (truth < 0) throw nb::python_error();
  if (truth) arguments.causal = causal = nb::str("top-left");
  arguments.scale = scale;
  return run(arguments);
}

} // namespace

void bind_torch(nb::module_ &m) {
  m.def("_sdpa", &sdpa, "query"_a, "key"_a, "value"_a, "attn_mask"_a.none(), "dropout_p"_a, "is_causal"_a,
        "scale"_a.none(), "softcap"_a, "window_left"_a, "window_right"_a, "seed"_a, "weights"_a);
  m.def("_sdpa_at_once", &sdpa_at_once, "query"_a, "key"_a, "value"_a, "is_causal"_a, "scale"_a.none());
}

} // namespace attend_python
