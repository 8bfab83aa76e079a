/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/safetensors.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/byte_order.h"
#include "cli/options.h"
#include "dispatch/dispatch.h"
#include "kernels/convert.h"
#include "kernels/size.h"

enum { LENGTH_BYTES = 8, MAX_HEADER = 100000000 /* as in the reference implementation */ };

__attribute__((format(printf, 3, 4))) static bool fail(const attend_safetensors *s, const char *name,
                                                       const char *format, ...) {
  char why[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(why, sizeof why, format, arguments);
  va_end(arguments);
  if (name)
    attend_cli_error("--%s %s: tensor '%s': %s", s->option, s->path, name, why);
  else
    attend_cli_error("--%s %s: %s", s->option, s->path, why);
  return false;
}

/* ---------------------------------------------------------------------------------------------------------- header */

static bool read_at(const attend_safetensors *s, int64_t at, void *to, size_t bytes) {
  return fseeko(s->file, at, SEEK_SET) == 0 && fread(to, 1, bytes, s->file) == bytes;
}

static bool parse_header(attend_safetensors *s, const char *text, size_t size) {
  const char *end = NULL;
  s->header = cJSON_ParseWithLengthOpts(text, size, &end, false);
  while (end && end < text + size && *end == ' ') end++; /* padding */
  if (!cJSON_IsObject(s->header) || end != text + size) return fail(s, NULL, "header: expected a JSON object");
  return true;
}

bool attend_safetensors_open(attend_safetensors *s, const char *option, const char *path) {
  *s = (attend_safetensors){.option = option, .path = path, .file = fopen(path, "rb")};
  if (!s->file) return fail(s, NULL, "cannot open: %s", strerror(errno));
  struct stat info;
  if (fstat(fileno(s->file), &info) != 0) return fail(s, NULL, "cannot read: %s", strerror(errno));
  if (!S_ISREG(info.st_mode)) return fail(s, NULL, "expected a regular file");
  unsigned char bytes[LENGTH_BYTES];
  if (!read_at(s, 0, bytes, sizeof bytes)) return fail(s, NULL, "truncated: expected the header's length in 8 bytes");
  uint64_t length = 0;
  for (int i = LENGTH_BYTES; i-- > 0;) length = length << 8 | bytes[i];
  const int64_t left = (int64_t)info.st_size - LENGTH_BYTES;
  if (length > MAX_HEADER)
    return fail(s, NULL, "header length is %" PRIu64 " bytes, expected at most %d: is this a .safetensors file?",
                length, MAX_HEADER);
  if ((int64_t)length > left)
    return fail(s, NULL, "truncated: the header has %" PRIu64 " bytes, %" PRId64 " of them are there", length, left);
  s->data_at = LENGTH_BYTES + (int64_t)length;
  s->data_end = left - (int64_t)length;
  char *text = attend_cli_allocate("the header", (size_t)length, 1);
  if (!text) return false;
  bool ok = read_at(s, LENGTH_BYTES, text, (size_t)length) || fail(s, NULL, "cannot read: %s", strerror(errno));
  ok = ok && parse_header(s, text, (size_t)length);
  attend_free(text);
  return ok;
}

void attend_safetensors_close(attend_safetensors *s) {
  cJSON_Delete(s->header);
  if (s->file) fclose(s->file);
  *s = (attend_safetensors){0};
}

/* --------------------------------------------------------------------------------------------------------- tensors */

static const cJSON *find(const attend_safetensors *s, const char *name, int *count) {
  const cJSON *found = NULL, *member;
  *count = 0;
  cJSON_ArrayForEach(member, s->header) {
    if (strcmp(member->string, name) != 0) continue;
    found = member;
    ++*count;
  }
  return found;
}

bool attend_safetensors_has(const attend_safetensors *s, const char *name) {
  int count;
  return find(s, name, &count) != NULL;
}

/* A number of a JSON array that is whole and that a double holds exactly. */
static bool whole(const cJSON *number, int64_t *value) {
  if (!cJSON_IsNumber(number) || !(number->valuedouble >= 0 && number->valuedouble <= 0x1p53)) return false;
  *value = (int64_t)number->valuedouble;
  return (double)*value == number->valuedouble;
}

static bool read_shape(const attend_safetensors *s, const char *name, const cJSON *tensor, attend_npy *array) {
  const cJSON *shape = cJSON_GetObjectItemCaseSensitive(tensor, "shape"), *extent;
  if (!cJSON_IsArray(shape)) return fail(s, name, "field 'shape': expected an array");
  array->rank = 0;
  array->count = 1;
  cJSON_ArrayForEach(extent, shape) {
    if (array->rank == ATTEND_NPY_MAX_RANK) return fail(s, name, "field 'shape': more than %d dimensions", array->rank);
    int64_t *value = &array->shape[array->rank++];
    if (!whole(extent, value)) return fail(s, name, "field 'shape': expected whole numbers of at least 0");
    array->count = size_mul(array->count, (size_t)*value);
  }
  return true;
}

static bool read_offsets(const attend_safetensors *s, const char *name, const cJSON *tensor, int64_t *begin,
                         int64_t *end) {
  const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(tensor, "data_offsets");
  if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 || !whole(cJSON_GetArrayItem(offsets, 0), begin) ||
      !whole(cJSON_GetArrayItem(offsets, 1), end) || *begin > *end)
    return fail(s, name, "field 'data_offsets': expected two whole numbers, the first not greater than the second");
  if (*end > s->data_end)
    return fail(s, name, "field 'data_offsets' ends at %" PRId64 ", but the file has %" PRId64 " bytes of data", *end,
                s->data_end);
  return true;
}

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

bool attend_safetensors_read(const attend_safetensors *s, const char *name, attend_npy *array) {
  int count;
  int64_t begin = 0, end = 0;
  const cJSON *tensor = find(s, name, &count);
  *array = (attend_npy){.type = ATTEND_NPY_F32};
  if (count != 1) return fail(s, name, count ? "is there %d times" : "is not there", count);
  const char *dtype = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(tensor, "dtype"));
  const bool f32 = dtype && strcmp(dtype, "F32") == 0, f16 = dtype && strcmp(dtype, "F16") == 0;
  if (!f32 && !f16 && !(dtype && strcmp(dtype, "BF16") == 0))
    return fail(s, name, "field 'dtype' is %.20s, expected F32, F16 or BF16", dtype ? dtype : "no text");
  if (!read_shape(s, name, tensor, array) || !read_offsets(s, name, tensor, &begin, &end)) return false;
  const size_t bytes = size_mul(array->count, f32 ? sizeof(float) : sizeof(uint16_t));
  if (bytes != (size_t)(end - begin))
    return fail(s, name, "field 'data_offsets' spans %" PRId64 " bytes, but its shape needs %zu", end - begin, bytes);
  array->data = attend_cli_allocate("a tensor", array->count, sizeof(float));
  if (!array->data) return false;
  if (!read_at(s, s->data_at + begin, array->data, bytes)) {
    attend_npy_free(array);
    return fail(s, name, "cannot read its data");
  }
  attend_cli_from_little_endian(array->data, array->count, f32 ? sizeof(float) : sizeof(uint16_t));
  if (!f32) widen(array->data, array->count, f16);
  return true;
}
