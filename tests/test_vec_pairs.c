/* SPDX-License-Identifier: Apache-2.0 */
/** Operations on pairs of 16-bit elements, and packing in pairs, of every instruction set that has them. */
#include <float.h>

#include "tests/vec/each_isa.h"
#include "verify/internal.h"

enum { FILL = 0x5a };

/* A test of the instruction sets that have pairs. */
#define EACH_ISA_WITH_PAIRS(name)                                                                                      \
  static void name##_of(const attend_vec *v, const attend_vec_pairs *p);                                               \
  EACH_ISA(name) {                                                                                                     \
    if (!v->pairs) cr_skip_test("%s has no pairs", attend_isa_name(v->isa));                                           \
    name##_of(v, v->pairs);                                                                                            \
  }                                                                                                                    \
  static void name##_of(const attend_vec *v, const attend_vec_pairs *p)

static uint16_t element_of(int64_t i) { return (uint16_t)hash(3, i); }

/* Elements in memory of their own, which ends where they end. */
static attend_guarded elements(size_t count) {
  attend_guarded g = {0};
  cr_assert(attend_guarded_place(&g, count * 2, 0, false, FILL));
  for (size_t i = 0; i < count; i++) ((uint16_t *)g.data)[i] = element_of((int64_t)i);
  return g;
}

static uint32_t pair_of(uint16_t even, uint16_t odd) { return (uint32_t)odd << 16 | even; }

EACH_ISA_WITH_PAIRS(loads_and_constants) {
  for (int n = 0; n <= 2 * v->lanes; n++)
    for (int whole = 0; whole <= (n == 2 * v->lanes); whole++) {
      attend_guarded g = elements((size_t)n);
      uint32_t got[MOST];
      if (whole)
        p->load((const uint16_t *)g.data, got);
      else
        p->load_n((const uint16_t *)g.data, n, got);
      for (int i = 0; i < v->lanes; i++) {
        const uint32_t expected = pair_of(2 * i < n ? element_of(2 * i) : 0, 2 * i + 1 < n ? element_of(2 * i + 1) : 0);
        MUST(got[i] == expected, v, "vp_load of %d: pair %d is %08x, not %08x", n, i, got[i], expected);
      }
      attend_guarded_free(&g);
    }
  uint32_t got[MOST];
  p->set1(0x12345678, got);
  for (int i = 0; i < v->lanes; i++) MUST(got[i] == 0x12345678, v, "vp_set1: lane %d is %08x", i, got[i]);
}

EACH_ISA_WITH_PAIRS(transposes) {
  uint32_t r[MOST * MOST], got[MOST * MOST];
  for (int i = 0; i < v->lanes * v->lanes; i++) r[i] = (uint32_t)hash(4, i); /* signalling NaN among them */
  p->transpose(r, got);
  for (int i = 0; i < v->lanes; i++)
    for (int j = 0; j < v->lanes; j++)
      MUST(got[i * v->lanes + j] == r[j * v->lanes + i], v, "vp_transpose: row %d, lane %d", i, j);
}

EACH_ISA_WITH_PAIRS(zips_every_pattern) {
  for (int first = 0; first < 65536; first += v->lanes) {
    float a[MOST], b[MOST];
    uint32_t got[MOST];
    for (int i = 0; i < v->lanes; i++) {
      a[i] = bf16_to_f32((uint16_t)(first + i));
      b[i] = bf16_to_f32(element_of(first + i));
    }
    p->zip(a, b, got);
    for (int i = 0; i < v->lanes; i++) {
      const uint32_t expected = pair_of((uint16_t)(first + i), element_of(first + i));
      MUST(got[i] == expected, v, "vp_zip is %08x, not %08x", got[i], expected);
    }
  }
}

EACH_ISA_WITH_PAIRS(and_) {
  uint32_t a[MOST], b[MOST], got[MOST];
  for (int i = 0; i < v->lanes; i++) a[i] = (uint32_t)hash(5, i), b[i] = (uint32_t)hash(6, i);
  p->both(a, b, got);
  for (int i = 0; i < v->lanes; i++) MUST(got[i] == (a[i] & b[i]), v, "vp_and: lane %d is %08x", i, got[i]);
}

/* ------------------------------------------------------------------------------------------------------- products */

/* A test of the instruction sets that multiply pairs. */
#define EACH_ISA_WITH_PRODUCTS(name)                                                                                   \
  static void name##_in(const attend_vec *v, const attend_vec_pairs *p);                                               \
  EACH_ISA_WITH_PAIRS(name) {                                                                                          \
    if (!p->dot) cr_skip_test("%s has no products of pairs", attend_isa_name(v->isa));                                 \
    name##_in(v, p);                                                                                                   \
  }                                                                                                                    \
  static void name##_in(const attend_vec *v, const attend_vec_pairs *p)

/* bf16 numbers of either sign between 2^-16 and 2^16, and 0. */
static uint16_t ordinary(int64_t i) {
  const uint64_t h = hash(7, i);
  return h % 17 ? (uint16_t)((h & 0x8000) | (111 + h / 0x10000 % 32) << 7 | h % 128) : 0;
}

EACH_ISA_WITH_PRODUCTS(dots) {
  for (int64_t first = 0; first < 200000; first += v->lanes) {
    uint32_t a[MOST], b[MOST];
    float c[MOST], got[MOST];
    for (int i = 0; i < v->lanes; i++) {
      const int64_t at = 4 * (first + i);
      a[i] = pair_of(ordinary(at), ordinary(at + 1)), b[i] = pair_of(ordinary(at + 2), ordinary(at + 3));
      c[i] = hash(8, at) % 3 ? bf16_to_f32(ordinary(~at)) * 1.7f : 0.0f;
    }
    p->dot(a, b, c, got);
    for (int i = 0; i < v->lanes; i++) {
      const double x = (double)bf16_to_f32((uint16_t)a[i]) * (double)bf16_to_f32((uint16_t)b[i]);
      const double y = (double)bf16_to_f32((uint16_t)(a[i] >> 16)) * (double)bf16_to_f32((uint16_t)(b[i] >> 16));
      const double expected = x + y + (double)c[i], size = fabs(x) + fabs(y) + fabs((double)c[i]);
      MUST(fabs((double)got[i] - expected) <= 2 * 0x1p-24 * size, v, "vp_dot(%08x, %08x, %a) is %a, not %a", a[i], b[i],
           c[i], got[i], expected);
    }
  }
}

/* What bodies rely on: a weight of 0, of either sign, changes no sum, unless it is denormal; NaN and Inf show. */
EACH_ISA_WITH_PRODUCTS(dots_with_zero_and_what_is_not_finite) {
  for (int64_t first = 0; first < 20000; first += v->lanes) {
    uint32_t a[MOST], b[MOST];
    float c[MOST], got[MOST];
    for (int i = 0; i < v->lanes; i++) {
      a[i] = first % 3 ? 0 : 0x80008000;
      b[i] = pair_of(ordinary(first + i), ordinary(first - i));
      c[i] = f32_from_bits((uint32_t)hash(9, first + i));
      if (!isnormal(c[i])) c[i] = 1.0f;
    }
    p->dot(a, b, c, got);
    for (int i = 0; i < v->lanes; i++) MUST(same(got[i], c[i]), v, "%a and products with 0 are %a", c[i], got[i]);
  }
  static const struct {
    uint32_t a, b;
    bool nan;
  } cases[] = {{0x00007fc0, 0x00003f80, true},  {0x7fc00000, 0x3f800000, true},  {0x00007f80, 0x00000000, true},
               {0x00007f80, 0x00003f80, false}, {0x3f807f80, 0x3f803f80, false}, {0x7f807f80, 0xbf803f80, true}};
  for (size_t n = 0; n < COUNT(cases); n++) {
    uint32_t a[MOST], b[MOST];
    float c[MOST], got[MOST];
    for (int i = 0; i < v->lanes; i++) a[i] = cases[n].a, b[i] = cases[n].b, c[i] = 1.0f;
    p->dot(a, b, c, got);
    for (int i = 0; i < v->lanes; i++)
      MUST(cases[n].nan ? isnan(got[i]) : got[i] == INFINITY, v, "vp_dot(%08x, %08x, 1) is %a", a[i], b[i], got[i]);
  }
}

/* Denormal numbers may be taken as 0. */
EACH_ISA_WITH_PRODUCTS(rounds_to_nearest_even) {
  for (int64_t first = 0; first < 400000; first += 2 * v->lanes) {
    float x[2 * MOST];
    uint32_t got[MOST];
    for (int i = 0; i < 2 * v->lanes; i++) {
      const uint64_t h = hash(10, first + i);
      const uint32_t tail = h >> 32 & 3 ? (uint32_t)(h >> 34 & 0xffff) : 0x7fff + (uint32_t)(h >> 34 & 3); /* ties */
      x[i] = f32_from_bits((uint32_t)h << 16 | tail);
    }
    p->round(x, x + v->lanes, got);
    for (int i = 0; i < 2 * v->lanes; i++) {
      const uint16_t is = (uint16_t)(got[i / 2] >> (i % 2 ? 16 : 0)), expected = f32_to_bf16(x[i]);
      const uint16_t zero = signbit(x[i]) ? 0x8000 : 0;
      MUST(isnan(x[i]) ? isnan(bf16_to_f32(is)) : is == expected || (fabsf(x[i]) < FLT_MIN && is == zero), v,
           "vp_round(%a) is %04x, not %04x", x[i], is, expected);
    }
  }
}

EACH_ISA_WITH_PRODUCTS(exp2_is_exact_enough_for_bf16) {
  float x[MOST], got[MOST];
  for (int64_t step = -126 * 4096; step <= 127 * 4096; step += v->lanes) {
    for (int i = 0; i < v->lanes; i++) x[i] = fminf((float)(step + i) / 4096.0f + (float)(step % 97) * 1e-6f, 127.0f);
    p->exp2_bf16(x, got);
    for (int i = 0; i < v->lanes; i++) {
      const double expected = exp2((double)x[i]), error = fabs((double)got[i] - expected) / expected;
      MUST(error <= 9e-5, v, "vf_exp2_bf16(%a) is %a, which is off by %g of it", x[i], got[i], error);
    }
  }
  const float ends[][2] = {{0.0f, 1.0f},       {-0.0f, 1.0f},       {-INFINITY, 0.0f},
                           {-151.5f, 0.0f},    {-FLT_MAX, 0.0f},    {128.0f, INFINITY},
                           {128.5f, INFINITY}, {FLT_MAX, INFINITY}, {INFINITY, INFINITY}};
  for (size_t n = 0; n < sizeof ends / sizeof *ends; n++) {
    for (int i = 0; i < v->lanes; i++) x[i] = i % 2 ? NAN : ends[n][0];
    p->exp2_bf16(x, got);
    for (int i = 0; i < v->lanes; i++)
      MUST(i % 2 ? isnan(got[i]) : got[i] == ends[n][1], v, "vf_exp2_bf16(%a) is %a", x[i], got[i]);
  }
}

EACH_ISA_WITH_PRODUCTS(mixes_elements_of_two_vectors) {
  for (int upper = 0; upper < 2; upper++) {
    uint16_t a[2 * MOST], b[2 * MOST];
    uint32_t x[MOST], y[MOST], got[MOST];
    for (int i = 0; i < 2 * v->lanes; i++) a[i] = element_of(i), b[i] = element_of(~i);
    p->load(a, x), p->load(b, y);
    p->mix(x, y, upper, got);
    for (int i = 0; i < v->lanes; i++) {
      const uint32_t expected = pair_of(a[upper * v->lanes + i], b[upper * v->lanes + i]);
      MUST(got[i] == expected, v, "vp_mix: lane %d is %08x, not %08x", i, got[i], expected);
    }
    p->pin(x, got);
    for (int i = 0; i < v->lanes; i++) MUST(got[i] == x[i], v, "vp_pin: lane %d is %08x, not %08x", i, got[i], x[i]);
  }
}

/* -------------------------------------------------------------------------------------------------------- packing */

/* Shapes of what is packed: rows, elements of a row, panel in vectors, and what is added to the least depth. */
static const struct shape {
  int64_t count, dim;
  int vectors, deeper;
} shapes[] = {{1, 1, 1, 0},   {2, 2, 1, 0},   {16, 32, 1, 0}, {17, 33, 1, 3}, {31, 63, 2, 0}, {32, 64, 2, 16},
              {64, 80, 2, 0}, {63, 31, 4, 7}, {5, 128, 4, 0}, {40, 7, 3, 12}, {3, 40, 1, 30}, {64, 48, 4, 0}};

/* Element `at` of row `row`, 0 where there is none. Rows lie dim + 3 elements apart. */
static uint16_t element_at(const struct shape *s, int64_t row, int64_t at) {
  return row < s->count && at < s->dim ? element_of(row * (s->dim + 3) + at) : 0;
}

/* Where the rows of a tensor lie. */
static const void *const *rows_at(const void *first, int64_t stride, int64_t count) {
  static const void *rows[1024];
  cr_assert_leq((size_t)count, COUNT(rows));
  for (int64_t i = 0; i < count; i++) rows[i] = (const uint16_t *)first + i * stride;
  return rows;
}

/* What is in the place of a pair that is not packed. */
static const uint32_t untouched = FILL * 0x01010101u;

EACH_ISA_WITH_PAIRS(packs_keys) {
  for (size_t n = 0; n < 2 * COUNT(shapes); n++) {
    const size_t i = n / 2;
    const struct shape *s = &shapes[i];
    const int panel = s->vectors * v->lanes;
    const int64_t begin = n % 2 && s->count > panel ? panel : 0;
    const int64_t depth = (s->dim + 1) / 2 + s->deeper, keys = (s->count + panel - 1) / panel * panel;
    attend_guarded in = elements((size_t)((s->count - 1) * (s->dim + 3) + s->dim)), out = {0};
    cr_assert(attend_guarded_place(&out, (size_t)(keys * depth) * 4, 0, false, FILL));
    p->pack_keys(rows_at(in.data, s->dim + 3, s->count), begin, s->count, s->dim, depth, panel, (uint32_t *)out.data);
    for (int64_t key = 0; key < keys; key++)
      for (int64_t d = 0; d < depth; d++) {
        const uint32_t got = ((uint32_t *)out.data)[key / panel * panel * depth + d * panel + key % panel];
        const uint32_t expected =
            key < begin ? untouched : pair_of(element_at(s, key, 2 * d), element_at(s, key, 2 * d + 1));
        MUST(got == expected, v, "shape %zu: pair %d of key %d is %08x, not %08x", i, (int)d, (int)key, got, expected);
      }
    MUST(attend_guarded_intact(&out, FILL), v, "shape %zu: writes elsewhere", i);
    attend_guarded_free(&in);
    attend_guarded_free(&out);
  }
}

EACH_ISA_WITH_PAIRS(packs_values) {
  for (size_t n = 0; n < 2 * COUNT(shapes); n++) {
    const size_t i = n / 2;
    const struct shape *s = &shapes[i];
    const int panel = s->vectors * v->lanes;
    const int64_t begin = n % 2 ? s->count / 4 * 2 : 0;
    const int64_t depth = (s->count + 1) / 2 + s->deeper, width = (s->dim + v->lanes - 1) / v->lanes * v->lanes;
    const int64_t block = depth + 2, size = (s->dim - 1) / panel * panel * block; /* start of the last panel */
    attend_guarded in = elements((size_t)((s->count - 1) * (s->dim + 3) + s->dim)), out = {0};
    const int64_t last = width - (s->dim - 1) / panel * panel;
    cr_assert(attend_guarded_place(&out, (size_t)(size + last * depth) * 4, 0, false, FILL));
    p->pack_values(rows_at(in.data, s->dim + 3, s->count), begin, s->count, s->dim, depth, panel, block,
                   (uint32_t *)out.data);
    for (int64_t c = 0; c < width; c++)
      for (int64_t j = 0; j < depth; j++) {
        const int64_t start = c / panel * panel, columns = width - start < panel ? width - start : panel;
        const uint32_t got = ((uint32_t *)out.data)[start * block + j * columns + c - start];
        const uint32_t expected =
            2 * j < begin ? untouched : pair_of(element_at(s, 2 * j, c), element_at(s, 2 * j + 1, c));
        MUST(got == expected, v, "shape %zu: pair %d of column %d is %08x, not %08x", i, (int)j, (int)c, got, expected);
      }
    MUST(attend_guarded_intact(&out, FILL), v, "shape %zu: writes elsewhere", i);
    attend_guarded_free(&in);
    attend_guarded_free(&out);
  }
}

/* One value that is not finite, in each place. */
EACH_ISA_WITH_PAIRS(packing_finds_what_is_not_finite) {
  static const uint16_t bad[] = {0x7f80, 0xff80, 0x7fc0, 0x7f81};
  enum { COUNT_ = 5, DIM = 37 };
  uint16_t in[COUNT_ * DIM];
  uint32_t out[(COUNT_ + 1) / 2 * (DIM + 3 * MOST)];
  for (int i = 0; i < COUNT_ * DIM; i++) in[i] = 0x7f7f; /* the greatest number there is */
  MUST(p->pack_values(rows_at(in, DIM, COUNT_), 0, COUNT_, DIM, 3, 2 * v->lanes, 3, out), v, "finite values are not");
  for (int i = 0; i < COUNT_ * DIM; i++) {
    in[i] = bad[i % (int)COUNT(bad)];
    MUST(!p->pack_values(rows_at(in, DIM, COUNT_), 0, COUNT_, DIM, 3, 2 * v->lanes, 3, out), v,
         "%04x in place %d is not found", in[i], i);
    in[i] = 0x7f7f;
  }
}
