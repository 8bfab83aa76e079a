/* SPDX-License-Identifier: Apache-2.0 */
/** AVX-512 with products of bf16 pairs: all of avx512, and vdpbf16ps. Meanings: kernels/vec_contract.h. */
#ifndef ATTEND_KERNELS_AVX512BF16_VEC_H
#define ATTEND_KERNELS_AVX512BF16_VEC_H

#ifndef __AVX512BF16__
#error "this folder is compiled with the flags of kernels/avx512 and -mavx512bf16"
#endif

#define AVX512BF16_CPU (AVX512_CPU | ATTEND_CPU_BIT(AVX512_BF16))

#ifndef ATTEND_ISA_ID /* else a wider instruction set borrows what follows */
#define ATTEND_ISA_ID ATTEND_ISA_AVX512BF16
#define ATTEND_ISA_CPU AVX512BF16_CPU
#define ATTEND_ROWS "kernels/avx512bf16/rows.def"
#endif
#include "kernels/avx512/vec.h"

#define ATTEND_PAIR_DOT

/** Both instructions take denormal numbers as 0 and give 0 for them, whatever the thread's rounding mode. */
ATTEND_INLINE vf vp_dot(vp a, vp b, vf c) { return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b); }
ATTEND_INLINE vp vp_pin(vp a) {
  __asm__("" : "+v"(a));
  return a;
}
/** vpermt2w: one operation, as unpacking is, and lanes stay in order. */
ATTEND_INLINE vp vp_mix(vp a, vp b, const int first) {
  const __m512i element = _mm512_add_epi32(_mm512_mullo_epi32(vu_iota(), vu_set1(0x10001)), vu_set1(first * 0x10001));
  return _mm512_permutex2var_epi16(a, vu_add(element, vu_set1(32 << 16)), b);
}
/**
 * A cubic on [0, 1) with the constant 1, minimax in relative error (8.6e-5); vscalefps takes the floor of x by itself.
 * Two multiply-adds and an operation less than vf_exp2().
 */
ATTEND_INLINE vf vf_exp2_bf16(vf x) {
  const vf r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  vf p = vf_fma(r, vf_set1(0x1.3baaaap-4f), vf_set1(0x1.d23788p-3f));
  p = vf_fma(p, r, vf_set1(0x1.63e658p-1f));
  p = vf_fma(p, r, vf_set1(1.0f));
  return _mm512_scalef_ps(p, x);
}
ATTEND_INLINE vp vp_round(vf a, vf b) { return (vp)_mm512_cvtne2ps_pbh(b, a); }

#endif
