/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "verify/internal.h"

#ifndef __has_feature
#define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

/* How much around a buffer is filled and checked: a page on each side. */
static size_t page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

void attend_guarded_free(attend_guarded *g) {
  if (g->start) munmap(g->start - page_size(), g->usable + 2 * page_size());
  *g = (attend_guarded){0};
}

static bool reserve(attend_guarded *g, size_t size) {
  const size_t page = page_size();
  if (g->usable >= size) return mprotect(g->start, g->usable, PROT_READ | PROT_WRITE) == 0;
  attend_guarded_free(g);
  if (size > SIZE_MAX / 2 - 4 * page) return false;
  const size_t usable = (size + page - 1) / page * page;
  unsigned char *map = mmap(NULL, usable + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) return false;
  if (mprotect(map + page, usable, PROT_READ | PROT_WRITE) != 0) {
    munmap(map, usable + 2 * page);
    return false;
  }
  g->start = map + page;
  g->usable = usable;
  return true;
}

/* The part around the buffer that is watched, by its first and last byte. */
static void neighbourhood(const attend_guarded *g, unsigned char **first, unsigned char **end) {
  const size_t page = page_size(), before = (size_t)(g->data - g->start), behind = g->usable - before - g->size;
  *first = g->data - (before < page ? before : page);
  *end = g->data + g->size + (behind < page ? behind : page);
}

bool attend_guarded_place(attend_guarded *g, size_t size, size_t gap, bool at_start, unsigned char fill) {
  if (size > SIZE_MAX - gap || !reserve(g, size + gap ? size + gap : 1)) return false;
  g->size = size;
  g->data = at_start ? g->start + gap : g->start + g->usable - gap - size;
  unsigned char *first, *end;
  neighbourhood(g, &first, &end);
  memset(first, fill, (size_t)(end - first));
  return true;
}

bool attend_guarded_freeze(attend_guarded *g) { return !g->start || mprotect(g->start, g->usable, PROT_READ) == 0; }

void attend_guarded_watch(const attend_guarded *g, bool watched) {
  if (!g->start) return;
  ASAN_UNPOISON_MEMORY_REGION(g->start, g->usable);
  if (!watched || !g->data) return;
  ASAN_POISON_MEMORY_REGION(g->start, (size_t)(g->data - g->start));
  ASAN_POISON_MEMORY_REGION(g->data + g->size, g->usable - (size_t)(g->data - g->start) - g->size);
}

bool attend_guarded_intact(const attend_guarded *g, unsigned char fill) {
  if (!g->data) return true;
  unsigned char *first, *end;
  neighbourhood(g, &first, &end);
  for (const unsigned char *p = first; p < g->data; p++)
    if (*p != fill) return false;
  for (const unsigned char *p = g->data + g->size; p < end; p++)
    if (*p != fill) return false;
  return true;
}

bool attend_guarded_near(const attend_guarded *g, const void *address, ptrdiff_t *at) {
  const unsigned char *a = address;
  if (!g->start || a < g->start - page_size() || a >= g->start + g->usable + page_size()) return false;
  *at = a - g->data;
  return true;
}
