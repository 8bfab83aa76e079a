/* SPDX-License-Identifier: Apache-2.0 */
/**
 * What a kernel takes for a problem, roughly, where nothing was measured: enough to tell decode from packing, and how
 * many threads are worth waking. Nanoseconds of a Zen 5 core, fitted to 850 random shapes on AVX2 and AVX-512: nine
 * tenths of the predictions are between 0.6 and 1.4 times what was measured, with the data in the caches. Other
 * processors take longer by a factor of kernels/cpu.def's, which hardly moves where decode and packing meet: what tells
 * them apart is fitted to 600 random shapes of Zen 4, too.
 */
#include <math.h>

#include "dispatch/plan/sequences.h"
#include "kernels/integers.h"

#define RUN_NS 50.0
#define SLICE_NS 120.0
#define ROW_NS 18.0             /* of queries: statistics, the last division */
#define PACKED_ELEMENT_NS 0.05  /* of a row of queries or results, laid out for tiles */
#define PLAIN_ELEMENT_NS 0.11   /* of such a row where it lies */
#define KEY_ELEMENT_NS 0.02     /* of keys and values, read once for each slice */
#define ROUNDED_ELEMENT_NS 0.09 /* more, of formats that are packed as bf16: decode in f32 is better up to 14 rows */
#define FAR_BYTE_NS 0.02        /* more, to pack those of a slice that are too many for the L2 cache */
#define TILE_SCORE_NS 0.07      /* exp and the like, in whole vectors of neighbours */
#define DECODE_SCORE_NS 0.65    /* the same, and the sum across lanes */
#define TILE_WORK 1.0           /* more, with a mask, a bias or a softcap */
#define DECODE_WORK 0.5
#define TANH_PRODUCTS 10.0 /* of an element of an additive score */

enum { TILE_KEYS = 16, DECODE_KEYS = 4, ELEMENTS = 16 }; /* that are computed together, used or not */
#define DECODE_TAIL 0.5 /* of ELEMENTS more for a head dim that is no multiple: the loads of the rest take longer */

static double units(int64_t count, int64_t unit) { return (double)(count / unit + (count % unit != 0)); }

/** Elements of a head dim that are multiplied, and what the last of them cost more. */
static double multiplied(int64_t dim, bool decode) {
  return ELEMENTS * (units(dim, ELEMENTS) + (decode && dim % ELEMENTS ? DECODE_TAIL : 0));
}

/* ---------------------------------------------------------------------------------------------------- attended keys */

/** The sum over all queries of i + first, limited to 0 to Lk. */
static double sum_positions(const attend_problem *p, double first) {
  double last = first + (double)p->q_len, keys = (double)p->kv_len; /* queries: first <= x < last */
  double low = first < 0 ? 0 : first > keys ? keys : first, high = last < 0 ? 0 : last > keys ? keys : last;
  double beyond = last - (first > keys ? first : keys); /* queries whose position is at or after the last key */
  return (high - low) * (low + high - 1) / 2 + (beyond > 0 ? beyond * keys : 0);
}

/** Keys that a query attends on average, boolean masks and lengths left out. */
static double mean_keys(const attend_resolved *r) {
  const key_limits l = attend_capacity_limits(r);
  const double pairs =
      sum_positions(&r->p, (double)(l.offset + l.right + 1)) - sum_positions(&r->p, (double)(l.offset - l.left));
  return pairs / (double)r->p.q_len;
}

int64_t attend_reach(const attend_resolved *r) {
  const key_limits l = attend_capacity_limits(r);
  return min_i64(l.left + l.right + 1, r->p.kv_len);
}

/* ------------------------------------------------------------------------------------------------------------- time */

double attend_cost_us(const attend_resolved *r, const attend_kernel *kernel, const attend_tiling *tiling) {
  const attend_problem *p = &r->p;
  const bool decode = kernel->body == ATTEND_BODY_DECODE, ranged = p->causal || p->window;
  const double group = (double)r->group, keys = (double)p->kv_len, mean = mean_keys(r);
  const double slice = (double)(tiling->slice_rows < r->rows ? tiling->slice_rows : r->rows);
  const double heads = (double)p->batch * (double)p->kv_heads, slices = heads * units(r->rows, tiling->slice_rows);
  const double splits = units(p->kv_len > 0 ? p->kv_len : 1, tiling->split_keys);
  const double elements = (double)p->head_dim + (double)p->v_head_dim;

  /* Rows that walk over the same keys: a tile of them, or all of a slice. Each sees the keys of all. */
  const double together = decode ? slice : (double)kernel->q_rows;
  const double seen = ranged ? fmin(keys, mean + together / group) : keys;
  const double read = ranged ? fmin(keys, mean + slice / group) : keys;
  const double unit = decode ? DECODE_KEYS : TILE_KEYS;
  const double row_keys = unit * units((int64_t)seen, (int64_t)unit);
  const double rows = heads * (double)r->rows; /* and those that fill up the last tile are multiplied, too */
  const double tile_rows = decode ? rows : slices * (double)kernel->q_rows * units((int64_t)slice, kernel->q_rows);

  double products = multiplied(p->head_dim, decode) + multiplied(p->v_head_dim, decode);
  if (p->score == ATTEND_SCORE_ADDITIVE) products += TANH_PRODUCTS * (double)p->head_dim;
  const double work = !attend_scores_need_work(p) ? 0 : decode ? DECODE_WORK : TILE_WORK;
  const double score = (decode ? DECODE_SCORE_NS : TILE_SCORE_NS) * (1 + work);
  const double pair_ns = 2e3 * products / attend_isa_flops_per_us(kernel->isa, kernel->body) + score;

  /* Decode asks for keys ahead. Packing waits: 32 rows of D = 128 took 8.1 ms on 8192 keys, and decode 7.0. */
  const double bytes = read * elements * (double)attend_row_size(p->k_dtype, 32) / 32;
  const bool format = attend_is_format(p->k_dtype) || attend_is_format(p->v_dtype);
  const double element_ns = KEY_ELEMENT_NS + (format && kernel->compute != ATTEND_F32 ? ROUNDED_ELEMENT_NS : 0);
  const bool far = !decode && bytes > (double)attend_topology_get()->l2;

  return 1e-3 * attend_isa_pace(kernel->isa) *
         (RUN_NS + SLICE_NS * slices * splits +
          rows * splits * (ROW_NS + (decode ? PLAIN_ELEMENT_NS : PACKED_ELEMENT_NS) * elements) +
          tile_rows * row_keys * pair_ns + slices * read * elements * element_ns +
          (far ? slices * bytes * FAR_BYTE_NS : 0));
}
