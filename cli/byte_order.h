/* SPDX-License-Identifier: Apache-2.0 */
/** Files whose numbers have another byte order than the machine that reads them. */
#ifndef ATTEND_CLI_BYTE_ORDER_H
#define ATTEND_CLI_BYTE_ORDER_H

#include <stddef.h>

/** Reverses the bytes of numbers of `size` bytes each. */
static inline void attend_cli_swap_bytes(void *numbers, size_t count, size_t size) {
  unsigned char *at = numbers;
  for (; count-- > 0; at += size)
    for (size_t i = 0; i < size / 2; i++) {
      const unsigned char byte = at[i];
      at[i] = at[size - 1 - i];
      at[size - 1 - i] = byte;
    }
}

/** Gives numbers that begin with their lowest byte the order of this machine. */
static inline void attend_cli_from_little_endian(void *numbers, size_t count, size_t size) {
  if (__BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__) attend_cli_swap_bytes(numbers, count, size);
}

#endif
