/* SPDX-License-Identifier: Apache-2.0 */
/* What ggml finds when it loads this library: GGML_BACKEND_PATH=libggml-attend.so, or ggml_backend_load(). */
#include <attend/attend.h>
#include <cstdlib>
#include <cstring>

#include "cpu_extension.h"
#include "device.h"
#include "ggml-backend-impl.h"
#include "ggml-impl.h"

namespace attend_ggml {
namespace {

/* Set in ggml_backend_init(): whether attention is computed within the CPU backend, and there is no device. */
bool within_cpu = false;

const char *registry_name(ggml_backend_reg_t) { return "ATTEND"; }

size_t device_count(ggml_backend_reg_t) { return within_cpu ? 0 : 1; }

ggml_backend_dev_t get_device(ggml_backend_reg_t registry, size_t) { return device(registry); }

void *get_proc_address(ggml_backend_reg_t, const char *function) {
  return strcmp(function, "ggml_backend_set_n_threads") == 0 ? reinterpret_cast<void *>(set_threads) : nullptr;
}

/*
 * The structs and classes through which ggml calls us are not declared to stay as they are: they changed between 0.21
 * and 0.25 without a new GGML_BACKEND_API_VERSION. So only the release is accepted whose headers we were built with.
 */
bool version_fits() {
  if (strcmp(ggml_version(), ATTEND_GGML_VERSION) == 0) return true;
  GGML_LOG_ERROR("attend: built for ggml %s, but this is ggml %s: not used. Build libggml-attend.so with "
                 "-DATTEND_GGML_SOURCE= the sources of ggml %s\n",
                 ATTEND_GGML_VERSION, ggml_version(), ggml_version());
  return false;
}

bool device_is_wanted() {
  const char *value = getenv("ATTEND_GGML_DEVICE");
  return value != nullptr && strcmp(value, "1") == 0;
}

} /* namespace */
} /* namespace attend_ggml */

extern "C" __attribute__((visibility("default"))) ggml_backend_reg_t ggml_backend_init(void) {
  using namespace attend_ggml;
  if (!version_fits()) return nullptr;
  static ggml_backend_reg registry{
      GGML_BACKEND_API_VERSION, {registry_name, device_count, get_device, get_proc_address}, nullptr};
  within_cpu = !device_is_wanted() && extend_cpu_backend();
  GGML_LOG_INFO("attend %s: computes FLASH_ATTN_EXT %s\n", attend_version(),
                within_cpu ? "within the CPU backend, on its threads" : "as the device ATTEND, on threads of its own");
  return &registry;
}
