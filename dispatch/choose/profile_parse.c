/* SPDX-License-Identifier: Apache-2.0 */
/** Reads the text of a profile: whole, or not at all. Numbers are read without strtof(), which follows the locale. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "dispatch/choose/profile.h"
#include "kernels/size.h"

/* ----------------------------------------------------------------------------------------------------------- hashes */

#define FNV_START UINT64_C(0xcbf29ce484222325)

/** FNV-1a (Fowler, Noll, Vo), continued from `hash`. */
static uint64_t fnv(uint64_t hash, const void *bytes, size_t length) {
  for (size_t i = 0; i < length; i++) hash = (hash ^ ((const unsigned char *)bytes)[i]) * UINT64_C(0x100000001b3);
  return hash;
}

uint64_t attend_profile_hash(const char *text, size_t length) { return fnv(FNV_START, text, length); }

uint64_t attend_profile_rows_hash(void) {
  uint64_t hash = FNV_START;
  for (size_t i = 0; i < attend_kernel_count(); i++) {
    const attend_kernel *k = attend_kernel_at(i);
    const uint64_t numbers[] = {
        k->body, k->isa, k->cpu, k->can, k->compute, k->dtypes, (uint64_t)k->q_rows, (uint64_t)k->k_block};
    hash = fnv(fnv(hash, k->name, strlen(k->name) + 1), numbers, sizeof numbers);
  }
  return hash;
}

/* ------------------------------------------------------------------------------------------------------------ words */

typedef struct reader {
  const char *at, *end;
  int line;
  char *why;
  size_t why_size;
} reader;

/** Says what was expected where the reader is, unless something was said already. */
static bool expected(reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool expected(reader *r, const char *format, ...) {
  if (r->why_size && !*r->why) {
    const int length = snprintf(r->why, r->why_size, "line %d: expected ", r->line);
    va_list arguments;
    va_start(arguments, format);
    if (length > 0 && (size_t)length < r->why_size)
      vsnprintf(r->why + length, r->why_size - (size_t)length, format, arguments);
    va_end(arguments);
  }
  return false;
}

/** Takes exactly this text. */
static bool literal(reader *r, const char *text) {
  const size_t length = strlen(text);
  if ((size_t)(r->end - r->at) < length || memcmp(r->at, text, length) != 0) return expected(r, "\"%s\"", text);
  r->at += length;
  return true;
}

static bool newline(reader *r) {
  if (r->at == r->end || *r->at != '\n') return expected(r, "the end of the line");
  r->at++, r->line++;
  return true;
}

/** Takes a whole number. */
static bool integer(reader *r, int64_t low, int64_t high, int64_t *value) {
  const char *start = r->at;
  *value = 0;
  for (; r->at < r->end && *r->at >= '0' && *r->at <= '9' && *value <= ATTEND_MAX_EXTENT; r->at++)
    *value = *value * 10 + (*r->at - '0');
  if (r->at > start && *value >= low && *value <= high) return true;
  return expected(r, "a whole number from %" PRId64 " to %" PRId64, low, high);
}

/** Takes a decimal number, with or without a sign and a fraction. */
static bool decimal(reader *r, float *value) {
  double sum = 0, unit = 1;
  int digits = 0;
  const bool negative = r->at < r->end && *r->at == '-';
  if (negative) r->at++;
  for (bool fraction = false; r->at < r->end && digits < 18; r->at++) {
    if (*r->at == '.' && !fraction && digits) {
      fraction = true;
      continue;
    }
    if (*r->at < '0' || *r->at > '9') break;
    sum = sum * 10 + (*r->at - '0');
    if (fraction) unit *= 10;
    digits++;
  }
  *value = (float)(negative ? -sum / unit : sum / unit);
  return digits > 0 || expected(r, "a decimal number");
}

/** Takes one of some words, which a character that is in none of them follows. */
static bool one_of(reader *r, const char *const *words, int count, int *which) {
  const size_t left = (size_t)(r->end - r->at);
  for (*which = 0; *which < count; ++*which) {
    const size_t length = strlen(words[*which]);
    if (left > length && memcmp(r->at, words[*which], length) == 0 && strchr(" /\n", r->at[length])) {
      r->at += length;
      return true;
    }
  }
  return expected(r, "%s or the like", words[0]);
}

/* ------------------------------------------------------------------------------------------------------------ lines */

/** A line of a name and what this machine has for it. */
static bool bound_to(reader *r, const char *name, const char *here) {
  const char *value = r->at + strlen(name) + 1;
  if (!literal(r, name) || !literal(r, " ")) return false;
  const char *stop = memchr(r->at, '\n', (size_t)(r->end - r->at));
  const size_t length = stop ? (size_t)(stop - value) : 0;
  if (!stop) return newline(r);
  if (length != strlen(here) || memcmp(value, here, length) != 0) {
    if (r->why_size && !*r->why)
      snprintf(r->why, r->why_size, "it was made for %s %.*s, this is %s", name, length > 60 ? 60 : (int)length, value,
               here);
    return false;
  }
  r->at = stop;
  return newline(r);
}

static bool read_header(reader *r) {
  char version[16], cores[16], rows[20];
  snprintf(version, sizeof version, "%d", ATTEND_PROFILE_VERSION);
  snprintf(cores, sizeof cores, "%d", attend_topology_get()->cores);
  snprintf(rows, sizeof rows, "%016" PRIx64, attend_profile_rows_hash());
  return bound_to(r, "attend-profile", version) && bound_to(r, "library", attend_version()) &&
         bound_to(r, "cpu", attend_cpu_get()->signature) && bound_to(r, "cores", cores) && bound_to(r, "kernels", rows);
}

static bool read_kernel(reader *r, const attend_kernel **kernel) {
  char name[80];
  size_t length = 0;
  while (r->at + length < r->end && length < sizeof name && r->at[length] > ' ') length++;
  if (length == sizeof name) return expected(r, "the name of a kernel");
  memcpy(name, r->at, length);
  name[length] = 0;
  *kernel = attend_kernel_find(name);
  if (!*kernel) return expected(r, "the name of a kernel");
  r->at += length;
  return true;
}

static bool read_teams(reader *r, attend_profile *profile) {
  int before = 0;
  for (int i = 0; i < profile->teams; i++) {
    int64_t threads;
    if (!literal(r, "team ") || !integer(r, before + 1, profile->threads, &threads) || !literal(r, " ") ||
        !decimal(r, &profile->team[i].us) || !newline(r))
      return false;
    profile->team[i].threads = before = (int)threads;
  }
  return profile->team[0].threads == 1 && before == profile->threads ? true
                                                                     : expected(r, "teams from 1 to all threads");
}

static bool read_choice(reader *r, attend_profile_column *column) {
  static const char *const splits[] = {"split", "whole"};
  int whole;
  int64_t strips;
  if (!literal(r, "choice ") || !read_kernel(r, &column->kernel) || !literal(r, " ") || !one_of(r, splits, 2, &whole) ||
      !literal(r, " ") || !integer(r, 1, 64, &strips) || !literal(r, " "))
    return false;
  column->variant = (attend_variant){whole == 1, (int)strips};
  return decimal(r, &column->mean) && newline(r);
}

static bool read_columns(reader *r, attend_profile *profile) {
  if (!literal(r, "time ") || !decimal(r, &profile->column[0].mean) || !newline(r)) return false;
  for (int c = 1; c < profile->columns; c++)
    if (!read_choice(r, &profile->column[c])) return false;
  return true;
}

/** A type up to `last`, by its name. */
static bool read_dtype(reader *r, int last, attend_dtype *dtype) {
  const char *names[ATTEND_DTYPE_COUNT];
  int which;
  for (int i = ATTEND_F32; i <= last; i++) names[i - ATTEND_F32] = attend_dtype_name((attend_dtype)i);
  if (!one_of(r, names, last, &which)) return false;
  *dtype = (attend_dtype)(ATTEND_F32 + which);
  return true;
}

static bool read_shape(reader *r, attend_profile_shape *s) {
  static const char *const masks[] = {"full", "causal"}, *const works[] = {"plain", "work"};
  const int64_t most = ATTEND_MAX_EXTENT;
  int causal, work;
  if (!literal(r, "point ") || !read_dtype(r, ATTEND_BF16, &s->q_dtype) || !literal(r, "/") ||
      !read_dtype(r, ATTEND_DTYPE_COUNT - 1, &s->kv_dtype) || !literal(r, " ") || !integer(r, 1, most, &s->batch) ||
      !literal(r, " ") || !integer(r, 1, most, &s->q_heads) || !literal(r, "/") ||
      !integer(r, 1, s->q_heads, &s->kv_heads) || !literal(r, " ") || !integer(r, 1, most, &s->q_len) ||
      !literal(r, "x") || !integer(r, 1, most, &s->kv_len) || !literal(r, " ") || !integer(r, 1, most, &s->head_dim) ||
      !literal(r, "/") || !integer(r, 1, most, &s->v_head_dim) || !literal(r, " ") ||
      !integer(r, 1, s->kv_len, &s->reach) || !literal(r, " ") || !one_of(r, masks, 2, &causal) || !literal(r, " ") ||
      !one_of(r, works, 2, &work))
    return false;
  s->causal = causal == 1;
  s->work = work == 1;
  return true;
}

static bool read_point(reader *r, attend_profile *profile, int point) {
  const char *start = r->at;
  attend_profile_shape shape;
  float axes[ATTEND_PROFILE_AXES];
  if (!read_shape(r, &shape)) return false;
  start += strlen("point ");
  snprintf(profile->name[point], sizeof *profile->name, "%.*s", (int)(r->at - start), start);
  attend_profile_axes(&shape, axes);
  profile->kinds |= 1u << attend_formats[shape.kv_dtype].kind;
  float *at = profile->axes + (point / ATTEND_PROFILE_BLOCK) * ATTEND_PROFILE_AXES * ATTEND_PROFILE_BLOCK;
  for (int a = 0; a < ATTEND_PROFILE_AXES; a++) at[a * ATTEND_PROFILE_BLOCK + point % ATTEND_PROFILE_BLOCK] = axes[a];
  for (int c = 0; c < profile->columns; c++)
    if (!literal(r, " ") || !decimal(r, &profile->weights[c * profile->stride + point])) return false;
  return newline(r);
}

/* ------------------------------------------------------------------------------------------------------- everything */

/** Memory for a profile, in one piece. */
static attend_profile *allocate(int columns, int points) {
  const size_t c = (size_t)columns, p = (size_t)points;
  const size_t stride = (p + ATTEND_PROFILE_BLOCK - 1) / ATTEND_PROFILE_BLOCK * ATTEND_PROFILE_BLOCK;
  size_t total = 0;
  size_take(&total, 1, sizeof(attend_profile));
  const size_t column = size_take(&total, c, sizeof(attend_profile_column));
  const size_t name = size_take(&total, p, ATTEND_PROFILE_NAME);
  const size_t axes = size_take(&total, stride * ATTEND_PROFILE_AXES, sizeof(float));
  const size_t weights = size_take(&total, stride * c, sizeof(float));
  char *memory = attend_alloc(total);
  if (!memory) return NULL;
  attend_profile *profile = (attend_profile *)(void *)memory;
  *profile = (attend_profile){.columns = columns, .points = points, .stride = (int)stride};
  profile->column = (attend_profile_column *)(void *)(memory + column);
  memset(profile->column, 0, c * sizeof *profile->column);
  profile->name = (char(*)[ATTEND_PROFILE_NAME])(memory + name);
  profile->axes = (float *)(void *)(memory + axes);
  profile->weights = (float *)(void *)(memory + weights);
  memset(profile->axes, 0, stride * ATTEND_PROFILE_AXES * sizeof(float));
  memset(profile->weights, 0, stride * c * sizeof(float));
  return profile;
}

void attend_profile_free(attend_profile *profile) { attend_free(profile); }

/** Whether the last line holds the hash of everything before it; then the text ends where that line begins. */
static bool check_hash(reader *r) {
  enum { LENGTH = 4 + 16 + 1 };
  char last[LENGTH + 1];
  const char *body = r->end - LENGTH;
  if (r->end - r->at > LENGTH) {
    snprintf(last, sizeof last, "end %016" PRIx64 "\n", attend_profile_hash(r->at, (size_t)(body - r->at)));
    if (memcmp(body, last, LENGTH) == 0) {
      r->end = body;
      return true;
    }
  }
  snprintf(r->why, r->why_size, "it is damaged or no profile: the hash in its last line is not that of what precedes");
  return false;
}

attend_status attend_profile_parse(const char *text, size_t length, attend_profile **profile, char *why,
                                   size_t why_size) {
  reader r = {text, text + length, 1, why, why_size};
  int64_t threads, teams, columns, points;
  float noise;
  *why = 0;
  if (!check_hash(&r) || !read_header(&r) || !literal(&r, "threads ") ||
      !integer(&r, 1, ATTEND_MOST_THREADS, &threads) || !newline(&r) || !literal(&r, "noise ") ||
      !decimal(&r, &noise) || !newline(&r) || !literal(&r, "teams ") ||
      !integer(&r, 1, ATTEND_PROFILE_MOST_TEAMS, &teams) || !newline(&r) || !literal(&r, "columns ") ||
      !integer(&r, 2, ATTEND_PROFILE_MOST_COLUMNS, &columns) || !newline(&r) || !literal(&r, "points ") ||
      !integer(&r, 1, ATTEND_PROFILE_MOST_POINTS, &points) || !newline(&r))
    return ATTEND_ERROR_ENVIRONMENT;
  attend_profile *made = allocate((int)columns, (int)points);
  if (!made) return attend_fail(ATTEND_ERROR_OUT_OF_MEMORY, "no memory for a profile of %zu bytes", length);
  made->threads = (int)threads;
  made->noise = noise;
  made->teams = (int)teams;
  bool ok = read_teams(&r, made) && read_columns(&r, made);
  for (int i = 0; ok && i < made->points; i++) ok = read_point(&r, made, i);
  if (ok && r.at != r.end) ok = expected(&r, "no more than %d points", made->points);
  if (!ok) {
    attend_profile_free(made);
    return ATTEND_ERROR_ENVIRONMENT;
  }
  *profile = made;
  return ATTEND_OK;
}
