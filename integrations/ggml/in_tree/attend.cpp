/* SPDX-License-Identifier: Apache-2.0 */
/* What ggml's CPU backend finds where it is built with attend inside: the entry of its list that ggml.patch adds. */
#include "../cpu_extension.h"
#include "ggml-cpu-impl.h"
#include "ggml-cpu.h"

ggml_backend_buffer_type_t ggml_backend_cpu_attend_buffer_type(void) {
  static const ggml_backend_buffer_type_t entry =
      attend_ggml::cpu_extension(ggml_backend_reg_dev_get(ggml_backend_cpu_reg(), 0), ggml_barrier);
  return entry;
}
