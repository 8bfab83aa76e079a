/* SPDX-License-Identifier: Apache-2.0 */
/** Status texts, the version, and the detail of a thread's last error. */
#include <stdarg.h>
#include <stdio.h>

#include "dispatch/dispatch.h"

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

static _Thread_local char detail[512];

const char *attend_status_string(attend_status status) {
  switch (status) {
  case ATTEND_OK: return "success";
  case ATTEND_ERROR_INVALID_ARGUMENT: return "invalid argument";
  case ATTEND_ERROR_OVERFLOW: return "size overflow";
  case ATTEND_ERROR_OUT_OF_MEMORY: return "out of memory";
  case ATTEND_ERROR_UNSUPPORTED: return "not supported";
  case ATTEND_ERROR_WORKSPACE: return "unsuitable workspace";
  case ATTEND_ERROR_ENVIRONMENT: return "bad environment variable";
  case ATTEND_ERROR_UNKNOWN_KERNEL: return "unknown kernel";
  }
  return "unknown status";
}

const char *attend_error_detail(void) { return detail; }

const char *attend_version(void) {
  return TEXT(ATTEND_VERSION_MAJOR) "." TEXT(ATTEND_VERSION_MINOR) "." TEXT(ATTEND_VERSION_PATCH);
}

attend_status attend_fail(attend_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(detail, sizeof detail, format, arguments);
  va_end(arguments);
  /* Details quote what the caller passed in, which may contain any byte; a detail is one line. */
  for (char *c = detail; *c; c++)
    if ((unsigned char)*c < ' ' || *c == 127) *c = '?';
  return status;
}
