/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The vector operations every ISA supplies in its vec.h, with the same names and the same meaning. The bodies under
 * kernels/body/ are written on these alone; tests/test_vec.c checks each of them on every ISA.
 *
 * This file is documentation and the few things that need no intrinsics. A vec.h defines
 *
 *   ATTEND_ISA_ID    the folder's attend_isa
 *   ATTEND_ISA_CPU   the processor features its code needs, as a set of ATTEND_CPU_BIT()
 *   ATTEND_ROWS      the folder's rows file, as a string to include
 *   LANES            floats in a vector, a power of two from 1 to 16
 *   vf               a vector of LANES floats
 *   vm               a selection: one truth value per lane
 *   vu               a vector of LANES uint32_t
 *
 * Loads and stores need no alignment. The _n forms touch the first n lanes only, 0 <= n <= LANES: memory after them is
 * neither read nor written, and loaded lanes after them are 0. f16 and bf16 elements are passed as uint16_t; stores
 * round to nearest even and keep NaN a NaN. Where ATTEND_PAIR_DOT is defined, 0 may be stored for a denormal bf16.
 *
 *   vf_zero()  vf_set1(x)
 *   vf_load(p)       vf_load_n(p, n)           vf_store(p, v)       vf_store_n(p, v, n)
 *   vf_load_f16(p)   vf_load_f16_n(p, n)       vf_store_f16_n(p, v, n)
 *   vf_load_bf16(p)  vf_load_bf16_n(p, n)      vf_store_bf16_n(p, v, n)
 *   vf_add(a, b)  vf_sub(a, b)  vf_mul(a, b)  vf_div(a, b)  vf_abs(a)
 *   vf_max(a, b)         the larger; if either is NaN, b
 *   vf_fma(a, b, c)      a * b + c, with one rounding where the processor has the instruction
 *   vf_fma_element(a, i, b, c)   a[i] * b + c, i being a constant; where ATTEND_BY_ELEMENT is defined, which says that
 *                        products are to load LANES broadcasts at once
 *   vf_exp2(x)           2^x within 2 ulp for x from -126 to 127; exactly 1 at 0, exactly 0 at -inf and below -150,
 *                        +inf from 128 on, NaN at NaN. Below 2^-126 it may be 0, and above 2^127 +inf
 *   vf_iota()            0, 1, 2, ...
 *   vf_hsum(v)  vf_hmax(v)    over all lanes, always in the same order; vf_hmax of a NaN among numbers: NaN or any lane
 *   vf_sum_each(r)       the sums over all lanes of LANES vectors, as one vector; may overwrite r. The bits of a sum do
 *                        not depend on where in r its vector stands
 *   vf_store_groups(p, stride, v, n)   lanes 0 to n - 1 to p, the next n to p + stride, ...; n is a constant power of
 *                        two, at most LANES, and at least 4 unless it is LANES
 *   vf_transpose(r)      in place: r[i] lane j <-> r[j] lane i, of LANES vectors
 *   vf_select(m, a, b)   lane by lane: m ? a : b
 *   vm_range(lo, hi)     lanes lo <= lane < hi; any int64_t, clamped
 *   vm_bytes_n(p, n)     lanes < n with p[lane] != 0, likewise touching n bytes only
 *   vm_and(a, b)  vm_gt(a, b)   vm_gt is false for NaN
 *   vm_any(m)            whether any lane is selected, as bool
 *   vu_set1(x)  vu_iota()  vu_add(a, b)  vu_xor(a, b)    integers, modulo 2^32
 *   vu_mul_wide(a, b, &high, &low)    the upper and the lower half of the 64-bit products
 *   vu_ge(a, b)          a >= b, as a selection
 *   vf_pin(v)            v, kept in a register: for a loaded vector that is used several times, which gcc would load
 *                        anew for each multiply-add otherwise
 *   vf_prefetch(p)       brings a cache line near; any address is allowed
 *   vf_prefetch_l2(p)    brings it into the L2 cache only
 *
 * Where an instruction set of the family multiplies pairs of 16-bit elements, its vec.h defines ATTEND_PAIRS and
 *
 *   vp               a vector of LANES pairs, 32 bits each, the first element of a pair in the lower half
 *   vp_set1(x)       of one pair
 *   vp_load(p)       vp_load_n(p, n)    2 LANES consecutive elements; the first n of them, 0 <= n <= 2 LANES, and 0s
 *   vp_store(p, v)   to LANES uint32_t
 *   vp_and(a, b)     of bits
 *   vp_transpose(r)  in place, as vf_transpose
 *   vp_zip(a, b)     lane by lane the pair of a's and b's number, both of which bf16 can hold
 *
 * One that has products of bf16 pairs defines ATTEND_PAIR_DOT and, for vf a, b and c and vp x and y,
 *
 *   vp_dot(x, y, c)  c + the product of x's and y's first elements + that of their second ones, as exact as three
 *                    operations in f32; denormal numbers may be taken as 0, and a denormal result be 0
 *   vp_round(a, b)   2 LANES numbers rounded to bf16, to nearest even, as pairs of neighbours of a, then of b. NaN
 *                    stays NaN; a denormal number may become a 0 of its sign
 *   vf_exp2_bf16(x)  2^x within 9e-5 of it for x from -126 to 127, which is a twentieth of what rounding to bf16 costs;
 *                    exactly 1 at 0, exactly 0 at -inf and below -151, +inf from 128 on, NaN at NaN
 *   vp_mix(x, y, i)  lane by lane the pair of x's and y's elements i + lane; i is a constant, 0 or LANES
 *   vp_pin(x)        as vf_pin
 *
 * An instruction set may define ATTEND_BYTES and, for formats, vb: a vector of 32 bytes. kernels/body/bytes.h has them
 * in portable C for those that do not.
 *
 *   vb_load(p)       32 bytes
 *   vb_nibbles(p)    of 16 bytes the lower halves, then the upper halves
 *   vb_pairs(p)      of 16 bytes the lower half of the first, its upper half, the lower half of the second, ...
 *   vb_add(x, y)     y added to each, modulo 256
 *   vb_add_16(x, bits)    16 added to each number below 16 whose bit is set
 *   vb_lookup(table, x)   each number below 16 replaced by that of a table
 *   vb_to_f32(x, i)  signed numbers i * LANES to i * LANES + LANES - 1 as vf; i is a constant
 *   vb_e4m3_to_f32(x, i)  vb_e5m2_to_f32(x, i)    the same of 8-bit floats
 *   vf_set1_f16(p)   of the f16 at any address
 *
 * One that has products of bytes and 8 or 16 lanes defines ATTEND_BYTE_DOT and vi: a vector of 4 LANES bytes, four to a
 * lane, or of LANES integers of 32 bits.
 *
 *   vi_load(p)  vi_store(p, x)  vi_xor(x, y)    4 LANES bytes
 *   vi_dot(x, y, c)       of each lane c + the sum of the four products of x's bytes, unsigned, and y's, signed
 *   vi_begin(y)           of each lane -128 times the sum of y's bytes, none of which is -128: what sums begin with,
 *                         as signed bytes are made unsigned by flipping their highest bits, which adds 128 to each
 *   vi_add(x, y)  vi_to_f32(x)    of integers
 *   vi_store_rounded(p, v)        LANES numbers rounded to nearest even, to bytes that can hold them
 *   vi_halves(a, b)       32 bytes at a, then those at b, or 0s if b is NULL
 *   vf_halves_f16(a, b)  vf_halves_f32(a, b)    the number at a, at any address, in the lower half of the lanes and the
 *                         one at b in the upper one, or 0 if b is NULL. Where a vector is 32 bytes, these and
 *                         vi_halves() have no second half: a alone, in all lanes
 *
 * One whose products are of another shape defines ATTEND_OPERAND and ATTEND_TILE instead, which name its own versions
 * of the definitions in kernels/body/operand.h and of the register tiles in kernels/body/tile.h.
 */
#ifndef ATTEND_KERNELS_VEC_CONTRACT_H
#define ATTEND_KERNELS_VEC_CONTRACT_H

#define ATTEND_INLINE static inline __attribute__((always_inline))
/** For what is called once per tile or block: inlined into every tile size, it would only make the code larger. */
#define ATTEND_OUTLINE static __attribute__((noinline, unused))

/**
 * In front of a loop whose trip count is a constant once inlined: unroll it fully, so that arrays of vectors live in
 * registers. Each compiler wants its own pragma: clang takes gcc's too, but then no longer promotes the arrays.
 */
#if defined(__clang__)
#define ATTEND_UNROLL _Pragma("clang loop unroll(full)")
#else
#define ATTEND_UNROLL _Pragma("GCC unroll 64")
#endif

/* 2^r on [-1/2, 1/2] as 1 + r (C1 + r (C2 + ...)): minimax in ulp of the result, 1.75 with all roundings. */
#define ATTEND_EXP2_C1 0x1.62e424p-1f
#define ATTEND_EXP2_C2 0x1.ebf9a8p-3f
#define ATTEND_EXP2_C3 0x1.c6babep-5f
#define ATTEND_EXP2_C4 0x1.3cf08ep-7f
#define ATTEND_EXP2_C5 0x1.5aad62p-10f

#endif
