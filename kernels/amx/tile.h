/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Tile registers: eight of 16 rows of 64 bytes. An A tile holds 16 rows of 32 bf16; a B tile holds 32 rows of 16 bf16,
 * in pairs (kernels/body/pack_pairs.h); a C tile holds 16 x 16 sums in f32.
 *
 *   amx_load(tile, address, stride)    16 rows of 64 bytes, `stride` bytes apart
 *   amx_zero(tile)
 *   amx_store(tile, address, stride)
 *   amx_multiply(c, a, b)              c += a b, with the arithmetic of TDPBF16PS: 32 products at a time are added up
 *                                      in f32, those of even and those of odd elements apart, then to each other, then
 *                                      to c; rounded to nearest even, denormals taken as 0 and made 0
 *
 * Tiles are named by literal numbers, as both compilers demand, hence macros. Tests compile the kernels with operations
 * that compute the same in plain C (tests/amx/emulated_tile.h) instead of these, by defining ATTEND_TILE_H.
 */
#ifndef ATTEND_KERNELS_AMX_TILE_H
#define ATTEND_KERNELS_AMX_TILE_H

#include <immintrin.h>
#include <stdint.h>

#include "kernels/vec_contract.h"

/* gcc 12 does not know that a tile load reads memory: without this it may put the stores of what is loaded after it.
 */
#define AMX_FENCE() __asm__ volatile("" ::: "memory")

#define amx_load(tile, address, stride)                                                                                \
  do {                                                                                                                 \
    AMX_FENCE();                                                                                                       \
    _tile_loadd(tile, address, stride);                                                                                \
  } while (0)
#define amx_zero(tile) _tile_zero(tile)
#define amx_store(tile, address, stride) _tile_stored(tile, address, stride)
#define amx_multiply(c, a, b) _tile_dpbf16ps(c, a, b)

/** Loads or stores a configuration of 64 bytes. gcc 12 believes that it is one of 8. */
ATTEND_INLINE void amx_load_configuration(const void *configuration) {
  AMX_FENCE();
  _tile_loadconfig(configuration);
}
ATTEND_INLINE void amx_store_configuration(void *configuration) {
  _tile_storeconfig(configuration);
  AMX_FENCE();
}
ATTEND_INLINE void amx_release(void) { _tile_release(); }

#endif
