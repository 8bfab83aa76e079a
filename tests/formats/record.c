/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records what ggml's reference quantisers make of some numbers, and its reference decoders of those blocks, for
 * tests/test_formats.c. Built and run by record.sh, which stands beside it; not part of the build.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define GGML_COMMON_DECL_C
#include "ggml-common.h"
#include "ggml-quants.h"

enum { BLOCKS = 64, COUNT = BLOCKS * 32 };

static float x[COUNT], decoded[COUNT];

static double uniform(void) {
  static uint64_t state = 1;
  state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (double)(state >> 11) / 9007199254740992.0;
}

static float number(int block, int i) {
  const float normal = (float)((uniform() + uniform() + uniform() + uniform() - 2) * 1.7320508);
  switch (block % 8) {
  case 0: return normal;
  case 1: return i == block % 32 ? 40 * normal : normal;                   /* an outlier */
  case 2: return (float)(i == 0 ? 127 : (int)(uniform() * 254 - 127)) / 2; /* halves of a scale */
  case 3: return fabsf(normal) + 3;
  case 4: return 1e4f * normal;
  case 5: return 1e-6f * normal;
  case 6: return i == 5 ? -8.0f : (float)(int)(16 * uniform() - 8); /* integers of 4 bits */
  default: return block % 3 ? 1e-3f * normal : 0.25f;               /* or all the same */
  }
}

static void write_file(const char *name, const void *data, size_t size) {
  FILE *f = fopen(name, "wb");
  if (!f || fwrite(data, 1, size, f) != size || fclose(f)) perror(name), exit(1);
}

#define RECORD(name, type)                                                                                             \
  static type name##_blocks[BLOCKS];                                                                                   \
  static void record_##name(void) {                                                                                    \
    quantize_row_##name##_ref(x, name##_blocks, COUNT);                                                                \
    dequantize_row_##name(name##_blocks, decoded, COUNT);                                                              \
    write_file(#name ".blocks", name##_blocks, sizeof name##_blocks);                                                  \
    write_file(#name ".decoded", decoded, sizeof decoded);                                                             \
  }
RECORD(q8_0, block_q8_0)
RECORD(q4_0, block_q4_0)
RECORD(q4_1, block_q4_1)
RECORD(q5_0, block_q5_0)
RECORD(q5_1, block_q5_1)
RECORD(iq4_nl, block_iq4_nl)

int main(void) {
  for (int i = 0; i < COUNT; i++) x[i] = number(i / 32, i % 32);
  write_file("numbers", x, sizeof x);
  record_q8_0(), record_q4_0(), record_q4_1(), record_q5_0(), record_q5_1(), record_iq4_nl();
  return 0;
}
