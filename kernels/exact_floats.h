/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Refuses compilers that were told to compute something else than the source says: what computes with floats, in the
 * library, the reference and the tests, includes it. CMakeLists.txt takes such flags away; some come in where it does
 * not see them.
 */
#ifndef ATTEND_KERNELS_EXACT_FLOATS_H
#define ATTEND_KERNELS_EXACT_FLOATS_H

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "attend computes with NaN and infinity: compile it without -ffast-math, -Ofast and -ffinite-math-only"
#endif
#if defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__) || defined(__NO_SIGNED_ZEROS__)
#error "attend gives the same bits everywhere: compile it without -funsafe-math-optimizations and what that stands for"
#endif
#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0
#error "attend rounds each result to float or double: on i686 compile it with -msse2 -mfpmath=sse"
#endif

#endif
