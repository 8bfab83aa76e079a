/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/model.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/options.h"
#include "dispatch/dispatch.h"

/* Ten times that of the largest models; the JSON parser takes up to 40 times as much memory. */
enum { MOST_INDEX = 1 << 26 };

__attribute__((format(printf, 2, 3))) static bool fail(const attend_model *m, const char *format, ...) {
  char why[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(why, sizeof why, format, arguments);
  va_end(arguments);
  attend_cli_error("--%s %s: %s", m->option, m->path, why);
  return false;
}

/* ----------------------------------------------------------------------------------------------------------- index */

static int by_name(const void *a, const void *b) {
  const attend_model_entry *x = a, *y = b;
  return strcmp(x->name, y->name);
}

static const attend_model_entry *find(const attend_model *m, const char *name) {
  const attend_model_entry like = {.name = name};
  return m->entries ? bsearch(&like, m->entry, m->entries, sizeof like, by_name) : NULL;
}

/* The whole file, with a zero after it. NULL after reporting why not. */
static char *read_text(const attend_model *m, FILE *file, size_t *size) {
  struct stat info;
  if (fstat(fileno(file), &info) != 0 || !S_ISREG(info.st_mode)) {
    fail(m, "expected a regular file");
    return NULL;
  }
  if (info.st_size > MOST_INDEX) {
    fail(m, "has %lld bytes, expected at most %d of an index", (long long)info.st_size, MOST_INDEX);
    return NULL;
  }
  *size = (size_t)info.st_size;
  char *text = attend_cli_allocate("the index", *size + 1, 1);
  if (!text) return NULL;
  text[*size] = '\0';
  if (fread(text, 1, *size, file) == *size) return text;
  fail(m, "cannot read: %s", strerror(errno));
  attend_free(text);
  return NULL;
}

static bool parse_index(attend_model *m) {
  FILE *file = fopen(m->path, "rb");
  if (!file) return fail(m, "cannot open: %s", strerror(errno));
  size_t size = 0;
  char *text = read_text(m, file, &size);
  fclose(file);
  if (!text) return false;
  if (strlen(text) == size) m->index = cJSON_ParseWithOpts(text, NULL, true);
  attend_free(text);
  return m->index || fail(m, "expected an index of shards, which is a JSON object");
}

/* An index names files of its own folder, and nothing else. */
static bool is_plain(const char *file) {
  return file && *file && !strchr(file, '/') && !strchr(file, '\\') && strcmp(file, ".") != 0 &&
         strcmp(file, "..") != 0;
}

static bool open_index(attend_model *m) {
  if (!parse_index(m)) return false;
  const cJSON *map = cJSON_GetObjectItemCaseSensitive(m->index, "weight_map"), *member;
  if (!cJSON_IsObject(map)) return fail(m, "field 'weight_map': expected an object of tensors and their files");
  m->entry = calloc((size_t)cJSON_GetArraySize(map) + 1, sizeof *m->entry);
  if (!m->entry) return fail(m, "no memory for the names of its tensors");
  cJSON_ArrayForEach(member, map) {
    const char *file = cJSON_GetStringValue(member);
    if (!is_plain(file))
      return fail(m, "field 'weight_map': tensor '%.400s' is in '%.400s', expected a file beside the index",
                  member->string, file ? file : "");
    m->entry[m->entries++] = (attend_model_entry){member->string, file};
  }
  qsort(m->entry, m->entries, sizeof *m->entry, by_name);
  for (size_t i = 1; i < m->entries; i++)
    if (strcmp(m->entry[i - 1].name, m->entry[i].name) == 0)
      return fail(m, "field 'weight_map': tensor '%.400s' is there twice", m->entry[i].name);
  return true;
}

/* Opens the file of a tensor, if it is not the one that is open. */
static bool open_shard(attend_model *m, const char *file) {
  char path[PATH_MAX];
  const char *slash = strrchr(m->path, '/');
  const int folder = slash ? (int)(slash + 1 - m->path) : 0;
  if (snprintf(path, sizeof path, "%.*s%s", folder, m->path, file) >= (int)sizeof path)
    return fail(m, "the path of '%.400s' is too long", file);
  if (m->file.file && strcmp(path, m->shard) == 0) return true;
  attend_safetensors_close(&m->file);
  strcpy(m->shard, path);
  return attend_outputs_spare(m->outputs, m->option, m->shard) &&
         attend_safetensors_open(&m->file, m->option, m->shard);
}

/* ----------------------------------------------------------------------------------------------------------- model */

bool attend_model_open(attend_model *m, const char *option, const char *path, const attend_outputs *outputs) {
  static const char ending[] = ".json";
  const size_t length = strlen(path), end = sizeof ending - 1;
  *m = (attend_model){.option = option, .path = path, .outputs = outputs};
  m->sharded = length >= end && strcmp(path + length - end, ending) == 0;
  return m->sharded ? open_index(m) : attend_safetensors_open(&m->file, option, path);
}

void attend_model_close(attend_model *m) {
  attend_safetensors_close(&m->file);
  cJSON_Delete(m->index);
  free(m->entry);
  *m = (attend_model){0};
}

size_t attend_model_count(const attend_model *m) { return m->sharded ? m->entries : m->file.count; }

const char *attend_model_name(const attend_model *m, size_t i) {
  return m->sharded ? m->entry[i].name : m->file.tensor[i].name;
}

bool attend_model_has(const attend_model *m, const char *name) {
  return m->sharded ? find(m, name) != NULL : attend_safetensors_has(&m->file, name);
}

bool attend_model_read(attend_model *m, const char *name, attend_npy *array) {
  if (m->sharded) {
    const attend_model_entry *entry = find(m, name);
    *array = (attend_npy){0};
    if (!entry) return fail(m, "tensor '%.400s': is not there", name);
    if (!open_shard(m, entry->file)) return false;
  }
  return attend_safetensors_read(&m->file, name, array);
}
