/* SPDX-License-Identifier: Apache-2.0 */
#include "verify/formats.h"

#include <math.h>
#include <string.h>

#include "verify/reference.h"

/* A row of kernels/formats.def: of a block also what lies in it, which no kernel reads. */
typedef struct format {
  int elements, bytes, bits, lower, upper, minimum;
  int count; /* of the numbers that integers stand for; 1: it is what is added to them */
  int number[16];
} format;

static const format formats[] = {
    {1, 0, .bits = 0}, /* by attend_dtype, whose order the rows have */
#define ATTEND_FORMAT_PLAIN(id, name, elements, bytes) {elements, bytes, .bits = 0},
#define ATTEND_FORMAT_SCALED(id, name, elements, bytes) {elements, bytes, .bits = 0},
#define ATTEND_FORMAT_BLOCK(id, name, elements, bytes, bits, lower, upper, minimum, ...)                               \
  {elements, bytes, bits, lower, upper, minimum, sizeof((int[]){__VA_ARGS__}) / sizeof(int), {__VA_ARGS__}},
#include "kernels/formats.def"
};

bool attend_verify_is_scaled(attend_dtype dtype) { return attend_verify_is_format(dtype) && !formats[dtype].bits; }

int64_t attend_verify_block_elements(attend_dtype dtype) { return formats[dtype].elements; }

int64_t attend_verify_row_extent(attend_dtype dtype, int64_t dim) {
  return attend_verify_is_format(dtype) ? dim / formats[dtype].elements * formats[dtype].bytes : dim;
}

/* ------------------------------------------------------------------------------------------------------------ rows */

static attend_verify_row row_of(const attend_problem *p, const attend_tensors *t, bool of_values) {
  attend_verify_row row = {.tensor = of_values ? t->v : t->k,
                           .scales = of_values ? t->v_scales : t->k_scales,
                           .zeros = of_values ? t->v_zero_points : t->k_zero_points,
                           .dtype = of_values ? p->v_dtype : p->k_dtype,
                           .scaling = of_values ? &p->v_scaling : &p->k_scaling};
  if (!attend_verify_is_scaled(row.dtype) || !row.scaling->dtype) row.scales = NULL;
  if (!row.scales || !row.scaling->zero_points) row.zeros = NULL;
  return row;
}

attend_verify_row attend_verify_row_of(const attend_problem *p, const attend_tensors *t, bool of_values, int64_t b,
                                       int64_t h, int64_t j) {
  attend_verify_row row = row_of(p, t, of_values);
  row.at = attend_reference_key_at(p, t, of_values ? &p->v_strides : &p->k_strides, b, h, j);
  const attend_strides scales = {row.scaling->batch, row.scaling->head, row.scaling->row};
  if (row.scales) row.scales_at = attend_reference_key_at(p, t, &scales, b, h, j);
  return row;
}

attend_verify_row attend_verify_row_at(const attend_problem *p, const attend_tensors *t, bool of_values,
                                       const int64_t at[3]) {
  attend_verify_row row = row_of(p, t, of_values);
  const attend_strides *s = of_values ? &p->v_strides : &p->k_strides;
  row.at = at[0] * s->batch + at[1] * s->head + at[2] * s->row;
  if (row.scales) row.scales_at = at[0] * row.scaling->batch + at[1] * row.scaling->head + at[2] * row.scaling->row;
  return row;
}

static int64_t group_at(const attend_verify_row *row, int64_t d) {
  return row->scales_at + (row->scaling->group ? d / row->scaling->group : 0) * row->scaling->step;
}

static double f16_at(const unsigned char *bytes) {
  uint16_t bits;
  memcpy(&bits, bytes, sizeof bits);
  return (double)attend_reference_element(&bits, ATTEND_F16, 0);
}

/* Integer i of a block, as it is stored. */
static int integer_of(const format *f, const unsigned char *bytes, int i) {
  if (f->bits == 8) return (int8_t)bytes[f->lower + i];
  int n = bytes[f->lower + i % 16] >> i / 16 * 4 & 15;
  for (int bit = 4; bit < f->bits; bit++) n |= (bytes[f->upper + 4 * (bit - 4) + i / 8] >> i % 8 & 1) << bit;
  return n;
}

static double block_element(const format *f, const unsigned char *bytes, int i) {
  const int stored = integer_of(f, bytes, i), number = f->count > 1 ? f->number[stored] : stored + f->number[0];
  return f16_at(bytes) * number + (f->minimum ? f16_at(bytes + f->minimum) : 0);
}

/* Of 1 sign, `exponent` exponent and 7 - `exponent` fraction bits. */
static double f8_element(unsigned bits, int exponent) {
  const int fraction = 7 - exponent, bias = (1 << (exponent - 1)) - 1,
            e = (int)(bits >> fraction) & ((1 << exponent) - 1);
  const double m = bits & ((1u << fraction) - 1), sign = bits & 128 ? -1 : 1;
  if (exponent == 5 && e == 31) return m > 0 ? (double)NAN : sign * (double)INFINITY;
  if (exponent == 4 && (bits & 127) == 127) return (double)NAN;
  return sign * (e == 0 ? ldexp(m, 1 - bias - fraction) : ldexp(m + (1 << fraction), e - bias - fraction));
}

/* An element before its scale, and what its zero point is where there are none. */
static double scaled_element(attend_dtype dtype, const unsigned char *bytes, int64_t d, bool is_unsigned,
                             double *zero) {
  *zero = 0;
  if (dtype == ATTEND_F8_E4M3) return f8_element(bytes[d], 4);
  if (dtype == ATTEND_F8_E5M2) return f8_element(bytes[d], 5);
  const int wide = dtype == ATTEND_I8 ? 256 : 16;
  const int x = dtype == ATTEND_I8 ? bytes[d] : bytes[d / 2] >> d % 2 * 4 & 15;
  if (is_unsigned) *zero = wide / 2;
  return is_unsigned || x < wide / 2 ? x : x - wide;
}

double attend_verify_row_element(const attend_verify_row *row, int64_t d) {
  const unsigned char *bytes = (const unsigned char *)row->tensor + row->at;
  if (!attend_verify_is_format(row->dtype))
    return (double)attend_reference_element(row->tensor, row->dtype, row->at + d);
  if (!attend_verify_is_scaled(row->dtype))
    return block_element(&formats[row->dtype], bytes + d / 32 * formats[row->dtype].bytes, (int)(d % 32));
  double zero;
  const double x = scaled_element(row->dtype, bytes, d, row->scaling->is_unsigned, &zero);
  if (row->zeros) zero = (double)attend_reference_element(row->zeros, row->scaling->dtype, group_at(row, d));
  const double scale =
      row->scales ? (double)attend_reference_element(row->scales, row->scaling->dtype, group_at(row, d)) : 1;
  return scale * (x - zero);
}

/* ------------------------------------------------------------------------------------------------------- quantising */

static float store_f16(unsigned char *bytes, float x) {
  uint16_t bits;
  attend_verify_store(&bits, ATTEND_F16, 0, x);
  memcpy(bytes, &bits, sizeof bits);
  return (float)f16_at(bytes);
}

static int nearest(float x, int low, int high) {
  return !(x > (float)low) ? low : x >= (float)high ? high : (int)lrintf(x);
}

static int nearest_number(const format *f, float x) {
  int best = 0;
  for (int i = 1; i < f->count; i++)
    if (fabsf((float)f->number[i] - x) < fabsf((float)f->number[best] - x)) best = i;
  return best;
}

static void quantise_block(const format *f, unsigned char *bytes, const float *x) {
  float low = 0, high = 0;
  for (int i = 0; i < 32; i++) low = fminf(low, x[i]), high = fmaxf(high, x[i]);
  const int most = (1 << f->bits) - 1, least = f->bits == 8 ? -128 : 0;
  const float size = fmaxf(-low, high);
  memset(bytes, 0, (size_t)f->bytes);
  const float scale = store_f16(bytes, f->minimum     ? (high - low) / (float)most
                                       : f->count > 1 ? size / (float)f->number[f->count - 1]
                                                      : size / (float)(most / 2));
  const float offset = f->minimum ? store_f16(bytes + f->minimum, low) : 0;
  for (int i = 0; i < 32; i++) {
    const float number = scale != 0 ? (x[i] - offset) / scale : 0;
    const int n = f->count > 1 ? nearest_number(f, number) : nearest(number - (float)f->number[0], least, least + most);
    if (f->bits == 8) {
      bytes[f->lower + i] = (unsigned char)n;
      continue;
    }
    bytes[f->lower + i % 16] |= (unsigned char)((n & 15) << i / 16 * 4);
    for (int bit = 4; bit < f->bits; bit++)
      bytes[f->upper + 4 * (bit - 4) + i / 8] |= (unsigned char)((n >> bit & 1) << i % 8);
  }
}

double attend_verify_block_error(attend_dtype dtype) {
  const format *f = &formats[dtype];
  int widest = 0;
  for (int i = 1; i < f->count; i++)
    if (f->number[i] - f->number[i - 1] > widest) widest = f->number[i] - f->number[i - 1];
  if (f->count > 1) return 2.0 / 3 * widest;
  return f->number[0] ? 1 : 0.5;
}

/* The nearest of all 8-bit floats. */
static unsigned char nearest_f8(float x, int exponent) {
  unsigned best = 0;
  for (unsigned bits = 0; bits < 256; bits++) {
    const double y = f8_element(bits, exponent);
    if (isfinite(y) && fabs(y - (double)x) < fabs(f8_element(best, exponent) - (double)x)) best = bits;
  }
  return (unsigned char)best;
}

void attend_verify_quantise(const attend_verify_row *row, int64_t dim, const float *numbers) {
  if (dim == 0) return; /* there may be no tensor then */
  unsigned char *bytes = (unsigned char *)(uintptr_t)row->tensor + row->at;
  for (int64_t d = 0; !attend_verify_is_scaled(row->dtype) && d < dim; d += 32)
    quantise_block(&formats[row->dtype], bytes + d / 32 * formats[row->dtype].bytes, numbers + d);
  for (int64_t d = 0; attend_verify_is_scaled(row->dtype) && d < dim; d++) {
    const int wide = row->dtype == ATTEND_I8 ? 256 : 16, low = row->scaling->is_unsigned ? 0 : -wide / 2;
    const float scale = row->scales ? attend_reference_element(row->scales, row->scaling->dtype, group_at(row, d)) : 1;
    const float zero = row->zeros ? attend_reference_element(row->zeros, row->scaling->dtype, group_at(row, d))
                                  : (float)(low + wide / 2);
    const float x = numbers[d] / scale;
    if (row->dtype == ATTEND_F8_E4M3 || row->dtype == ATTEND_F8_E5M2) {
      bytes[d] = nearest_f8(x, row->dtype == ATTEND_F8_E4M3 ? 4 : 5);
      continue;
    }
    const int n = nearest(x + zero, low, low + wide - 1);
    if (row->dtype == ATTEND_I8)
      bytes[d] = (unsigned char)n;
    else
      bytes[d / 2] = (unsigned char)(d % 2 ? (bytes[d / 2] & 15) | (n & 15) << 4 : n & 15);
  }
}

void attend_verify_choose_scales(const attend_verify_row *row, int64_t dim, float greatest, uint64_t key) {
  const bool integers = row->dtype == ATTEND_I8 || row->dtype == ATTEND_I4;
  const int wide = row->dtype == ATTEND_I4 ? 16 : 256, middle = integers && row->scaling->is_unsigned ? wide / 2 : 0;
  for (int64_t d = 0; row->scales && d < dim; d += row->scaling->group ? row->scaling->group : dim) {
    const int64_t at = group_at(row, d);
    /* About as the numbers need it; half as much at times, and then some are cut off. */
    const float share = 0.5f + (float)(hash(key, at) % 64) / 64.0f;
    const float most = row->dtype == ATTEND_F8_E4M3   ? 64.0f
                       : row->dtype == ATTEND_F8_E5M2 ? 1024.0f
                                                      : (float)(wide / 2);
    attend_verify_store((void *)(uintptr_t)row->scales, row->scaling->dtype, at, share * greatest / most);
    if (row->zeros) {
      const float off = (float)(hash(key + 1, at) % (uint64_t)(wide / 2)) - (float)(wide / 4);
      attend_verify_store((void *)(uintptr_t)row->zeros, row->scaling->dtype, at,
                          (float)middle + off + (hash(key + 2, at) % 2 ? 0.25f : 0.0f));
    }
  }
}

void attend_verify_spoil(const attend_verify_row *row, int64_t d, float number) {
  unsigned char *bytes = (unsigned char *)(uintptr_t)row->tensor + row->at;
  const unsigned char sign = signbit(number) ? 128 : 0;
  if (!attend_verify_is_scaled(row->dtype))
    store_f16(bytes + d / 32 * formats[row->dtype].bytes, number);
  else if (row->dtype == ATTEND_F8_E4M3)
    bytes[d] = sign | 0x7f;
  else if (row->dtype == ATTEND_F8_E5M2)
    bytes[d] = sign | (isnan(number) ? 0x7f : 0x7c);
  else if (row->scales && row->scaling->row) /* shared with no other row of the head */
    attend_verify_store((void *)(uintptr_t)row->scales, row->scaling->dtype, group_at(row, d), number);
}

/* ----------------------------------------------------------------------------------------------------------- cases */

static void round_up_dim(int64_t *dim, attend_dtype dtype) {
  const int64_t elements = attend_verify_block_elements(dtype);
  *dim = (*dim + elements - 1) / elements * elements;
}

int64_t attend_verify_scales(const attend_scaling *s, int64_t dim) {
  return !s->dtype ? 0 : s->group && dim ? dim / s->group : 1;
}

attend_scaling attend_verify_random_scaling(attend_dtype dtype, const int64_t extent[4], uint64_t key) {
  static const int16_t groups[] = {0, 32, 64, 128, 0, 16, 48, 1};
  const int64_t batch = extent[0], heads = extent[1], rows = extent[2], dim = extent[3];
  attend_scaling s = {0};
  if (!attend_verify_is_scaled(dtype)) return s;
  const bool integers = dtype == ATTEND_I8 || dtype == ATTEND_I4;
  s.is_unsigned = integers && hash(key, 5) % 2;
  if (hash(key, 1) % 8 == 0) return s; /* the elements are the numbers */
  s.dtype = hash(key, 2) % 2 ? ATTEND_F32 : ATTEND_F16;
  s.group = groups[hash(key, 3) % 8];
  if (s.group > 1 && dim % s.group) s.group = 0;
  s.zero_points = integers && hash(key, 4) % 2;
  const int64_t count = attend_verify_scales(&s, dim), apart = 1 + (int64_t)(hash(key, 6) % 2);
  s.step = apart;
  const uint64_t kind = hash(key, 7) % 6;
  if (kind == 0) return s;               /* for all rows: per channel where groups are of one element */
  if (kind == 1) s.head = apart * count; /* per head */
  if (kind < 2) return s;
  s.row = apart * count + (int64_t)(hash(key, 8) % 3);
  s.head = s.row * rows + (int64_t)(hash(key, 9) % 2);
  s.batch = s.head * heads;
  if (kind == 3) s.batch = s.row * rows, s.head = s.batch * batch;
  return s;
}

static attend_scaling scaling_of(const attend_problem *p, attend_dtype dtype, int64_t dim, uint64_t key) {
  const int64_t rows = p->page_rows ? p->page_rows : p->kv_starts ? p->kv_total : p->kv_len;
  const int64_t extent[4] = {p->page_rows ? p->pages : p->batch, p->kv_heads ? p->kv_heads : p->q_heads, rows, dim};
  return attend_verify_random_scaling(dtype, extent, key);
}

void attend_verify_take_formats(attend_verify_case *c, attend_dtype k, attend_dtype v, uint64_t key) {
  attend_problem *p = &c->problem;
  if (!p->v_head_dim && !(p->as_given & ATTEND_AS_GIVEN_V_HEAD_DIM)) p->v_head_dim = p->head_dim;
  p->k_dtype = k, p->v_dtype = v;
  round_up_dim(&p->head_dim, k);
  round_up_dim(&p->v_head_dim, v);
  c->packed = false;
  p->k_scaling = scaling_of(p, k, p->head_dim, hash(key, 1));
  p->v_scaling = scaling_of(p, v, p->v_head_dim, hash(key, 2));
}
