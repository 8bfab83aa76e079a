/* SPDX-License-Identifier: Apache-2.0 */
/** An .npy file: either an array whose every byte is there, or an error that says why. */
#include <string.h>

#include "cli/npy.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  attend_npy array;
  char why[256] = "", shape[200];
  if (!attend_npy_read(attend_fuzz_file(bytes, size), &array, why, sizeof why)) {
    attend_fuzz_check(*why && !array.data, "a refused file", "without a reason, or with data");
    return 0;
  }
  size_t count = 1;
  for (int i = 0; i < array.rank; i++) count *= (size_t)array.shape[i];
  attend_fuzz_check(count == array.count && array.count * attend_npy_type_size(array.type) <= size, "an array",
                    attend_npy_shape_text(array.rank, array.shape, shape, sizeof shape));
  volatile uint8_t last = 0;
  for (size_t i = 0; i < array.count * attend_npy_type_size(array.type); i++) last = ((const uint8_t *)array.data)[i];
  (void)last;
  attend_npy_free(&array);
  return 0;
}
