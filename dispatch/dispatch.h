/* SPDX-License-Identifier: Apache-2.0 */
/**
 * What the parts of dispatch/ offer one another, the command line, the tests and the benchmarks. None of it is exported
 * from the shared library.
 */
#ifndef ATTEND_DISPATCH_DISPATCH_H
#define ATTEND_DISPATCH_DISPATCH_H

#include "dispatch/machine/topology.h"
#include "kernels/kernel.h"

/* ------------------------------------------------------------------------------------- cpu.c, cpu_x86.c, cpu_arm.c */

typedef struct attend_cpu {
  char name[64];      /**< as the processor or the system calls it */
  char signature[64]; /**< family, model, stepping, or the Arm MIDR: what a profile is bound to */
  uint64_t present;   /**< features the processor has */
  uint64_t usable;    /**< of those, the ones the operating system lets us use, less the test mask */
  uint64_t unproven;  /**< instruction sets, 1 << attend_isa each, that may be slower here than narrower ones: their
                           kernels are chosen where they were measured, not by heuristics */

  double pace, wide_pace; /**< see kernels/cpu.def */
  bool to_l1;             /**< likewise */
} attend_cpu;

/** The processor, detected once. */
const attend_cpu *attend_cpu_get(void);
/** "avx512f", ... */
const char *attend_cpu_feature_name(attend_cpu_feature feature);
/** Why a feature that is present cannot be used, or NULL if it can. */
const char *attend_cpu_unusable_reason(attend_cpu_feature feature);
/** For tests: takes features away. 0 gives all back. Not thread-safe. */
void attend_cpu_set_test_mask(uint64_t taken_away);

/** "scalar", "avx2", ...: the names of ATTEND_ISA and the fourth field of a kernel name. */
const char *attend_isa_name(attend_isa isa);
/** Features every kernel of an ISA needs. */
uint64_t attend_isa_features(attend_isa isa);
/** Orders the ISAs of one processor family: a higher one is wider. */
int attend_isa_rank(attend_isa isa);
/** Floating-point operations a microsecond on one thread of a Zen 5, roughly. */
double attend_isa_flops_per_us(attend_isa isa, attend_body body);
/** How many times as long as there an ISA's kernels take on this processor. */
double attend_isa_pace(attend_isa isa);
/** Query rows of a key head up to which decode is chosen where the ISA could pack keys; 0: the cost decides. */
int attend_isa_decode_rows(attend_isa isa);
const char *attend_operation_name(attend_operation operation); /**< "forward", "softmax", "append", "merge" */
const char *attend_can_name(int bit);                          /**< of ATTEND_CAN_..., bit 0 on: "weights", ... */
const char *attend_body_name(attend_body body);                /**< "blocked", "tiled", "streaming", "decode", "rows" */
const char *attend_dtype_name(attend_dtype dtype);             /**< "f32", ... */

/* ------------------------------------------------------------------------------------------------------ registry.c */

/** The kernels of an operation, widest ISA first, scalar last: the index-th of them, NULL after the last. */
const attend_kernel *attend_kernel_of(attend_operation operation, size_t index);
/** The widest kernel of an operation that can run here under ATTEND_ISA's limit `highest`: portable C at least. */
const attend_kernel *attend_kernel_widest(attend_operation operation, attend_isa highest);
/** The kernels of attention, which plans, profiles and options choose among: how many, each in turn, by name. */
size_t attend_kernel_count(void);
const attend_kernel *attend_kernel_at(size_t index);
const attend_kernel *attend_kernel_find(const char *name);
/** Whether it can run on this processor under ATTEND_ISA's limit `highest`; if not and `why` is given, the reason. */
bool attend_kernel_runnable(const attend_kernel *kernel, attend_isa highest, char *why, size_t why_size);
/** Whether it can do a problem; if not and `why` is given, the reason. */
bool attend_kernel_can(const attend_kernel *kernel, const attend_resolved *problem, char *why, size_t why_size);

/* ----------------------------------------------------------------------------------------------------------- env.c */

/** Bound of ATTEND_NUM_THREADS and of attend_options.num_threads. */
#define ATTEND_MOST_THREADS 1024

typedef struct attend_env {
  attend_isa isa;             /**< highest ISA allowed: every kernel's ISA of a higher rank is out */
  char kernel[64];            /**< "" = not set */
  int num_threads;            /**< 0 = not set */
  const char *num_threads_by; /**< the variable that says so */
  bool verbose;
  char profile[4096];       /**< "" = not set, "off" = none, else a file */
  bool profile_of_options;  /**< attend_options says so, not ATTEND_PROFILE */
  const char *cache, *home; /**< XDG_CACHE_HOME and HOME, or "": valid until the environment changes */
} attend_env;

/** Reads the environment; ATTEND_ERROR_ENVIRONMENT, with the detail set, at a value that cannot be honoured. */
attend_status attend_env_read(attend_env *env);
/** What holds where the environment is not to be read: every default, and no profile. */
void attend_env_ignore(attend_env *env);

/** Bytes of stack that the environment wants OpenMP's threads to have, as libgomp reads it; 0 = it does not say. */
size_t attend_env_openmp_stack(void);

typedef struct attend_env_variable {
  const char *name, *values, *meaning;
  attend_status (*parse)(attend_env *env, const char *value);
} attend_env_variable;
/** The table of all variables, for --help and the documentation; ends with a NULL name. */
extern const attend_env_variable attend_env_variables[];

/* --------------------------------------------------------------------------------------------------------- error.c */

/** Sets attend_error_detail() of this thread, printf-like, and returns `status`. */
attend_status attend_fail(attend_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ------------------------------------------------------------------------------------------------------- options.c */

/** What a program lends a plan: its memory, else the C library's; its threads, else OpenMP's. */
typedef struct attend_host {
  void *(*allocate)(void *context, size_t size);
  void (*release)(void *context, void *memory, size_t size);
  void *memory_context;
  void (*parallel_for)(void *context, int count, void (*task)(void *argument, int i), void *argument);
  void *parallel_context;
} attend_host;

/**
 * Checks options, which may be NULL, and copies them to *o. Writes what the environment says, as far as the options let
 * it be read, to *env. Of what the options themselves say, *env gets the profile and verbose only.
 */
attend_status attend_options_read(const attend_options *options, attend_options *o, attend_env *env);
attend_host attend_host_of(const attend_options *o);

/* -------------------------------------------------------------------------------------------------------- memory.c */

/** All of the library's own allocations: aligned to 64 bytes, of the exact size. NULL when there is no memory. */
void *attend_alloc(size_t size);
void attend_free(void *memory);
/** For tests: the n-th allocation from now on fails, once; 0 = none. Returns how many there were since the last call.
 */
long attend_fail_allocation(long nth);

/** Memory of the host's for `what`, to be given back with the same size. */
attend_status attend_host_allocate(const attend_host *host, size_t size, const char *what, void **memory);
/** NULL is allowed. */
void attend_host_release(const attend_host *host, void *memory, size_t size);
/** A copy of a finished plan, of any of the types of plan, to give to the caller. */
attend_status attend_keep_plan(const attend_host *host, const void *finished, size_t size, void **kept);

/* ----------------------------------------------------------------------------------------------------- versioned.c */

/**
 * Copies a caller's struct that begins with struct_size, from an older or a newer header than ours, into ours of `size`
 * bytes; what it does not have becomes 0. `first` is the size it had when it was first released, `name` its type.
 */
attend_status attend_read_versioned(void *to, size_t size, size_t first, const void *from, const char *name);

/* -------------------------------------------------------------------------------------------- problem.c, tensors.c */

/** A field and its bounds. */
typedef struct attend_range {
  const char *field;
  int64_t value, low, high;
} attend_range;
/** ATTEND_ERROR_INVALID_ARGUMENT at the first field out of its bounds. */
attend_status attend_check_ranges(const attend_range *ranges, size_t count);

/** Checks a problem and fills in every default. */
attend_status attend_resolve(const attend_problem *problem, attend_resolved *resolved);
/** Whether there is nothing to compute: no batch, no query head or no query. */
static inline bool attend_is_empty(const attend_resolved *problem) {
  return problem->p.batch == 0 || problem->rows == 0;
}
/**
 * Checks the strides of a (batch, heads, length, dim) tensor of elements of so many bytes, and fills them in: all 0 is
 * contiguous, unless they are taken `as_given`. Rows that are to be `disjoint` must not share an element.
 */
attend_status attend_resolve_strides(const char *name, const int64_t extent[4], size_t element, bool as_given,
                                     bool disjoint, attend_strides *strides);
/** Those of a mask, a bias or scales: 0 broadcasts. */
attend_status attend_resolve_strides4(const char *name, const int64_t extent[4], size_t element, bool disjoint,
                                      attend_strides4 *strides);
/** A head dim must hold whole blocks of a format. */
attend_status attend_check_whole_blocks(const char *field, int64_t dim, attend_dtype dtype);
/**
 * Checks how the scales of a tensor of keys or values of that extent lie, and fills in the group; all of it becomes 0
 * where the format has no scales of its own. `name` is the field's. If they are `written`, none may have two places.
 */
attend_status attend_resolve_scaling(const char *name, attend_dtype dtype, int64_t dim, const int64_t extent[4],
                                     bool written, attend_scaling *s);
/** ATTEND_ERROR_INVALID_ARGUMENT at the first of `count` lengths that is not from 0 to `most`, a field's value. */
attend_status attend_check_lengths(const char *name, const int32_t *lengths, int64_t count, const char *field,
                                   int64_t most);
/** A tensor of the caller's: its name, and the size of an element, to a multiple of which it must be aligned. */
typedef struct attend_address {
  const char *name;
  const void *address;
  bool needed;
  size_t element;
} attend_address;
/** ATTEND_ERROR_INVALID_ARGUMENT at the first that is missing or misaligned. */
attend_status attend_check_addresses(const attend_address *addresses, size_t count);
/** Checks a run's workspace: ATTEND_ERROR_WORKSPACE if it is missing, misaligned or smaller than what is needed. */
attend_status attend_check_workspace(const void *workspace, size_t size, size_t needed);
/** Likewise; or, with no workspace of size 0, allocates what is needed, which is then *own as well, to be released. */
attend_status attend_take_workspace(const attend_host *host, void **workspace, size_t size, size_t needed, void **own);

/**
 * Checks the tensors of a run, with what they say of sequences. Writes a full-size copy, in which tensors that the
 * problem does not have are NULL. A problem with nothing to compute needs no tensor.
 */
attend_status attend_check_tensors(const attend_resolved *problem, const attend_tensors *tensors, attend_tensors *full);
/** The same of those that say how long sequences are; the others are not looked at. */
attend_status attend_check_lengths_only(const attend_resolved *problem, const attend_tensors *tensors,
                                        attend_tensors *full);

/* ---------------------------------------------------------------------------------------------------------- cost.c */

/** Keys that a query attends at most: all, or the width of the window. */
int64_t attend_reach(const attend_resolved *problem);

/** What a run with a tiling takes on one thread, in microseconds, roughly, on a processor that nobody measured. */
double attend_cost_us(const attend_resolved *problem, const attend_kernel *kernel, const attend_tiling *tiling);

/* -------------------------------------------------------------------------------------------------------- select.c */

/** How a tiling departs from the rules of select.c; all zero: not at all. */
typedef struct attend_variant {
  bool whole;      /**< keys are not split */
  int strip_times; /**< this many times the rows of a strip; 0 = 1 */
} attend_variant;

/** Who chose a kernel. */
typedef enum attend_chooser {
  ATTEND_BY_RULES,
  ATTEND_BY_CALLER,
  ATTEND_BY_ENVIRONMENT,
  ATTEND_BY_PROFILE,
  ATTEND_BY_TILING /**< attend_plan_create_tiled() */
} attend_chooser;

typedef struct attend_choice {
  const attend_kernel *kernel; /**< NULL if there is nothing to compute */
  attend_variant variant;
  attend_tiling tiling;
  int64_t least_rows; /**< query rows of a slice below which cutting finer costs more than it balances */
  int team;           /**< threads that the profile says the work pays for; 0 if it says nothing */
  attend_chooser by;
  /* by a profile: */
  const struct attend_profile *profile; /**< it */
  const attend_kernel *rules;           /**< the kernel of the rules */
  double us, gain;                      /**< expected time, and how much longer the rules would take: 1 = twice; or 0 */
} attend_choice;

/**
 * Keys of a slice, for a run whose longest sequence has so many keys: all, unless there are too few rows to keep many
 * threads busy. `units` is the sum, over all heads of all sequences, of attend_choice.least_rows that there are times
 * keys.
 */
int64_t attend_split_keys(const attend_resolved *problem, const attend_kernel *kernel, attend_variant variant,
                          int64_t longest, double units);

/**
 * The workspace has room for this many rows of partial results where runs are cut up by their lengths, or keys are
 * split for heads in turn: 9 MiB at a Dv of 128. A run of more splits its keys less often, or not. The bound must not
 * depend on the number of threads.
 */
enum { ATTEND_MOST_PARTIAL_ROWS = 16384 };

/**
 * Whether slices of all heads take turns, over some keys at a time: decode where rows of several heads lie side by side
 * (BSHD). Head by head it would read a part of every row and page of memory, and come back for the next part when they
 * are long gone from caches and TLB.
 */
bool attend_interleaves(const attend_resolved *problem, const attend_kernel *kernel);

/**
 * How many heads a kernel computes in one slice, if that may be `most`: all of a sequence, or one. Of decode, which
 * goes further so where the rows of all heads fill memory.
 */
int attend_heads_of_slice(const attend_resolved *problem, const attend_kernel *kernel, int64_t most);

/** Into how many slices that cuts the keys of a sequence at most; 1 = never. */
int64_t attend_most_splits(const attend_resolved *problem);

/** Whether the rules split the keys of a problem for a kernel. */
bool attend_rules_split(const attend_resolved *problem, const attend_kernel *kernel);

/** The tiling of a variant. `threads` changes no more than where rows are cut. */
attend_tiling attend_tiling_of(const attend_resolved *problem, const attend_kernel *kernel, attend_variant variant,
                               int threads);

/** Whether a variant differs, for a problem that the kernel can do, from all variants that depart less from the rules.
 */
bool attend_variant_applies(const attend_resolved *problem, const attend_kernel *kernel, attend_variant variant,
                            int threads);

/** Picks kernel and tiling: forced, else by profile, else by rules. `threads` never changes what is computed. */
attend_status attend_select(const attend_resolved *problem, const attend_env *env, const char *forced, int threads,
                            attend_choice *choice);

/**
 * Picks a second kernel for the sequences of a batch that have few queries, where one for few queries is better at
 * those. Returns the most queries of such a sequence; 0: `many` is for all.
 */
int64_t attend_select_few(const attend_resolved *problem, const attend_env *env, const attend_choice *many, int threads,
                          attend_choice *few);

/** Says why, in words. Not while choosing: the words cost as much as a third of the choice. */
void attend_choice_reason(const attend_choice *choice, const attend_resolved *problem, char *text, size_t size);

/* ---------------------------------------------------------------------------------------------------------- plan.c */

/**
 * attend_plan_create() with a tiling of the caller's instead of the library's choice, for tests and the tuner:
 * `options->kernel` must name a kernel. A tiling that is not one for that kernel is ATTEND_ERROR_INVALID_ARGUMENT, keys
 * split where the kernel or the outputs asked for do not allow it ATTEND_ERROR_UNSUPPORTED. attend_plan_run() uses all
 * threads of such a plan, whether or not the work pays for them.
 */
attend_status attend_plan_create_tiled(const attend_problem *problem, const attend_options *options,
                                       const attend_tiling *tiling, attend_plan **plan);
/** What the options of a plan lend it. */
const attend_host *attend_plan_host(const attend_plan *plan);

/* -------------------------------------------------------------------------------------------------------- openmp.c */

/** Whether the library was built with OpenMP. */
bool attend_uses_openmp(void);
/**
 * Where a run's threads may be: the affinity mask of the calling thread. OMP_PROC_BIND binds that thread to a place of
 * its own, so that its mask says nothing about the other threads of its team: then the answer is all places.
 */
void attend_usable_processors(attend_cpu_set *set);
/**
 * Calls task(argument, i) on up to `most` threads of OpenMP's, each with an i of its own below `most`. False, and
 * nothing is called, if the calling thread is in a parallel region, and in a build without OpenMP.
 */
bool attend_on_openmp(int most, void (*task)(void *argument, int i), void *argument);
/** Within such a task: how many threads there are. */
int attend_openmp_team(void);

/* ------------------------------------------------------------------------------------------------------ parallel.c */

/** Threads where neither the caller nor the environment says: the (performance) cores this process may use. */
int attend_default_threads(void);
/**
 * Calls task(argument, i) on up to `most` threads of the host's or of OpenMP's, or on this one, each with an i of its
 * own below `most`. A task does all that is left to do, so that any number of calls, one at least, is enough.
 */
void attend_on_threads(const attend_host *host, int most, void (*task)(void *argument, int i), void *argument);

/**
 * Calls work(argument, i) for every i from 0 to count - 1, in any order, on up to `threads` threads of the host's, or
 * of OpenMP's where the host lends none and the caller is in no parallel region. It returns when all have returned.
 */
void attend_share_out(const attend_host *host, int threads, int64_t count, void (*work)(void *argument, int64_t i),
                      void *argument);

/* ------------------------------------------------------------------------------------------ append.c, merge_parts.c */

/** attend_append() and attend_merge() by a kernel that can run here; NULL is the library's choice. */
attend_status attend_append_by(const attend_kernel *kernel, const attend_append_problem *problem,
                               const attend_append_tensors *tensors);
attend_status attend_merge_by(const attend_kernel *kernel, const attend_merge_problem *problem,
                              const attend_merge_tensors *tensors);

/* ---------------------------------------------------------------------------------------------------- share_rows.c */

/**
 * Shares out rows 0 to `rows` among OpenMP threads, a piece for each, as many as their `elements` pay for: for the
 * operations that work row by row and have no plan. `num_threads` is the problem's.
 */
void attend_share_rows(int64_t rows, double elements, int num_threads, const attend_env *env,
                       void (*task)(const void *argument, int64_t begin, int64_t end), const void *argument);

#endif
