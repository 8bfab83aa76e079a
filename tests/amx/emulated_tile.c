/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/amx/emulated_tile.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xmmintrin.h>

#include "kernels/convert.h"

enum { TILES = 8, MOST_ROWS = 16, MOST_BYTES = 64, COLUMNS = MOST_BYTES / 4, FLUSH_DENORMALS = 0x8040 };

/* What LDTILECFG loads. */
typedef struct configuration {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
} configuration;

static _Thread_local configuration configured; /* all 0: not configured */
static _Thread_local unsigned char tiles[TILES][MOST_ROWS][MOST_BYTES];
static atomic_long products;

static _Noreturn void fault(const char *format, ...) __attribute__((format(printf, 1, 2)));
static _Noreturn void fault(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("emulated tiles: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  abort();
}

static void check_tile(int tile) {
  if (configured.palette != 1) fault("tile %d is used, and no tile is configured", tile);
  if (tile < 0 || tile >= TILES) fault("there is no tile %d", tile);
  if (configured.rows[tile] == 0 || configured.row_bytes[tile] == 0) fault("tile %d is used, and has no size", tile);
}

void attend_emulated_load_configuration(const void *from) {
  configuration c;
  memcpy(&c, from, sizeof c);
  if (c.palette > 1) fault("there is no palette %d", c.palette);
  if (c.start_row) fault("start row %d of a configuration that interrupts nothing", c.start_row);
  for (int i = 0; i < (int)sizeof c.reserved; i++)
    if (c.reserved[i]) fault("reserved byte %d of a configuration is not 0", 2 + i);
  for (int i = 0; c.palette && i < 16; i++) {
    if (c.rows[i] > (i < TILES ? MOST_ROWS : 0) || c.row_bytes[i] > (i < TILES ? MOST_BYTES : 0))
      fault("tile %d of %d rows of %d bytes", i, c.rows[i], c.row_bytes[i]);
    if ((c.rows[i] == 0) != (c.row_bytes[i] == 0)) fault("tile %d has rows or columns, but not both", i);
  }
  if (c.palette == 0) memset(&c, 0, sizeof c);
  configured = c;
  memset(tiles, 0, sizeof tiles);
}

void attend_emulated_store_configuration(void *to) { memcpy(to, &configured, sizeof configured); }

void attend_emulated_release(void) {
  memset(&configured, 0, sizeof configured);
  memset(tiles, 0, sizeof tiles);
}

void attend_emulated_zero(int tile) {
  check_tile(tile);
  memset(tiles[tile], 0, sizeof tiles[tile]);
}

void attend_emulated_load(int tile, const void *address, int64_t stride) {
  check_tile(tile);
  memset(tiles[tile], 0, sizeof tiles[tile]);
  for (int r = 0; r < configured.rows[tile]; r++)
    memcpy(tiles[tile][r], (const char *)address + r * stride, configured.row_bytes[tile]);
}

void attend_emulated_store(int tile, void *address, int64_t stride) {
  check_tile(tile);
  for (int r = 0; r < configured.rows[tile]; r++)
    memcpy((char *)address + r * stride, tiles[tile][r], configured.row_bytes[tile]);
}

static float bf16_at(const unsigned char *row, int index) {
  uint16_t bits;
  memcpy(&bits, row + 2 * index, sizeof bits);
  return bf16_to_f32(bits);
}

/* Even and odd elements of the depth are added up apart, each product with one rounding, then to one another, then to
 * c. A function of its own, between the changes of the rounding mode: arithmetic could be moved across them. */
static __attribute__((noinline)) void multiply(int c, int a, int b) {
  for (int m = 0; m < configured.rows[c]; m++) {
    float even[COLUMNS] = {0}, odd[COLUMNS] = {0}, sum[COLUMNS];
    for (int k = 0; k < configured.row_bytes[a] / 4; k++) {
      const float low = bf16_at(tiles[a][m], 2 * k), high = bf16_at(tiles[a][m], 2 * k + 1);
      for (int n = 0; n < configured.row_bytes[c] / 4; n++) {
        even[n] = __builtin_fmaf(low, bf16_at(tiles[b][k], 2 * n), even[n]);
        odd[n] = __builtin_fmaf(high, bf16_at(tiles[b][k], 2 * n + 1), odd[n]);
      }
    }
    memcpy(sum, tiles[c][m], sizeof sum);
    for (int n = 0; n < configured.row_bytes[c] / 4; n++) sum[n] += even[n] + odd[n];
    memset(tiles[c][m], 0, MOST_BYTES);
    memcpy(tiles[c][m], sum, configured.row_bytes[c]);
  }
}

void attend_emulated_multiply(int c, int a, int b) {
  check_tile(c), check_tile(a), check_tile(b);
  if (c == a || c == b || a == b) fault("one tile twice in a product: %d, %d, %d", c, a, b);
  if (configured.rows[a] != configured.rows[c] || configured.row_bytes[b] != configured.row_bytes[c] ||
      configured.row_bytes[a] != configured.rows[b] * 4 || configured.row_bytes[c] % 4)
    fault("sizes of tiles %d, %d and %d do not fit together", c, a, b);
  const unsigned mode = _mm_getcsr();
  _mm_setcsr((mode & ~0x6000u) | FLUSH_DENORMALS | 0x1f80); /* to nearest even, nothing is signalled */
  multiply(c, a, b);
  _mm_setcsr(mode);
  atomic_fetch_add_explicit(&products, 1, memory_order_relaxed);
}

long attend_emulated_products(void) { return atomic_load(&products); }
