/* SPDX-License-Identifier: Apache-2.0 */
/** What the package says of the machine and the kernels, from the insides of the library, which are C. */
#ifndef ATTEND_PYTHON_INTERNALS_H
#define ATTEND_PYTHON_INTERNALS_H

#include <attend/attend.h>
#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Takes one fact: `list` says that a name is given once for each entry of a list. A NULL value is an empty list. */
typedef struct attend_python_sink {
  void *context;
  void (*text)(void *context, const char *name, const char *value, bool list);
  void (*number)(void *context, const char *name, double value);
  void (*flag)(void *context, const char *name, bool value);
  void (*next)(void *context); /**< the row of a kernel begins */
} attend_python_sink;

attend_status attend_python_info(const attend_python_sink *sink);
attend_status attend_python_kernels(const attend_python_sink *sink);

/** Where `attend tune` writes, of ATTEND_PROFILE_PATH bytes. */
enum { ATTEND_PYTHON_PATH = 4096 };
attend_status attend_python_profile_path(char path[ATTEND_PYTHON_PATH]);

/**
 * Tunes for about `seconds`, or until *stop. The text of the profile is to be freed with free(); *report says what was
 * measured and what went wrong.
 */
attend_status attend_python_tune(double seconds, int threads, const volatile int *stop, char **text, size_t *length,
                                 char *report, size_t report_size);

#ifdef __cplusplus
}
#endif

#endif
