/* SPDX-License-Identifier: Apache-2.0 */
/**
 * An object of a JSON file, read entry by entry. It may be as large as its file, and the JSON parser takes up to 40
 * times as much memory: so only one entry is ever in memory and given to it.
 */
#ifndef ATTEND_CLI_JSON_ENTRIES_H
#define ATTEND_CLI_JSON_ENTRIES_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { ATTEND_MOST_ENTRY = 1 << 16 /* an entry has some 100 bytes */ };

/** A text that is being read. Bytes count from where it begins. */
typedef struct attend_json_text {
  FILE *file;
  int64_t size, at; /**< how much of it has been read */
  int64_t entry_at;
  size_t entry_size;
  char entry[ATTEND_MOST_ENTRY + 4]; /**< as far as it fits: in braces of its own, and with a zero after it */
} attend_json_text;

/** Takes the next byte; EOF at the end of the text. */
int attend_json_next(attend_json_text *t);
/** Takes bytes as long as they are one of `skipped`, and the one after: returns that. */
int attend_json_skip(attend_json_text *t, const char *skipped);

/**
 * Reads the rest of an object whose { was taken, up to its }, and gives each entry to `take`. False if `take` returns
 * false; `whole` says otherwise whether the object was well formed, as far as that is known without parsing its
 * entries.
 */
bool attend_json_entries(attend_json_text *t, bool (*take)(void *to, const attend_json_text *t), void *to, bool *whole);

/** What JSON takes for white space. */
#define ATTEND_JSON_SPACE " \t\r\n"

#endif
