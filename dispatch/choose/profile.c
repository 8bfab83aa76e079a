/* SPDX-License-Identifier: Apache-2.0 */
/** Finds the profile to use, and keeps what it has read for as long as the process lives. */
#include "dispatch/choose/profile.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "dispatch/machine/os.h"

/** A larger file is no profile. */
enum { MOST_BYTES = 32 << 20 };

/* ----------------------------------------------------------------------------------------------------------- places */

int attend_profile_places(const attend_env *env, char place[ATTEND_PROFILE_PLACES][ATTEND_PROFILE_PATH]) {
  char name[80];
  int count = 0, length = 0;
  snprintf(name, sizeof name, "%s.profile", attend_cpu_get()->signature);
  for (char *c = name; *c; c++)
    if (*c == '/') *c = '_';
  /* A relative XDG_CACHE_HOME is to be ignored: https://specifications.freedesktop.org/basedir-spec/latest */
  if (*env->cache == '/')
    length = snprintf(place[count], ATTEND_PROFILE_PATH, "%s/attend/%s", env->cache, name);
  else if (*env->home == '/')
    length = snprintf(place[count], ATTEND_PROFILE_PATH, "%s/.cache/attend/%s", env->home, name);
  if (length > 0 && length < ATTEND_PROFILE_PATH) count++;
  if (attend_os_profiles) snprintf(place[count++], ATTEND_PROFILE_PATH, "%s/%s", attend_os_profiles, name);
  return count;
}

/* ---------------------------------------------------------------------------------------------------------- reading */

/**
 * Reads a file. ATTEND_ERROR_ENVIRONMENT with the reason in `why`; or, with `*there` false, because there is no file.
 */
static attend_status read_profile(const char *path, attend_profile **profile, bool *there, char *why, size_t why_size) {
  char *text = NULL;
  size_t length = 0;
  const int error = attend_os_read_file(path, MOST_BYTES, &text, &length);
  *there = error != ENOENT && error != ENOTDIR;
  if (error == ENOMEM) return attend_fail(ATTEND_ERROR_OUT_OF_MEMORY, "no memory to read %.200s", path);
  if (error) {
    snprintf(why, why_size, "%s", error == EFBIG ? "it is too large for a profile" : strerror(error));
    return ATTEND_ERROR_ENVIRONMENT;
  }
  const attend_status status = attend_profile_parse(text, length, profile, why, why_size);
  attend_free(text);
  return status;
}

/* ---------------------------------------------------------------------------------------------------- what was read */

/**
 * What was found under an environment; never changed once it is in the list. Entries are only ever added at the front,
 * without a lock, so that a fork in the middle leaves the child a list that works.
 */
typedef struct entry {
  struct entry *next;
  attend_profile_state state;
  char key[3][ATTEND_PROFILE_PATH]; /**< ATTEND_PROFILE, XDG_CACHE_HOME and HOME */
  char path[ATTEND_PROFILE_PATH], why[256];
} entry;

static _Atomic(entry *) entries;

/** Whether a key, which is cut off where it is too long for a path, was made of a value. */
static bool same(const char *key, const char *value) { return strncmp(key, value, ATTEND_PROFILE_PATH - 1) == 0; }

/** Of a named file the other variables mean nothing. */
static bool is_for(const entry *e, const attend_env *env) {
  if (strcmp(e->key[0], env->profile) != 0) return false;
  return *env->profile || (same(e->key[1], env->cache) && same(e->key[2], env->home));
}

static const entry *find(const attend_env *env) {
  for (const entry *e = atomic_load_explicit(&entries, memory_order_acquire); e; e = e->next)
    if (is_for(e, env)) return e;
  return NULL;
}

/** Two threads that read the same file at the same time both keep it: rare, and small. */
static void keep(entry *e) {
  e->next = atomic_load_explicit(&entries, memory_order_relaxed);
  while (!atomic_compare_exchange_weak_explicit(&entries, &e->next, e, memory_order_release, memory_order_relaxed)) {
  }
}

static void set_state(entry *e, const char *path, const attend_profile *profile) {
  strcpy(e->path, path); /* both are as long as a path may be */
  e->state = (attend_profile_state){.profile = profile, .path = e->path, .why = e->why};
}

/** Looks where the environment says. */
static attend_status look(const attend_env *env, entry *e) {
  char place[ATTEND_PROFILE_PLACES][ATTEND_PROFILE_PATH];
  attend_profile *profile = NULL;
  bool there;
  if (*env->profile) {
    const attend_status status = read_profile(env->profile, &profile, &there, e->why, sizeof e->why);
    set_state(e, env->profile, profile);
    return status;
  }
  const int places = attend_profile_places(env, place);
  for (int i = 0; i < places; i++) {
    const attend_status status = read_profile(place[i], &profile, &there, e->why, sizeof e->why);
    set_state(e, place[i], profile);
    if (status != ATTEND_ERROR_ENVIRONMENT) return status;
    if (there) return ATTEND_OK; /* rejected: an older one further on would only hide that */
  }
  snprintf(e->why, sizeof e->why, "there is none");
  set_state(e, "", NULL);
  return ATTEND_OK;
}

attend_status attend_profile_get(const attend_env *env, attend_profile_state *state) {
  if (strcmp(env->profile, "off") == 0) {
    *state = (attend_profile_state){.path = "",
                                    .why = env->profile_of_options ? "the options say so" : "ATTEND_PROFILE is off"};
    return ATTEND_OK;
  }
  const entry *known = find(env);
  if (known) {
    *state = known->state;
    return ATTEND_OK;
  }
  entry *e = attend_alloc(sizeof *e);
  if (!e) return attend_fail(ATTEND_ERROR_OUT_OF_MEMORY, "no memory for %zu bytes about a profile", sizeof *e);
  memset(e, 0, sizeof *e);
  snprintf(e->key[0], sizeof e->key[0], "%s", env->profile);
  snprintf(e->key[1], sizeof e->key[1], "%s", env->cache);
  snprintf(e->key[2], sizeof e->key[2], "%s", env->home);
  const attend_status status = look(env, e);
  if (status == ATTEND_OK) {
    keep(e);
    *state = e->state;
    return ATTEND_OK;
  }
  /* Not kept: the file may be there, or mended, the next time. */
  const bool unusable = status == ATTEND_ERROR_ENVIRONMENT;
  if (unusable)
    attend_fail(status, "%s is \"%.100s\", which cannot be used: %s",
                env->profile_of_options ? "profile" : "ATTEND_PROFILE", env->profile, e->why);
  attend_free(e);
  return unusable && env->profile_of_options ? ATTEND_ERROR_INVALID_ARGUMENT : status;
}
