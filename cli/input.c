/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/input.h"

#include <stdio.h>

#include "cli/options.h"
#include "dispatch/dispatch.h"

const char *const attend_input_options[INPUTS] = {
    [INPUT_Q] = "q",
    [INPUT_K] = "k",
    [INPUT_V] = "v",
    [INPUT_KV_LENGTHS] = "kv-lengths",
    [INPUT_POSITIONS] = "positions",
    [INPUT_Q_STARTS] = "q-starts",
    [INPUT_KV_STARTS] = "kv-starts",
    [INPUT_KV_BEGINS] = "kv-begins",
    [INPUT_KEY_RANGES] = "key-ranges",
    [INPUT_BLOCK_TABLE] = "block-table",
    [INPUT_MASK] = "mask",
    [INPUT_BIAS] = "bias",
    [INPUT_BIAS_HEAD_SCALE] = "bias-head-scale",
    [INPUT_ALIBI] = "alibi",
    [INPUT_SINKS] = "sinks",
};

attend_source attend_input_source(const attend_input_files *files, attend_input *input, attend_input_id id) {
  return (attend_source){attend_input_options[id], files->path[id], files->bf16_bits, &input->array[id]};
}

/*
 * Sets the strides with which a file broadcasts, as in NumPy, to (B, Hq, Lq, Lk). Packed queries are one after the
 * other there, whatever sequence they belong to.
 */
static bool broadcast(const attend_source *s, const attend_problem *p, attend_strides4 *strides) {
  const attend_npy *array = s->array;
  const int64_t full[4] = {p->batch, p->q_heads, p->q_starts ? p->q_total : p->q_len, p->kv_len};
  int64_t stride[4] = {0}, step = 1;
  bool fits = array->rank <= 4;
  for (int axis = 3; fits && axis >= 4 - array->rank; axis--) {
    int64_t own = attend_input_extent(array, axis);
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

static bool read_q_k_v(const attend_input_files *files, attend_input *input, attend_problem *p) {
  attend_source source[3];
  for (int i = INPUT_Q; i <= INPUT_V; i++) {
    source[i] = attend_input_source(files, input, (attend_input_id)i);
    if (!attend_source_numbers(&source[i])) return false;
  }
  if (!attend_input_shapes(files, input, p)) return false;
  const attend_npy *a = input->array;
  p->q_dtype = files->dtype;
  if (p->q_dtype == ATTEND_DTYPE_DEFAULT)
    p->q_dtype = a[INPUT_Q].type == a[INPUT_K].type && a[INPUT_K].type == a[INPUT_V].type
                     ? attend_source_dtype(&source[INPUT_Q])
                     : ATTEND_F32;
  for (int i = INPUT_Q; i <= INPUT_V; i++)
    if (!attend_source_convert(&source[i], p->q_dtype)) return false;
  return true;
}

static bool read_mask(const attend_source *s, attend_problem *p) {
  if (!attend_source_read(s)) return false;
  if (!attend_source_is_flags(s)) return attend_source_fail_type(s, "bool, or 0 and 1 of uint8, int32 or int64");
  if (!attend_source_flags(s)) return false;
  p->mask = 1;
  return broadcast(s, p, &p->mask_strides);
}

static bool read_bias(const attend_source *s, attend_problem *p) {
  if (!attend_source_numbers(s)) return false;
  p->bias_dtype = attend_source_dtype(s);
  return broadcast(s, p, &p->bias_strides) && attend_source_check(s, true);
}

static bool read_per_head(const attend_source *s, const attend_problem *p, bool may_exclude) {
  return attend_source_numbers(s) && attend_source_fits_vector(s, p->q_heads) && attend_source_check(s, may_exclude) &&
         attend_source_convert(s, ATTEND_F32);
}

bool attend_input_read(const attend_input_files *files, attend_input *input, attend_problem *p, attend_tensors *t) {
  attend_source source[INPUTS];
  *input = (attend_input){0};
  for (int i = 0; i < INPUTS; i++) source[i] = attend_input_source(files, input, (attend_input_id)i);
  p->bias_head_scale = files->path[INPUT_BIAS_HEAD_SCALE] != NULL;
  p->alibi = files->path[INPUT_ALIBI] != NULL;
  p->sinks = files->path[INPUT_SINKS] != NULL;
  if (!read_q_k_v(files, input, p) || !attend_input_sequences(files, input, p)) return false;
  if (files->path[INPUT_MASK] && !read_mask(&source[INPUT_MASK], p)) return false;
  if (files->path[INPUT_BIAS] && !read_bias(&source[INPUT_BIAS], p)) return false;
  if (p->bias_head_scale && !read_per_head(&source[INPUT_BIAS_HEAD_SCALE], p, false)) return false;
  if (p->alibi && !read_per_head(&source[INPUT_ALIBI], p, false)) return false;
  if (p->sinks && !read_per_head(&source[INPUT_SINKS], p, true)) return false;
  if (!attend_input_quantise(files, input, p, t)) return false;

  const attend_npy *a = input->array;
  t->q = a[INPUT_Q].data, t->k = a[INPUT_K].data, t->v = a[INPUT_V].data;
  t->kv_lengths = a[INPUT_KV_LENGTHS].data, t->positions = a[INPUT_POSITIONS].data;
  t->q_starts = a[INPUT_Q_STARTS].data, t->kv_starts = a[INPUT_KV_STARTS].data;
  t->kv_begins = a[INPUT_KV_BEGINS].data, t->key_ranges = a[INPUT_KEY_RANGES].data;
  t->block_table = a[INPUT_BLOCK_TABLE].data;
  t->mask = a[INPUT_MASK].data, t->bias = a[INPUT_BIAS].data;
  t->bias_head_scale = a[INPUT_BIAS_HEAD_SCALE].data;
  t->alibi_slopes = a[INPUT_ALIBI].data, t->sinks = a[INPUT_SINKS].data;
  return true;
}

void attend_input_free(attend_input *input) {
  for (int i = 0; i < INPUTS; i++) attend_npy_free(&input->array[i]);
  attend_free(input->k_scales);
  attend_free(input->v_scales);
}
