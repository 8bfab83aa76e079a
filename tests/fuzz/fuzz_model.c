/* SPDX-License-Identifier: Apache-2.0 */
/** The index of a sharded model, whose shards are not there: its tensors are found by their names, and layers are too.
 */
#define _GNU_SOURCE /* mkdtemp(), symlink(), P_tmpdir */
#include "cli/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/layer_names.h"
#include "tests/fuzz/fuzz.h"

static char folder[] = P_tmpdir "/attend-fuzz-XXXXXX", path[sizeof folder + 16];

static void tidy_up(void) {
  unlink(path);
  rmdir(folder);
}

/** The file by a name that an index has. */
static const char *named(const char *file) {
  if (!*path) {
    const bool made = mkdtemp(folder) != NULL;
    strcat(strcpy(path, folder), "/index.json");
    attend_fuzz_check(made && symlink(file, path) == 0 && atexit(tidy_up) == 0, "a link", "it cannot be made");
  }
  return path;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static attend_model model;
  const attend_outputs outputs = {0};
  attend_fuzz_silence();
  if (attend_model_open(&model, "model", named(attend_fuzz_file(bytes, size)), &outputs)) {
    char prefix[ATTEND_LAYER_MOST_NAME], unused[600];
    size_t all = 0;
    for (size_t n = 0; n < attend_model_count(&model); n++) {
      const char *name = attend_model_name(&model, n);
      attend_npy array;
      all += strlen(name);
      attend_fuzz_check(attend_model_has(&model, name), "a name of the index", "it is not found");
      attend_fuzz_check(n == 0 || strcmp(attend_model_name(&model, n - 1), name) < 0, "names", "they are not in order");
      attend_fuzz_check(!attend_model_read(&model, name, &array), "a tensor", "its file is not there");
    }
    attend_fuzz_check(all < size || size == 0, "the names", "they are longer than the file");
    for (int additive = 0; additive < 2; additive++) {
      const attend_layer_naming *naming = attend_layer_find(&model, NULL, additive, prefix);
      if (naming) attend_layer_check_unused(&model, naming, prefix, "*", unused, sizeof unused);
    }
  }
  attend_model_close(&model);
  return 0;
}
