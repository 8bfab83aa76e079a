// SPDX-License-Identifier: Apache-2.0
// What attend.torch calls.
#pragma once

#include <nanobind/nanobind.h>

namespace attend_python {

// Puts _sdpa and _sdpa_at_once into the module.
void bind_torch(nanobind::module_ &m);

} // namespace attend_python
