/* SPDX-License-Identifier: Apache-2.0 */
/* attend as a device of its own, of ggml's type for accelerators that share the memory of the CPU. */
#ifndef ATTEND_GGML_DEVICE_H
#define ATTEND_GGML_DEVICE_H

#include "ggml-backend.h"

namespace attend_ggml {

/* The one device; it belongs to `registry`, the same in every call. */
ggml_backend_dev_t device(ggml_backend_reg_t registry);

/* For ggml_backend_set_n_threads(). */
void set_threads(ggml_backend_t backend, int threads);

} /* namespace attend_ggml */

#endif
