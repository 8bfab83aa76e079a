/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The library's functions on problems that bytes make: valid ones, run by every kernel that runs here and compared with
 * the reference, and all others, which must be refused. Every buffer has its exact size.
 *
 * Of the bytes, the first two are a seed and say what is done, the last ones change single fields, and those in between
 * make the choices of verify/random.c.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/plan/plan.h"
#include "tests/fuzz/fuzz.h"
#include "verify/formats.h"
#include "verify/internal.h"

/* ------------------------------------------------------------------------------------------------- fields, changed */

typedef struct input {
  const uint8_t *bytes;
  size_t size;
} input;

/** Takes a byte from the end; 0 where there is none. */
static unsigned take(input *in) { return in->size ? in->bytes[--in->size] : 0; }

/** Takes a number: small, or one where something ends. */
static int64_t take_number(input *in) {
  static const int64_t ends[] = {-1,        -2,
                                 INT32_MAX, INT32_MAX + INT64_C(1),
                                 INT32_MIN, INT64_MAX,
                                 INT64_MIN, PTRDIFF_MAX / 4,
                                 1 << 16,   INT64_C(1) << 33,
                                 -64,       1025};
  const unsigned choice = take(in);
  if (choice < 192) return choice;
  return choice < 204 ? ends[choice - 192] : (int64_t)(take(in) << 8 | take(in)) - 0x8000;
}

static float take_float(input *in) {
  static const float floats[] = {0,  -0.0f,     1,     -1,     1.5f,     0.5f, -0.25f,    2,
                                 30, 0x1p-140f, 1e38f, -1e38f, INFINITY, NAN,  -INFINITY, 0.999f};
  return floats[take(in) % 16];
}

#define AT(field) offsetof(attend_problem, field)

static const size_t wide_fields[] = {AT(batch),
                                     AT(q_heads),
                                     AT(kv_heads),
                                     AT(q_len),
                                     AT(kv_len),
                                     AT(head_dim),
                                     AT(v_head_dim),
                                     AT(q_total),
                                     AT(kv_total),
                                     AT(page_rows),
                                     AT(pages),
                                     AT(block_table_stride),
                                     AT(q_strides.batch),
                                     AT(q_strides.head),
                                     AT(q_strides.row),
                                     AT(k_strides.batch),
                                     AT(k_strides.head),
                                     AT(k_strides.row),
                                     AT(v_strides.batch),
                                     AT(v_strides.head),
                                     AT(v_strides.row),
                                     AT(out_strides.batch),
                                     AT(out_strides.head),
                                     AT(out_strides.row),
                                     AT(mask_strides.batch),
                                     AT(mask_strides.head),
                                     AT(mask_strides.query),
                                     AT(mask_strides.key),
                                     AT(bias_strides.batch),
                                     AT(bias_strides.head),
                                     AT(bias_strides.query),
                                     AT(bias_strides.key),
                                     AT(causal_offset),
                                     AT(window_left),
                                     AT(window_right)};
static const size_t narrow_fields[] = {
    AT(q_dtype),   AT(k_dtype),    AT(v_dtype),    AT(out_dtype),  AT(as_given),        AT(score),
    AT(causal),    AT(window),     AT(kv_lengths), AT(positions),  AT(q_starts),        AT(kv_starts),
    AT(kv_begins), AT(key_ranges), AT(mask),       AT(bias_dtype), AT(bias_head_scale), AT(alibi),
    AT(sinks),     AT(lse),        AT(weights),    AT(scores),     AT(batch_invariant), AT(int8_products)};
static const size_t float_fields[] = {AT(scale), AT(softcap), AT(dropout)};

enum {
  WIDE = sizeof wide_fields / sizeof *wide_fields,
  NARROW = sizeof narrow_fields / sizeof *narrow_fields,
  FLOATS = sizeof float_fields / sizeof *float_fields
};

static void change_field(attend_problem *p, input *in) {
  const unsigned which = take(in) % (WIDE + NARROW + FLOATS);
  char *const fields = (char *)p;
  if (which < WIDE) {
    const int64_t number = take_number(in);
    memcpy(fields + wide_fields[which], &number, sizeof number);
  } else if (which < WIDE + NARROW) {
    const unsigned choice = take(in);
    const int number = choice < 250 ? (int)(choice % 8) : choice < 253 ? -1 : INT32_MAX;
    memcpy(fields + narrow_fields[which - WIDE], &number, sizeof number);
  } else {
    const float number = take_float(in);
    memcpy(fields + float_fields[which - WIDE - NARROW], &number, sizeof number);
  }
}

/* ------------------------------------------------------------------------------------------------- what can be run */

static bool within(int64_t x, int64_t most) { return x >= -most && x <= most; }

/** Whether a tensor is small, of which the strides may be anything. */
static bool is_small(int64_t a, int64_t b, int64_t c, int64_t d, attend_strides4 s) {
  const int64_t extents[] = {a, b, c, d}, strides[] = {s.batch, s.head, s.query, s.key};
  int64_t reach = 1;
  for (int i = 0; i < 4; i++) {
    if (!within(strides[i], 1 << 16) || !within(extents[i], 1 << 12)) return false;
    reach += llabs(strides[i]) * extents[i];
  }
  return reach <= 1 << 19;
}

static bool rows_are_small(int64_t batch, int64_t heads, int64_t rows, int64_t dim, attend_strides s) {
  return is_small(batch, heads, rows, dim, (attend_strides4){s.batch, s.head, s.row, 1});
}

/**
 * Whether the reference computes a problem in a moment, and plain arithmetic can be its yardstick: the bounds are those
 * that verify/random.c keeps, where it says why.
 */
static bool is_comparable(const attend_problem *p, const attend_verify_case *c) {
  const int64_t queries = p->q_starts ? p->q_total : p->q_len, qb = p->q_starts ? 1 : p->batch;
  const int64_t keys = p->page_rows ? p->page_rows : p->kv_starts ? p->kv_total : p->kv_len;
  const int64_t kb = p->page_rows ? p->pages : p->kv_starts ? 1 : p->batch;
  if (!rows_are_small(qb, p->q_heads, queries, p->head_dim, p->q_strides) ||
      !rows_are_small(qb, p->q_heads, queries, p->v_head_dim, p->out_strides) ||
      !rows_are_small(kb, p->kv_heads, keys, p->head_dim, p->k_strides) ||
      !rows_are_small(kb, p->kv_heads, keys, p->v_head_dim, p->v_strides) ||
      !is_small(p->batch, p->q_heads, queries, p->kv_len, p->mask_strides) ||
      !is_small(p->batch, p->q_heads, queries, p->kv_len, p->bias_strides) ||
      !within(p->batch * p->block_table_stride, 1 << 16))
    return false;
  if (p->batch > 64 || p->q_heads > 64 || p->kv_heads == 0 || p->kv_len > 1025 || p->q_len > 1025 ||
      p->batch * p->q_heads * p->q_len * (p->kv_len + 1) * (p->head_dim + p->v_head_dim + 1) > 50000)
    return false;
  if (p->page_rows && p->pages == 0 && p->kv_len > 0) return false; /* no key could be */
  if (p->v_strides.row == 0 && p->kv_len > 33) return false;
  const bool in_range = fabsf(p->scale) <= 2 && (p->softcap == 0 || (p->softcap >= 1 && p->softcap <= 100)) &&
                        (p->dropout <= 0.9f || p->dropout == 1);
  return in_range && (c->nonfinite == ATTEND_VERIFY_FINITE || c->values < ATTEND_VERIFY_DENORMAL);
}

/* ------------------------------------------------------------------------------------------------------ the checks */

/** The problem in memory that ends where its struct_size says. */
static attend_problem *place_problem(const attend_problem *p) {
  const size_t size = p->struct_size < sizeof p->struct_size ? sizeof p->struct_size : p->struct_size;
  attend_problem *exact = malloc(size);
  attend_fuzz_check(exact, "a problem", "no memory");
  memcpy(exact, p, size);
  return exact;
}

/** Makes a plan, or is refused: whichever attend_resolve() says. */
static bool can_be_planned(const attend_problem *p, int threads) {
  attend_plan *const before = (attend_plan *)(uintptr_t)64, *plan = before;
  attend_options options = ATTEND_OPTIONS_INIT;
  attend_resolved resolved;
  char text[512];
  options.num_threads = threads, options.ignore_environment = 1;
  attend_problem *exact = place_problem(p);
  const attend_status status = attend_plan_create(exact, &options, &plan);
  const bool valid = attend_resolve(exact, &resolved) == ATTEND_OK;
  free(exact);
  if (status != ATTEND_OK) {
    attend_fuzz_check(plan == before && *attend_error_detail(), "a refused problem",
                      "the plan was touched, or no reason");
    attend_fuzz_check(!valid || status == ATTEND_ERROR_UNSUPPORTED || status == ATTEND_ERROR_OVERFLOW ||
                          status == ATTEND_ERROR_OUT_OF_MEMORY || threads < 0 || threads > 1024,
                      "a valid problem is refused", attend_error_detail());
    return false;
  }
  attend_fuzz_check(valid, "a plan", "its problem is not valid");
  attend_plan_explain(plan, text, sizeof text);
  attend_plan_destroy(plan);
  return true;
}

static void run_every_kernel(const attend_verify_case *c) {
  attend_verify *v = attend_verify_open(ATTEND_ISA_COUNT - 1);
  static attend_verify_result result;
  attend_fuzz_check(v && attend_verify_prepare(v, c), "a case", "no memory");
  for (size_t i = 0; i <= attend_kernel_count(); i++) {
    attend_verify_run(v, i < attend_kernel_count() ? attend_kernel_at(i) : NULL, &result);
    attend_fuzz_check(result.status != ATTEND_VERIFY_FAILED, "a kernel", result.message);
  }
  attend_verify_close(v);
}

static void run_row_kernels(uint64_t seed) {
  static attend_verify_result result;
  for (attend_operation operation = 0; operation < ATTEND_OP_COUNT; operation++) {
    const attend_kernel *kernel;
    for (size_t i = 0; operation != ATTEND_OP_FORWARD && (kernel = attend_kernel_of(operation, i)); i++) {
      attend_verify_row_kernel(kernel, ATTEND_ISA_COUNT - 1, seed, ATTEND_DTYPE_DEFAULT, &result);
      attend_fuzz_check(result.status != ATTEND_VERIFY_FAILED, "a kernel", result.message);
    }
  }
}

/* ------------------------------------------------------------------------------------------------- tensors, changed */

#define T(field) offsetof(attend_tensors, field)

static const size_t lists[] = {T(kv_lengths), T(positions),  T(q_starts),   T(kv_starts),
                               T(kv_begins),  T(key_ranges), T(block_table)};
static const size_t pointers[] = {T(q),
                                  T(k),
                                  T(v),
                                  T(out),
                                  T(mask),
                                  T(bias),
                                  T(bias_head_scale),
                                  T(alibi_slopes),
                                  T(sinks),
                                  T(score_weights),
                                  T(lse),
                                  T(weights),
                                  T(scores)};

enum { LISTS = sizeof lists / sizeof *lists, POINTERS = sizeof pointers / sizeof *pointers };

/** Changes a number in one of the lists of lengths and the like, or one address. The list is then in `copy`. */
static void change_tensors(attend_verify_data *data, attend_tensors *t, input *in, void **copy) {
  char *const fields = (char *)t;
  unsigned which = take(in) % (2 * POINTERS);
  if (which >= POINTERS) {
    which -= POINTERS;
    /* No address, or one that is not aligned; which for bytes is as good as any, and reads beyond. */
    const size_t at = pointers[which];
    const bool bytes = at == T(mask) || (at == T(k) && attend_verify_is_format(data->problem.k_dtype)) ||
                       (at == T(v) && attend_verify_is_format(data->problem.v_dtype));
    const unsigned char *address = NULL;
    char *const field = fields + at;
    memcpy(&address, field, sizeof address);
    address = address && !bytes && take(in) % 2 ? address + 1 : NULL;
    memcpy(field, &address, sizeof address);
    return;
  }
  const attend_guarded *list = NULL;
  for (unsigned n = 0; n < LISTS && (!list || !list->size); n++) {
    which = (which + 1) % LISTS;
    list = &data->buffer[ATTEND_VERIFY_LENGTHS + which];
  }
  if (!list->size) return;
  int32_t *numbers = malloc(list->size);
  attend_fuzz_check(numbers, "a list", "no memory");
  memcpy(numbers, list->data, list->size);
  for (unsigned n = 1 + take(in) % 3; n > 0; n--) {
    const attend_problem *p = &data->problem;
    const int64_t bounds[] = {p->kv_len, p->kv_len + 1, p->q_len + 1, p->pages, p->q_total, p->kv_total, p->page_rows};
    const size_t at = take(in) % (list->size / sizeof *numbers);
    const unsigned choice = take(in) % 16;
    numbers[at] = (int32_t)(choice < 7 ? bounds[choice] : choice < 10 ? numbers[at] + INT64_C(1) : take_number(in));
  }
  *copy = numbers;
  memcpy(fields + lists[which], &(const void *){numbers}, sizeof(void *));
}

/** Runs a valid problem on tensors that may be wrong: nothing is touched that must not be, and nothing on an error. */
static void run_changed(const attend_verify_case *c, input *in) {
  attend_verify_data data = {0};
  attend_fuzz_check(attend_verify_fill(&data, c), "a case", "no memory");
  attend_verify_clear_outputs(&data);
  attend_options options = ATTEND_OPTIONS_INIT;
  options.num_threads = 1 + (int)take(in) % 3, options.ignore_environment = 1;
  const size_t which = take(in) % (attend_kernel_count() + 1);
  if (which < attend_kernel_count()) options.kernel = attend_kernel_at(which)->name;
  attend_plan *plan = NULL;
  if (attend_plan_create(&c->problem, &options, &plan) != ATTEND_OK) { /* not every kernel can do it, or runs here */
    options.kernel = NULL;
    attend_fuzz_check(attend_plan_create(&c->problem, &options, &plan) == ATTEND_OK, "a plan", attend_error_detail());
  }
  attend_tensors *t = malloc(sizeof *t);
  attend_fuzz_check(t, "tensors", "no memory");
  *t = data.tensors;
  void *copy = NULL;
  change_tensors(&data, t, in, &copy);
  for (int i = 0; i < ATTEND_VERIFY_BUFFER_COUNT; i++) attend_guarded_watch(&data.buffer[i], true);
  const int parts = attend_plan_useful_parts(plan, t);
  const attend_status status = attend_plan_run(plan, t, NULL, 0);
  for (int i = 0; i < ATTEND_VERIFY_BUFFER_COUNT; i++) attend_guarded_watch(&data.buffer[i], false);
  attend_fuzz_check(parts >= 0 && parts <= attend_plan_max_parts(plan), "useful parts", "out of bounds");
  for (int i = ATTEND_VERIFY_OUT; i < ATTEND_VERIFY_WORKSPACE; i++) {
    const attend_guarded *g = &data.buffer[i];
    attend_fuzz_check(attend_guarded_intact(g, ATTEND_VERIFY_FILL), attend_verify_buffer_names[i], "around it");
    for (size_t b = 0; status != ATTEND_OK && b < g->size; b++)
      attend_fuzz_check(g->data[b] == ATTEND_VERIFY_FILL, attend_verify_buffer_names[i],
                        "written by a run that failed");
  }
  attend_plan_destroy(plan);
  free(copy);
  free(t);
  attend_verify_data_free(&data);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  if (size < 2) return 0;
  input in = {bytes + 2, size - 2};
  const uint64_t seed = bytes[0] | (uint64_t)bytes[1] << 8;
  const unsigned what = bytes[1] % 16;
  if (what == 0) {
    run_row_kernels(seed << 8 | take(&in));
    return 0;
  }
  /* The last bytes change something in half of the cases, and are no choices then. */
  enum { CHANGING = 16 };
  const bool fields = what < 5, tensors = what >= 5 && what < 11;
  input kept = in;
  if (fields || tensors) in.size -= in.size < CHANGING ? in.size : CHANGING;
  attend_verify_case c;
  attend_verify_case_from(in.bytes, in.size, seed, &c);
  int threads = 2;
  if (fields) {
    if (take(&kept) % 16 == 15) threads = (int)take_number(&kept);
    if (take(&kept) % 16 == 15) c.problem.struct_size = take(&kept) * 2 % (sizeof c.problem + 1);
    for (unsigned n = 1 + take(&kept) % 3; n > 0; n--) change_field(&c.problem, &kept);
    c.packed = false; /* strides are taken as they stand */
  }
  if (!can_be_planned(&c.problem, threads)) return 0;
  attend_resolved resolved;
  attend_problem *exact = place_problem(&c.problem);
  const bool valid = attend_resolve(exact, &resolved) == ATTEND_OK;
  free(exact);
  if (!valid || c.problem.struct_size != sizeof c.problem || !is_comparable(&resolved.p, &c)) return 0;
  if (tensors)
    run_changed(&c, &kept);
  else
    run_every_kernel(&c);
  return 0;
}
