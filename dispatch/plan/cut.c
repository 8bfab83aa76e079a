/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Cuts up the work of a run by the lengths of its sequences. Every ragged run begins with that, so it takes O(B).
 * Results must not depend on the number of threads: only where rows are cut may depend on it.
 */
#include <math.h>
#include <string.h>

#include "dispatch/plan/plan.h"
#include "kernels/integers.h"
#include "kernels/size.h"

/**
 * Waking a team and waiting for it costs 0.65 us for two threads on Zen 5 while OpenMP's threads wait busily and share
 * a cache, 2 to 4 us where they do not, and more with every thread. The value here lies between the two: two threads
 * pay from 2.8 us on.
 */
static double team_us(double threads) { return 1 + 0.2 * threads; }

/** The number of threads, `most` at most, with which work of so many microseconds ends first. */
static int useful_threads(double us, double most) {
  const double wanted = sqrt(us / (team_us(1) - team_us(0))), threads = fmin(wanted < 2 ? 2 : wanted, most);
  return us / threads + team_us(threads) < us ? (int)threads : 1;
}

/** Slices of so many keys, counted from key 0, that hold one from `first` on. */
static int64_t splits_of(int64_t keys, int64_t first, int64_t split_keys) {
  return keys > split_keys ? max_i64(1, divide_up(keys, split_keys) - first / split_keys) : 1;
}

/**
 * Puts heads of a sequence together in items, which would be so many with one head each: all, where the tiling allows
 * it and leaves items for all threads to end together. Whoever computes them together computes the same.
 */
static void put_heads_together(const attend_plan *plan, double items, attend_cut *cut) {
  for (int way = 0; way < ATTEND_WAYS; way++) {
    const int heads = (int)max_i64(1, (way == ATTEND_FEW ? &plan->few : &plan->choice)->tiling.heads);
    cut->heads[way] = plan->threads == 1 || items / heads >= 2.0 * plan->threads ? heads : 1;
    cut->turns[way] = plan->problem.p.kv_heads / cut->heads[way];
  }
}

void attend_cut_capacity(attend_plan *plan) {
  const attend_resolved *r = &plan->problem;
  const attend_tiling *tiling = &plan->choice.tiling;
  attend_cut *cut = &plan->cut;
  cut->shares = 1;
  cut->split_keys[ATTEND_MANY] = tiling->split_keys;
  cut->split_keys[ATTEND_FEW] = plan->few.tiling.split_keys;
  const int64_t heads = r->p.batch * r->p.kv_heads, chunks = heads * plan->share.chunks;
  cut->split_chunks = plan->share.splits > 1 ? chunks : 0;
  cut->items = heads * attend_head_items(plan, &plan->share);
  put_heads_together(plan, (double)cut->items, cut);
  cut->items = r->p.batch * attend_sequence_items(plan, cut, &plan->share);
  const double most = fmin((double)plan->threads, (double)cut->items);
  if (plan->choice.team)
    cut->useful = (int)fmin((double)plan->choice.team, most);
  else
    cut->useful = useful_threads(attend_cost_us(r, plan->choice.kernel, tiling), most);
}

/* ------------------------------------------------------------------------------------------------------ ragged runs */

/** What there is to do for one head of a sequence. */
typedef struct work {
  int way;
  int64_t rows, chunks;
  int64_t keys;  /**< that exist */
  int64_t first; /**< that some query may attend */
  int64_t span;  /**< that some query may attend, roughly */
} work;

static work work_of(const attend_plan *plan, const attend_tensors *t, int64_t b) {
  const attend_resolved *r = &plan->problem;
  const attend_sequence s = attend_sequence_of(r, t, b);
  work w = {.way = s.queries > plan->few_queries ? ATTEND_MANY : ATTEND_FEW,
            .rows = s.queries * r->group,
            .keys = s.keys,
            .first = s.first_key};
  const int64_t slice_rows = (w.way == ATTEND_FEW ? &plan->few : &plan->choice)->tiling.slice_rows;
  w.chunks = w.rows <= slice_rows ? w.rows > 0 : divide_up(w.rows, slice_rows);
  w.span = max_i64(0, s.keys - s.first_key);
  return w;
}

enum { BUCKETS = 128 };

/** Work in 128 steps of a factor of 1.5 or 1.33, the greatest first: sorting as exactly as balance needs. */
static int bucket_of(const work *w) {
  const float amount = 1.0f + (float)w->span * (float)w->rows / (float)max_i64(w->chunks, 1);
  uint32_t bits;
  memcpy(&bits, &amount, sizeof bits);
  const int step = (int)(bits >> 22) - (127 << 1); /* exponent and one bit of the fraction, from 0 for 1 */
  return BUCKETS - 1 - (step < BUCKETS ? step : BUCKETS - 1);
}

/** All the work of a sequence. */
static double amount_of(const attend_plan *plan, const attend_tensors *t, int64_t b) {
  const work w = work_of(plan, t, b);
  return (double)w.rows * (double)w.span * plan->key_us[w.way];
}

/** All that is added up over the sequences before keys are split. */
typedef struct totals {
  int64_t longest[ATTEND_WAYS]; /**< keys */
  double units[ATTEND_WAYS];    /**< units of rows that a slice has at least, times keys */
  double us;
  int count[BUCKETS];
} totals;

static void add_up(const attend_plan *plan, const attend_tensors *t, totals *all) {
  const attend_problem *p = &plan->problem.p;
  memset(all, 0, sizeof *all);
  for (int64_t b = 0; b < p->batch; b++) {
    const work w = work_of(plan, t, b);
    if (w.chunks == 0) continue;
    const attend_choice *choice = w.way == ATTEND_FEW ? &plan->few : &plan->choice;
    const int64_t least = choice->least_rows, units = w.rows <= least ? 1 : divide_up(w.rows, least);
    all->longest[w.way] = max_i64(all->longest[w.way], w.span);
    all->units[w.way] += (double)p->kv_heads * (double)units * (double)w.span;
    all->us += (double)p->kv_heads * (double)w.rows * (double)w.span * plan->key_us[w.way];
    all->count[bucket_of(&w)]++;
  }
}

/** Lays the shares out in order, the greatest chunks first. Returns the rows of partial results they need. */
static size_t lay_shares(const attend_plan *plan, const attend_tensors *t, const int first[BUCKETS], attend_cut *cut,
                         attend_share *shares) {
  const attend_problem *p = &plan->problem.p;
  int place[BUCKETS];
  size_t rows = 0;
  memcpy(place, first, sizeof place);
  for (int64_t b = 0; b < p->batch; b++) {
    const work w = work_of(plan, t, b);
    if (w.chunks == 0) continue;
    const int64_t splits = splits_of(w.keys, w.first, cut->split_keys[w.way]);
    if (splits > 1) rows = size_add(rows, size_mul((size_t)(p->kv_heads * w.rows), (size_t)splits));
    shares[place[bucket_of(&w)]++] = (attend_share){.sequence = (int32_t)b,
                                                    .way = w.way,
                                                    .chunks = (int32_t)w.chunks,
                                                    .splits = (int32_t)splits,
                                                    .partials_at = w.rows /* of a head; see below */};
  }
  return rows;
}

/** Keys of a slice, of each way. */
static void choose_splits(const attend_plan *plan, const totals *all, int64_t split_keys[ATTEND_WAYS]) {
  const attend_choice *choices[ATTEND_WAYS] = {&plan->choice, &plan->few};
  for (int way = 0; way < ATTEND_WAYS; way++) {
    const attend_kernel *kernel = choices[way]->kernel;
    split_keys[way] = plan->cut.split_keys[way];
    if (!plan->adapts || !kernel) continue;
    split_keys[way] =
        attend_split_keys(&plan->problem, kernel, choices[way]->variant, all->longest[way], all->units[way]);
    /* Not split: nor are sequences that are long by keys before their first. */
    if (split_keys[way] >= all->longest[way]) split_keys[way] = round_up(plan->problem.p.kv_len, kernel->k_block);
  }
}

int attend_cut_useful(const attend_plan *plan, const attend_tensors *t) {
  totals all;
  int64_t split_keys[ATTEND_WAYS];
  double items = 0;
  add_up(plan, t, &all);
  choose_splits(plan, &all, split_keys);
  for (int64_t b = 0; b < plan->problem.p.batch; b++) {
    const work w = work_of(plan, t, b);
    if (w.chunks == 0) continue; /* no queries: its way may have no kernel */
    const int64_t splits = plan->slices_as_items ? splits_of(w.keys, w.first, split_keys[w.way]) : 1;
    items += (double)plan->problem.p.kv_heads * (double)w.chunks * (double)splits;
  }
  return items == 0 ? 0 : useful_threads(all.us, fmin((double)plan->threads, items));
}

/**
 * Deals the items of a run out to the groups of cores by each group's share of the work: whole heads, or slices of all
 * where heads take turns. The greatest items come first, so that with the same number of items for each the first group
 * would have most of the work.
 */
static void deal(const attend_plan *plan, const attend_tensors *t, attend_cut *cut, const attend_share *shares) {
  double all = 0, before = 0;
  cut->begin[0] = 0;
  for (int s = 0; plan->groups > 1 && s < cut->shares; s++) all += amount_of(plan, t, shares[s].sequence);
  int s = 0, cores = 0;
  for (int g = 0; g < plan->groups; g++) {
    cores += plan->cores[g];
    const double wanted = all * cores / plan->all_cores;
    double amount = 0;
    while (s < cut->shares && before + (amount = amount_of(plan, t, shares[s].sequence)) <= wanted)
      before += amount, s++;
    cut->begin[g + 1] = cut->items;
    if (g + 1 == plan->groups || s == cut->shares) continue;
    const int64_t heads = cut->turns[shares[s].way];
    const int64_t head = amount > 0 ? (int64_t)((double)heads * (wanted - before) / amount) : 0;
    cut->begin[g + 1] = shares[s].first_item + min_i64(head, heads) * attend_head_items(plan, &shares[s]);
  }
}

void attend_cut_run(const attend_plan *plan, const attend_tensors *t, attend_cut *cut, attend_share *shares) {
  const attend_problem *p = &plan->problem.p;
  totals all;
  int first[BUCKETS], count = 0;
  add_up(plan, t, &all);
  for (int i = 0; i < BUCKETS; i++) first[i] = count, count += all.count[i];
  choose_splits(plan, &all, cut->split_keys);
  cut->shares = count;
  while (lay_shares(plan, t, first, cut, shares) > (size_t)plan->partial_rows && plan->adapts)
    for (int way = 0; way < ATTEND_WAYS; way++) cut->split_keys[way] *= 2;

  int64_t items = 0, rows = 0, chunks = 0;
  for (attend_share *share = shares; share < shares + count; share++)
    items += p->kv_heads * attend_head_items(plan, share);
  put_heads_together(plan, (double)items, cut);
  items = 0;
  for (attend_share *share = shares; share < shares + count; share++) {
    const int64_t head_rows = share->partials_at;
    share->first_item = items, share->partials_at = rows, share->first_chunk = chunks;
    items += attend_sequence_items(plan, cut, share);
    if (share->splits == 1) continue;
    rows += p->kv_heads * head_rows * share->splits;
    chunks += p->kv_heads * share->chunks;
  }
  cut->items = items, cut->split_chunks = chunks;
  const double most = fmin((double)plan->threads, (double)items);
  cut->useful = items == 0 ? 0 : useful_threads(all.us, most);
  deal(plan, t, cut, shares);
}
