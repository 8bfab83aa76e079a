/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/options.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/text.h"
#include "dispatch/dispatch.h"
#include "kernels/size.h"

int attend_cli_error(const char *format, ...) {
  char text[16384]; /* room for two paths */
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  /* A file name may hold a line break or a terminal's escape sequence. */
  fprintf(stderr, "attend: %s\n", attend_cli_clean(text));
  return ATTEND_EXIT_BAD_INPUT;
}

bool attend_cli_file_error(const char *option, const char *path, const char *format, ...) {
  char why[2048];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(why, sizeof why, format, arguments);
  va_end(arguments);
  attend_cli_error("--%s%s%s: %s", option, path ? " " : "", path ? path : "", why);
  return false;
}

int attend_cli_library_error(attend_status status) {
  const char *detail = attend_error_detail(), *kind = attend_status_string(status);
  return *detail ? attend_cli_error("%s: %s", kind, detail) : attend_cli_error("%s", kind);
}

bool attend_cli_library(attend_status status) {
  if (status != ATTEND_OK) attend_cli_library_error(status);
  return status == ATTEND_OK;
}

void *attend_cli_allocate(const char *what, size_t count, size_t size) {
  size_t bytes = size_mul(count, size);
  void *memory = bytes == SIZE_MAX ? NULL : attend_alloc(bytes);
  if (!memory) attend_cli_error("no memory for the %zu bytes of %s", bytes, what);
  return memory;
}

bool attend_cli_flush(void) {
  if (fflush(stdout) == 0 && !ferror(stdout)) return true;
  attend_cli_error("cannot write to standard output");
  return false;
}

int attend_cli_next_option(int argc, char **argv, const struct option *options) {
  static uint64_t seen;
  opterr = 0;
  int before = optind, index = -1;
  int option = getopt_long(argc, argv, ":", options, &index);
  if (option == -1) {
    if (optind >= argc) return -1;
    attend_cli_error("%s: unexpected argument '%s' (an optional value is given as --option=value)", argv[0],
                     argv[optind]);
    return 0;
  }
  if (option == ':' || option == '?') {
    /* getopt has moved past the argument at fault, except for a short option in the middle of its cluster. */
    const char *given = argv[optind > before ? optind - 1 : before];
    if (option == ':')
      attend_cli_error("%s: option '%s' needs a value", argv[0], given);
    else if (optopt && given[0] == '-' && given[1] == '-')
      attend_cli_error("%s: option '%s' takes no value", argv[0], given);
    else
      attend_cli_error("%s: unknown option '%s'; 'attend %s --help' lists them", argv[0], given, argv[0]);
    return 0;
  }
  if (seen & UINT64_C(1) << option) {
    attend_cli_error("%s: option '--%s' is given twice", argv[0], options[index].name);
    return 0;
  }
  seen |= UINT64_C(1) << option;
  return option;
}

bool attend_cli_parse(int argc, char **argv, const attend_cli_option *options, size_t count, const char *help,
                      void *request, int *status) {
  enum { HELP = ATTEND_CLI_MOST_OPTIONS + 1 };
  struct option table[ATTEND_CLI_MOST_OPTIONS + 2] = {{"help", no_argument, NULL, HELP}};
  for (size_t i = 0; i < count; i++)
    table[i + 1] = (struct option){options[i].name, options[i].has_value, NULL, (int)i + 1};
  *status = ATTEND_EXIT_BAD_INPUT;
  int option;
  while ((option = attend_cli_next_option(argc, argv, table)) > 0) {
    if (option == HELP) {
      fputs(help, stdout);
      *status = ATTEND_EXIT_DONE;
      return false;
    }
    const attend_cli_option *found = &options[option - 1];
    if (!found->take)
      *(const char **)((char *)request + found->text) = optarg;
    else if (!found->take(optarg, request))
      return false;
  }
  return option != 0;
}

/* strtoll() and strtof() skip white space and take "nan"; a value here begins with a sign, a digit or a point. */
static bool begins_number(const char *text) { return *text && strchr("+-.0123456789", *text); }

bool attend_cli_integer(const char *option, const char *text, int64_t least, int64_t most, int64_t *value) {
  char *end;
  errno = 0;
  long long number = strtoll(text, &end, 10);
  if (!begins_number(text) || end == text || *end || errno || number < least || number > most) {
    attend_cli_error("--%s '%s': expected a whole number from %lld to %lld", option, text, (long long)least,
                     (long long)most);
    return false;
  }
  *value = number;
  return true;
}

bool attend_cli_number(const char *option, const char *text, float *value) {
  char *end;
  errno = 0;
  float number = strtof(text, &end);
  /* ERANGE also comes with a number below FLT_MIN that is as good as any, unless nothing is left of it. */
  const bool lost = errno && number == 0.0f;
  if (!begins_number(text) || end == text || *end || lost || !isfinite(number)) {
    attend_cli_error("--%s '%s': expected a number that float32 can hold: 0, or 1.4e-45 to 3.4e38, or less than 0",
                     option, text);
    return false;
  }
  *value = number;
  return true;
}

bool attend_cli_threads(const char *text, int *threads) {
  int64_t number = 0;
  if (!attend_cli_integer("threads", text, 1, ATTEND_MOST_THREADS, &number)) return false;
  *threads = (int)number;
  return true;
}

bool attend_cli_softcap(const char *text, float *softcap) {
  if (!attend_cli_number("softcap", text, softcap)) return false;
  if (*softcap < 0.0f) attend_cli_error("--softcap '%s': expected a number of at least 0", text);
  return *softcap >= 0.0f;
}

bool attend_cli_window(const char *text, int64_t *left, int64_t *right) {
  char first[32];
  const char *comma = strchr(text, ',');
  if (!comma || (size_t)(comma - text) >= sizeof first) {
    attend_cli_error("--window '%s': expected two whole numbers LEFT,RIGHT", text);
    return false;
  }
  memcpy(first, text, (size_t)(comma - text));
  first[comma - text] = '\0';
  return attend_cli_integer("window", first, -1, ATTEND_MAX_EXTENT, left) &&
         attend_cli_integer("window", comma + 1, -1, ATTEND_MAX_EXTENT, right);
}

bool attend_cli_dtype(const char *text, attend_dtype *dtype) {
  for (*dtype = ATTEND_F32; *dtype <= ATTEND_BF16; ++*dtype)
    if (strcmp(text, attend_dtype_name(*dtype)) == 0) return true;
  attend_cli_error("--dtype '%s': expected f32, f16 or bf16", text);
  return false;
}

bool attend_cli_format(const char *option, const char *text, attend_dtype *dtype) {
  for (*dtype = ATTEND_F32; (int)*dtype < ATTEND_DTYPE_COUNT; ++*dtype)
    if (strcmp(text, attend_dtype_name(*dtype)) == 0) return true;
  char names[256];
  size_t length = 0;
  for (attend_dtype d = ATTEND_F32; (int)d < ATTEND_DTYPE_COUNT; d++)
    length += (size_t)snprintf(names + length, sizeof names - length, "%s%s", attend_dtype_name(d),
                               (int)d + 1 == ATTEND_DTYPE_COUNT   ? ""
                               : (int)d + 2 == ATTEND_DTYPE_COUNT ? " or "
                                                                  : ", ");
  attend_cli_error("--%s '%s': expected %s", option, text, names);
  return false;
}

bool attend_cli_bits(const char *text, bool *bf16) {
  *bf16 = strcmp(text, "bf16") == 0;
  if (!*bf16) attend_cli_error("--bits '%s': expected bf16", text);
  return *bf16;
}
