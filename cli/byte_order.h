/* SPDX-License-Identifier: Apache-2.0 */
/** Files whose numbers begin with their lowest byte, whatever machine reads them. */
#ifndef ATTEND_CLI_BYTE_ORDER_H
#define ATTEND_CLI_BYTE_ORDER_H

#include <stddef.h>

/** Gives numbers of `size` bytes each the order of this machine. */
static inline void attend_cli_from_little_endian(void *numbers, size_t count, size_t size) {
  unsigned char *at = numbers;
  if (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__) return;
  for (; count-- > 0; at += size)
    for (size_t i = 0; i < size / 2; i++) {
      const unsigned char byte = at[i];
      at[i] = at[size - 1 - i];
      at[size - 1 - i] = byte;
    }
}

#endif
