/* SPDX-License-Identifier: Apache-2.0 */
/** A text that is cut off at the end of its buffer but knows how long it would be, as snprintf does. */
#ifndef ATTEND_DISPATCH_TEXT_H
#define ATTEND_DISPATCH_TEXT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

typedef struct attend_text {
  char *buffer; /**< may be NULL if size is 0 */
  size_t size, length;
} attend_text;

static inline void attend_text_add(attend_text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline void attend_text_add(attend_text *t, const char *format, ...) {
  const size_t used = t->length < t->size ? t->length : t->size;
  va_list arguments;
  va_start(arguments, format);
  const int length = vsnprintf(used < t->size ? t->buffer + used : NULL, t->size - used, format, arguments);
  va_end(arguments);
  if (length > 0) t->length += (size_t)length;
}

#endif
