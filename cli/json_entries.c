/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/json_entries.h"

#include <string.h>

int attend_json_next(attend_json_text *t) {
  if (t->at == t->size) return EOF;
  t->at++;
  return getc_unlocked(t->file);
}

int attend_json_skip(attend_json_text *t, const char *skipped) {
  int c;
  while ((c = attend_json_next(t)) > 0 && strchr(skipped, c)) {
  }
  return c;
}

/* Reads an entry, and what ends it: a comma, or the object's last brace. Returns that, or 0 if neither is there. */
static int read_entry(attend_json_text *t) {
  int depth = 0, c;
  bool quoted = false, escaped = false;
  t->entry_at = t->at;
  t->entry_size = 0;
  while ((c = attend_json_next(t)) > 0) {
    if (c == '"' && !escaped) quoted = !quoted;
    escaped = quoted && c == '\\' && !escaped;
    if (!quoted) {
      if (depth == 0 && (c == ',' || c == '}')) break;
      depth += (c == '{' || c == '[') - (c == '}' || c == ']');
      if (depth < 0) return 0;
    }
    if (t->entry_size < ATTEND_MOST_ENTRY) t->entry[1 + t->entry_size] = (char)c;
    t->entry_size++;
  }
  const size_t kept = t->entry_size < ATTEND_MOST_ENTRY ? t->entry_size : ATTEND_MOST_ENTRY;
  t->entry[0] = '{';
  memcpy(t->entry + 1 + kept, "}", 2);
  return c > 0 ? c : 0;
}

bool attend_json_entries(attend_json_text *t, bool (*take)(void *to, const attend_json_text *t), void *to,
                         bool *whole) {
  int c = ',';
  for (bool first = true; c == ','; first = false) {
    c = read_entry(t);
    const bool nothing = first && c == '}' && strspn(t->entry + 1, ATTEND_JSON_SPACE) == t->entry_size;
    if (c && !nothing && !take(to, t)) return false;
  }
  *whole = c == '}';
  return true;
}
