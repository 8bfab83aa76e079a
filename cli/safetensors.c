/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/safetensors.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/byte_order.h"
#include "cli/json_entries.h"
#include "cli/options.h"
#include "dispatch/dispatch.h"
#include "kernels/convert.h"
#include "kernels/size.h"

enum { LENGTH_BYTES = 8 };

#define FAIL(s, ...) attend_cli_file_error((s)->option, (s)->path, __VA_ARGS__)
#define FAIL_TENSOR(s, name, format, ...) FAIL(s, "tensor '%.400s': " format, name, ##__VA_ARGS__)

static bool read_at(const attend_safetensors *s, int64_t at, void *to, size_t bytes) {
  return fseeko(s->file, at, SEEK_SET) == 0 && fread(to, 1, bytes, s->file) == bytes;
}

/* --------------------------------------------------------------------------------------------------------- tensors */

/* Types of elements, those that are read first. */
static const struct {
  const char *name;
  size_t bytes;
} dtypes[] = {{"F32", 4}, {"F16", 2},     {"BF16", 2},    {"F64", 8},     {"BOOL", 1}, {"U8", 1},
              {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1}, {"I16", 2},  {"U16", 2},
              {"I32", 4}, {"U32", 4},     {"I64", 8},     {"U64", 8},     {"C64", 8}};
enum { F32, F16, BF16, DTYPES = sizeof dtypes / sizeof *dtypes };

/* A number of a JSON array that is whole and that a double holds exactly. */
static bool whole(const cJSON *number, int64_t *value) {
  if (!cJSON_IsNumber(number) || !(number->valuedouble >= 0 && number->valuedouble <= 0x1p53)) return false;
  *value = (int64_t)number->valuedouble;
  return (double)*value == number->valuedouble;
}

static bool read_shape(const attend_safetensors *s, const char *name, const cJSON *tensor, attend_npy *array) {
  const cJSON *shape = cJSON_GetObjectItemCaseSensitive(tensor, "shape"), *extent;
  if (!cJSON_IsArray(shape)) return FAIL_TENSOR(s, name, "field 'shape': expected an array");
  array->rank = 0;
  array->count = 1;
  cJSON_ArrayForEach(extent, shape) {
    if (array->rank == ATTEND_NPY_MAX_RANK)
      return FAIL_TENSOR(s, name, "field 'shape': more than %d dimensions", array->rank);
    int64_t *value = &array->shape[array->rank++];
    if (!whole(extent, value)) return FAIL_TENSOR(s, name, "field 'shape': expected whole numbers of at least 0");
    array->count = size_mul(array->count, (size_t)*value);
  }
  return true;
}

static bool read_offsets(const attend_safetensors *s, const char *name, const cJSON *tensor, int64_t *begin,
                         int64_t *end) {
  const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(tensor, "data_offsets");
  if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 || !whole(cJSON_GetArrayItem(offsets, 0), begin) ||
      !whole(cJSON_GetArrayItem(offsets, 1), end) || *begin > *end)
    return FAIL_TENSOR(s, name,
                       "field 'data_offsets': expected two whole numbers, the first not greater than the second");
  if (*end > s->data_size)
    return FAIL_TENSOR(s, name, "field 'data_offsets' ends at %" PRId64 ", but the file has %" PRId64 " bytes of data",
                       *end, s->data_size);
  return true;
}

/* What the header says of a tensor: its shape, its place, and which of the types it has, DTYPES for one of the future.
 */
static bool describe(const attend_safetensors *s, const cJSON *tensor, attend_npy *array, int64_t *begin, int64_t *end,
                     int *dtype) {
  const char *name = tensor->string;
  const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(tensor, "dtype"));
  if (!text) return FAIL_TENSOR(s, name, "field 'dtype': expected text");
  if (!read_shape(s, name, tensor, array) || !read_offsets(s, name, tensor, begin, end)) return false;
  for (*dtype = 0; *dtype < DTYPES && strcmp(text, dtypes[*dtype].name) != 0;) ++*dtype;
  if (*dtype == DTYPES) return true;
  const size_t bytes = size_mul(array->count, dtypes[*dtype].bytes);
  if (bytes == (size_t)(*end - *begin)) return true;
  return FAIL_TENSOR(s, name, "field 'data_offsets' spans %" PRId64 " bytes, but its shape needs %zu in %s",
                     *end - *begin, bytes, text);
}

/* ---------------------------------------------------------------------------------------------------------- header */

static bool grow(attend_safetensors *s) {
  if (s->count & (s->count - 1)) return true; /* there is room up to the next power of two */
  void *grown = realloc(s->tensor, (s->count ? 2 * s->count : 1) * sizeof *s->tensor);
  if (grown) s->tensor = grown;
  return grown || FAIL(s, "no memory for %zu tensors", 2 * s->count);
}

/* Adds a tensor by its entry, which is the only child of `object`, or else is none. */
static bool add_tensor(attend_safetensors *s, const attend_json_text *h, const cJSON *object) {
  const cJSON *tensor = object ? object->child : NULL;
  attend_npy array;
  int64_t begin, end;
  int dtype;
  if (!tensor || tensor->next)
    return FAIL(s, "header: expected \"name\": {...} at byte %" PRId64, LENGTH_BYTES + h->entry_at);
  if (!describe(s, tensor, &array, &begin, &end, &dtype) || !grow(s)) return false;
  char *name = strdup(tensor->string);
  if (!name) return FAIL(s, "no memory for the names of %zu tensors", s->count + 1);
  s->tensor[s->count++] = (attend_safetensors_tensor){name, h->entry_at, h->entry_size, begin, end};
  return true;
}

/* What the metadata say is not used, so that only their end is looked for. */
static bool take_entry(void *file, const attend_json_text *h) {
  static const char metadata[] = "\"__metadata__\"";
  attend_safetensors *s = file;
  const char *text = h->entry + 1;
  if (strncmp(text + strspn(text, ATTEND_JSON_SPACE), metadata, sizeof metadata - 1) == 0) return true;
  if (h->entry_size > ATTEND_MOST_ENTRY)
    return FAIL(s, "header: the entry at byte %" PRId64 " has %zu bytes, expected at most %d",
                LENGTH_BYTES + h->entry_at, h->entry_size, ATTEND_MOST_ENTRY);
  cJSON *object = cJSON_ParseWithOpts(h->entry, NULL, true);
  const bool ok = add_tensor(s, h, object);
  cJSON_Delete(object);
  return ok;
}

static bool read_header(attend_safetensors *s, int64_t size) {
  attend_json_text h = {.file = s->file, .size = size};
  bool whole = attend_json_next(&h) == '{';
  if (whole && !attend_json_entries(&h, take_entry, s, &whole)) return false;
  if (whole && attend_json_skip(&h, " ") == EOF) return true; /* padding */
  return FAIL(s, "header: expected a JSON object, which ends at byte %" PRId64 " in something else",
              LENGTH_BYTES + h.at);
}

/* -------------------------------------------------------------------------------------------------------- the file */

static int by_place(const void *a, const void *b) {
  const attend_safetensors_tensor *x = a, *y = b;
  return x->begin != y->begin ? (x->begin > y->begin) - (x->begin < y->begin) : (x->end > y->end) - (x->end < y->end);
}

static int by_name(const void *a, const void *b) {
  const attend_safetensors_tensor *x = a, *y = b;
  return strcmp(x->name, y->name);
}

/* Every byte of the data belongs to one tensor, and every name too. */
static bool check_tensors(attend_safetensors *s) {
  attend_safetensors_tensor *t = s->tensor;
  int64_t end = 0;
  if (s->count) qsort(t, s->count, sizeof *t, by_place);
  for (size_t i = 0; i < s->count; end = t[i++].end)
    if (t[i].begin != end)
      return FAIL_TENSOR(s, t[i].name,
                         "field 'data_offsets' begins at %" PRId64 ", expected %" PRId64 ", where %s%.400s%s",
                         t[i].begin, end, i ? "'" : "the data begins", i ? t[i - 1].name : "", i ? "' ends" : "");
  if (end != s->data_size)
    return FAIL(s, "the file has %" PRId64 " bytes of data, expected %" PRId64 ", where its last tensor ends",
                s->data_size, end);
  if (s->count) qsort(t, s->count, sizeof *t, by_name);
  for (size_t i = 1; i < s->count; i++)
    if (strcmp(t[i - 1].name, t[i].name) == 0) return FAIL_TENSOR(s, t[i].name, "is there twice");
  return true;
}

bool attend_safetensors_open(attend_safetensors *s, const char *option, const char *path) {
  *s = (attend_safetensors){.option = option, .path = path, .file = fopen(path, "rb")};
  if (!s->file) return FAIL(s, "cannot open: %s", strerror(errno));
  struct stat info;
  if (fstat(fileno(s->file), &info) != 0) return FAIL(s, "cannot read: %s", strerror(errno));
  if (!S_ISREG(info.st_mode)) return FAIL(s, "expected a regular file");
  unsigned char bytes[LENGTH_BYTES];
  if (!read_at(s, 0, bytes, sizeof bytes)) return FAIL(s, "truncated: expected the header's length in 8 bytes");
  uint64_t length = 0;
  for (int i = LENGTH_BYTES; i-- > 0;) length = length << 8 | bytes[i];
  const int64_t left = (int64_t)info.st_size - LENGTH_BYTES;
  if (length > (uint64_t)left)
    return FAIL(s, "truncated: the header has %" PRIu64 " bytes, %" PRId64 " of them are there", length, left);
  s->data_at = LENGTH_BYTES + (int64_t)length;
  s->data_size = left - (int64_t)length;
  return read_header(s, (int64_t)length) && check_tensors(s);
}

void attend_safetensors_close(attend_safetensors *s) {
  for (size_t i = 0; i < s->count; i++) free(s->tensor[i].name);
  free(s->tensor);
  if (s->file) fclose(s->file);
  *s = (attend_safetensors){0};
}

static const attend_safetensors_tensor *find(const attend_safetensors *s, const char *name) {
  const attend_safetensors_tensor like = {.name = (char *)name};
  return s->count ? bsearch(&like, s->tensor, s->count, sizeof like, by_name) : NULL;
}

bool attend_safetensors_has(const attend_safetensors *s, const char *name) { return find(s, name) != NULL; }

/* From the end, so that numbers can be widened where they lie. */
static void widen(float *numbers, size_t count, bool f16) {
  const uint16_t *bits = (const uint16_t *)numbers;
  for (size_t i = count; i-- > 0;) {
    uint16_t narrow;
    memcpy(&narrow, bits + i, sizeof narrow);
    const float wide = f16 ? f16_to_f32(narrow) : bf16_to_f32(narrow);
    memcpy(numbers + i, &wide, sizeof wide);
  }
}

/* Reads the data of a tensor whose entry is read again. */
static bool read_tensor(const attend_safetensors *s, const attend_safetensors_tensor *t, const cJSON *object,
                        attend_npy *array) {
  const cJSON *tensor = object ? object->child : NULL;
  int64_t begin, end;
  int dtype;
  if (!tensor || tensor->next || strcmp(tensor->string, t->name) != 0)
    return FAIL_TENSOR(s, t->name, "cannot read its entry in the header again");
  if (!describe(s, tensor, array, &begin, &end, &dtype)) return false;
  if (dtype != F32 && dtype != F16 && dtype != BF16)
    return FAIL_TENSOR(s, t->name, "field 'dtype' is %.20s, expected F32, F16 or BF16",
                       cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(tensor, "dtype")));
  array->data = attend_cli_allocate("a tensor", array->count, sizeof(float));
  if (!array->data) return false;
  if (!read_at(s, s->data_at + begin, array->data, (size_t)(end - begin)))
    return FAIL_TENSOR(s, t->name, "cannot read its data");
  attend_cli_from_little_endian(array->data, array->count, dtype == F32 ? sizeof(float) : sizeof(uint16_t));
  if (dtype != F32) widen(array->data, array->count, dtype == F16);
  return true;
}

bool attend_safetensors_read(const attend_safetensors *s, const char *name, attend_npy *array) {
  const attend_safetensors_tensor *t = find(s, name);
  *array = (attend_npy){.type = ATTEND_NPY_F32};
  if (!t) return FAIL_TENSOR(s, name, "is not there");
  char entry[ATTEND_MOST_ENTRY + 4] = "{";
  memcpy(entry + 1 + t->entry_size, "}", 2);
  cJSON *object =
      read_at(s, LENGTH_BYTES + t->entry_at, entry + 1, t->entry_size) ? cJSON_ParseWithOpts(entry, NULL, true) : NULL;
  const bool ok = read_tensor(s, t, object, array);
  if (!ok) attend_npy_free(array);
  cJSON_Delete(object);
  return ok;
}
