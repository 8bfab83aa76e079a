/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/help.h"

#include <stdio.h>
#include <string.h>

enum { WIDTH = 112, INDENT = 2, GAP = 2, WIDEST_TERM = 28 };

/* Prints words from column `at` on, and begins further lines in `column`. */
static void print_words(const char *text, int at, int column) {
  bool first = true;
  while (*text) {
    const int length = (int)strcspn(text, " \n");
    if (!first && at + 1 + length > WIDTH) {
      printf("\n%*s", column, "");
      at = column, first = true;
    }
    at += printf("%s%.*s", first ? "" : " ", length, text);
    first = false;
    text += length;
    if (*text == '\n') { /* a paragraph ends */
      printf("\n\n%*s", column, "");
      at = column, first = true;
    }
    text += strspn(text, " \n");
  }
  putchar('\n');
}

/* "--name VALUE", or the word that a row explains, in `term`; its length. */
static int write_term(const attend_cli_option *option, char *term, size_t size) {
  if (!option->name) return snprintf(term, size, "%s", option->value);
  const char *value = option->value ? option->value : "";
  return snprintf(term, size, "--%s%s%s", option->name, *value && *value != '[' ? " " : "", value);
}

/* The terms of a line: those of rows that have no help of their own, and that of the row that has it for all of them.
 */
static size_t write_line(const attend_cli_option *options, size_t row, char *line, size_t size) {
  int length = 0;
  for (bool more = true; more; row++) {
    if (length && length + 1 < (int)size) line[length++] = ' ';
    length += write_term(&options[row], line + length, size - (size_t)length);
    more = !options[row].help;
  }
  return row;
}

static bool is_title(const attend_cli_option *row) { return !row->name && !row->value; }

/* The widest term of those that leave room for help beside them. */
static int column_of_help(const attend_cli_command *command) {
  int widest = (int)strlen("--help");
  for (size_t i = 0; i < command->count;) {
    char line[256];
    if (is_title(&command->options[i]) && ++i) continue;
    i = write_line(command->options, i, line, sizeof line);
    const int length = (int)strlen(line);
    if (length > widest && length <= WIDEST_TERM) widest = length;
  }
  return INDENT + widest + GAP;
}

static void print_row(const char *term, const char *help, int column) {
  int at = printf("%*s%s", INDENT, "", term);
  if (at > column - GAP) putchar('\n'), at = 0;
  printf("%*s", column - at, "");
  print_words(help, column, column);
}

void attend_cli_print_help(const attend_cli_command *command) {
  const int column = column_of_help(command);
  size_t last = 0; /* the row of the last option, below which --help stands */
  for (size_t i = 0; i < command->count; i++)
    if (command->options[i].name) last = i;
  printf("usage: %s\n\n", command->usage);
  print_words(command->about, 0, 0);
  if (!is_title(command->options)) putchar('\n');
  for (size_t i = 0; i < command->count;) {
    char line[256];
    if (is_title(&command->options[i])) {
      putchar('\n');
      print_words(command->options[i++].help, 0, 0);
      continue;
    }
    i = write_line(command->options, i, line, sizeof line);
    print_row(line, command->options[i - 1].help, column);
    if (i - 1 == last) print_row("--help", "this text", column);
  }
  if (command->notes) putchar('\n'), print_words(command->notes, 0, 0);
  puts("\nexamples");
  for (const char *line = command->examples; *line; line += strspn(line, "\n")) {
    const int length = (int)strcspn(line, "\n");
    printf("%*s%.*s\n", INDENT, "", length, line);
    line += length;
    if (line[0] == '\n' && line[1] == '\n') putchar('\n');
  }
}
