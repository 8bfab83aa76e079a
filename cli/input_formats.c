/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and values that are quantised as they are read. */
#include <string.h>

#include "cli/input.h"
#include "cli/options.h"
#include "dispatch/dispatch.h"
#include "kernels/formats.h"

/* Scales in f32: of i4 one for 32 elements, where these are whole groups, of i8 and f8 one a row. */
static attend_scaling scaling_of(attend_dtype format, int64_t dim, int64_t heads, int64_t rows) {
  if (attend_formats[format].kind != ATTEND_SCALED) return (attend_scaling){0};
  const int64_t group = format == ATTEND_I4 && dim > 0 && dim % 32 == 0 ? 32 : dim, groups = group ? dim / group : 0;
  return (attend_scaling){.group = group,
                          .batch = heads * rows * groups,
                          .head = rows * groups,
                          .row = groups,
                          .step = 1,
                          .dtype = ATTEND_F32};
}

static bool quantise(const attend_source *s, attend_dtype format, attend_scaling *scaling, void **scales) {
  attend_npy *array = s->array;
  const int64_t dim = attend_input_extent(array, 3), rows = attend_input_extent(array, 2);
  const attend_format *f = &attend_formats[format];
  if (dim % f->elements) {
    attend_cli_error("--%s %s: rows have %lld elements, expected a multiple of %d: %s has blocks of so many", s->option,
                     s->path, (long long)dim, f->elements, f->name);
    return false;
  }
  *scaling = scaling_of(format, dim, attend_input_extent(array, 1), rows);
  const int64_t all = dim > 0 ? (int64_t)array->count / dim : 0;
  void *to = attend_alloc((size_t)(all * attend_row_size(format, dim)));
  *scales = attend_alloc((size_t)(all * scaling->row) * sizeof(float));
  attend_append_problem p = ATTEND_APPEND_PROBLEM_INIT;
  p.batch = p.heads = 1, p.rows = p.cache_len = all, p.dim = dim;
  p.x_dtype = attend_source_dtype(s), p.cache_dtype = format, p.scaling = *scaling;
  attend_append_tensors t = ATTEND_APPEND_TENSORS_INIT;
  t.x = array->data, t.cache = to, t.scales = *scales, t.positions = (const int32_t[]){0};
  if (!to || !*scales) {
    attend_cli_error("--%s %s: no memory to convert it to %s", s->option, s->path, f->name);
  } else if (attend_append(&p, &t) != ATTEND_OK) {
    attend_cli_error("--%s %s: %s", s->option, s->path, attend_error_detail());
  } else {
    attend_free(array->data);
    array->data = to;
    return true;
  }
  attend_free(to);
  return false;
}

bool attend_input_quantise(const attend_input_files *files, attend_input *input, attend_problem *p, attend_tensors *t) {
  const attend_source k = attend_input_source(files, input, INPUT_K), v = attend_input_source(files, input, INPUT_V);
  p->k_dtype = p->v_dtype = p->q_dtype;
  if (attend_is_format(files->k_format)) {
    p->k_dtype = files->k_format;
    if (!quantise(&k, p->k_dtype, &p->k_scaling, &input->k_scales)) return false;
  } else if (files->k_format) {
    if (!attend_source_convert(&k, p->k_dtype = files->k_format)) return false;
  }
  if (attend_is_format(files->v_format)) {
    p->v_dtype = files->v_format;
    if (!quantise(&v, p->v_dtype, &p->v_scaling, &input->v_scales)) return false;
  } else if (files->v_format) {
    if (!attend_source_convert(&v, p->v_dtype = files->v_format)) return false;
  }
  t->k_scales = input->k_scales, t->v_scales = input->v_scales;
  return true;
}
