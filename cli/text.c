/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/text.h"

#include <stdbool.h>

int attend_cli_character(const char *text) {
  const unsigned char *c = (const unsigned char *)text;
  if (c[0] < 0x80) return c[0] >= ' ' && c[0] != 127;
  const int length = c[0] >= 0xf0 ? 4 : c[0] >= 0xe0 ? 3 : 2;
  if (c[0] < 0xc2 || c[0] > 0xf4) return 0;
  for (int i = 1; i < length; i++)
    if ((c[i] & 0xc0) != 0x80) return 0;
  const unsigned code = length == 3 ? (unsigned)(c[0] & 15) << 12 | (unsigned)(c[1] & 63) << 6 | (c[2] & 63) : 0;
  const bool surrogate = code >= 0xd800 && code <= 0xdfff, nothing = code == 0xfffe || code == 0xffff;
  const bool overlong = (c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xf0 && c[1] < 0x90);
  const bool control = c[0] == 0xc2 && c[1] < 0xa0;
  return control || surrogate || nothing || overlong || (c[0] == 0xf4 && c[1] > 0x8f) ? 0 : length;
}

char *attend_cli_clean(char *text) {
  for (char *c = text; *c;) {
    const int length = attend_cli_character(c);
    if (length == 0) *c = '?';
    c += length ? length : 1;
  }
  return text;
}

void attend_cli_print_clean(FILE *to, const char *text) {
  while (*text) {
    const int length = attend_cli_character(text);
    if (length)
      fwrite(text, 1, (size_t)length, to);
    else
      fputc('?', to);
    text += length ? length : 1;
  }
}
