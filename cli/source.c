/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/source.h"

#include <inttypes.h>
#include <math.h>

#include "cli/options.h"
#include "dispatch/dispatch.h"
#include "kernels/convert.h"
#include "kernels/integers.h"
#include "kernels/size.h"

bool attend_source_fail_shape(const attend_source *s, const char *expected) {
  char shape[256];
  attend_npy_shape_text(s->array->rank, s->array->shape, shape, sizeof shape);
  attend_cli_error("--%s %s: field 'shape' is %s, expected %s", s->option, s->path, shape, expected);
  return false;
}

bool attend_source_fail_type(const attend_source *s, const char *expected) {
  attend_cli_error("--%s %s: field 'descr' is %s, expected %s", s->option, s->path,
                   attend_npy_type_name(s->array->type), expected);
  return false;
}

bool attend_source_read(const attend_source *s) {
  char why[512];
  if (attend_npy_read(s->path, s->array, why, sizeof why)) return true;
  attend_cli_error("--%s %s: %s", s->option, s->path, why);
  return false;
}

/* Puts converted elements in the place of those that were read. */
static void replace(const attend_source *s, void *data, attend_npy_type type) {
  attend_free(s->array->data);
  s->array->data = data;
  s->array->type = type;
}

static void *allocate(const attend_source *s, size_t element, const char *type) {
  void *to = attend_alloc(size_mul(s->array->count, element));
  if (!to) attend_cli_error("--%s %s: no memory to convert it to %s", s->option, s->path, type);
  return to;
}

/* ---------------------------------------------------------------------------------------------------------- numbers */

static attend_dtype dtype_of(const attend_npy *array) {
  return array->type == ATTEND_NPY_F32 ? ATTEND_F32 : array->type == ATTEND_NPY_F16 ? ATTEND_F16 : ATTEND_BF16;
}

attend_dtype attend_source_dtype(const attend_source *s) { return dtype_of(s->array); }

static float number_at(const attend_npy *array, size_t index) {
  if (array->type == ATTEND_NPY_F32) return ((const float *)array->data)[index];
  uint16_t bits = ((const uint16_t *)array->data)[index];
  return array->type == ATTEND_NPY_F16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

/* Rounds float64 to float32. */
static bool narrow(const attend_source *s) {
  const double *from = s->array->data;
  float *to = allocate(s, sizeof *to, "float32");
  if (!to) return false;
  for (size_t i = 0; i < s->array->count; i++) {
    to[i] = (float)from[i];
    if (!isinf(to[i]) || isinf(from[i])) continue;
    attend_cli_error("--%s %s: element %zu is %g, expected a number in the range of float32", s->option, s->path, i,
                     from[i]);
    attend_free(to);
    return false;
  }
  replace(s, to, ATTEND_NPY_F32);
  return true;
}

bool attend_source_as_numbers(const attend_source *s) {
  const attend_npy_type type = s->array->type;
  if (type == ATTEND_NPY_F64) return narrow(s);
  if (type == ATTEND_NPY_F32 || type == ATTEND_NPY_F16 || type == ATTEND_NPY_BF16) return true;
  if (type == ATTEND_NPY_U16 && s->bf16_bits) return true;
  return attend_source_fail_type(
      s, type == ATTEND_NPY_U16
             ? "float32, float16, bfloat16 or float64; if it holds the bits of bfloat16, add --bits bf16"
             : "float32, float16, bfloat16, float64, or uint16 with --bits bf16");
}

bool attend_source_numbers(const attend_source *s) { return attend_source_read(s) && attend_source_as_numbers(s); }

bool attend_source_convert(const attend_source *s, attend_dtype dtype) {
  attend_npy *array = s->array;
  if (dtype_of(array) == dtype) return true;
  void *to = allocate(s, attend_dtype_size(dtype), attend_dtype_name(dtype));
  if (!to) return false;
  for (size_t i = 0; i < array->count; i++) {
    float number = number_at(array, i);
    if (dtype == ATTEND_F32)
      ((float *)to)[i] = number;
    else
      ((uint16_t *)to)[i] = dtype == ATTEND_F16 ? f32_to_f16(number) : f32_to_bf16(number);
  }
  replace(s, to, dtype == ATTEND_F32 ? ATTEND_NPY_F32 : dtype == ATTEND_F16 ? ATTEND_NPY_F16 : ATTEND_NPY_U16);
  return true;
}

/* NaN and +inf have no meaning in what is added to scores; -inf has, where it excludes. */
bool attend_source_check(const attend_source *s, bool may_exclude) {
  for (size_t i = 0; i < s->array->count; i++) {
    float number = number_at(s->array, i);
    if (isfinite(number) || (may_exclude && isinf(number) && number < 0)) continue;
    attend_cli_error("--%s %s: element %zu is %g, expected a finite number%s", s->option, s->path, i, (double)number,
                     may_exclude ? " or -inf" : "");
    return false;
  }
  return true;
}

/* ----------------------------------------------------------------------------------------------------------- shapes */

bool attend_source_fits(const attend_source *s, int rank, const int64_t want[4], const char *const names[4]) {
  bool fits = s->array->rank == rank;
  for (int i = 0; fits && i < rank; i++) {
    int64_t wanted = want[4 - rank + i];
    fits = wanted == -1 || s->array->shape[i] == wanted;
  }
  if (fits) return true;
  char expected[200] = "(";
  size_t length = 1;
  for (int axis = 4 - rank; axis < 4; axis++) {
    char number[24];
    snprintf(number, sizeof number, "%" PRId64, want[axis]);
    length +=
        (size_t)snprintf(expected + length, sizeof expected - length, "%s%s", want[axis] == -1 ? names[axis] : number,
                         axis < 3    ? ", "
                         : rank == 1 ? ",)"
                                     : ")");
  }
  return attend_source_fail_shape(s, expected);
}

bool attend_source_fits_vector(const attend_source *s, int64_t count) {
  static const char *const names[4] = {"", "", "", ""};
  return attend_source_fits(s, 1, (const int64_t[]){0, 0, 0, count}, names);
}

/* --------------------------------------------------------------------------------------------------- whole numbers */

/* Any whole number of a type that has its place in int64. */
static int64_t integer_at(const attend_npy *array, size_t index) {
  if (array->type == ATTEND_NPY_I64) return ((const int64_t *)array->data)[index];
  if (array->type == ATTEND_NPY_I32) return ((const int32_t *)array->data)[index];
  return ((const uint8_t *)array->data)[index];
}

bool attend_source_is_flags(const attend_source *s) {
  const attend_npy_type type = s->array->type;
  return type == ATTEND_NPY_BOOL || type == ATTEND_NPY_U8 || type == ATTEND_NPY_I32 || type == ATTEND_NPY_I64;
}

bool attend_source_flags(const attend_source *s) {
  const attend_npy *array = s->array;
  if (array->type == ATTEND_NPY_BOOL) return true;
  uint8_t *to = allocate(s, sizeof *to, "bool");
  if (!to) return false;
  for (size_t i = 0; i < array->count; i++) {
    const int64_t value = integer_at(array, i);
    if (value != 0 && value != 1) {
      attend_cli_error("--%s %s: element %zu is %" PRId64 ", expected 0 or 1", s->option, s->path, i, value);
      attend_free(to);
      return false;
    }
    to[i] = (uint8_t)value;
  }
  replace(s, to, ATTEND_NPY_BOOL);
  return true;
}

bool attend_source_integers(const attend_source *s) {
  if (!attend_source_read(s)) return false;
  if (s->array->type == ATTEND_NPY_I32 || s->array->type == ATTEND_NPY_I64) return true;
  return attend_source_fail_type(s, "int32 or int64");
}

bool attend_source_bounds(const attend_source *s, int64_t low, int64_t high, const char *what) {
  const attend_npy *array = s->array;
  int32_t *to = allocate(s, sizeof *to, "int32");
  if (!to) return false;
  for (size_t i = 0; i < array->count; i++) {
    const int64_t value = integer_at(array, i);
    if (value < low || value > high) {
      attend_cli_error("--%s %s: element %zu is %" PRId64 ", expected %" PRId64 " to %" PRId64 "%s", s->option, s->path,
                       i, value, low, high, what);
      attend_free(to);
      return false;
    }
    to[i] = (int32_t)value;
  }
  replace(s, to, ATTEND_NPY_I32);
  return true;
}

bool attend_source_lengths(const attend_source *s, int64_t batch, const int64_t rows[2], int64_t kv_len,
                           attend_lengths *kind) {
  const attend_npy *a = s->array;
  if (!attend_source_integers(s)) return false;
  const bool per_query = a->rank == 2 && a->shape[0] == rows[0] && a->shape[1] == rows[1];
  if (!per_query && (a->rank != 1 || a->shape[0] != batch)) {
    char expected[128];
    snprintf(expected, sizeof expected,
             "(%" PRId64 ",), a length for each sequence, or (%" PRId64 ", %" PRId64 "), for each query", batch,
             rows[0], rows[1]);
    return attend_source_fail_shape(s, expected);
  }
  *kind = per_query ? ATTEND_LENGTHS_PER_QUERY : ATTEND_LENGTHS_PER_BATCH;
  return attend_source_bounds(s, 0, min_i64(kv_len, INT32_MAX), ", the number of keys");
}
