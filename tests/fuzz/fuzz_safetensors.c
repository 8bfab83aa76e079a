/* SPDX-License-Identifier: Apache-2.0 */
/** A .safetensors file: each of its tensors is read whole, or refused. */
#include "cli/safetensors.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  attend_safetensors file;
  attend_fuzz_silence();
  if (attend_safetensors_open(&file, "model", attend_fuzz_file(bytes, size))) {
    for (size_t n = 0; n < file.count; n++) {
      const char *name = file.tensor[n].name;
      attend_npy array;
      attend_fuzz_check(attend_safetensors_has(&file, name), "a name of the header", "it is not found");
      if (!attend_safetensors_read(&file, name, &array)) continue;
      attend_fuzz_check(array.count <= size / 2, "a tensor", "it is larger than the file");
      volatile float last = 0;
      for (size_t i = 0; i < array.count; i++) last = ((const float *)array.data)[i];
      (void)last;
      attend_npy_free(&array);
    }
  }
  attend_safetensors_close(&file);
  return 0;
}
