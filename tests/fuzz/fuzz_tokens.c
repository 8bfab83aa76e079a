/* SPDX-License-Identifier: Apache-2.0 */
/** A file of labels: each line is one, and a picture that has them is drawn. */
#include "cli/heatmap.h"

#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  attend_labels labels, none = {0};
  attend_fuzz_silence();
  const char *file = attend_fuzz_file(bytes, size);
  if (attend_labels_read(&labels, "tokens", file)) {
    int64_t lines = size && bytes[size - 1] != '\n';
    for (size_t i = 0; i < size; i++) lines += bytes[i] == '\n';
    attend_fuzz_check(labels.count == lines, "labels", "they are not as many as lines");
    float weights[256] = {0};
    if (labels.count > 0 && labels.count <= 256) {
      const attend_heatmap map = {.weights = weights,
                                  .panels = 1,
                                  .queries = labels.count,
                                  .keys = 1,
                                  .query_labels = &labels,
                                  .key_labels = &none};
      char *svg = attend_heatmap_draw(&map);
      attend_fuzz_check(svg && strstr(svg, "</svg>"), "a picture", "it is not drawn");
      free(svg);
    }
  }
  attend_labels_free(&labels);
  return 0;
}
