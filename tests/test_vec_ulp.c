/* SPDX-License-Identifier: Apache-2.0 */
/**
 * How exact vf_exp2, vf_tanh and vf_tanh_term are on every instruction set, over all floats or as many of them as there
 * is time for. With --verbose=1 the program prints the worst error it finds; docs/numerics.md states them.
 */
#include <float.h>

#include "tests/vec/each_isa.h"

#define EXP2_ULP 2.0 /* kernels/vec_contract.h */
#define TANH_ULP 2.1

/* Floats by their bits: from, from + step, ... up to and with `to`. */
typedef struct sweep {
  uint32_t from, to, step;
} sweep;

/* |got - exact| in units of the last place of exact, which f32 keeps from shrinking below 2^-149. */
static double ulps(float got, double exact) {
  int exponent;
  frexp(exact, &exponent);
  return fabs(got - exact) / ldexp(1.0, (exponent > -125 ? exponent : -125) - 24);
}

/* Calls check(v, x, f(x)) for every float of a sweep, and returns the largest of the errors that it returns. */
static double worst_of(const attend_vec *v, sweep s, void (*f)(const float *x, float *to),
                       double (*check)(const attend_vec *v, float x, float got)) {
  double worst = 0;
  for (uint64_t first = s.from; first <= s.to; first += (uint64_t)s.step * (uint64_t)v->lanes) {
    float x[MOST], got[MOST];
    for (int i = 0; i < v->lanes; i++) {
      const uint64_t bits = first + (uint64_t)s.step * (uint64_t)i;
      x[i] = f32_from_bits(bits <= s.to ? (uint32_t)bits : s.to);
    }
    f(x, got);
    for (int i = 0; i < v->lanes; i++) {
      const double error = check(v, x[i], got[i]);
      if (error > worst) worst = error;
    }
  }
  return worst;
}

/* The error where the contract bounds it, 0 where it is an exact value. */
static double check_exp2(const attend_vec *v, float x, float got) {
  if (isnan(x)) {
    MUST(isnan(got), v, "vf_exp2(NaN) is %a", got);
  } else if (x >= 128) {
    MUST(got == INFINITY, v, "vf_exp2(%a) is %a, not inf", x, got);
  } else if (x < -150) {
    MUST(same(got, 0.0f), v, "vf_exp2(%a) is %a, not 0", x, got);
  } else if (x == 0) {
    MUST(got == 1, v, "vf_exp2(%a) is %a, not 1", x, got);
  } else if (!(x < -126 && got == 0) && !(x > 127 && got == INFINITY)) {
    const double error = ulps(got, exp2(x));
    MUST(error <= EXP2_ULP, v, "vf_exp2(%a) is %a: %.3f ulp", x, got, error);
    if (x >= -126 && x <= 127) return error;
  }
  return 0;
}

EACH_ISA(exp2_) {
  double worst = worst_of(v, (sweep){0, UINT32_MAX, 997}, v->exp2, check_exp2);
  /* Where the fraction takes every value there is, both signs; where results leave the normal numbers. */
  static const struct {
    float from, to;
  } whole[] = {{0.25f, 0.5f}, {-0.25f, -0.5f}, {1.0f, 1.5f}, {126.0f, 128.5f}, {-125.5f, -151.0f}};
  for (size_t i = 0; i < COUNT(whole); i++)
    worst =
        fmax(worst, worst_of(v, (sweep){f32_to_bits(whole[i].from), f32_to_bits(whole[i].to), 1}, v->exp2, check_exp2));
  /* Where rounding to the nearest integer turns over. */
  for (int n = -150; n < 128; n++) {
    const uint32_t half = f32_to_bits((float)n + 0.5f);
    worst = fmax(worst, worst_of(v, (sweep){half - 500, half + 500, 1}, v->exp2, check_exp2));
  }
  cr_log_info("%s: vf_exp2 is within %.3f ulp", attend_isa_name(v->isa), worst);
}

static double check_tanh(const attend_vec *v, float x, float got) {
  if (isnan(x)) {
    MUST(isnan(got), v, "vf_tanh(NaN) is %a", got);
    return 0;
  }
  if (x == 0) {
    MUST(got == 0, v, "vf_tanh(%a) is %a", x, got);
    return 0;
  }
  if (isinf(x)) {
    MUST(got == copysignf(1.0f, x), v, "vf_tanh(%a) is %a", x, got);
    return 0;
  }
  const double error = ulps(got, tanh(x));
  MUST(error <= TANH_ULP, v, "vf_tanh(%a) is %a: %.3f ulp", x, got, error);
  return error;
}

EACH_ISA(tanh_) {
  double worst = worst_of(v, (sweep){0, UINT32_MAX, 1997}, v->tanh, check_tanh);
  /* Around the place where the formula changes, and on both sides of it. */
  static const struct {
    float from, to;
    uint32_t step;
  } parts[] = {{0.6f, 0.8f, 1}, {-0.6f, -0.8f, 1}, {0.01f, 0.6f, 29}, {0.8f, 11.0f, 29}};
  for (size_t i = 0; i < COUNT(parts); i++)
    worst = fmax(worst, worst_of(v, (sweep){f32_to_bits(parts[i].from), f32_to_bits(parts[i].to), parts[i].step},
                                 v->tanh, check_tanh));
  cr_log_info("%s: vf_tanh is within %.3f ulp", attend_isa_name(v->isa), worst);
}

/* As one term of a sum, an absolute error counts: in units of 2^-23. */
static double check_tanh_term(const attend_vec *v, float x, float got) {
  if (isnan(x)) {
    MUST(isnan(got), v, "vf_tanh_term(NaN) is %a", got);
    return 0;
  }
  const double error = fabs((double)got - tanh(x)) * 0x1p23;
  MUST(error <= 2, v, "vf_tanh_term(%a) is %a, %.3f units off", x, got, error);
  return error;
}

EACH_ISA(tanh_term) {
  double worst = worst_of(v, (sweep){0, UINT32_MAX, 1997}, v->tanh_term, check_tanh_term);
  worst = fmax(worst, worst_of(v, (sweep){f32_to_bits(0.01f), f32_to_bits(11.0f), 29}, v->tanh_term, check_tanh_term));
  worst =
      fmax(worst, worst_of(v, (sweep){f32_to_bits(-0.01f), f32_to_bits(-11.0f), 29}, v->tanh_term, check_tanh_term));
  cr_log_info("%s: vf_tanh_term is within %.3f units of 2^-23", attend_isa_name(v->isa), worst);
}
