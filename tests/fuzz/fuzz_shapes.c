/* SPDX-License-Identifier: Apache-2.0 */
/** A file of shapes for the tuner: each shape that is taken is a problem, and can be described and read again. */
#include <stdio.h>
#include <string.h>

#include "dispatch/dispatch.h"
#include "tests/fuzz/fuzz.h"
#include "tune/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  attend_tune_shapes shapes, again;
  char why[256] = "", text[200];
  if (!attend_tune_shapes_read(attend_fuzz_file(bytes, size), &shapes, why, sizeof why)) {
    attend_fuzz_check(*why && !shapes.problem, "a refused file", "without a reason, or with shapes");
    return 0;
  }
  for (size_t i = 0; i < shapes.count; i++) {
    attend_resolved resolved;
    attend_tune_describe(&shapes.problem[i], text, sizeof text);
    attend_fuzz_check(attend_resolve(&shapes.problem[i], &resolved) == ATTEND_OK, text, attend_error_detail());
    attend_fuzz_check(
        attend_tune_shapes_read(attend_fuzz_file((const uint8_t *)text, strlen(text)), &again, why, sizeof why), text,
        why);
    attend_tune_shapes_free(&again);
  }
  attend_tune_shapes_free(&shapes);
  return 0;
}
