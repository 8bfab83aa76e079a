/* SPDX-License-Identifier: Apache-2.0 */
/**
 * Chooses the kernel for a problem and how the work is cut up. The kernel and the splitting of keys decide what is
 * computed, to the bit: they depend on the shape alone, never on the number of threads, and with batch_invariant
 * neither on the batch nor on how many queries and keys there are. Where rows are cut changes nothing, so that may
 * follow threads and caches.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/choose/profile.h"
#include "dispatch/plan/sequences.h"
#include "kernels/integers.h"

enum {
  DECODE_QUERIES = 16,   /* of a decode slice at least, and */
  DECODE_ROWS = 64,      /* rows */
  LEAST_TOGETHER = 3,    /* rows of each head with which decode computes several together, and */
  MOST_TOGETHER = 16,    /* at most */
  LEAST_TILES = 4,       /* register tiles of a slice: fewer do not pay for packing a key block */
  SHARING_ROWS = 384,    /* of a packed block: see cached_rows() */
  SLICES_PER_THREAD = 4, /* for balance */
  SPLIT_ITEMS = 64,      /* keys are split until there is work for so many threads */
  LEAST_SPLIT_KEYS = 512,
  INVARIANT_SPLIT_KEYS = 1024,
  INTERLEAVED_KEYS = 512, /* of a slice where heads take turns */
  MOST_FEW_QUERIES = 64,  /* of a sequence beside longer ones that decode may take */
  SCORE_BYTES = 64 << 20, /* of a blocked slice */
  BYTE_ROWS = 4,          /* from which on products of bytes gain, where exact ones need no buffer, and */
  BYTES_OF_VECTOR = 64    /* of them there */
};

/* ---------------------------------------------------------------------------------------------------------- tiling */

/** Query rows of a slice below which cutting finer costs more than it balances. */
static int64_t least_rows(const attend_resolved *r, const attend_kernel *kernel) {
  /* Decode reads every key for each slice: all queries of a group together, or keys are read again. */
  int64_t rows = kernel->body == ATTEND_BODY_DECODE
                     ? round_up(max_i64(DECODE_ROWS, DECODE_QUERIES * r->group), kernel->q_rows)
                     : LEAST_TILES * (int64_t)kernel->q_rows;
  return min_i64(rows, r->rows);
}

int attend_heads_of_slice(const attend_resolved *r, const attend_kernel *kernel, int64_t most) {
  const int64_t heads = r->p.kv_heads;
  return kernel->body == ATTEND_BODY_DECODE && heads <= min_i64(most, ATTEND_MOST_HEADS) ? (int)heads : 1;
}

/** Whether rows of several heads lie side by side. */
static bool heads_within_rows(const attend_strides *s) { return llabs(s->head) < llabs(s->row); }

bool attend_interleaves(const attend_resolved *r, const attend_kernel *kernel) {
  const attend_problem *p = &r->p;
  const int64_t slices = divide_up(max_i64(p->kv_len, 1), INTERLEAVED_KEYS), rows = p->kv_heads * r->rows;
  const bool room = attend_is_ragged(p) || rows <= ATTEND_MOST_PARTIAL_ROWS / slices / max_i64(p->batch, 1);
  /* A window that is narrower than a slice leaves most slices empty, and one is all that reads memory. */
  return kernel->body == ATTEND_BODY_DECODE && !p->batch_invariant && p->kv_heads > 1 &&
         attend_reach(r) > INTERLEAVED_KEYS && heads_within_rows(&p->k_strides) && heads_within_rows(&p->v_strides) &&
         room;
}

/** Keys of a slice at most, so that slices of all heads in turn read what lies together while it is at hand. */
static int64_t most_keys(const attend_resolved *r, const attend_kernel *kernel, int64_t all) {
  return attend_interleaves(r, kernel) ? min_i64(round_up(INTERLEAVED_KEYS, kernel->k_block), all) : all;
}

/** Whether rows of all heads fill memory, head after head. */
static bool heads_fill_rows(const attend_strides *s, attend_dtype dtype, int64_t dim, int64_t heads) {
  const int64_t extent = attend_row_extent(dtype, dim);
  return s->head == extent && s->row == heads * extent;
}

/**
 * Heads that decode may compute together: all, if their keys and values lie side by side without gaps, with so many
 * rows that memory is not all they wait for, and so few that those of all heads stay in the cache. On Zen 5, from
 * memory, one row took 1.0 to 1.2 times as long together, two 0.8 to 1.14 times, 3 to 16 rows 0.7 to 1.0 times, 32 rows
 * 1.0 to 1.12 times, 64 rows up to 1.5 times.
 */
static int heads_side_by_side(const attend_resolved *r, const attend_kernel *kernel) {
  const attend_problem *p = &r->p;
  const bool dense = heads_fill_rows(&p->k_strides, p->k_dtype, p->head_dim, p->kv_heads) &&
                     heads_fill_rows(&p->v_strides, p->v_dtype, p->v_head_dim, p->kv_heads);
  const bool some = r->rows >= LEAST_TOGETHER && r->rows <= MOST_TOGETHER;
  return attend_heads_of_slice(r, kernel, dense && some ? ATTEND_MOST_HEADS : 1);
}

int64_t attend_split_keys(const attend_resolved *r, const attend_kernel *kernel, attend_variant variant,
                          int64_t longest, double units) {
  const attend_problem *p = &r->p;
  const int64_t all = round_up(max_i64(longest, 1), kernel->k_block);
  if (!(kernel->can & ATTEND_CAN_SPLIT) || p->weights || p->scores) return all;
  if (p->batch_invariant && !variant.whole) return min_i64(round_up(INVARIANT_SPLIT_KEYS, kernel->k_block), all);
  const int64_t most = most_keys(r, kernel, all);
  const double of_longest = longest > 0 ? units / (double)longest : 0; /* so many times the work of the longest */
  if (variant.whole || of_longest >= SPLIT_ITEMS || units <= 0) return most;
  const int64_t slices = (int64_t)ceil(SPLIT_ITEMS / of_longest);
  const int64_t keys = round_up(max_i64(LEAST_SPLIT_KEYS, divide_up(longest, slices)), kernel->k_block);
  /* A window no wider than a part is in one or two of them, and all are merged: decode took up to twice as long. */
  return attend_reach(r) <= keys ? all : min_i64(keys, most);
}

int64_t attend_most_splits(const attend_resolved *r) {
  return r->p.weights || r->p.scores ? 1 : max_i64(1, divide_up(r->p.kv_len, LEAST_SPLIT_KEYS));
}

/** Keys of a slice: all, unless there are too few rows to keep many threads busy. */
static int64_t choose_split_keys(const attend_resolved *r, const attend_kernel *kernel, attend_variant variant) {
  const double units = (double)(r->p.batch * r->p.kv_heads) * (double)divide_up(r->rows, least_rows(r, kernel));
  return attend_split_keys(r, kernel, variant, r->p.kv_len, units * (double)r->p.kv_len);
}

/**
 * Rows whose queries and results fit half of the L2 cache beside a packed block of keys and values. Where head dims are
 * large that leaves few, and packing a block for few rows costs more than reading theirs from beyond L2: so there are
 * SHARING_ROWS, as far as they fit three quarters of it. On Zen 5 (1 MiB), one thread, that took 0.93 to 0.95 of the
 * time at D = 256 in f32, 0.69 at 512 (64 rows before), 0.95 to 0.98 at 192; in bf16 0.97 at 192 and 256, 0.94 at 512;
 * with AVX2 0.98 to 1.02, 0.95 at 512.
 */
static int64_t cached_rows(const attend_resolved *r, const attend_kernel *kernel) {
  const int64_t cache = (int64_t)attend_topology_get()->l2, element = (int64_t)attend_dtype_size(kernel->compute);
  const int64_t d = r->p.head_dim, dv = r->p.v_head_dim;
  const int64_t block = kernel->k_block * (d + dv) * element;
  const int64_t row = max_i64(d * element + dv * (int64_t)sizeof(float), 1);
  return max_i64((cache / 2 - block) / row, min_i64(SHARING_ROWS, cache * 3 / 4 / row));
}

/** Rows whose scores of all keys fit `bytes`. */
static int64_t score_rows(const attend_resolved *r, int64_t bytes) {
  return bytes / (max_i64(r->p.kv_len, 1) * (int64_t)sizeof(float));
}

static int64_t choose_slice_rows(const attend_resolved *r, const attend_kernel *kernel, int64_t split_keys,
                                 int threads) {
  const int64_t tile = kernel->q_rows, least = least_rows(r, kernel);
  int64_t most = least;
  if (kernel->body != ATTEND_BODY_DECODE) {
    /* On one thread there is nothing to balance: larger slices, which pack keys less often, took 2.5 % less time. */
    int64_t wanted = threads == 1 && kernel->body != ATTEND_BODY_BLOCKED ? 1 : (int64_t)threads * SLICES_PER_THREAD;
    int64_t slices = r->p.batch * r->p.kv_heads; /* may be so many that times splits they overflow */
    if (slices < wanted) slices *= divide_up(max_i64(r->p.kv_len, 1), split_keys);
    int64_t share = divide_up(r->rows, divide_up(wanted, slices));
    most = max_i64(least, min_i64(share, cached_rows(r, kernel)));
    if (kernel->body == ATTEND_BODY_BLOCKED)
      most = max_i64(tile, min_i64(max_i64(least, share), score_rows(r, SCORE_BYTES)));
  }
  if (most >= r->rows) return r->rows;
  most = max_i64(tile, round_down(most, tile));
  int64_t slices = divide_up(r->rows, most); /* of about the same size */
  return min_i64(r->rows, round_up(divide_up(r->rows, slices), tile));
}

static int64_t choose_strip_rows(const attend_resolved *r, const attend_kernel *kernel, int64_t slice_rows) {
  int64_t rows = slice_rows;
  if (kernel->body == ATTEND_BODY_TILED)
    rows = min_i64(rows, round_down(score_rows(r, (int64_t)(attend_topology_get()->l2 / 2)), kernel->q_rows));
  return max_i64(round_up(rows, kernel->q_rows), kernel->q_rows);
}

bool attend_rules_split(const attend_resolved *r, const attend_kernel *kernel) {
  return choose_split_keys(r, kernel, (attend_variant){0}) < r->p.kv_len;
}

/** Bytes of all keys and values, as many as there may be. Where values are columns of the keys they count twice. */
static double bytes_of_keys(const attend_problem *p) {
  const int64_t rows = p->page_rows ? p->pages * p->page_rows : p->kv_starts ? p->kv_total : p->batch * p->kv_len;
  return (double)rows * (double)p->kv_heads *
         (double)(attend_row_size(p->k_dtype, p->head_dim) + attend_row_size(p->v_dtype, p->v_head_dim));
}

attend_tiling attend_tiling_of(const attend_resolved *r, const attend_kernel *kernel, attend_variant variant,
                               int threads) {
  const int64_t tile = kernel->q_rows;
  attend_tiling tiling = {.to_l1 = attend_cpu_get()->to_l1,
                          .out_of_cache = bytes_of_keys(&r->p) > (double)attend_topology_get()->l2};
  tiling.heads = tiling.out_of_cache ? heads_side_by_side(r, kernel) : 1;
  tiling.split_keys = choose_split_keys(r, kernel, variant);
  tiling.slice_rows = choose_slice_rows(r, kernel, tiling.split_keys, threads);
  tiling.strip_rows = choose_strip_rows(r, kernel, tiling.slice_rows);
  if (tiling.strip_rows < tiling.slice_rows)
    tiling.strip_rows = min_i64(round_up(tiling.slice_rows, tile), tiling.strip_rows * max_i64(variant.strip_times, 1));
  return tiling;
}

bool attend_variant_applies(const attend_resolved *r, const attend_kernel *kernel, attend_variant variant,
                            int threads) {
  if (!variant.whole && !attend_rules_split(r, kernel)) return false;
  if (variant.strip_times <= 1) return true;
  const attend_tiling usual = attend_tiling_of(r, kernel, (attend_variant){.whole = variant.whole}, threads);
  return usual.strip_rows < usual.slice_rows;
}

/* ---------------------------------------------------------------------------------------------------------- kernel */

/** A kernel that was asked for by name is used or refused, never replaced. */
static attend_status choose_named(const attend_resolved *r, const attend_env *env, const char *name, bool by_caller,
                                  attend_choice *choice) {
  const char *asker = by_caller ? "kernel" : "ATTEND_KERNEL";
  attend_status refused = by_caller ? ATTEND_ERROR_UNSUPPORTED : ATTEND_ERROR_ENVIRONMENT;
  const attend_kernel *kernel = attend_kernel_find(name);
  char why[200];
  if (!kernel)
    return attend_fail(ATTEND_ERROR_UNKNOWN_KERNEL, "%s is \"%.100s\", which is the name of no kernel", asker, name);
  if (!attend_kernel_runnable(kernel, env->isa, why, sizeof why))
    return attend_fail(refused, "%s is \"%s\", which cannot run here: %s", asker, name, why);
  if (!attend_kernel_can(kernel, r, why, sizeof why))
    return attend_fail(refused, "%s is \"%s\", which cannot do this problem: %s", asker, name, why);
  choice->kernel = kernel;
  choice->by = by_caller ? ATTEND_BY_CALLER : ATTEND_BY_ENVIRONMENT;
  return ATTEND_OK;
}

/**
 * Whether a kernel would round keys or values of a format to bf16 for a few rows only: it takes numbers from a buffer
 * and pairs them there, where f32 kernels get most from registers. On one Zen 4 core, 8192 keys of 8 heads, 4 rows
 * each, took 4.1 ms in q8_0 and 3.8 in i8 so, and 2.3 and 2.8 in f32.
 */
static bool rounds_in_vain(const attend_resolved *r, const attend_kernel *kernel) {
  return kernel->body == ATTEND_BODY_DECODE && kernel->compute != ATTEND_F32 &&
         (attend_is_format(r->p.k_dtype) || attend_is_format(r->p.v_dtype));
}

/**
 * Whether rounding queries to int8 gains nothing. AVX-512's exact products read formats straight to registers. Beside
 * them products of bytes gain nothing in q8_0 for less than a group of rows, which the single rows of decode make 0.94
 * to 1.0 times as fast from memory, nor for head dims that leave half a vector of bytes unused, 0.98 to 1.06 times; nor
 * in i8 with scales of groups, which they put beside their elements first, 0.62 to 0.84 times. With a scale a row they
 * gain 1.0 to 1.3 times. With AVX2, where exact products are of what a buffer holds, they gain everywhere: 1.2 to 1.6.
 */
static bool multiplies_bytes_in_vain(const attend_resolved *r, const attend_kernel *kernel) {
  if (!(kernel->can & ATTEND_CAN_INT8) || kernel->isa == ATTEND_ISA_AVXVNNI) return false;
  if (r->p.k_dtype == ATTEND_I8) return r->p.k_scaling.group < r->p.head_dim;
  return r->rows < BYTE_ROWS || r->p.head_dim % BYTES_OF_VECTOR != 0;
}

/** The first of these bodies that can do a problem, on the widest instruction set that is known to pay. */
static const attend_kernel *first_of(const attend_resolved *r, const attend_env *env, const attend_body *bodies,
                                     size_t count, char why[200]) {
  for (size_t b = 0; b < count; b++)
    for (size_t i = 0; attend_kernel_at(i); i++) { /* wider ones stand first */
      const attend_kernel *kernel = attend_kernel_at(i);
      if (kernel->body == bodies[b] && !(attend_cpu_get()->unproven >> kernel->isa & 1) &&
          attend_kernel_runnable(kernel, env->isa, NULL, 0) && !rounds_in_vain(r, kernel) &&
          !multiplies_bytes_in_vain(r, kernel) && attend_kernel_can(kernel, r, why, 200))
        return kernel;
    }
  return NULL;
}

/** What a kernel takes on one thread. */
static double rules_cost(const attend_resolved *r, const attend_kernel *kernel) {
  const attend_tiling tiling = attend_tiling_of(r, kernel, (attend_variant){.whole = true}, 1);
  return attend_cost_us(r, kernel, &tiling);
}

/**
 * Whether decode, which reads keys where they lie, should take less than a body that packs them for many rows. On 1000
 * random shapes on one Zen 5 core a choice by the number of rows alone lost 36 % at the 95th percentile, this one 25.
 */
static bool prefers_decode(const attend_resolved *r, const attend_kernel *decode, const attend_kernel *packed) {
  const int rows = attend_isa_decode_rows(packed->isa);
  return rows ? r->rows <= rows : rules_cost(r, decode) < rules_cost(r, packed);
}

static attend_status choose_by_heuristics(const attend_resolved *r, const attend_env *env, attend_choice *choice) {
  static const attend_body decode[] = {ATTEND_BODY_DECODE},
                           packed[] = {ATTEND_BODY_STREAMING, ATTEND_BODY_TILED, ATTEND_BODY_BLOCKED},
                           weights[] = {ATTEND_BODY_BLOCKED, ATTEND_BODY_TILED};
  char why[200] = "";
  const bool held = r->p.weights || r->p.scores;
  /* With batch_invariant the number of queries must not choose: one body for all. */
  const attend_kernel *in_place = held || r->p.batch_invariant ? NULL : first_of(r, env, decode, 1, why);
  const attend_kernel *kernel = held ? first_of(r, env, weights, 2, why) : first_of(r, env, packed, 3, why);
  if (!kernel && !in_place)
    return attend_fail(ATTEND_ERROR_UNSUPPORTED, "no kernel can do this problem, the last of them because: %s", why);
  const bool either = in_place && kernel && !attend_is_empty(r);
  choice->kernel = either ? (prefers_decode(r, in_place, kernel) ? in_place : kernel) : kernel ? kernel : in_place;
  choice->by = ATTEND_BY_RULES;
  return ATTEND_OK;
}

static void finish(const attend_resolved *problem, int threads, attend_choice *choice) {
  choice->tiling = attend_tiling_of(problem, choice->kernel, choice->variant, threads);
  choice->least_rows = least_rows(problem, choice->kernel);
}

attend_status attend_select(const attend_resolved *problem, const attend_env *env, const char *forced, int threads,
                            attend_choice *choice) {
  attend_choice c = {0};
  attend_profile_state profile;
  attend_status status = attend_profile_get(env, &profile);
  if (status != ATTEND_OK) return status;
  if (forced && strcmp(forced, "auto") != 0)
    status = choose_named(problem, env, forced, true, &c);
  else if (*env->kernel)
    status = choose_named(problem, env, env->kernel, false, &c);
  else
    status = choose_by_heuristics(problem, env, &c);
  if (status != ATTEND_OK) return status;
  if (attend_is_empty(problem)) {
    c.kernel = NULL;
  } else {
    /* No profile has measured kernels that round queries to int8: where the rules choose one, they decide. */
    const bool rounds = c.kernel->can & ATTEND_CAN_INT8;
    if (c.by == ATTEND_BY_RULES && profile.profile && !rounds && attend_profile_covers(profile.profile, problem))
      attend_profile_choose(profile.profile, problem, env, threads, &c);
    finish(problem, threads, &c);
  }
  *choice = c;
  return ATTEND_OK;
}

int64_t attend_select_few(const attend_resolved *problem, const attend_env *env, const attend_choice *many, int threads,
                          attend_choice *few) {
  static const attend_body decode[] = {ATTEND_BODY_DECODE};
  char why[200];
  attend_resolved r = *problem;
  if (!many->kernel || !r.p.q_starts || r.p.batch_invariant || r.p.weights || r.p.scores ||
      (many->by != ATTEND_BY_RULES && many->by != ATTEND_BY_PROFILE) || many->kernel->body == ATTEND_BODY_DECODE)
    return 0;
  r.p.q_len = 1, r.rows = r.group; /* the fewest there are: a kernel must pay for them */
  const attend_kernel *kernel = first_of(&r, env, decode, 1, why);
  if (!kernel) return 0;
  int64_t queries = 0;
  for (int64_t step = MOST_FEW_QUERIES; step > 0; step /= 2) {
    r.p.q_len = queries + step, r.rows = r.group * r.p.q_len;
    if (r.p.q_len < problem->p.q_len && prefers_decode(&r, kernel, many->kernel)) queries += step;
  }
  r.p.q_len = queries, r.rows = r.group * queries;
  *few = (attend_choice){.kernel = kernel, .by = ATTEND_BY_RULES};
  if (queries) finish(&r, threads, few);
  return queries;
}

void attend_choice_reason(const attend_choice *choice, const attend_resolved *r, char *text, size_t size) {
  if (!choice->kernel)
    snprintf(text, size, "nothing to compute");
  else if (choice->by == ATTEND_BY_PROFILE)
    attend_profile_reason(choice, r, text, size);
  else if (choice->by != ATTEND_BY_RULES)
    snprintf(text, size, "asked for by %s", choice->by == ATTEND_BY_CALLER ? "the caller" : "ATTEND_KERNEL");
  else if (r->p.weights || r->p.scores)
    snprintf(text, size, "heuristic: %s wanted, so all scores are held", r->p.weights ? "attention weights" : "scores");
  else if (choice->kernel->body == ATTEND_BODY_DECODE)
    snprintf(text, size, "heuristic: %" PRId64 " query row%s a key head, keys are read once, in place", r->rows,
             r->rows == 1 ? "" : "s");
  else
    snprintf(text, size, "heuristic: %" PRId64 " query rows a key head share packed key blocks", r->rows);
}
