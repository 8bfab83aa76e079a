/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The options of a command as a table. Its parser and its --help read the table; man pages and what shells complete are
 * made of that help when attend is built (cmake/pages.py), so that they have every option that the program has.
 */
#ifndef ATTEND_CLI_HELP_H
#define ATTEND_CLI_HELP_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * An option of a command. A row without a name is none: with a `value` it explains that word, and without one its
 * `help` is the title of the rows below it.
 */
typedef struct attend_cli_option {
  const char *name;
  const char
      *value;       /**< what stands for its value: "FILE", "f32|f16|bf16"; "[=VALUE]" if it may be left out; or NULL */
  const char *help; /**< NULL: the option stands in one line with the next one, whose help is for both */
  size_t text;      /**< where in the request its value goes as it is, unless: */
  bool (*take)(const char *text, void *request); /**< what takes it. False after reporting an error */
} attend_cli_option;

typedef struct attend_cli_command {
  const char *usage; /**< "attend run --q FILE [OPTION]..." */
  const char *about; /**< paragraphs with an empty line between them, as in `notes` */
  const attend_cli_option *options;
  size_t count;
  const char *notes;    /**< what stands after the options, or NULL */
  const char *examples; /**< a line each */
} attend_cli_command;

/** Prints the help of a command, in lines of at most 112 characters; of the options --help is the last. */
void attend_cli_print_help(const attend_cli_command *command);

#ifdef __cplusplus
}
#endif
#endif
