/* SPDX-License-Identifier: Apache-2.0 */
/** The state of a thread that works with tiles. */
#ifndef ATTEND_KERNELS_AMX_STATE_H
#define ATTEND_KERNELS_AMX_STATE_H

#include "kernels/amx/products.h"
#include "kernels/kernel.h"

/** Configures eight tiles of 16 rows of 64 bytes. */
static void amx_enter(attend_thread_state *before) {
  static const struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  } configuration = {.palette = 1,
                     .row_bytes = {TILE_ROW_BYTES, TILE_ROW_BYTES, TILE_ROW_BYTES, TILE_ROW_BYTES, TILE_ROW_BYTES,
                                   TILE_ROW_BYTES, TILE_ROW_BYTES, TILE_ROW_BYTES},
                     .rows = {TILE_ROWS, TILE_ROWS, TILE_ROWS, TILE_ROWS, TILE_ROWS, TILE_ROWS, TILE_ROWS, TILE_ROWS}};
  _Static_assert(sizeof configuration == 64, "the format of LDTILECFG");
  amx_store_configuration(before->bytes);
  amx_load_configuration(&configuration);
}

/** Puts back a configuration that the thread had, with empty tiles; otherwise makes the tiles free of charge again. */
static void amx_leave(const attend_thread_state *before) {
  if (before->bytes[0] != 0)
    amx_load_configuration(before->bytes);
  else
    amx_release();
}

#endif
