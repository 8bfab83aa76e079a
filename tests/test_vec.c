/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The vector operations of every instruction set that is built, each on its own against plain C: what
 * kernels/vec_contract.h says of them. How exact vf_exp2 is: test_vec_ulp.c.
 */
#include <float.h>

#include "tests/vec/each_isa.h"
#include "verify/internal.h"
#include "verify/reference.h"

/* -------------------------------------------------------------------------------------------------------- operands */

static const float special[] = {0.0f,     -0.0f,     1.0f,       -1.0f,       3.0f,     0.1f,          FLT_MIN,
                                -FLT_MIN, 0x1p-149f, -0x1p-149f, 0x1.8p-130f, FLT_MAX,  -FLT_MAX,      0x1p127f,
                                1e-30f,   NAN,       INFINITY,   -INFINITY,   12345.0f, 0x1.fffffep-1f};

/* The i-th of many operands: all combinations of the special ones, then any bits, then numbers of similar size. */
enum { SPECIAL = COUNT(special), OPERANDS = SPECIAL * SPECIAL * SPECIAL + 200000 };
static float operand(int which, int64_t i) {
  if (i < SPECIAL * SPECIAL * SPECIAL)
    return special[which == 0 ? i % SPECIAL : which == 1 ? i / SPECIAL % SPECIAL : i / SPECIAL / SPECIAL];
  const uint64_t h = hash((uint64_t)which, i);
  return i % 2 ? f32_from_bits((uint32_t)h) : ldexpf((float)(int32_t)(h >> 32), -29);
}

static void operands(int which, int64_t first, int lanes, float *to) {
  for (int i = 0; i < lanes; i++) to[i] = operand(which, first + i);
}

/* ------------------------------------------------------------------------------------------------ loads and stores */

static const attend_dtype dtypes[] = {ATTEND_F32, ATTEND_F16, ATTEND_BF16};

/* Where a buffer lies: against a guard page or an odd element away, at the start and at the end. */
static const struct place {
  size_t gap; /* elements */
  bool at_start;
} places[] = {{0, false}, {0, true}, {1, false}, {1, true}, {3, false}, {3, true}};
enum { FILL = 0x5a };

static attend_guarded place(const struct place *at, size_t count, size_t element) {
  attend_guarded g = {0};
  cr_assert(attend_guarded_place(&g, count * element, at->gap * element, at->at_start, FILL));
  return g;
}

static void random_bytes(attend_guarded *g) {
  for (size_t i = 0; i < g->size; i++) g->data[i] = (unsigned char)hash(i, (int64_t)g->size);
}

EACH_ISA(loads) {
  for (size_t t = 0; t < COUNT(dtypes); t++)
    for (int n = 0; n <= v->lanes; n++)
      for (size_t at = 0; at < COUNT(places); at++) {
        attend_guarded g = place(&places[at], (size_t)n, attend_dtype_size(dtypes[t]));
        random_bytes(&g);
        for (int whole = 0; whole <= (n == v->lanes); whole++) {
          float got[MOST];
          if (whole)
            v->load[dtypes[t]](g.data, got);
          else
            v->load_n[dtypes[t]](g.data, n, got);
          for (int i = 0; i < v->lanes; i++)
            MUST(same(got[i], i < n ? attend_reference_element(g.data, dtypes[t], i) : 0.0f), v,
                 "load of %d %s%s: lane %d is %a", n, attend_dtype_name(dtypes[t]), whole ? ", whole" : "", i, got[i]);
        }
        attend_guarded_free(&g);
      }
}

EACH_ISA(stores) {
  for (size_t t = 0; t < COUNT(dtypes); t++)
    for (int n = 0; n <= v->lanes; n++)
      for (size_t at = 0; at < COUNT(places); at++)
        for (int whole = 0; whole <= (n == v->lanes && dtypes[t] == ATTEND_F32); whole++) {
          attend_guarded g = place(&places[at], (size_t)n, attend_dtype_size(dtypes[t]));
          float x[MOST];
          for (int i = 0; i < v->lanes; i++) x[i] = (float)(i - 3) * 0.25f; /* exact in every type */
          if (whole)
            v->store(g.data, x);
          else
            v->store_n[dtypes[t]](g.data, x, n);
          for (int i = 0; i < n; i++)
            MUST(same(attend_reference_element(g.data, dtypes[t], i), x[i]), v, "store of %d %s: element %d", n,
                 attend_dtype_name(dtypes[t]), i);
          MUST(attend_guarded_intact(&g, FILL), v, "store of %d %s writes elsewhere", n, attend_dtype_name(dtypes[t]));
          attend_guarded_free(&g);
        }
}

EACH_ISA(loads_of_every_16_bit_pattern) {
  for (size_t t = 1; t < COUNT(dtypes); t++)
    for (int first = 0; first < 65536; first += v->lanes) {
      uint16_t from[MOST];
      float whole[MOST], counted[MOST];
      for (int i = 0; i < v->lanes; i++) from[i] = (uint16_t)(first + i);
      v->load[dtypes[t]](from, whole);
      v->load_n[dtypes[t]](from, v->lanes, counted);
      for (int i = 0; i < v->lanes; i++) {
        const float expected = attend_reference_element(from, dtypes[t], i);
        MUST(same(whole[i], expected) && same(counted[i], expected), v, "%s %04x: %a and %a, not %a",
             attend_dtype_name(dtypes[t]), from[i], whole[i], counted[i], expected);
      }
    }
}

/* Numbers to be stored as a 16-bit type, gathered until there is a vector of them. */
typedef struct stores_16 {
  const attend_vec *v;
  attend_dtype dtype;
  int count;
  float x[MOST];
  uint16_t expected[MOST];
} stores_16;

static void expect_stored(stores_16 *s, float x, uint16_t expected) {
  /* x86's instruction for bf16 takes denormal numbers as 0. */
  const bool flushed = s->dtype == ATTEND_BF16 && (s->v->cpu & ATTEND_CPU_BIT(AVX512_BF16)) && fabsf(x) < FLT_MIN;
  s->x[s->count] = x;
  s->expected[s->count] = flushed ? expected & 0x8000 : expected;
  if (++s->count < s->v->lanes) return;
  s->count = 0;
  uint16_t got[MOST];
  s->v->store_n[s->dtype](got, s->x, s->v->lanes);
  for (int i = 0; i < s->v->lanes; i++)
    MUST(got[i] == s->expected[i], s->v, "%a stored as %s %04x, not %04x", s->x[i], attend_dtype_name(s->dtype), got[i],
         s->expected[i]);
}

/* Every number of a 16-bit type, and what lies around the middle between it and the next: ties go to the even one. */
EACH_ISA(stores_round_to_nearest_even) {
  for (size_t t = 1; t < COUNT(dtypes); t++) {
    stores_16 s = {.v = v, .dtype = dtypes[t]};
    const int infinity = s.dtype == ATTEND_F16 ? 0x7c00 : 0x7f80;
    for (int shift = 0; shift < 2; shift++) {
      if (shift) expect_stored(&s, 1.0f, s.dtype == ATTEND_F16 ? 0x3c00 : 0x3f80); /* all others one lane further on */
      for (int pattern = 0; pattern < infinity; pattern++) {
        const uint16_t pair[2] = {(uint16_t)pattern, (uint16_t)(pattern + 1)}, p = pair[0], next = pair[1];
        const double low = attend_reference_element(pair, s.dtype, 0);
        double high = attend_reference_element(pair, s.dtype, 1);
        if (next == infinity) high = s.dtype == ATTEND_F16 ? 0x1p16 : 0x1p128; /* what would come next */
        const float middle = (float)((low + high) / 2);
        for (int sign = 0; sign < 2; sign++) {
          const float one = sign ? -1.0f : 1.0f;
          const uint16_t minus = sign ? 0x8000 : 0;
          expect_stored(&s, one * (float)low, p | minus);
          expect_stored(&s, one * nextafterf(middle, 0.0f), p | minus);
          expect_stored(&s, one * middle, (p % 2 ? next : p) | minus);
          expect_stored(&s, one * nextafterf(middle, INFINITY), next | minus);
        }
      }
    }
    do { /* and thereby what has been gathered */
      expect_stored(&s, INFINITY, (uint16_t)infinity);
      expect_stored(&s, -INFINITY, (uint16_t)(infinity | 0x8000));
      expect_stored(&s, FLT_MAX, (uint16_t)infinity);
      expect_stored(&s, -FLT_MAX, (uint16_t)(infinity | 0x8000));
      expect_stored(&s, -0x1p-149f, 0x8000);
    } while (s.count);
  }
}

EACH_ISA(stores_keep_nan) {
  for (size_t t = 1; t < COUNT(dtypes); t++)
    for (uint64_t bits = 0x7f800001; bits < 0x80000000; bits += bits < 0x7f801000 || bits > 0x7fffefff ? 1 : 97) {
      float x[MOST];
      uint16_t got[MOST];
      for (int i = 0; i < v->lanes; i++) x[i] = f32_from_bits((uint32_t)bits | (i % 2 ? 0x80000000 : 0));
      v->store_n[dtypes[t]](got, x, v->lanes);
      for (int i = 0; i < v->lanes; i++)
        MUST(isnan(attend_reference_element(got, dtypes[t], i)), v, "the NaN %08x stored as %s %04x", f32_to_bits(x[i]),
             attend_dtype_name(dtypes[t]), got[i]);
    }
}

/* ------------------------------------------------------------------------------------------------------ arithmetic */

EACH_ISA(constants) {
  float got[MOST];
  v->zero(got);
  for (int i = 0; i < v->lanes; i++) MUST(same(got[i], 0.0f), v, "vf_zero: lane %d is %a", i, got[i]);
  v->iota(got);
  for (int i = 0; i < v->lanes; i++) MUST(same(got[i], (float)i), v, "vf_iota: lane %d is %a", i, got[i]);
  for (size_t s = 0; s < COUNT(special); s++) {
    v->set1(special[s], got);
    for (int i = 0; i < v->lanes; i++) MUST(same(got[i], special[s]), v, "vf_set1: lane %d is %a", i, got[i]);
  }
}

/* One operation, by its place in the table and in plain C. */
#define EXPECT_LANES(v, name, expected)                                                                                \
  for (int64_t first = 0; first < OPERANDS; first += (v)->lanes) {                                                     \
    float x[MOST], y[MOST], got[MOST];                                                                                 \
    operands(0, first, (v)->lanes, x), operands(1, first, (v)->lanes, y);                                              \
    (v)->name(x, y, got);                                                                                              \
    for (int i = 0; i < (v)->lanes; i++) {                                                                             \
      const float a = x[i], b = y[i];                                                                                  \
      MUST(same(got[i], expected), v, "vf_" #name "(%a, %a) is %a, not %a", a, b, got[i], expected);                   \
    }                                                                                                                  \
  }

EACH_ISA(arithmetic) {
  EXPECT_LANES(v, add, a + b);
  EXPECT_LANES(v, sub, a - b);
  EXPECT_LANES(v, mul, a * b);
  EXPECT_LANES(v, div, a / b);
}

EACH_ISA(abs_and_pin) {
  for (int64_t first = 0; first < OPERANDS; first += v->lanes) {
    float x[MOST], got[MOST];
    operands(0, first, v->lanes, x);
    v->abs(x, got);
    for (int i = 0; i < v->lanes; i++) MUST(same(got[i], fabsf(x[i])), v, "vf_abs(%a) is %a", x[i], got[i]);
    v->pin(x, got);
    for (int i = 0; i < v->lanes; i++)
      MUST(f32_to_bits(got[i]) == f32_to_bits(x[i]), v, "vf_pin(%a) is %a", x[i], got[i]);
  }
}

EACH_ISA(max) {
  /* Of two zeros it may be either. */
  EXPECT_LANES(v, max, (a == 0 && b == 0 && got[i] == 0 ? got[i] : a > b ? a : b));
}

EACH_ISA(fma_) {
  for (int64_t first = 0; first < OPERANDS; first += v->lanes) {
    float a[MOST], b[MOST], c[MOST], got[MOST];
    operands(0, first, v->lanes, a), operands(1, first, v->lanes, b), operands(2, first, v->lanes, c);
    /* Products that all but cancel tell one rounding from two. */
    for (int i = 0; i < v->lanes; i++)
      if (i % 2 && isfinite(a[i] * b[i])) c[i] = -(a[i] * b[i]);
    v->fma(a, b, c, got);
    for (int i = 0; i < v->lanes; i++) {
      const float once = fmaf(a[i], b[i], c[i]), product = a[i] * b[i], twice = product + c[i];
      const bool portable = v->isa == ATTEND_ISA_SCALAR;
      MUST(same(got[i], once) || (portable && same(got[i], twice)), v, "vf_fma(%a, %a, %a) is %a, not %a", a[i], b[i],
           c[i], got[i], once);
    }
  }
}

/* ------------------------------------------------------------------------------------------------- across the lanes */

static float small_number(int64_t i) { return ldexpf((float)(int32_t)hash(7, i), -31); }

/* Whether a sum of n numbers, in any order, is what it should be. */
static bool is_sum(float got, const float *x, int n) {
  double sum = 0, size = 0;
  for (int i = 0; i < n; i++) sum += x[i], size += fabs(x[i]);
  return fabs(got - sum) <= (n - 1) * 0x1p-24 * size;
}

EACH_ISA(hsum) {
  float x[MOST];
  for (int64_t first = 0; first < 1000; first++) {
    for (int i = 0; i < v->lanes; i++) x[i] = small_number(first + i);
    const float sum = v->hsum(x);
    MUST(is_sum(sum, x, v->lanes), v, "vf_hsum is %a", sum);
    MUST(same(sum, v->hsum(x)), v, "vf_hsum changes");
    for (int i = 0; i < v->lanes; i++) x[i] = (float)(1 << i);
    MUST(v->hsum(x) == (float)((1 << v->lanes) - 1), v, "vf_hsum misses a lane");
  }
  for (int i = 0; i < v->lanes; i++) {
    for (int j = 0; j < v->lanes; j++) x[j] = i == j ? NAN : 1.0f;
    MUST(isnan(v->hsum(x)), v, "vf_hsum: NaN in lane %d is lost", i);
  }
}

EACH_ISA(hmax) {
  float x[MOST];
  for (int i = 0; i < v->lanes; i++) {
    for (int j = 0; j < v->lanes; j++) x[j] = i == j ? -1.0f : -2.0f - (float)j;
    MUST(v->hmax(x) == -1.0f, v, "vf_hmax: lane %d is not looked at", i);
    for (int j = 0; j < v->lanes; j++) x[j] = i == j ? -FLT_MAX : -INFINITY;
    MUST(v->hmax(x) == -FLT_MAX, v, "vf_hmax: -FLT_MAX in lane %d among -inf", i);
    for (int j = 0; j < v->lanes; j++) x[j] = i == j ? NAN : (float)j;
    const float max = v->hmax(x);
    MUST(isnan(max) || (max >= 0.0f && max < (float)v->lanes), v, "vf_hmax is %a with NaN in lane %d", max, i);
  }
  for (int j = 0; j < v->lanes; j++) x[j] = -INFINITY;
  MUST(v->hmax(x) == -INFINITY, v, "vf_hmax of -inf");
}

EACH_ISA(sum_each) {
  float r[MOST * MOST], got[MOST], again[MOST];
  const int n = v->lanes;
  for (int64_t round = 0; round < 100; round++) {
    for (int i = 0; i < n * n; i++) r[i] = small_number(round * n * n + i);
    v->sum_each(r, got);
    for (int i = 0; i < n; i++) MUST(is_sum(got[i], r + i * n, n), v, "vf_sum_each: sum %d is %a", i, got[i]);
    /* The bits of a sum must not depend on where its vector stands. */
    float turned[MOST * MOST];
    for (int i = 0; i < n * n; i++) turned[(i + n) % (n * n)] = r[i];
    v->sum_each(turned, again);
    for (int i = 0; i < n; i++) MUST(same(got[i], again[(i + 1) % n]), v, "vf_sum_each: sum %d by place", i);
  }
  for (int i = 0; i < n * n; i++) {
    for (int j = 0; j < n * n; j++) r[j] = i == j ? NAN : 1.0f;
    v->sum_each(r, got);
    for (int j = 0; j < n; j++)
      MUST(j == i / n ? isnan(got[j]) : got[j] == (float)n, v, "vf_sum_each: NaN in vector %d, sum %d", i / n, j);
  }
}

EACH_ISA(transpose) {
  float r[MOST * MOST], got[MOST * MOST];
  const int n = v->lanes;
  for (int i = 0; i < n * n; i++) r[i] = (float)i;
  v->transpose(r, got);
  for (int i = 0; i < n; i++)
    for (int j = 0; j < n; j++)
      MUST(got[i * n + j] == r[j * n + i], v, "vf_transpose: row %d lane %d is %g", i, j, got[i * n + j]);
}

EACH_ISA(store_groups) {
  const int lanes = v->lanes;
  float x[MOST];
  for (int i = 0; i < lanes; i++) x[i] = (float)(i + 1);
  for (int log = 0; log < ATTEND_VEC_GROUPS; log++) {
    const int n = 1 << log, groups = lanes / n;
    if (n > lanes || (n < 4 && n != lanes)) continue;
    cr_assert_not_null(v->store_groups[log]);
    for (int64_t stride = n; stride < 3 * n + 2; stride++)
      for (size_t at = 0; at < COUNT(places); at++) {
        const int64_t extent = (groups - 1) * stride + n;
        attend_guarded g = place(&places[at], (size_t)extent, sizeof(float));
        memset(g.data, FILL, g.size);
        v->store_groups[log]((float *)g.data, stride, x);
        for (int64_t i = 0; i < extent; i++) {
          float expected;
          memset(&expected, FILL, sizeof expected);
          if (i % stride < n) expected = x[i / stride * n + i % stride];
          MUST(((float *)g.data)[i] == expected, v, "vf_store_groups of %d, %d apart: element %d", n, (int)stride,
               (int)i);
        }
        MUST(attend_guarded_intact(&g, FILL), v, "vf_store_groups of %d writes elsewhere", n);
        attend_guarded_free(&g);
      }
  }
}

/* ------------------------------------------------------------------------------------------------------ selections */

EACH_ISA(range) {
  int64_t bounds[MOST + 20] = {INT64_MIN,           INT64_MIN + 1,          INT32_MIN,     INT32_MIN - INT64_C(1),
                               -(INT64_C(1) << 32), 3 - (INT64_C(1) << 32), INT32_MAX,     INT32_MAX + INT64_C(1),
                               INT64_C(1) << 32,    3 + (INT64_C(1) << 32), INT64_MAX - 1, INT64_MAX};
  int count = 12;
  for (int64_t i = -3; i <= v->lanes + 3; i++) bounds[count++] = i;
  for (int l = 0; l < count; l++)
    for (int h = 0; h < count; h++) {
      uint8_t got[MOST];
      const int64_t lo = bounds[l], hi = bounds[h];
      const bool any = v->range(lo, hi, got);
      bool expected_any = false;
      for (int i = 0; i < v->lanes; i++) {
        const bool expected = lo <= i && i < hi;
        expected_any |= expected;
        MUST(got[i] == expected, v, "vm_range(%lld, %lld): lane %d", (long long)lo, (long long)hi, i);
      }
      MUST(any == expected_any, v, "vm_any of vm_range(%lld, %lld)", (long long)lo, (long long)hi);
    }
}

EACH_ISA(bytes_n) {
  static const uint8_t kinds[] = {0, 1, 2, 0x7f, 0x80, 0xff};
  for (int n = 0; n <= v->lanes; n++)
    for (size_t at = 0; at < COUNT(places); at++) {
      attend_guarded g = place(&places[at], (size_t)n, 1);
      for (int64_t pattern = 0; pattern < 2 + 100; pattern++) {
        for (int i = 0; i < n; i++) {
          const uint64_t h = hash((uint64_t)pattern, i);
          g.data[i] = pattern == 0 ? 0 : pattern == 1 ? 1 : h % 3 ? 0 : kinds[h / 3 % COUNT(kinds)];
        }
        uint8_t got[MOST];
        const bool any = v->bytes_n(g.data, n, got);
        bool expected_any = false;
        for (int i = 0; i < v->lanes; i++) {
          const bool expected = i < n && g.data[i] != 0;
          expected_any |= expected;
          MUST(got[i] == expected, v, "vm_bytes_n of %d: lane %d", n, i);
        }
        MUST(any == expected_any, v, "vm_any of vm_bytes_n of %d", n);
      }
      attend_guarded_free(&g);
    }
}

EACH_ISA(gt) {
  for (int64_t first = 0; first < OPERANDS; first += v->lanes) {
    float a[MOST], b[MOST];
    uint8_t got[MOST];
    operands(0, first, v->lanes, a), operands(1, first, v->lanes, b);
    const bool any = v->gt(a, b, got);
    bool expected_any = false;
    for (int i = 0; i < v->lanes; i++) {
      expected_any |= a[i] > b[i];
      MUST(got[i] == (a[i] > b[i]), v, "vm_gt(%a, %a) is %d", a[i], b[i], got[i]);
    }
    MUST(any == expected_any, v, "vm_any of vm_gt");
  }
}

/* Each lane by itself, none, all, and mixtures. */
static void mixture(int64_t which, int lanes, uint8_t *to) {
  for (int i = 0; i < lanes; i++)
    to[i] = which <= MOST ? which == i : which == MOST + 1 ? 1 : hash((uint64_t)which, i) % 2;
}

EACH_ISA(and_any_select) {
  for (int64_t which = 0; which < 200; which++)
    for (int64_t other = 0; other < MOST + 5; other++) {
      uint8_t a[MOST], b[MOST], got[MOST];
      mixture(which, v->lanes, a), mixture(other, v->lanes, b);
      const bool any = v->both(a, b, got);
      bool expected_any = false;
      for (int i = 0; i < v->lanes; i++) {
        expected_any |= a[i] && b[i];
        MUST(got[i] == (a[i] && b[i]), v, "vm_and: lane %d", i);
      }
      MUST(any == expected_any, v, "vm_any of vm_and");

      float x[MOST], y[MOST], selected[MOST];
      operands(0, which * MOST, v->lanes, x), operands(1, other * MOST, v->lanes, y);
      v->select(a, x, y, selected);
      for (int i = 0; i < v->lanes; i++)
        MUST(f32_to_bits(selected[i]) == f32_to_bits(a[i] ? x[i] : y[i]), v, "vf_select: lane %d", i);
    }
}

/* -------------------------------------------------------------------------------------------------------- integers */

EACH_ISA(integers) {
  static const uint32_t edges[] = {0, 1, 2, 0x7fffffff, 0x80000000, 0x80000001, 0xfffffffe, 0xffffffff};
  uint32_t got[MOST], more[MOST];
  uint8_t selected[MOST];
  v->u_iota(got);
  for (int i = 0; i < v->lanes; i++) MUST(got[i] == (uint32_t)i, v, "vu_iota: lane %d is %u", i, got[i]);
  for (int64_t n = 0; n < 100000; n++) {
    uint32_t a[MOST], b[MOST];
    bool any = false;
    for (int i = 0; i < v->lanes; i++) {
      const uint64_t random = hash((uint64_t)n, i);
      a[i] = n % 2 ? (uint32_t)random : edges[random % COUNT(edges)];
      b[i] = n % 4 > 1 ? (uint32_t)(random >> 32) : edges[random / 64 % COUNT(edges)];
    }
    v->u_set1(a[0], got);
    for (int i = 0; i < v->lanes; i++) MUST(got[i] == a[0], v, "vu_set1(%x): lane %d is %x", a[0], i, got[i]);
    v->u_add(a, b, got);
    for (int i = 0; i < v->lanes; i++) MUST(got[i] == a[i] + b[i], v, "vu_add(%x, %x) is %x", a[i], b[i], got[i]);
    v->u_xor(a, b, got);
    for (int i = 0; i < v->lanes; i++) MUST(got[i] == (a[i] ^ b[i]), v, "vu_xor(%x, %x) is %x", a[i], b[i], got[i]);
    v->u_mul_wide(a, b, got, more);
    for (int i = 0; i < v->lanes; i++)
      MUST(((uint64_t)got[i] << 32 | more[i]) == (uint64_t)a[i] * b[i], v, "vu_mul_wide(%x, %x) is %x %x", a[i], b[i],
           got[i], more[i]);
    const bool said = v->u_ge(a, b, selected);
    for (int i = 0; i < v->lanes; i++) {
      MUST(selected[i] == (a[i] >= b[i]), v, "vu_ge(%x, %x) is %d", a[i], b[i], selected[i]);
      any |= a[i] >= b[i];
    }
    MUST(said == any, v, "vm_any of vu_ge is %d", said);
  }
}

/* The known answers that the authors of Philox publish with their code (Random123, kat_vectors). */
EACH_ISA(philox_known_answers) {
  static const struct {
    uint32_t counter[4], key[2], words[4];
  } known[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
       {0xffffffff, 0xffffffff},
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (size_t n = 0; n < COUNT(known); n++)
    for (int lane = 0; lane < v->lanes; lane++) {
      uint32_t c[4 * MOST];
      for (int i = 0; i < 4 * v->lanes; i++) c[i] = (uint32_t)hash(n, i); /* other counters in the other lanes */
      for (int w = 0; w < 4; w++) c[w * v->lanes + lane] = known[n].counter[w];
      v->philox(c, known[n].key[0], known[n].key[1]);
      for (int w = 0; w < 4; w++)
        MUST(c[w * v->lanes + lane] == known[n].words[w], v, "answer %zu: word %d in lane %d is %08x, not %08x", n, w,
             lane, c[w * v->lanes + lane], known[n].words[w]);
    }
}

EACH_ISA(prefetch_of_any_address) {
  attend_guarded g = place(&places[0], 64, 1);
  v->prefetch(g.data);
  v->prefetch(g.data + 64);
  v->prefetch(NULL);
  v->prefetch((const void *)(UINTPTR_MAX - 7));
  attend_guarded_free(&g);
}

/* ------------------------------------------------------------------------------------------------ products of bytes */

#define EACH_ISA_WITH_BYTES(name)                                                                                      \
  static void name##_of(const attend_vec *v);                                                                          \
  EACH_ISA(name) {                                                                                                     \
    if (!v->byte_dot) cr_skip_test("%s has no products of bytes", attend_isa_name(v->isa));                            \
    name##_of(v);                                                                                                      \
  }                                                                                                                    \
  static void name##_of(const attend_vec *v)

/* All bytes but the -128 that the other side may not have; all of them at their greatest in the first rounds. */
EACH_ISA_WITH_BYTES(byte_products) {
  const struct place at = {0, false};
  for (int64_t round = 0; round < 20000; round++) {
    attend_guarded a = place(&at, 32, 1), b = place(&at, 32, 1);
    int8_t y[64];
    for (int i = 0; i < 64; i++) {
      int8_t *x = (int8_t *)(i < 32 ? a.data : b.data) + i % 32;
      *x = round < 4 ? (round & 1 ? -128 : 127) : (int8_t)hash(1, round * 64 + i);
      y[i] = round < 4 ? (round & 2 ? -127 : 127) : (int8_t)hash(2, round * 64 + i);
      if (y[i] == -128) y[i] = 1;
    }
    for (int halves = 1; halves <= v->lanes / 8; halves++) {
      float got[MOST];
      v->byte_dot((int8_t *)a.data, halves == 2 ? (int8_t *)b.data : NULL, y, got);
      for (int i = 0; i < v->lanes; i++) {
        int expected = 0;
        for (int j = 4 * i; j < 4 * i + 4; j++)
          expected += y[j] * (j < 32 ? ((int8_t *)a.data)[j] : halves == 2 ? ((int8_t *)b.data)[j - 32] : 0);
        MUST(got[i] == (float)expected, v, "vi_dot: lane %d is %g, not %d", i, (double)got[i], expected);
      }
    }
    attend_guarded_free(&a), attend_guarded_free(&b);
  }
}

EACH_ISA_WITH_BYTES(two_halves) {
  const struct place at = {0, false};
  attend_guarded a = place(&at, 2, 1), b = place(&at, 2, 1);
  for (uint32_t bits = 0; bits < 0x10000; bits += 7) {
    const uint16_t first = (uint16_t)bits, second = (uint16_t)(bits * 31);
    memcpy(a.data, &first, 2), memcpy(b.data, &second, 2);
    float got[MOST];
    for (int halves = 1; halves <= v->lanes / 8; halves++) {
      v->halves_f16(a.data, halves == 2 ? b.data : NULL, got);
      for (int i = 0; i < v->lanes; i++) {
        const float expected = f16_to_f32(i < 8 ? first : halves == 2 ? second : 0);
        MUST(same(got[i], expected), v, "vf_halves_f16(%04x, %04x): lane %d is %a", first, second, i, (double)got[i]);
      }
    }
  }
  attend_guarded_free(&a), attend_guarded_free(&b);
  attend_guarded c = place(&at, 4, 1), d = place(&at, 4, 1);
  const float first = 0x1.8p-130f, second = -INFINITY;
  memcpy(c.data, &first, 4), memcpy(d.data, &second, 4);
  for (int halves = 1; halves <= v->lanes / 8; halves++) {
    float got[MOST];
    v->halves_f32(c.data, halves == 2 ? d.data : NULL, got);
    for (int i = 0; i < v->lanes; i++) {
      const float expected = i < 8 ? first : halves == 2 ? second : 0;
      MUST(same(got[i], expected), v, "vf_halves_f32(%a, %a): lane %d is %a", (double)first, (double)second, i,
           (double)got[i]);
    }
  }
  attend_guarded_free(&c), attend_guarded_free(&d);
}

EACH_ISA_WITH_BYTES(sums_of_integers) {
  int32_t a[MOST], b[MOST];
  float got[MOST];
  for (int i = 0; i < MOST; i++)
    a[i] = (int32_t)(hash(1, i) % 20000001) - 10000000, b[i] = (int32_t)(1 << i) * 13 - a[i];
  v->add_integers(a, b, got);
  for (int i = 0; i < v->lanes; i++)
    MUST(got[i] == (float)(a[i] + b[i]), v, "vi_add(%d, %d) is %g", a[i], b[i], (double)got[i]);
}

EACH_ISA_WITH_BYTES(rounds_to_bytes) {
  const struct place at = {0, false};
  attend_guarded g = place(&at, (size_t)v->lanes, 1);
  for (int first = -127 * 8; first <= 127 * 8; first++) {
    float x[MOST];
    for (int i = 0; i < v->lanes; i++) x[i] = (float)(first + i > 127 * 8 ? first : first + i) / 8;
    v->store_rounded((int8_t *)g.data, x);
    for (int i = 0; i < v->lanes; i++)
      MUST(((int8_t *)g.data)[i] == (int8_t)nearbyintf(x[i]), v, "vi_store_rounded(%g) is %d", (double)x[i],
           ((int8_t *)g.data)[i]);
  }
  attend_guarded_free(&g);
}
