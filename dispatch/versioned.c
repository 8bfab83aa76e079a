/* SPDX-License-Identifier: Apache-2.0 */
/** Structs that grow: callers may be compiled against another version of the header than the library. */
#include <string.h>

#include "dispatch/dispatch.h"

/** Sizes of structs that 0.1 laid out otherwise: a caller that was compiled against it gets an error that says so. */
static const struct {
  const char *name;
  size_t size;
} of_0_1[] = {{"attend_problem", 336},
              {"attend_tensors", 120},
              {"attend_options", 24},
              {"attend_mha_problem", 248},
              {"attend_mha_tensors", 168}};

attend_status attend_read_versioned(void *to, size_t size, size_t first, const void *from, const char *name) {
  enum { ABSURD = 1 << 16 }; /* a struct_size that was never set must not make us read on for ever */
  if (!from) return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "%s is NULL", name);
  size_t theirs;
  memcpy(&theirs, from, sizeof theirs);
  for (size_t i = 0; theirs < first && i < sizeof of_0_1 / sizeof *of_0_1; i++)
    if (theirs == of_0_1[i].size && strcmp(name, of_0_1[i].name) == 0)
      return attend_fail(
          ATTEND_ERROR_UNSUPPORTED,
          "struct_size of %s is %zu, as in version 0.1, which laid it out otherwise: compile against the header "
          "of version %s",
          name, theirs, attend_version());
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
