/* SPDX-License-Identifier: Apache-2.0 */
/**
 * A unit of work, a block of keys for a group of query rows, turn by turn: while the vector units do the softmax of 16
 * keys' scores, the tile unit computes those of the turn after the next and adds the values of the unit before, a few
 * products after each pair of keys.
 */
#ifndef ATTEND_KERNELS_AMX_TURNS_H
#define ATTEND_KERNELS_AMX_TURNS_H

#include "kernels/amx/softmax.h"
#include "kernels/body/rows.h"

enum { GROUP = 2 * TILE_ROWS, TURN = TILE_ROWS, TURN_PAIRS = TURN / 2, TURN_SCORES = GROUP * TURN };

/** What a group of rows attends, and whether any values have been added for it. */
typedef struct row_group {
  key_range span;   /**< keys that one of its rows attends, and perhaps some between */
  key_range common; /**< keys that all of them attend */
  bool begun;
} row_group;

/** A slice under way. */
typedef struct streaming {
  const attend_slice *slice;
  const attend_view *view;
  int64_t rows, depth, width; /**< of the slice; of a packed query and of an output row, in elements */
  int64_t BLOCK;
  float factor; /**< of scores, as exponents of 2 */
  bool work;    /**< attend_scores_need_work() */
  score_terms in;
  bool huge;   /**< some row has a base that is subtracted on its own */
  float small; /**< what the exponents of weights are less by */
  float most;  /**< what the weights of 16 keys may add up to: MOST_WEIGHT, less so many powers of 2 */

  uint16_t *q, *k;
  uint16_t *v[2];        /**< of the block that is packed, and of the one before */
  float *s[2];           /**< scores of even and of odd turns: [two tiles of queries][keys][queries] */
  float *relative;       /**< scores of a turn less bases, where some row's is huge */
  uint16_t *attended[2]; /**< by key of a unit and of the one before: which rows attend it, if values are not finite */
  uint16_t *p[2];        /**< weights of a unit and of the one before: [steps][two tiles of queries][pairs][queries] */
  float *o;              /**< [groups][columns of 16][two tiles of queries][16][queries] */
  float *row;            /**< output rows as they are to be */
  row_statistics *statistics;
  key_range *ranges;
  row_group *groups;
  char *plain;                        /**< those rows, read from a format */
  const void **listed;                /**< addresses of the rows of the block that is being packed */
  int64_t packed_keys, packed_values; /**< which blocks are packed, -1: none */
  int values;                         /**< where its values are */
  bool finite[2];                     /**< whether all of them are */
} streaming;

/** A block of keys and a group of rows, at least one of which attends one of the keys. */
typedef struct work_unit {
  int64_t block, row;
  int count;
  int64_t begin, end; /**< keys of the block that any row attends, widened to whole steps */
  bool edge;          /**< some row does not attend some of them, by ranges */
  block_masks masks;  /**< what mask and bias do to them */
  int buffer;         /**< of weights */
  int values;         /**< of the two blocks', which */
  float alpha[GROUP]; /**< what the rows' earlier values are to be multiplied by */
} work_unit;

/* -------------------------------------------------------------------------------------------------------- products */

/** The scores of turn `turn` of a unit. */
static amx_scores scores_of(const streaming *st, const work_unit *u, int64_t turn) {
  const int64_t key = u->begin + turn * TURN;
  return (amx_scores){.k = (const char *)(st->k + key * st->depth),
                      .q = (const char *)(st->q + u->row * st->depth),
                      .depth = st->depth / TILE_DEPTH,
                      .two = u->count > TILE_ROWS};
}

/** In place: a structure of 64 bytes that is written in pieces and copied whole waits for all its stores. */
static void values_of(const streaming *st, const work_unit *u, bool fresh, amx_values *values) {
  const int64_t depth = (u->end - u->begin) / TILE_DEPTH, block_depth = st->BLOCK / TILE_DEPTH;
  values->v = (const char *)(st->v[u->values] + u->begin / TILE_DEPTH * TILE_ELEMENTS);
  values->p = (const char *)st->p[u->buffer];
  values->o = (char *)(st->o + u->row * st->width);
  values->v_column = (block_depth - depth) * TILE_BYTES;
  values->depth = depth;
  values->step = 0;
  values->left = depth * (st->width / TILE_ROWS);
  values->two = u->count > TILE_ROWS;
  values->fresh = fresh;
  values->open = false;
}

/** The weights of a turn of a unit: pairs of keys for the first 16 query rows; TILE_PAIRS later for the others. */
static uint32_t *weights_of(const streaming *st, const work_unit *u, int64_t turn) {
  return (uint32_t *)(void *)(st->p[u->buffer] + turn / 2 * 2 * TILE_ELEMENTS) + turn % 2 * TURN_PAIRS * LANES;
}

/* --------------------------------------------------------------------------------------------------------- softmax */

/** Softcap, bias, ALiBi and masks for the scores of 16 keys from key `begin` of the block on, rows side by side. */
ATTEND_OUTLINE void finish_turn(const streaming *st, const work_unit *u, int64_t begin, float *s) {
  for (int r = 0; r < u->count; r += TILE_ROWS, s += TILE_PAIRS) {
    float rows[TILE_PAIRS];
    vf t[LANES];
    for (int i = 0; i < LANES; i++) t[i] = vf_load(s + i * LANES);
    vf_transpose(t);
    for (int i = 0; i < LANES; i++) vf_store(rows + i * LANES, t[i]);
    finish_scores(st->view, st->slice->row_begin + u->row + r, st->ranges + u->row + r,
                  min_i64(TILE_ROWS, u->count - r), u->block, begin, begin + TURN, MASKS_MIXED, rows - begin, LANES);
    for (int i = 0; i < LANES; i++) t[i] = vf_load(rows + i * LANES);
    vf_transpose(t);
    for (int i = 0; i < LANES; i++) vf_store(s + i * LANES, t[i]);
  }
}

/** The same where mask and bias change nothing, to the bit: nothing lies row by row then. */
ATTEND_OUTLINE void adjust_turn(const streaming *st, const work_unit *u, int64_t begin, float *s) {
  const attend_view *view = st->view;
  const attend_problem *p = view->p;
  const vf scale = vf_set1(st->in.scale), cap = vf_set1(st->in.softcap);
  for (int r = 0; r < u->count; r += TILE_ROWS, s += TILE_PAIRS) {
    float ahead[TILE_ROWS] = {0}, slope[TILE_ROWS] = {0};
    for (int i = 0; view->alibi_slopes && i < min_i64(TILE_ROWS, u->count - r); i++) {
      const row_place at = place_of(view, st->slice->row_begin + u->row + r + i);
      ahead[i] = (float)(attend_alibi_position(view, at.query) - (u->block + begin));
      slope[i] = -view->alibi_slopes[at.head] * st->in.one;
    }
    for (int j = 0; j < TURN; j++) {
      vf x = vf_mul(vf_load(s + j * LANES), scale);
      if (p->softcap > 0.0f) x = vf_mul(cap, vf_tanh(vf_div(x, cap)));
      vf_store(s + j * LANES, x);
    }
    for (int j = 0; view->alibi_slopes && j < TURN; j++) {
      const vf distance = vf_abs(vf_sub(vf_load(ahead), vf_set1((float)j)));
      vf_store(s + j * LANES, vf_fma(vf_load(slope), distance, vf_load(s + j * LANES)));
    }
  }
}

/** -inf for the keys that lie outside the rows' ranges: all that masks by range ask for. */
ATTEND_OUTLINE void exclude_turn(const streaming *st, const work_unit *u, int64_t begin, float *s) {
  const __m512i first = vu_set1((uint32_t)(u->block + begin));
  for (int r = 0; r < u->count; r += TILE_ROWS, s += TILE_PAIRS) {
    const int n = (int)min_i64(TILE_ROWS, u->count - r);
    const key_range *ranges = st->ranges + u->row + r;
    if (ranges_cover(ranges, n, u->block + begin, u->block + begin + TURN)) continue;
    int32_t from[TILE_ROWS] = {0}, to[TILE_ROWS] = {0};
    for (int i = 0; i < n; i++) from[i] = ranges[i].begin, to[i] = ranges[i].end;
    const __m512i low = _mm512_loadu_si512(from), high = _mm512_loadu_si512(to);
    for (int j = 0; j < TURN; j++) {
      const __m512i key = vu_add(first, vu_set1((uint32_t)j));
      const vm attended = _mm512_mask_cmpgt_epi32_mask(_mm512_cmpge_epi32_mask(key, low), high, key);
      vf_store(s + j * LANES, vf_select(attended, vf_load(s + j * LANES), vf_set1(-INFINITY)));
    }
  }
}

/** Scores of a turn less the bases that are not folded into the shift. */
ATTEND_OUTLINE void subtract_bases(const row_statistics *rows, const float *s, float *relative) {
  for (int i = 0; i < 2; i++)
    for (int j = 0; j < TURN; j++, s += LANES, relative += LANES)
      vf_store(relative, vf_sub(vf_load(s), vf_load(rows[i].base)));
}

/** Notes which rows attend the keys of a turn: whatever excludes a key has made its score -inf. */
ATTEND_OUTLINE void note_attended(const streaming *st, const work_unit *u, int64_t turn) {
  const float *s = st->s[turn & 1];
  uint16_t *to = st->attended[u->buffer] + turn * TURN * 2;
  for (int i = 0; i < 2; i++)
    for (int j = 0; j < TURN; j++, s += LANES) to[2 * j + i] = (uint16_t)~vm_gt(vf_set1(-FLT_MAX), vf_load(s));
}

/** Moves the bases of rows whose weights in a turn are too great, or that have attended nothing before.
 * `scale` is what scores there are still to be multiplied by. Returns the sums of the new weights. */
ATTEND_OUTLINE vf move_bases(streaming *st, work_unit *u, int64_t turn, int tile, vm moves, float scale) {
  row_statistics *rows = st->statistics + u->row / TILE_ROWS + tile;
  vf sum;
  float *s = st->s[turn & 1] + tile * TILE_PAIRS;
  for (int j = 0; scale != 1.0f && j < TURN; j++)
    vf_store(s + j * LANES, vf_mul(vf_load(s + j * LANES), vf_set1(scale)));
  const vf alpha = move_base(rows, moves, s, vf_set1(st->factor), vf_set1(st->small), &sum,
                             weights_of(st, u, turn) + tile * TILE_PAIRS);
  st->huge = st->huge || vm_any(vm_gt(vf_abs(vf_load(rows->base)), vf_zero()));
  if (_mm512_cmp_ps_mask(alpha, vf_set1(1.0f), _CMP_NEQ_UQ) == 0) return sum;
  vf_store(rows->sum, vf_mul(alpha, vf_load(rows->sum)));
  vf_store(u->alpha + tile * TILE_ROWS, vf_mul(alpha, vf_load(u->alpha + tile * TILE_ROWS)));
  for (int64_t t = 0; t < turn; t++) scale_pairs(weights_of(st, u, t) + tile * TILE_PAIRS, TURN_PAIRS, alpha);
  return sum;
}

/* ----------------------------------------------------------------------------------------------------------- turns */

/** A turn: the softmax of 16 keys, and what the tiles do meanwhile. */
typedef struct turn_work {
  const float *s; /**< of the first 16 query rows; those of the others TILE_PAIRS later, and so with p */
  uint32_t *p;
  const row_statistics *rows;
  float scale, factor;

  amx_scores scores; /**< of the turn after the next */
  float *store;      /**< where the next turn's scores go, which the turn before has computed; or NULL */
  bool store_two;    /**< for more than 16 query rows */
  int64_t steps;     /**< of values */
} turn_work;

/**
 * Takes a turn. The weights' sums per row go to sum[0] and sum[1]. Where score_steps is not 0, the call is for two
 * tiles of queries, and score_steps and value_steps are constants, so that the compiler makes straight code.
 */
ATTEND_INLINE void take_turn(const turn_work *w, amx_values *values, vf sum[2], const bool odd, const bool two,
                             const bool scaled, const int score_steps, const int value_steps) {
  const vf scale = vf_set1(w->scale), factor = vf_set1(w->factor), first = vf_load(w->rows[0].shift),
           second = vf_load(w->rows[1].shift);
  amx_scores scores = w->scores;
  amx_values v = *values;
  const float *a = w->s, *b = w->s + PAIR_DISTANCE * LANES;
  uint32_t *p = w->p;
  int64_t scores_done = 0, values_done = 0;
  vf sum0 = vf_zero(), sum1 = vf_zero();
  if (score_steps) scores.depth = score_steps, scores.two = v.two = true;
  const int64_t scores_due = scores.depth, values_due = score_steps ? value_steps : w->steps;
  const bool store = score_steps || w->store, store_two = score_steps || (w->store && w->store_two);
  amx_begin_scores(&scores, odd);
#define TAKE_PAIR(i)                                                                                                   \
  do {                                                                                                                 \
    /* Not sooner: the products of the turn before may still be under way. */                                          \
    if (i == 1 && store) amx_store_first_scores(w->store, !odd);                                                       \
    if (i == 4 && store_two) amx_store_second_scores(w->store + TILE_PAIRS, !odd);                                     \
    for (; scores_done < (i + 1) * scores_due / TURN_PAIRS; scores_done++) amx_score_step(&scores, scores_done, odd);  \
    weigh_pair(a + i * LANES, b + i * LANES, scale, factor, first, &sum0, p + i * LANES, scaled);                      \
    for (; score_steps && values_done < (i + 1) * values_due / TURN_PAIRS; values_done++) amx_value_step(&v);          \
    if (!score_steps && i % 4 == 2) {                                                                                  \
      amx_value_steps(&v, (i / 4 + 1) * values_due / 2 - values_done);                                                 \
      values_done = (i / 4 + 1) * values_due / 2;                                                                      \
    }                                                                                                                  \
    if (two)                                                                                                           \
      weigh_pair(a + TILE_PAIRS + i * LANES, b + TILE_PAIRS + i * LANES, scale, factor, second, &sum1,                 \
                 p + TILE_PAIRS + i * LANES, scaled);                                                                  \
  } while (0)
  if (score_steps) {
    ATTEND_UNROLL
    for (int i = 0; i < TURN_PAIRS; i++) TAKE_PAIR(i);
  } else {
    for (int i = 0; i < TURN_PAIRS; i++) TAKE_PAIR(i);
  }
#undef TAKE_PAIR
  *values = v;
  sum[0] = sum0, sum[1] = sum1;
}

typedef void turn_function(const turn_work *w, amx_values *values, vf sum[2]);

/** `even` and `odd` are the steps of values of even and of odd turns. */
#define TAKE_TURN(name, two, scaled, depth, even, odd)                                                                 \
  ATTEND_OUTLINE void name##_even(const turn_work *w, amx_values *values, vf sum[2]) {                                 \
    take_turn(w, values, sum, false, two, scaled, depth, even);                                                        \
  }                                                                                                                    \
  ATTEND_OUTLINE void name##_odd(const turn_work *w, amx_values *values, vf sum[2]) {                                  \
    take_turn(w, values, sum, true, two, scaled, depth, odd);                                                          \
  }

TAKE_TURN(one_tile, false, true, 0, 0, 0)
TAKE_TURN(two_tiles, true, true, 0, 0, 0)
/* Turns of whole units, by the head dim. Straight code is 15 % faster than loops at 64, 4 to 6 % from 128 on. */
TAKE_TURN(d32, true, false, 1, 1, 1)
TAKE_TURN(d48, true, false, 2, 1, 2)
TAKE_TURN(d64, true, false, 2, 2, 2)
TAKE_TURN(d64_scaled, true, true, 2, 2, 2)
TAKE_TURN(d80, true, false, 3, 2, 3)
TAKE_TURN(d96, true, false, 3, 3, 3)
TAKE_TURN(d128, true, false, 4, 4, 4)
TAKE_TURN(d128_scaled, true, true, 4, 4, 4)
TAKE_TURN(d256, true, false, 8, 8, 8)

static turn_function *turn_for(const turn_work *w, const amx_values *values, bool two, bool odd) {
  static const struct {
    int depth, steps[2];
    bool scaled;
    turn_function *take[2];
  } straight[] = {{1, {1, 1}, false, {d32_even, d32_odd}},   {2, {1, 2}, false, {d48_even, d48_odd}},
                  {2, {2, 2}, false, {d64_even, d64_odd}},   {2, {2, 2}, true, {d64_scaled_even, d64_scaled_odd}},
                  {3, {2, 3}, false, {d80_even, d80_odd}},   {3, {3, 3}, false, {d96_even, d96_odd}},
                  {4, {4, 4}, false, {d128_even, d128_odd}}, {4, {4, 4}, true, {d128_scaled_even, d128_scaled_odd}},
                  {8, {8, 8}, false, {d256_even, d256_odd}}};
  const bool scaled = w->scale != 1.0f;
  if (!two) return odd ? one_tile_odd : one_tile_even;
  if (w->scores.two && values->two && w->store && w->store_two)
    for (size_t i = 0; i < sizeof straight / sizeof *straight; i++)
      if (w->scores.depth == straight[i].depth && w->steps == straight[i].steps[odd] && scaled == straight[i].scaled)
        return straight[i].take[odd];
  return odd ? two_tiles_odd : two_tiles_even;
}

/**
 * What has to be done to scores before the softmax, where something has. Returns what they are still to be multiplied
 * by: where nothing but the scale is left to do, the softmax does it on its way.
 */
ATTEND_OUTLINE float prepare_turn(const streaming *st, const work_unit *u, int64_t turn) {
  const attend_problem *p = st->view->p;
  float *s = st->s[turn & 1];
  const int64_t key = u->begin + turn * TURN;
  /* Of a causal mask's diagonal most turns need nothing, and to look is far cheaper than to finish scores row by row.
   */
  const block_masks masks = u->masks == MASKS_KEEP
                                ? MASKS_KEEP
                                : masks_here(st->view, st->slice->row_begin + u->row, u->count, u->block + key,
                                             min_i64(u->block + key + TURN, st->view->keys.count));
  /* Not a scale of 0, which would make NaN of the -inf of an excluded key. */
  const bool plain = masks == MASKS_KEEP && p->softcap == 0.0f && !p->alibi && p->scale != 0.0f && !st->huge;
  if (st->work && masks == MASKS_MIXED) {
    finish_turn(st, u, key, s);
  } else if (masks == MASKS_EXCLUDE) {
    for (int i = 0; i < TURN_SCORES; i += LANES) vf_store(s + i, vf_set1(-INFINITY));
  } else {
    if (st->work && !plain) adjust_turn(st, u, key, s);
    if (u->edge) exclude_turn(st, u, key, s);
  }
  if (st->huge) subtract_bases(st->statistics + u->row / TILE_ROWS, s, st->relative);
  return st->work && plain ? st->in.scale : 1.0f;
}

/**
 * Turns `begin` to `end` of a unit, beside the scores from turn `turn` of the unit `ahead` on, which may be the next;
 * if there is none, ahead is NULL. The values that are left are spread evenly over the unit's turns.
 */
static void take_turns(streaming *st, work_unit *u, int64_t begin, int64_t end, const work_unit *ahead, int64_t turn,
                       amx_values *values) {
  const int64_t all = (u->end - u->begin) / TURN;
  const bool two = u->count > TILE_ROWS;
  row_statistics *rows = st->statistics + u->row / TILE_ROWS;
  turn_work w = {.rows = rows, .factor = st->factor};
  if (ahead) w.scores = scores_of(st, ahead, turn);
  for (int64_t t = begin; t < end; t++) {
    const bool odd = t & 1;
    w.p = weights_of(st, u, t);
    w.store = t + 1 < all || ahead ? st->s[!odd] : NULL;
    w.store_two = t + 1 < all ? two : ahead && ahead->count > TILE_ROWS;
    w.steps = (values->left + (odd ? all - t - 1 : 0)) / (all - t);
    w.scale = u->edge || st->work || st->huge ? prepare_turn(st, u, t) : 1.0f;
    w.s = st->huge ? st->relative : st->s[odd];
    if (!st->finite[u->values]) note_attended(st, u, t);
    vf sum[2];
    turn_for(&w, values, two, odd)(&w, values, sum);
    for (int i = 0; i <= two; i++) {
      const vm moves = _mm512_cmp_ps_mask(sum[i], vf_set1(st->most), _CMP_NLE_UQ);
      if (vm_any(moves)) sum[i] = move_bases(st, u, t, i, moves, w.scale);
      vf_store(rows[i].sum, vf_add(vf_load(rows[i].sum), sum[i]));
    }
    w.scores.k += w.scores.depth * TILE_BYTES;
  }
}

#endif
