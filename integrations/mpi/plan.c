/* SPDX-License-Identifier: Apache-2.0 */
/** Plans: what ranks must agree on, the plans of what each computes, and all memory. */
#ifdef __linux__
#define _GNU_SOURCE
#include <sched.h>
#endif
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* Fields of the first version. */
#define OPTIONS_FIRST_SIZE (offsetof(attend_mpi_options, combine) + sizeof(attend_mpi_combine))
#define REPORT_FIRST_SIZE (offsetof(attend_mpi_report, received) + sizeof(uint64_t))

enum { CHUNK = 1024, GATHER_BYTES = 1 << 20, SLICE_BYTES = 256 << 10 };

/* ------------------------------------------------------------------------------------------------------------- sizes
 */

static size_t add_size(size_t a, size_t b) { return __builtin_add_overflow(a, b, &a) ? SIZE_MAX : a; }
static size_t mul_size(size_t a, size_t b) { return __builtin_mul_overflow(a, b, &a) ? SIZE_MAX : a; }
static size_t floats(int64_t count) { return mul_size((size_t)count, sizeof(float)); }

int64_t attend_mpi_result_rows(const attend_problem *p) {
  return p->q_heads * (p->q_starts ? p->q_total : p->batch * p->q_len);
}

/* ---------------------------------------------------------------------------------------------------------- problems
 */

static bool is_unset(const attend_problem *p, const attend_strides *s) {
  return !(p->as_given & ATTEND_AS_GIVEN_STRIDES) && s->batch == 0 && s->head == 0 && s->row == 0;
}

static attend_strides contiguous(int64_t heads, int64_t rows, int64_t dim) {
  return (attend_strides){heads * rows * dim, rows * dim, dim};
}

/** Fills in the defaults that parts of a problem would take otherwise. attend_plan_create() has checked it. */
static void resolve(attend_problem *p, attend_mpi_layout layout) {
  if (!p->kv_heads) p->kv_heads = p->q_heads;
  if (!p->v_head_dim && !(p->as_given & ATTEND_AS_GIVEN_V_HEAD_DIM)) p->v_head_dim = p->head_dim;
  if (!p->q_dtype) p->q_dtype = ATTEND_F32;
  if (!p->k_dtype) p->k_dtype = p->q_dtype;
  if (!p->v_dtype) p->v_dtype = p->k_dtype;
  if (!p->out_dtype) p->out_dtype = p->q_dtype;
  const int64_t queries = p->q_starts ? p->q_total : p->q_len;
  const int64_t keys = p->page_rows ? p->page_rows : p->kv_starts ? p->kv_total : p->kv_len;
  if (is_unset(p, &p->q_strides)) p->q_strides = contiguous(p->q_heads, queries, p->head_dim);
  if (is_unset(p, &p->out_strides)) p->out_strides = contiguous(p->q_heads, queries, p->v_head_dim);
  if (layout != ATTEND_MPI_SEQUENCE) return; /* keys and values stay where they are: their strides, too */
  if (is_unset(p, &p->k_strides)) p->k_strides = contiguous(p->kv_heads, keys, p->head_dim);
  if (is_unset(p, &p->v_strides)) p->v_strides = contiguous(p->kv_heads, keys, p->v_head_dim);
  if (p->page_rows && !p->block_table_stride) p->block_table_stride = (p->kv_len + p->page_rows - 1) / p->page_rows;
}

/** A problem that checks what a rank says of its own tensors; masks, biases and lengths per query count whole ones. */
static attend_problem checking_problem(const attend_mpi_plan *plan, const attend_problem *problem) {
  attend_problem p = *problem;
  if (attend_mpi_is_alone(plan)) return p;
  p.mask = 0;
  p.bias_dtype = ATTEND_DTYPE_DEFAULT, p.bias_head_scale = 0;
  if (p.kv_lengths == ATTEND_LENGTHS_PER_QUERY) p.kv_lengths = ATTEND_LENGTHS_NONE;
  /* Without queries attend_plan_begin() would look at nothing; but keys without queries are others' to attend. */
  if (p.q_len == 0) p.q_starts = 1, p.q_len = 1, p.q_total = 0;
  return p;
}

/** What results over the keys of a rank have in common: f32, with an LSE, and positions that count from its keys. */
static attend_problem part_problem(const attend_mpi_plan *plan) {
  attend_problem p = plan->p;
  p.out_dtype = ATTEND_F32, p.lse = 1, p.positions = 1;
  if (p.kv_lengths == ATTEND_LENGTHS_PER_QUERY) p.kv_lengths = ATTEND_LENGTHS_NONE, p.key_ranges = 1;
  if (p.causal == ATTEND_CAUSAL_OFFSET) p.causal = ATTEND_CAUSAL_BOTTOM_RIGHT, p.causal_offset = 0;
  return p;
}

/** The strides of a copy of columns of a mask or bias: (B, Hq, Lq, Lk), or what of it is not broadcast. */
static void copied_strides(const attend_problem *p, attend_strides4 *s) {
  if (s->key == 0) return;
  const bool packed = p->q_starts && s->query != 0;
  const int64_t rows = s->query == 0 ? 1 : packed ? p->q_total : p->q_len, heads = s->head == 0 ? 1 : p->q_heads;
  const attend_strides4 from = *s;
  *s = (attend_strides4){heads * rows * p->kv_len, rows * p->kv_len, p->kv_len, 1};
  if (packed) s->batch = 0;
  if (from.head == 0) s->head = 0;
  if (from.query == 0) s->query = 0;
}

static size_t copied_size(const attend_problem *p, const attend_strides4 *copy, size_t element) {
  if (copy->key == 0) return 0;
  const int64_t batch = copy->batch == 0 ? 1 : p->batch, heads = copy->head == 0 ? 1 : p->q_heads;
  const int64_t rows = copy->query == 0 ? 1 : p->q_starts ? p->q_total : p->q_len;
  size_t size = mul_size(mul_size((size_t)batch, (size_t)heads), (size_t)rows);
  return mul_size(mul_size(size, (size_t)p->kv_len), element);
}

/** All queries of all sequences, over the keys of this rank. */
static attend_problem keys_problem(const attend_mpi_plan *plan) {
  attend_problem p = part_problem(plan);
  p.out_strides = contiguous(p.q_heads, p.q_starts ? p.q_total : p.q_len, p.v_head_dim);
  if (p.mask) copied_strides(&p, &p.mask_strides);
  if (p.bias_dtype) copied_strides(&p, &p.bias_strides);
  return p;
}

/** Some queries of a sequence of this rank, over keys that came from one, or from all. */
static attend_problem sequence_problem(const attend_mpi_plan *plan) {
  attend_problem p = part_problem(plan);
  p.batch = 1;
  p.q_starts = 1, p.q_len = p.q_total = plan->chunk;
  p.kv_starts = 1, p.kv_lengths = ATTEND_LENGTHS_NONE, p.page_rows = p.pages = p.block_table_stride = 0;
  p.kv_len = p.kv_total = plan->o.transport == ATTEND_MPI_GATHER ? plan->all_kv_len : plan->most_kv_len;
  p.sinks = 0; /* they are where sums begin: see sequence.c */
  p.k_strides = (attend_strides){0, p.head_dim, p.kv_heads * p.head_dim};
  p.v_strides = (attend_strides){0, p.v_head_dim, p.kv_heads * p.v_head_dim};
  p.out_strides = (attend_strides){0, p.v_head_dim, p.q_heads * p.v_head_dim};
  p.mask_strides.batch = p.bias_strides.batch = 0;
  return p;
}

/* ------------------------------------------------------------------------------------------------------------ checks
 */

static attend_status read_options(const attend_mpi_options *options, attend_mpi_options *o) {
  *o = (attend_mpi_options)ATTEND_MPI_OPTIONS_INIT;
  if (!options)
    return attend_mpi_fail(ATTEND_ERROR_INVALID_ARGUMENT, "attend_mpi_options is NULL: layout has no default");
  if (options->struct_size < OPTIONS_FIRST_SIZE)
    return attend_mpi_fail(ATTEND_ERROR_INVALID_ARGUMENT,
                           "attend_mpi_options.struct_size is %zu, expected at least %zu", options->struct_size,
                           OPTIONS_FIRST_SIZE);
  for (size_t i = sizeof *o; i < options->struct_size; i++)
    if (((const char *)options)[i])
      return attend_mpi_fail(ATTEND_ERROR_UNSUPPORTED,
                             "attend_mpi_options has a field that this library does not know");
  memcpy(o, options, options->struct_size < sizeof *o ? options->struct_size : sizeof *o);
  const struct {
    const char *name;
    int value, low, high;
  } fields[] = {{"layout", (int)o->layout, ATTEND_MPI_KEYS, ATTEND_MPI_HEADS},
                {"order", (int)o->order, ATTEND_MPI_IN_ORDER, ATTEND_MPI_ZIGZAG},
                {"transport", (int)o->transport, ATTEND_MPI_TRANSPORT_AUTO, ATTEND_MPI_GATHER},
                {"combine", (int)o->combine, ATTEND_MPI_COMBINE_AUTO, ATTEND_MPI_SLICES}};
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
    if (fields[i].value < fields[i].low || fields[i].value > fields[i].high)
      return attend_mpi_fail(ATTEND_ERROR_INVALID_ARGUMENT, "%s is %d, expected %d to %d", fields[i].name,
                             fields[i].value, fields[i].low, fields[i].high);
  if (o->layout != ATTEND_MPI_SEQUENCE) o->order = ATTEND_MPI_IN_ORDER;
  return ATTEND_OK;
}

static attend_status check_supported(const attend_mpi_plan *plan) {
  const attend_problem *p = &plan->p;
  if (plan->o.layout == ATTEND_MPI_HEADS) return ATTEND_OK;
  const char *what = p->dropout > 0 ? "dropout" : p->weights ? "weights" : p->scores ? "scores" : NULL;
  if (what)
    return attend_mpi_fail(ATTEND_ERROR_UNSUPPORTED,
                           "%s: expected none where keys are spread over ranks; the layout of heads can", what);
  if (plan->o.layout == ATTEND_MPI_SEQUENCE && (p->k_dtype > ATTEND_BF16 || p->v_dtype > ATTEND_BF16))
    return attend_mpi_fail(
        ATTEND_ERROR_UNSUPPORTED, "%s is %d, expected f32, f16 or bf16 where keys and values move between ranks",
        p->k_dtype > ATTEND_BF16 ? "k_dtype" : "v_dtype", (int)(p->k_dtype > ATTEND_BF16 ? p->k_dtype : p->v_dtype));
  return ATTEND_OK;
}

/** The bits of a number: what is compared is whether they are the same. */
static int64_t bits_of(float x) {
  int32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

enum { MOST_FIELDS = 48 };

/** A number of the problem or the options that ranks compare. */
typedef struct field {
  const char *name;
  int64_t value;
} field;

static int compared_fields(const attend_mpi_plan *plan, field *fields) {
  const attend_problem *p = &plan->p;
  const attend_mpi_options *o = &plan->o;
  int n = 0;
#define FIELD(of, name)                                                                                                \
  fields[n++] = (field) { #name, (int64_t)(of)->name }
#define FLOAT_FIELD(of, name)                                                                                          \
  fields[n++] = (field) { #name, bits_of((of)->name) }
  FIELD(o, layout);
  if (o->layout == ATTEND_MPI_HEADS) return n;
  FIELD(o, order), FIELD(o, transport), FIELD(o, combine);
  FIELD(p, batch), FIELD(p, q_heads), FIELD(p, kv_heads), FIELD(p, head_dim), FIELD(p, v_head_dim);
  if (o->layout == ATTEND_MPI_KEYS) FIELD(p, q_len), FIELD(p, q_starts), FIELD(p, q_total);
  FIELD(p, q_dtype), FIELD(p, k_dtype), FIELD(p, v_dtype), FIELD(p, out_dtype);
  FIELD(p, score), FLOAT_FIELD(p, scale), FLOAT_FIELD(p, softcap);
  FIELD(p, causal), FIELD(p, causal_offset), FIELD(p, window);
  if (p->window) FIELD(p, window_left), FIELD(p, window_right);
  fields[n++] = (field){"kv_lengths per query", p->kv_lengths == ATTEND_LENGTHS_PER_QUERY};
  fields[n++] = (field){"as_given", p->as_given & ~(unsigned)ATTEND_AS_GIVEN_STRIDES};
  FIELD(p, positions), FIELD(p, kv_begins), FIELD(p, key_ranges), FIELD(p, mask), FIELD(p, bias_dtype);
  FIELD(p, bias_head_scale), FIELD(p, alibi), FIELD(p, sinks), FIELD(p, batch_invariant), FIELD(p, int8_products);
#undef FIELD
#undef FLOAT_FIELD
  return n;
}

/** Compares with rank 0, and takes the capacities of all: rows of keys, and the most of a sequence. */
static attend_status compare(attend_mpi_plan *plan) {
  field fields[MOST_FIELDS] = {{0}};
  int64_t own[MOST_FIELDS + 2] = {0}, *all = malloc(mul_size((size_t)plan->ranks, sizeof own));
  const int count = compared_fields(plan, fields);
  attend_status s = ATTEND_OK;
  if (!all) s = attend_mpi_fail(ATTEND_ERROR_OUT_OF_MEMORY, "no memory for the numbers of %d ranks", plan->ranks);
  s = attend_mpi_agree(plan->comm, plan->rank, plan->ranks, s);
  for (int i = 0; i < count; i++) own[i] = fields[i].value;
  own[MOST_FIELDS] = plan->k_rows, own[MOST_FIELDS + 1] = plan->p.kv_len;
  if (s == ATTEND_OK)
    s = attend_mpi_check(
        MPI_Allgather(own, MOST_FIELDS + 2, MPI_INT64_T, all, MOST_FIELDS + 2, MPI_INT64_T, plan->comm),
        "MPI_Allgather");
  /* Which rank differs first, and in what, looks the same from all of them; names are those of rank 0's fields. */
  for (int r = 0; s == ATTEND_OK && r < plan->ranks; r++) {
    const int64_t *its = all + r * (MOST_FIELDS + 2);
    for (int i = 0; s == ATTEND_OK && i < MOST_FIELDS; i++)
      if (its[i] != all[i])
        s = attend_mpi_fail(ATTEND_ERROR_INVALID_ARGUMENT,
                            "%s of rank %d is not that of rank 0, expected the same on all ranks",
                            fields[i].name ? fields[i].name : "the problem", r);
    if (its[MOST_FIELDS] > plan->most_k_rows) plan->most_k_rows = its[MOST_FIELDS];
    if (its[MOST_FIELDS + 1] > plan->most_kv_len) plan->most_kv_len = its[MOST_FIELDS + 1];
    plan->all_k_rows += its[MOST_FIELDS];
    plan->all_kv_len += its[MOST_FIELDS + 1];
  }
  if (plan->all_kv_len > ATTEND_MAX_EXTENT) plan->all_kv_len = ATTEND_MAX_EXTENT;
  free(all);
  /* Fields after one that differs may stand elsewhere in the list: all ranks take the words of rank 0. */
  return s == ATTEND_MPI_ERROR_COMMUNICATION
             ? s
             : attend_mpi_spread(plan->comm, plan->rank, plan->ranks, s == ATTEND_OK ? plan->ranks : 0, s);
}

/* ------------------------------------------------------------------------------------------------------------ threads
 */

/** Whether nobody says how many threads there shall be. */
static bool threads_are_unsaid(const attend_options *o) {
  if (o->num_threads) return false;
  const char *own = getenv("ATTEND_NUM_THREADS"), *openmp = getenv("OMP_NUM_THREADS");
  return o->ignore_environment || ((!own || !*own) && (!openmp || !*openmp));
}

/** How many ranks on this machine may use the same cores as this one: itself included. */
static attend_status count_neighbours(const attend_mpi_plan *plan, int *neighbours) {
  *neighbours = 1;
#ifdef __linux__
  MPI_Comm machine;
  cpu_set_t cores;
  CPU_ZERO(&cores);
  sched_getaffinity(0, sizeof cores, &cores);
  attend_status s =
      attend_mpi_check(MPI_Comm_split_type(plan->comm, MPI_COMM_TYPE_SHARED, plan->rank, MPI_INFO_NULL, &machine),
                       "MPI_Comm_split_type");
  if (s != ATTEND_OK) return s;
  int ranks = 0;
  MPI_Comm_size(machine, &ranks);
  cpu_set_t *all = malloc(mul_size((size_t)ranks, sizeof cores));
  const int none = !all;
  int any = 0;
  s = attend_mpi_check(MPI_Allreduce(&none, &any, 1, MPI_INT, MPI_MAX, machine), "MPI_Allreduce");
  if (s == ATTEND_OK && !any)
    s = attend_mpi_check(MPI_Allgather(&cores, sizeof cores, MPI_BYTE, all, sizeof cores, MPI_BYTE, machine),
                         "MPI_Allgather");
  if (s == ATTEND_OK && !any) {
    *neighbours = 0;
    for (int r = 0; r < ranks; r++) *neighbours += CPU_EQUAL(&all[r], &cores) ? 1 : 0;
  }
  free(all);
  MPI_Comm_free(&machine);
  return s;
#else
  (void)plan;
  return ATTEND_OK;
#endif
}

/* ------------------------------------------------------------------------------------------------------------- memory
 */

enum { MOST_PIECES = 40 };

/** A piece of the plan's memory: where its address goes. */
typedef struct piece {
  void *address; /**< of the pointer */
  size_t size;
} piece;

typedef struct pieces {
  piece list[MOST_PIECES];
  int count;
} pieces;

static void add_piece(pieces *p, void *address, size_t size) { p->list[p->count++] = (piece){address, size}; }

static void shared_pieces(attend_mpi_plan *plan, pieces *list) {
  const attend_problem *p = &plan->p;
  const size_t said = mul_size(SAID_COUNT + 2 * (size_t)p->batch, sizeof(int32_t));
  const size_t begins = mul_size(mul_size((size_t)p->batch, (size_t)plan->blocks + 1), sizeof(int32_t));
  add_piece(list, &plan->said, said);
  add_piece(list, &plan->heard, mul_size(said, (size_t)plan->ranks));
  add_piece(list, &plan->q_begin, begins);
  add_piece(list, &plan->k_begin, begins);
  add_piece(list, &plan->positions, floats(p->batch));
  add_piece(list, &plan->begins, floats(p->batch));
  add_piece(list, &plan->no_queries, floats(p->batch + 1));
  add_piece(list, &plan->counts, mul_size(2 * (size_t)plan->ranks, sizeof(int)));
  add_piece(list, &plan->displacements, mul_size(2 * (size_t)plan->ranks, sizeof(int)));
}

static void keys_pieces(attend_mpi_plan *plan, const attend_problem *part, pieces *list) {
  const attend_problem *p = &plan->p;
  const size_t row = floats(p->v_head_dim + 1), rows = mul_size((size_t)attend_mpi_result_rows(p), row);
  const bool slices = plan->o.combine == ATTEND_MPI_SLICES;
  const int64_t queries = p->q_starts ? p->q_total : p->batch * p->q_len;
  add_piece(list, &plan->result, rows);
  add_piece(list, &plan->other, slices ? add_size(mul_size(rows, 2), mul_size((size_t)plan->ranks, row)) : rows);
  add_piece(list, &plan->outs, mul_size((size_t)plan->ranks, sizeof(void *)));
  add_piece(list, &plan->lses, mul_size((size_t)plan->ranks, sizeof(void *)));
  add_piece(list, &plan->no_sinks, floats(p->q_heads));
  add_piece(list, &plan->ranges, part->key_ranges ? mul_size(floats(queries), 2) : 0);
  add_piece(list, &plan->mask, p->mask ? copied_size(p, &part->mask_strides, 1) : 0);
  add_piece(list, &plan->bias,
            p->bias_dtype ? copied_size(p, &part->bias_strides, attend_dtype_size(p->bias_dtype)) : 0);
}

static void sequence_pieces(attend_mpi_plan *plan, const attend_problem *part, pieces *list) {
  const attend_problem *p = &plan->p;
  const bool gather = plan->o.transport == ATTEND_MPI_GATHER;
  const size_t most = attend_mpi_packed_size(plan, plan->most_k_rows);
  const size_t row = floats(p->q_heads * p->v_head_dim), lses = floats(p->q_heads * plan->chunk);
  /* A run of queries is worked on in chunks, the last of which may be short. */
  const size_t chunks = (size_t)(plan->q_rows / (plan->chunk ? plan->chunk : 1)) +
                        mul_size((size_t)p->batch, (size_t)attend_mpi_held(plan)) + 1;
  add_piece(list, &plan->own, attend_mpi_packed_size(plan, plan->k_rows));
  add_piece(list, &plan->coming[0], gather ? 0 : most);
  add_piece(list, &plan->coming[1], gather ? 0 : most);
  add_piece(list, &plan->gathered,
            gather ? add_size(attend_mpi_packed_size(plan, plan->all_k_rows), 128 * (size_t)plan->ranks) : 0);
  add_piece(list, &plan->ordered, gather ? attend_mpi_packed_size(plan, plan->all_k_rows) : 0);
  add_piece(list, &plan->sum, mul_size(row, (size_t)plan->q_rows));
  add_piece(list, &plan->sum_lse, mul_size(lses, chunks));
  add_piece(list, &plan->part_out, mul_size(row, (size_t)plan->chunk));
  add_piece(list, &plan->part_lse, lses);
  add_piece(list, &plan->ranges, part->key_ranges ? mul_size(floats(plan->chunk), 2) : 0);
  add_piece(list, &plan->needs, mul_size((size_t)plan->ranks, sizeof(int32_t)));
  add_piece(list, &plan->gives, mul_size((size_t)plan->ranks, sizeof(int32_t)));
  plan->most_requests = (int)(2 * (most / ATTEND_MPI_PIECE + 1));
  add_piece(list, &plan->requests, mul_size((size_t)plan->most_requests, sizeof(MPI_Request)));
}

static void *obtain(const attend_options *o, size_t size) {
  if (o->allocate) {
    void *memory = o->allocate(o->memory_context, size);
    if (memory && (uintptr_t)memory % ATTEND_WORKSPACE_ALIGNMENT) {
      o->release(o->memory_context, memory, size);
      return NULL;
    }
    return memory;
  }
  return aligned_alloc(ATTEND_WORKSPACE_ALIGNMENT, size);
}

static void release_memory(attend_mpi_plan *plan) {
  if (plan->memory && plan->local.allocate)
    plan->local.release(plan->local.memory_context, plan->memory, plan->memory_size);
  else
    free(plan->memory);
  plan->memory = NULL;
}

static attend_status allocate(attend_mpi_plan *plan, pieces *list) {
  size_t whole = attend_plan_workspace_size(plan->whole), part = attend_plan_workspace_size(plan->part), total = 0;
  plan->workspace_size = whole > part ? whole : part;
  add_piece(list, &plan->workspace, plan->workspace_size);
  for (int i = 0; i < list->count; i++) {
    size_t size = add_size(list->list[i].size, ATTEND_WORKSPACE_ALIGNMENT - 1);
    if (size == SIZE_MAX || (total = add_size(total, size)) >= PTRDIFF_MAX - ATTEND_WORKSPACE_ALIGNMENT)
      return attend_mpi_fail(ATTEND_ERROR_OVERFLOW, "the plan needs more than %td bytes", PTRDIFF_MAX);
  }
  plan->memory_size = (total / ATTEND_WORKSPACE_ALIGNMENT + 1) * ATTEND_WORKSPACE_ALIGNMENT;
  plan->memory = obtain(&plan->local, plan->memory_size);
  if (!plan->memory)
    return attend_mpi_fail(ATTEND_ERROR_OUT_OF_MEMORY, "cannot allocate %zu bytes for the plan", plan->memory_size);
  char *next = plan->memory;
  for (int i = 0; i < list->count; i++) {
    void *const address = next;
    memcpy(list->list[i].address, &address, sizeof address);
    next +=
        (list->list[i].size + ATTEND_WORKSPACE_ALIGNMENT - 1) / ATTEND_WORKSPACE_ALIGNMENT * ATTEND_WORKSPACE_ALIGNMENT;
  }
  return ATTEND_OK;
}

/* ------------------------------------------------------------------------------------------------------------ creation
 */

/** Of this rank alone: options, and a problem that one rank could run. */
static attend_status start(attend_mpi_plan *plan, const attend_problem *problem, const attend_mpi_options *options) {
  attend_status s = read_options(options, &plan->o);
  if (s != ATTEND_OK) return s;
  if (plan->o.local && plan->o.local->struct_size > sizeof plan->local)
    return attend_mpi_fail(ATTEND_ERROR_UNSUPPORTED, "attend_options is of a newer version than this library's");
  plan->local = (attend_options)ATTEND_OPTIONS_INIT;
  attend_plan *tried;
  s = attend_plan_create(problem, plan->o.local, &tried);
  if (s != ATTEND_OK) return attend_mpi_fail_as(s);
  attend_plan_destroy(tried);
  if (problem->struct_size > sizeof plan->p)
    return attend_mpi_fail(ATTEND_ERROR_UNSUPPORTED, "attend_problem is of a newer version than this library's");
  if (plan->o.local) memcpy(&plan->local, plan->o.local, plan->o.local->struct_size);
  plan->local.struct_size = sizeof plan->local;
  plan->p = (attend_problem)ATTEND_PROBLEM_INIT;
  memcpy(&plan->p, problem, problem->struct_size);
  plan->p.struct_size = sizeof plan->p;
  resolve(&plan->p, plan->o.layout);
  return check_supported(plan);
}

static void measure(attend_mpi_plan *plan) {
  const attend_problem *p = &plan->p;
  plan->blocks = attend_mpi_is_alone(plan) ? 1 : plan->ranks * (int64_t)attend_mpi_held(plan);
  plan->q_rows = p->q_starts ? p->q_total : p->batch * p->q_len;
  plan->k_rows = p->kv_starts ? p->kv_total : p->batch * p->kv_len;
  plan->chunk = p->q_len < CHUNK ? p->q_len : CHUNK;
  if (plan->o.layout != ATTEND_MPI_SEQUENCE) return; /* only there do types have a size in bytes */
  plan->k_row = p->kv_heads * p->head_dim * (int64_t)attend_dtype_size(p->k_dtype);
  plan->v_row = p->kv_heads * p->v_head_dim * (int64_t)attend_dtype_size(p->v_dtype);
}

/** AUTO becomes what it means, by capacities that all ranks know. */
static attend_status choose(attend_mpi_plan *plan) {
  const attend_problem *p = &plan->p;
  const double all = (double)plan->all_k_rows * (double)(plan->k_row + plan->v_row);
  const double rows = (double)attend_mpi_result_rows(p) * (double)(p->v_head_dim + 1);
  if (!plan->o.transport) plan->o.transport = all <= GATHER_BYTES ? ATTEND_MPI_GATHER : ATTEND_MPI_RING;
  if (!plan->o.combine)
    plan->o.combine = plan->ranks > 2 && 4 * rows > SLICE_BYTES ? ATTEND_MPI_SLICES : ATTEND_MPI_TREE;
  if (plan->o.layout == ATTEND_MPI_SEQUENCE && plan->o.transport == ATTEND_MPI_GATHER &&
      all + 128.0 * plan->ranks > INT32_MAX)
    return attend_mpi_fail(ATTEND_ERROR_OVERFLOW,
                           "keys and values of all ranks are %.0f bytes, expected less than 2 GiB "
                           "for the transport gather: take the ring",
                           all);
  if (plan->o.layout == ATTEND_MPI_KEYS && rows + (double)plan->ranks * (double)(p->v_head_dim + 1) > INT32_MAX)
    return attend_mpi_fail(ATTEND_ERROR_OVERFLOW, "results of %.0f numbers, expected less than 2^31", rows);
  return ATTEND_OK;
}

/** The plans of what this rank computes, and memory. */
static attend_status make_parts(attend_mpi_plan *plan, const attend_problem *problem) {
  pieces list = {.count = 0};
  const attend_problem checked = checking_problem(plan, problem);
  attend_problem part = plan->p;
  attend_status s = attend_plan_create(&checked, &plan->local, &plan->whole);
  if (s != ATTEND_OK) return attend_mpi_fail_as(s);
  shared_pieces(plan, &list);
  if (attend_mpi_is_alone(plan)) return allocate(plan, &list);
  part = plan->o.layout == ATTEND_MPI_KEYS ? keys_problem(plan) : sequence_problem(plan);
  s = attend_plan_create(&part, &plan->local, &plan->part);
  if (s != ATTEND_OK) return attend_mpi_fail_as(s);
  plan->mask_strides = part.mask_strides, plan->bias_strides = part.bias_strides;
  if (plan->o.layout == ATTEND_MPI_KEYS)
    keys_pieces(plan, &part, &list);
  else
    sequence_pieces(plan, &part, &list);
  s = allocate(plan, &list);
  if (s == ATTEND_OK) memset(plan->no_queries, 0, floats(plan->p.batch + 1));
  for (int64_t h = 0; s == ATTEND_OK && plan->no_sinks && h < plan->p.q_heads; h++) plan->no_sinks[h] = -INFINITY;
  return s;
}

/** Everything that ranks do together. */
static attend_status create(attend_mpi_plan *plan, const attend_problem *problem, const attend_mpi_options *options) {
  attend_status s = attend_mpi_agree(plan->comm, plan->rank, plan->ranks, start(plan, problem, options));
  if (s != ATTEND_OK) return s;
  measure(plan);
  if ((s = compare(plan)) != ATTEND_OK) return s;
  int neighbours = 1;
  if ((s = count_neighbours(plan, &neighbours)) != ATTEND_OK) return s;
  s = choose(plan);
  if (s == ATTEND_OK) s = make_parts(plan, problem);
  if (s == ATTEND_OK && neighbours > 1 && threads_are_unsaid(&plan->local)) {
    const int threads = attend_plan_max_parts(plan->whole) / neighbours;
    plan->local.num_threads = threads > 1 ? threads : 1;
    attend_plan_destroy(plan->whole);
    attend_plan_destroy(plan->part);
    release_memory(plan);
    plan->whole = plan->part = NULL;
    s = make_parts(plan, problem);
  }
  s = attend_mpi_agree(plan->comm, plan->rank, plan->ranks, s);
  return s == ATTEND_OK ? attend_mpi_expect(plan) : s;
}

attend_status attend_mpi_plan_create(const attend_problem *problem, const attend_mpi_options *options, MPI_Comm comm,
                                     attend_mpi_plan **plan) {
  int started = 0, ended = 0;
  MPI_Initialized(&started);
  MPI_Finalized(&ended);
  if (!started || ended)
    return attend_mpi_fail(ATTEND_ERROR_INVALID_ARGUMENT, "MPI is not initialised, or finalised already");
  if (comm == MPI_COMM_NULL) return attend_mpi_fail(ATTEND_ERROR_INVALID_ARGUMENT, "comm is MPI_COMM_NULL");
  MPI_Comm own;
  attend_status s = attend_mpi_check(MPI_Comm_dup(comm, &own), "MPI_Comm_dup");
  if (s != ATTEND_OK) return s;
  MPI_Comm_set_errhandler(own, MPI_ERRORS_RETURN);
  int rank = 0, ranks = 1;
  MPI_Comm_rank(own, &rank);
  MPI_Comm_size(own, &ranks);
  attend_mpi_plan *made = calloc(1, sizeof *made);
  s = made ? ATTEND_OK : attend_mpi_fail(ATTEND_ERROR_OUT_OF_MEMORY, "cannot allocate %zu bytes", sizeof *made);
  if (s == ATTEND_OK && !plan) s = attend_mpi_fail(ATTEND_ERROR_INVALID_ARGUMENT, "plan is NULL");
  s = attend_mpi_agree(own, rank, ranks, s);
  if (s == ATTEND_OK) {
    made->comm = own, made->rank = rank, made->ranks = ranks;
    s = create(made, problem, options);
  }
  if (s == ATTEND_OK) {
    *plan = made;
  } else if (made && made->ranks) {
    attend_mpi_plan_destroy(made);
  } else {
    free(made);
    MPI_Comm_free(&own);
  }
  return s;
}

void attend_mpi_plan_destroy(attend_mpi_plan *plan) {
  if (!plan) return;
  attend_plan_destroy(plan->whole);
  attend_plan_destroy(plan->part);
  release_memory(plan);
  MPI_Comm_free(&plan->comm);
  free(plan);
}

/* ----------------------------------------------------------------------------------------------------------------- run
 */

attend_status attend_mpi_plan_run(attend_mpi_plan *plan, const attend_tensors *tensors) {
  if (!plan) return attend_mpi_fail(ATTEND_ERROR_INVALID_ARGUMENT, "attend_mpi_plan is NULL");
  attend_mpi_run run;
  attend_status s;
  const double start = MPI_Wtime();
  plan->report = (attend_mpi_report)ATTEND_MPI_REPORT_INIT;
  plan->late = ATTEND_OK;
  s = attend_mpi_is_alone(plan) ? attend_mpi_share_alone(plan, tensors, &run) : attend_mpi_share(plan, tensors, &run);
  plan->report.agree_seconds = MPI_Wtime() - start;
  if (s != ATTEND_OK) return s;
  if (attend_mpi_is_alone(plan)) {
    s = attend_plan_run(plan->whole, tensors, plan->workspace, plan->workspace_size);
    if (s != ATTEND_OK) s = attend_mpi_fail_as(s);
  } else {
    s = plan->o.layout == ATTEND_MPI_KEYS ? attend_mpi_run_keys(&run) : attend_mpi_run_sequence(&run);
  }
  plan->report.flops = attend_mpi_flops(&run);
  plan->report.compute_seconds = MPI_Wtime() - start - plan->report.agree_seconds - plan->report.exchange_seconds;
  return s;
}

attend_status attend_mpi_plan_report(const attend_mpi_plan *plan, attend_mpi_report *report) {
  if (!plan || !report)
    return attend_mpi_fail(ATTEND_ERROR_INVALID_ARGUMENT, "%s is NULL", plan ? "report" : "attend_mpi_plan");
  if (report->struct_size < REPORT_FIRST_SIZE)
    return attend_mpi_fail(ATTEND_ERROR_INVALID_ARGUMENT, "attend_mpi_report.struct_size is %zu, expected at least %zu",
                           report->struct_size, REPORT_FIRST_SIZE);
  const size_t size = report->struct_size;
  memcpy((char *)report + sizeof size, (const char *)&plan->report + sizeof size,
         (size < sizeof *report ? size : sizeof *report) - sizeof size);
  return ATTEND_OK;
}
