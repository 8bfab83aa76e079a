/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/model.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/json_entries.h"
#include "cli/options.h"
#include "dispatch/dispatch.h"

#define FAIL(m, ...) attend_cli_file_error((m)->option, (m)->path, __VA_ARGS__)

/* ----------------------------------------------------------------------------------------------------------- index */

static int by_name(const void *a, const void *b) {
  const attend_model_entry *x = a, *y = b;
  return strcmp(x->name, y->name);
}

static const attend_model_entry *find(const attend_model *m, const char *name) {
  const attend_model_entry like = {.name = name};
  return m->entries ? bsearch(&like, m->entry, m->entries, sizeof like, by_name) : NULL;
}

/* Where an index has its weight_map, if it has one: the bytes after its {. */
typedef struct map {
  const attend_model *m;
  int64_t at, size;
} map;

/* Of a field of the index only weight_map is used, so that only the end of others is looked for. */
static bool find_map(void *found, const attend_json_text *t) {
  static const char name[] = "\"weight_map\"";
  map *to = found;
  const char *begin = t->entry + 1, *text = begin + strspn(begin, ATTEND_JSON_SPACE);
  if (strncmp(text, name, sizeof name - 1) != 0) return true;
  text += sizeof name - 1;
  text += strspn(text, ATTEND_JSON_SPACE);
  const bool colon = *text == ':';
  text += colon;
  text += strspn(text, ATTEND_JSON_SPACE);
  if (!colon || *text != '{') return FAIL(to->m, "field 'weight_map': expected an object of tensors and their files");
  if (to->size) return FAIL(to->m, "field 'weight_map' is there twice");
  to->at = t->entry_at + (text + 1 - begin);
  to->size = t->at - 1 - to->at;
  return true;
}

/* An index names files of its own folder, and nothing else. */
static bool is_plain(const char *file) {
  return file && *file && !strchr(file, '/') && !strchr(file, '\\') && strcmp(file, ".") != 0 &&
         strcmp(file, "..") != 0;
}

static bool grow(attend_model *m) {
  if (m->entries & (m->entries - 1)) return true; /* there is room up to the next power of two */
  void *grown = realloc(m->entry, (m->entries ? 2 * m->entries : 1) * sizeof *m->entry);
  if (grown) m->entry = grown;
  return grown || FAIL(m, "no memory for the names of its tensors");
}

/* Appends to the names, where there is room: in the file each has quotes beside, and none is shorter there. */
static const char *keep(attend_model *m, const char *name) {
  char *kept = m->names + m->names_size;
  m->names_size += strlen(name) + 1;
  return strcpy(kept, name);
}

/* Adds a tensor by its entry, which is the only child of `object`, or else is none. */
static bool add_tensor(attend_model *m, const attend_json_text *t, const cJSON *object) {
  const cJSON *tensor = object ? object->child : NULL;
  if (!tensor || tensor->next || t->entry_size > ATTEND_MOST_ENTRY)
    return FAIL(m, "field 'weight_map': expected \"tensor\": \"file\" at byte %" PRId64, t->entry_at);
  const char *file = cJSON_GetStringValue(tensor);
  if (!is_plain(file))
    return FAIL(m, "field 'weight_map': tensor '%.400s' is in '%.400s', expected a file beside the index",
                tensor->string, file ? file : "");
  if (!grow(m)) return false;
  const char *name = keep(m, tensor->string), *last = m->entries ? m->entry[m->entries - 1].file : "";
  m->entry[m->entries++] = (attend_model_entry){name, strcmp(file, last) == 0 ? last : keep(m, file)};
  return true;
}

static bool take_entry(void *model, const attend_json_text *t) {
  cJSON *object = cJSON_ParseWithOpts(t->entry, NULL, true);
  const bool ok = add_tensor(model, t, object);
  cJSON_Delete(object);
  return ok;
}

static bool read_index(attend_model *m, FILE *file) {
  struct stat info;
  if (fstat(fileno(file), &info) != 0 || !S_ISREG(info.st_mode)) return FAIL(m, "expected a regular file");
  attend_json_text t = {.file = file, .size = (int64_t)info.st_size};
  map found = {.m = m};
  bool whole = attend_json_skip(&t, ATTEND_JSON_SPACE) == '{';
  if (whole && !attend_json_entries(&t, find_map, &found, &whole)) return false;
  if (!whole || attend_json_skip(&t, ATTEND_JSON_SPACE) != EOF)
    return FAIL(m, "expected an index of shards, which is a JSON object");
  if (!found.size) return FAIL(m, "field 'weight_map': expected an object of tensors and their files");
  m->names = attend_cli_allocate("the index", (size_t)found.size, 1);
  if (!m->names) return false;
  t.at = found.at, t.size = found.at + found.size;
  if (fseeko(file, found.at, SEEK_SET) != 0) return FAIL(m, "cannot read: %s", strerror(errno));
  if (!attend_json_entries(&t, take_entry, m, &whole)) return false;
  return (whole && attend_json_skip(&t, ATTEND_JSON_SPACE) == EOF) ||
         FAIL(m, "field 'weight_map': expected an object of tensors and their files");
}

static bool open_index(attend_model *m) {
  FILE *file = fopen(m->path, "rb");
  if (!file) return FAIL(m, "cannot open: %s", strerror(errno));
  const bool ok = read_index(m, file);
  fclose(file);
  if (!ok) return false;
  if (m->entries) qsort(m->entry, m->entries, sizeof *m->entry, by_name);
  for (size_t i = 1; i < m->entries; i++)
    if (strcmp(m->entry[i - 1].name, m->entry[i].name) == 0)
      return FAIL(m, "field 'weight_map': tensor '%.400s' is there twice", m->entry[i].name);
  return true;
}

/* Opens the file of a tensor, if it is not the one that is open. */
static bool open_shard(attend_model *m, const char *file) {
  char path[PATH_MAX];
  const char *slash = strrchr(m->path, '/');
  const int folder = slash ? (int)(slash + 1 - m->path) : 0;
  if (snprintf(path, sizeof path, "%.*s%s", folder, m->path, file) >= (int)sizeof path)
    return FAIL(m, "the path of '%.400s' is too long", file);
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
  attend_free(m->names);
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
    if (!entry) return FAIL(m, "tensor '%.400s': is not there", name);
    if (!open_shard(m, entry->file)) return false;
  }
  return attend_safetensors_read(&m->file, name, array);
}
