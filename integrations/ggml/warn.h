/* SPDX-License-Identifier: Apache-2.0 */
/* What attend has to say of an error, in ggml's log: the first one only, since there may be one for every node. */
#ifndef ATTEND_GGML_WARN_H
#define ATTEND_GGML_WARN_H

#include <atomic>
#include <attend/attend.h>

#include "ggml-impl.h"

namespace attend_ggml {

inline void warn_once(attend_status status) {
  static std::atomic_flag warned;
  if (warned.test_and_set()) return;
  GGML_LOG_WARN("attend: %s: %s; ggml's own code is used where this happens\n", attend_status_string(status),
                attend_error_detail());
}

} /* namespace attend_ggml */

#endif
