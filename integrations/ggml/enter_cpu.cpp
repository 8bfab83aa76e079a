/* SPDX-License-Identifier: Apache-2.0 */
/* How the plug-in, which is loaded at run time, gets into a CPU backend that knows nothing of it. */
#include <dlfcn.h>
#include <new>
#include <vector>

#include "cpu_extension.h"
#include "ggml-backend-impl.h"
#include "traits.h"

/* The bases lie in the CPU backend, which is loaded as a module: nothing can be linked with it. */
namespace ggml::cpu {
tensor_traits::~tensor_traits() {}
extra_buffer_type::~extra_buffer_type() {}
} /* namespace ggml::cpu */

namespace attend_ggml {
namespace {

using list_function = std::vector<ggml_backend_buffer_type_t> &(*)();

/* The library that the CPU backend lies in, as loaded; never closed, since the extension stays in it. */
void *cpu_library(ggml_backend_reg_t registry) {
  Dl_info info;
  if (dladdr(reinterpret_cast<void *>(registry->iface.get_name), &info) == 0) return nullptr;
  return dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
}

bool enter() {
  ggml_backend_reg_t registry = ggml_backend_reg_by_name("CPU");
  if (registry == nullptr || registry->api_version != GGML_BACKEND_API_VERSION) return false;
  void *library = cpu_library(registry);
  if (library == nullptr) return false;
  /* The name is that of a C++ function without parameters, as every compiler but Microsoft's writes it. */
  const auto list = reinterpret_cast<list_function>(dlsym(library, "_Z39ggml_backend_cpu_get_extra_buffer_typesv"));
  const auto barrier = reinterpret_cast<barrier_function>(dlsym(library, "ggml_barrier"));
  if (list == nullptr || barrier == nullptr) {
    dlclose(library);
    return false;
  }
  bool entered = false;
  try {
    std::vector<ggml_backend_buffer_type_t> &extensions = list();
    extensions.reserve(extensions.size() + 1);
    const ggml_backend_buffer_type_t ours = cpu_extension(ggml_backend_reg_dev_get(registry, 0), barrier);
    if (ours != nullptr) {
      extensions.push_back(ours);
      entered = true;
    }
  } catch (const std::bad_alloc &) {
    /* not entered */
  }
  if (!entered) dlclose(library);
  return entered;
}

} /* namespace */

bool extend_cpu_backend() {
  static const bool entered = enter();
  return entered;
}

} /* namespace attend_ggml */
