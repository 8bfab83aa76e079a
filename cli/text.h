/* SPDX-License-Identifier: Apache-2.0 */
/** Text from files, names and the environment, which may hold anything, on its way to a terminal or a page. */
#ifndef ATTEND_CLI_TEXT_H
#define ATTEND_CLI_TEXT_H

#include <stdio.h>

/**
 * Bytes of the UTF-8 character at `text`; 0 if that is none, a control character (C1 included: to some terminals U+009B
 * begins an escape sequence as ESC [ does), or none that XML allows.
 */
int attend_cli_character(const char *text);

/** Turns each byte of what is no such character into a question mark. Returns `text`. */
char *attend_cli_clean(char *text);

/** Prints a text as that would leave it. */
void attend_cli_print_clean(FILE *to, const char *text);

#endif
