/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/input.h"

#include <inttypes.h>
#include <math.h>

#include "cli/options.h"
#include "dispatch/dispatch.h"
#include "kernels/convert.h"
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

/* ---------------------------------------------------------------------------------------------------------- numbers */

static attend_dtype dtype_of(const attend_npy *array) {
  return array->type == ATTEND_NPY_F32 ? ATTEND_F32 : array->type == ATTEND_NPY_F16 ? ATTEND_F16 : ATTEND_BF16;
}

static float number_at(const attend_npy *array, size_t index) {
  if (array->type == ATTEND_NPY_F32) return ((const float *)array->data)[index];
  uint16_t bits = ((const uint16_t *)array->data)[index];
  return array->type == ATTEND_NPY_F16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

bool attend_source_numbers(const attend_source *s) {
  if (!attend_source_read(s)) return false;
  attend_npy_type type = s->array->type;
  if (type == ATTEND_NPY_F32 || type == ATTEND_NPY_F16 || (type == ATTEND_NPY_U16 && s->bf16_bits)) return true;
  return attend_source_fail_type(s, type == ATTEND_NPY_U16
                                        ? "float32 or float16; if it holds the bits of bfloat16, add --bits bf16"
                                        : "float32, float16, or uint16 with --bits bf16");
}

bool attend_source_convert(const attend_source *s, attend_dtype dtype) {
  attend_npy *array = s->array;
  if (dtype_of(array) == dtype) return true;
  void *to = attend_alloc(size_mul(array->count, attend_dtype_size(dtype)));
  if (!to) {
    attend_cli_error("--%s %s: no memory to convert it to %s", s->option, s->path, attend_dtype_name(dtype));
    return false;
  }
  for (size_t i = 0; i < array->count; i++) {
    float number = number_at(array, i);
    if (dtype == ATTEND_F32)
      ((float *)to)[i] = number;
    else
      ((uint16_t *)to)[i] = dtype == ATTEND_F16 ? f32_to_f16(number) : f32_to_bf16(number);
  }
  attend_free(array->data);
  array->data = to;
  array->type = dtype == ATTEND_F32 ? ATTEND_NPY_F32 : dtype == ATTEND_F16 ? ATTEND_NPY_F16 : ATTEND_NPY_U16;
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

/*
 * Whether a file has the last `rank` of four dimensions. One that is given as -1 may be anything, and is called by its
 * name in errors.
 */
static bool check_shape(const attend_source *s, int rank, const int64_t want[4], const char *const names[4]) {
  bool fits = s->array->rank == rank;
  for (int i = 0; fits && i < rank; i++) {
    int64_t wanted = want[4 - rank + i];
    fits = wanted == -1 || s->array->shape[i] == wanted;
  }
  if (fits) return true;
  char expected[160] = "(";
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

/* Dimension `axis` of (B, H, L, D), whatever leading ones the file leaves out. */
static int64_t extent(const attend_npy *array, int axis) {
  int at = axis - (4 - array->rank);
  return at < 0 ? 1 : array->shape[at];
}

static bool check_q_k_v(const attend_source *q, const attend_source *k, const attend_source *v, attend_problem *p) {
  int rank = q->array->rank;
  if (rank < 2 || rank > 4) return attend_source_fail_shape(q, "(B, Hq, Lq, D), (H, L, D) or (L, D)");
  p->batch = extent(q->array, 0);
  p->q_heads = extent(q->array, 1);
  p->q_len = extent(q->array, 2);
  p->head_dim = extent(q->array, 3);
  if (p->head_dim == 0) return attend_source_fail_shape(q, "a last dimension of at least 1");

  static const char *const names[4] = {"B", "Hkv", "Lk", "Dv"};
  if (!check_shape(k, rank, (const int64_t[]){p->batch, -1, -1, p->head_dim}, names)) return false;
  p->kv_heads = extent(k->array, 1);
  p->kv_len = extent(k->array, 2);
  if (p->kv_heads == 0 ? p->q_heads != 0 : p->q_heads % p->kv_heads != 0)
    return attend_source_fail_shape(k, "a number of heads that divides that of --q");

  if (!check_shape(v, rank, (const int64_t[]){p->batch, p->kv_heads, p->kv_len, -1}, names)) return false;
  p->v_head_dim = extent(v->array, 3);
  return p->v_head_dim > 0 || attend_source_fail_shape(v, "a last dimension of at least 1");
}

/* Sets the strides with which a file broadcasts, as in NumPy, to (B, Hq, Lq, Lk). */
static bool broadcast(const attend_source *s, const attend_problem *p, attend_strides4 *strides) {
  const attend_npy *array = s->array;
  const int64_t full[4] = {p->batch, p->q_heads, p->q_len, p->kv_len};
  int64_t stride[4] = {0}, step = 1;
  bool fits = array->rank >= 1 && array->rank <= 4;
  for (int axis = 3; fits && axis >= 4 - array->rank; axis--) {
    int64_t own = extent(array, axis);
    fits = own == full[axis] || own == 1;
    if (own != 1) stride[axis] = step;
    step *= own;
  }
  if (!fits) {
    char shape[160], expected[192];
    attend_npy_shape_text(4, full, shape, sizeof shape);
    snprintf(expected, sizeof expected, "one that broadcasts to %s", shape);
    return attend_source_fail_shape(s, expected);
  }
  *strides = (attend_strides4){stride[0], stride[1], stride[2], stride[3]};
  return true;
}

/* -------------------------------------------------------------------------------------------------- one input each */

bool attend_source_lengths(const attend_source *s, int64_t batch, int64_t q_len, int64_t kv_len, attend_lengths *kind) {
  static const char *const names[4] = {"", "", "", ""};
  attend_npy *array = s->array;
  if (!attend_source_read(s)) return false;
  if (array->type != ATTEND_NPY_I32 && array->type != ATTEND_NPY_I64)
    return attend_source_fail_type(s, "int32 or int64");
  bool per_query = array->rank == 2;
  const int64_t want[4] = {0, 0, batch, per_query ? q_len : batch};
  if (!check_shape(s, per_query ? 2 : 1, want, names)) return false;
  *kind = per_query ? ATTEND_LENGTHS_PER_QUERY : ATTEND_LENGTHS_PER_BATCH;

  int32_t *lengths = attend_alloc(size_mul(array->count, sizeof *lengths));
  if (!lengths) {
    attend_cli_error("--%s %s: no memory", s->option, s->path);
    return false;
  }
  for (size_t i = 0; i < array->count; i++) {
    bool narrow = array->type == ATTEND_NPY_I32;
    int64_t length = narrow ? ((const int32_t *)array->data)[i] : ((const int64_t *)array->data)[i];
    if (length < 0 || length > kv_len) {
      attend_cli_error("--%s %s: element %zu is %" PRId64 ", expected 0 to %" PRId64 ", the number of keys", s->option,
                       s->path, i, length, kv_len);
      attend_free(lengths);
      return false;
    }
    lengths[i] = (int32_t)length;
  }
  attend_free(array->data);
  array->data = lengths;
  array->type = ATTEND_NPY_I32;
  return true;
}

static bool read_mask(const attend_source *s, attend_problem *p) {
  if (!attend_source_read(s)) return false;
  if (s->array->type != ATTEND_NPY_BOOL) return attend_source_fail_type(s, "bool");
  p->mask = 1;
  return broadcast(s, p, &p->mask_strides);
}

static bool read_bias(const attend_source *s, attend_problem *p) {
  if (!attend_source_numbers(s)) return false;
  p->bias_dtype = dtype_of(s->array);
  return broadcast(s, p, &p->bias_strides) && attend_source_check(s, true);
}

static bool read_per_head(const attend_source *s, const attend_problem *p, bool may_exclude) {
  static const char *const names[4] = {"", "", "", ""};
  return attend_source_numbers(s) && check_shape(s, 1, (const int64_t[]){0, 0, 0, p->q_heads}, names) &&
         attend_source_check(s, may_exclude) && attend_source_convert(s, ATTEND_F32);
}

bool attend_input_read(const attend_input_files *files, attend_input *input, attend_problem *p, attend_tensors *t) {
  bool bits = files->bf16_bits;
  *input = (attend_input){0};
  attend_source q = {"q", files->q, bits, &input->q}, k = {"k", files->k, bits, &input->k},
                v = {"v", files->v, bits, &input->v};
  attend_source lengths = {"kv-lengths", files->kv_lengths, bits, &input->kv_lengths};
  attend_source mask = {"mask", files->mask, bits, &input->mask}, bias = {"bias", files->bias, bits, &input->bias};
  attend_source alibi = {"alibi", files->alibi, bits, &input->alibi},
                sinks = {"sinks", files->sinks, bits, &input->sinks};

  if (!attend_source_numbers(&q) || !attend_source_numbers(&k) || !attend_source_numbers(&v) ||
      !check_q_k_v(&q, &k, &v, p))
    return false;
  p->q_dtype = files->dtype;
  if (p->q_dtype == ATTEND_DTYPE_DEFAULT)
    p->q_dtype = input->q.type == input->k.type && input->k.type == input->v.type ? dtype_of(&input->q) : ATTEND_F32;
  if (!attend_source_convert(&q, p->q_dtype) || !attend_source_convert(&k, p->q_dtype) ||
      !attend_source_convert(&v, p->q_dtype))
    return false;

  if (files->kv_lengths && !attend_source_lengths(&lengths, p->batch, p->q_len, p->kv_len, &p->kv_lengths))
    return false;
  if (files->mask && !read_mask(&mask, p)) return false;
  if (files->bias && !read_bias(&bias, p)) return false;
  if (files->alibi && !read_per_head(&alibi, p, false)) return false;
  if (files->sinks && !read_per_head(&sinks, p, true)) return false;
  p->alibi = files->alibi != NULL;
  p->sinks = files->sinks != NULL;

  t->q = input->q.data, t->k = input->k.data, t->v = input->v.data;
  t->kv_lengths = input->kv_lengths.data, t->mask = input->mask.data, t->bias = input->bias.data;
  t->alibi_slopes = input->alibi.data, t->sinks = input->sinks.data;
  return true;
}

void attend_input_free(attend_input *input) {
  attend_npy *arrays[] = {&input->q,    &input->k,    &input->v,     &input->kv_lengths,
                          &input->mask, &input->bias, &input->alibi, &input->sinks};
  for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) attend_npy_free(arrays[i]);
}
