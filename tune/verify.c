/* SPDX-License-Identifier: Apache-2.0 */
/** No kernel is timed before it has been checked. */
#include "verify/verify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tune/internal.h"

bool attend_tune_prove(attend_isa highest, int cases, bool *proved, char *fault, size_t fault_size) {
  attend_verify *v = attend_verify_open(highest);
  attend_verify_result *result = malloc(sizeof *result);
  bool memory = v && result;
  *fault = 0;
  for (size_t k = 0; k < attend_kernel_count(); k++)
    proved[k] = attend_kernel_runnable(attend_kernel_at(k), highest, NULL, 0);
  for (int i = 0; memory && i < cases; i++) {
    attend_verify_case c;
    /* Each of the plain types as often as all formats together. */
    const int formats = ATTEND_DTYPE_COUNT - 1 - ATTEND_BF16, plain = i % 4;
    const attend_dtype dtype =
        (attend_dtype)(plain < ATTEND_BF16 ? ATTEND_F32 + plain : ATTEND_BF16 + 1 + i / 4 % formats);
    attend_verify_random_case((uint64_t)i, dtype, &c);
    memory = attend_verify_prepare(v, &c);
    for (size_t k = 0; memory && k < attend_kernel_count(); k++) {
      if (!proved[k]) continue;
      attend_verify_run(v, attend_kernel_at(k), result);
      proved[k] = result->status != ATTEND_VERIFY_FAILED;
      if (!proved[k] && !*fault) snprintf(fault, fault_size, "%.*s", (int)fault_size - 1, result->message);
    }
  }
  free(result);
  attend_verify_close(v);
  return memory;
}
