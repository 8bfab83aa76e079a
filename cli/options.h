/* SPDX-License-Identifier: Apache-2.0 */
/** What the commands share in reading their command line, on top of getopt_long(). */
#ifndef ATTEND_CLI_OPTIONS_H
#define ATTEND_CLI_OPTIONS_H

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>

#include "attend/attend.h"

/** Exit statuses. */
enum { ATTEND_EXIT_DONE = 0, ATTEND_EXIT_CHECK_FAILED = 1, ATTEND_EXIT_BAD_INPUT = 2 };

/**
 * Prints "attend: ..." as exactly one line on stderr, whatever is in the text, and returns ATTEND_EXIT_BAD_INPUT:
 * `return attend_cli_error("--seed %s: expected a whole number", text);`
 */
int attend_cli_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** Likewise of a file, or NULL, that an option names: "--option path: ...". Returns false. */
bool attend_cli_file_error(const char *option, const char *path, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/** Flushes stdout. False after reporting that not all of it could be written. */
bool attend_cli_flush(void);

/**
 * getopt_long() without short options, and without its own messages: -1 at the end, the `val` of an option (>= 1), or 0
 * after an error was reported. An option given twice and an argument that is no option are errors.
 */
int attend_cli_next_option(int argc, char **argv, const struct option *options);

/** An option of a command: where in its request the text goes, or the function that takes the value. */
typedef struct attend_cli_option {
  const char *name;
  int has_value; /**< of getopt_long() */
  size_t text;
  bool (*take)(const char *text, void *request);
} attend_cli_option;

/**
 * Reads a command line of these options (at most ATTEND_CLI_MOST_OPTIONS) and --help, which prints `help`. False, with
 * the exit status set, if that is all there is to do.
 */
enum { ATTEND_CLI_MOST_OPTIONS = 60 };
bool attend_cli_parse(int argc, char **argv, const attend_cli_option *options, size_t count, const char *help,
                      void *request, int *status);

/** Prints what attend_error_detail() says of the library call that just failed with `status`, like attend_cli_error. */
int attend_cli_library_error(attend_status status);

/** Whether a library call went well; if not, that is reported as above. */
bool attend_cli_library(attend_status status);

/** Memory of attend_alloc() for `count` elements of `size` bytes. NULL after reporting that there is none for `what`.
 */
void *attend_cli_allocate(const char *what, size_t count, size_t size);

/**
 * The value of --`option` as a number between two bounds. False after reporting that something else was expected:
 * a number with anything after it, out of bounds, NaN, empty.
 */
bool attend_cli_integer(const char *option, const char *text, int64_t least, int64_t most, int64_t *value);
bool attend_cli_number(const char *option, const char *text, float *value);

/** The value of --threads, of --softcap and of --window. */
bool attend_cli_threads(const char *text, int *threads);
bool attend_cli_softcap(const char *text, float *softcap);
bool attend_cli_window(const char *text, int64_t *left, int64_t *right);

/** The value of --dtype, and of --bits. */
bool attend_cli_dtype(const char *text, attend_dtype *dtype);
/** An element type of keys and values, formats included. */
bool attend_cli_format(const char *option, const char *text, attend_dtype *dtype);
bool attend_cli_bits(const char *text, bool *bf16);

#endif
