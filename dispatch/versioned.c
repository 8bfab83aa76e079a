/* SPDX-License-Identifier: Apache-2.0 */
/** Structs that grow: callers may be compiled against another version of the header than the library. */
#include <string.h>

#include "dispatch/dispatch.h"

attend_status attend_read_versioned(void *to, size_t size, size_t first, const void *from, const char *name) {
  enum { ABSURD = 1 << 16 }; /* a struct_size that was never set must not make us read on for ever */
  if (!from) return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "%s is NULL", name);
  size_t theirs;
  memcpy(&theirs, from, sizeof theirs);
  if (theirs < first || theirs > ABSURD)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "struct_size of %s is %zu, expected at least %zu: use its _INIT",
                       name, theirs, first);
  const unsigned char *bytes = from;
  for (size_t i = size; i < theirs; i++)
    if (bytes[i])
      return attend_fail(ATTEND_ERROR_UNSUPPORTED, "%s sets a field that version %s does not know, at byte %zu", name,
                         attend_version(), i);
  size_t known = theirs < size ? theirs : size;
  memcpy(to, from, known);
  memset((unsigned char *)to + known, 0, size - known);
  memcpy(to, &size, sizeof size);
  return ATTEND_OK;
}
