/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The operations of kernels/amx/tile.h in plain C, for processors without AMX: the arithmetic of TDPBF16PS as Intel's
 * manual gives it, with its order, its roundings and its denormals; and whatever would be a fault on a processor ends
 * the process with a line on stderr. Each thread has tiles of its own.
 */
#ifndef ATTEND_TESTS_AMX_EMULATED_TILE_H
#define ATTEND_TESTS_AMX_EMULATED_TILE_H

#include <stdint.h>

void attend_emulated_load_configuration(const void *configuration);
void attend_emulated_store_configuration(void *configuration);
void attend_emulated_release(void);
void attend_emulated_zero(int tile);
void attend_emulated_load(int tile, const void *address, int64_t stride);
void attend_emulated_store(int tile, void *address, int64_t stride);
void attend_emulated_multiply(int c, int a, int b);

/** Tile products of all threads so far. */
long attend_emulated_products(void);

#define amx_load_configuration attend_emulated_load_configuration
#define amx_store_configuration attend_emulated_store_configuration
#define amx_release attend_emulated_release
#define amx_zero attend_emulated_zero
#define amx_load attend_emulated_load
#define amx_store attend_emulated_store
#define amx_multiply attend_emulated_multiply

#endif
