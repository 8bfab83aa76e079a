/* SPDX-License-Identifier: Apache-2.0 */
/** Runs plans: shares the work of a run out among the caller's threads, or among OpenMP's. */
#ifdef _OPENMP
#include <omp.h>
#endif

#include "dispatch/machine/os.h"
#include "dispatch/plan/run_state.h"
#include "kernels/merge.h"

/* -------------------------------------------------------------------------------------------------------- the work */

static float *floats_at(char *memory, size_t at) { return (float *)(void *)(memory + at); }

static void set_keys(const attend_plan *plan, attend_slice *slice, int64_t split) {
  const int64_t keys = plan->problem.p.kv_len, split_keys = plan->choice.tiling.split_keys;
  slice->key_begin = split * split_keys;
  slice->key_end = keys - slice->key_begin < split_keys ? keys : slice->key_begin + split_keys;
}

static void run_slice(const attend_plan *plan, const attend_call *call, attend_slice slice, int64_t split,
                      float *chunk_partials, char *scratch) {
  set_keys(plan, &slice, split);
  if (chunk_partials) slice.partial = chunk_partials + split * plan->split_stride;
  plan->choice.kernel->run(call, &slice, scratch);
}

static void merge_chunk(const attend_plan *plan, const attend_call *call, const attend_slice *slice, float *partials) {
  attend_merge(call, slice->batch, slice->kv_head, slice->row_begin, slice->row_end, partials, plan->splits,
               plan->split_stride);
}

/**
 * The rows of a chunk. The chunks of a head are neighbours, so that its keys and values are read while they are in the
 * cache; and they come last rows first, the longest first when the problem is causal, so that parts end together.
 */
static attend_slice chunk_rows(const attend_plan *plan, int64_t chunk) {
  const attend_resolved *r = &plan->problem;
  const int64_t slice_rows = plan->choice.tiling.slice_rows, head = chunk / plan->head_chunks;
  attend_slice slice = {.batch = head / r->p.kv_heads, .kv_head = head % r->p.kv_heads};
  slice.row_begin = (plan->head_chunks - 1 - chunk % plan->head_chunks) * slice_rows;
  slice.row_end = r->rows - slice.row_begin < slice_rows ? r->rows : slice.row_begin + slice_rows;
  return slice;
}

/** What a part will probably take after an item, as if all the threads of its group took turns. */
static int64_t guess_next(const attend_plan *plan, int group, int64_t item) {
  if (plan->groups == 1) return item + plan->worthwhile;
  return item + 1 + (int64_t)(plan->worthwhile - 1) * plan->cores[group] / plan->all_cores;
}

static void run_item(const attend_plan *plan, attend_run_state *run, int group, int64_t item, char *scratch) {
  const attend_call *call = &run->call;
  if (plan->splits == 1) {
    attend_slice slice = chunk_rows(plan, item), next;
    const int64_t guess = guess_next(plan, group, item);
    if (guess < plan->begin[group + 1]) {
      next = chunk_rows(plan, guess);
      set_keys(plan, &next, 0);
      slice.next = &next;
    }
    run_slice(plan, call, slice, 0, NULL, scratch);
  } else if (!plan->slices_as_items) {
    const attend_slice slice = chunk_rows(plan, item);
    float *partials = floats_at(scratch, plan->partials_at);
    for (int64_t split = 0; split < plan->splits; split++) run_slice(plan, call, slice, split, partials, scratch);
    merge_chunk(plan, call, &slice, partials);
  } else {
    const int64_t chunk = item / plan->splits;
    const attend_slice slice = chunk_rows(plan, chunk);
    char *workspace = (char *)run;
    attend_arrivals *arrivals = (attend_arrivals *)(void *)(workspace + plan->arrivals_at);
    float *partials = floats_at(workspace, plan->partials_at) + chunk * plan->splits * plan->split_stride;
    run_slice(plan, call, slice, item % plan->splits, partials, scratch);
    /* Release our partial result, acquire those of the others. */
    if (atomic_fetch_add_explicit(&arrivals[chunk], 1, memory_order_acq_rel) == plan->splits - 1)
      merge_chunk(plan, call, &slice, partials);
  }
}

/** Where a part takes its items: first those of its home, then those of its node's groups, then those of all others. */
typedef struct source {
  int home, group;
  int tried; /* groups were, in two rounds: one for the node, one for the others */
} source;

/** The group whose caches the calling thread has at hand, or any if the system does not say. */
static int home_group(const attend_plan *plan, int part) {
  if (plan->groups == 1) return 0;
  const attend_topology *machine = attend_topology_get();
  const int cpu = attend_os_current_processor();
  return cpu >= 0 && cpu < machine->end ? machine->processor[cpu].group : part % plan->groups;
}

/** The next item, or -1 if there is none left in any queue. */
static int64_t take_item(const attend_plan *plan, attend_run_state *run, source *from) {
  const attend_group *groups = attend_topology_get()->group;
  for (; from->tried < 2 * plan->groups; from->tried++) {
    const int group = from->group = (from->home + from->tried) % plan->groups;
    const bool same_node = groups[group].node == groups[from->home].node;
    if (same_node != (from->tried < plan->groups)) continue;
    attend_queue *queue = &run->queues[group];
    /* Only looks at another's queue while it is empty: writing would take the line from those who need it. */
    if (from->tried && atomic_load_explicit(&queue->next, memory_order_relaxed) >= plan->begin[group + 1]) continue;
    const int64_t item = atomic_fetch_add_explicit(&queue->next, 1, memory_order_relaxed);
    if (item < plan->begin[group + 1]) return item;
  }
  return -1;
}

/** Works on items until there are none left. */
static void run_part(const attend_plan *plan, attend_run_state *run, int part) {
  const attend_kernel *kernel = plan->choice.kernel;
  char *scratch = (char *)run + plan->parts_at + (size_t)part * plan->part_size;
  source from = {.home = home_group(plan, part)};
  attend_thread_state before;
  int64_t item = take_item(plan, run, &from);
  if (item < 0) return;
  if (kernel->enter) kernel->enter(&before);
  for (; item >= 0; item = take_item(plan, run, &from)) run_item(plan, run, from.group, item, scratch);
  if (kernel->leave) kernel->leave(&before);
}

/* ----------------------------------------------------------------------------------------------- the caller's threads
 */

static attend_status check_workspace(const attend_plan *plan, const void *workspace, size_t size) {
  if (!plan) return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "plan is NULL");
  return attend_check_workspace(workspace, size, plan->workspace_size);
}

/** Checks the tensors and readies the workspace. */
static attend_status begin(const attend_plan *plan, const attend_tensors *tensors, void *workspace) {
  attend_tensors full;
  attend_status status = attend_check_tensors(&plan->problem, tensors, &full);
  if (status != ATTEND_OK || plan->workspace_size == 0) return status;
  attend_run_state *run = workspace;
  run->plan = plan;
  run->tensors = full;
  run->call = (attend_call){.problem = &plan->problem, .tensors = &run->tensors, .tiling = plan->choice.tiling};
  for (int group = 0; group < plan->groups; group++) atomic_init(&run->queues[group].next, plan->begin[group]);
  if (plan->slices_as_items) {
    attend_arrivals *arrivals = (attend_arrivals *)(void *)((char *)workspace + plan->arrivals_at);
    for (int64_t chunk = 0; chunk < plan->items / plan->splits; chunk++) atomic_init(&arrivals[chunk], 0);
  }
  return ATTEND_OK;
}

attend_status attend_plan_begin(const attend_plan *plan, const attend_tensors *tensors, void *workspace,
                                size_t workspace_size) {
  attend_status status = check_workspace(plan, workspace, workspace_size);
  return status == ATTEND_OK ? begin(plan, tensors, workspace) : status;
}

attend_status attend_plan_run_part(const attend_plan *plan, const attend_tensors *tensors, void *workspace,
                                   size_t workspace_size, int part, int parts) {
  attend_status status = check_workspace(plan, workspace, workspace_size);
  if (status != ATTEND_OK) return status;
  if (!tensors) return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "attend_tensors is NULL");
  if (parts < 1 || parts > plan->threads)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "parts is %d, expected 1 to %d", parts, plan->threads);
  if (part < 0 || part >= parts)
    return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "part is %d, expected 0 to %d", part, parts - 1);
  if (plan->workspace_size == 0) return ATTEND_OK;
  attend_run_state *run = workspace;
  if (run->plan != plan)
    return attend_fail(ATTEND_ERROR_WORKSPACE, "attend_plan_begin() has not prepared this workspace for this plan");
  run_part(plan, run, part);
  return ATTEND_OK;
}

/* -------------------------------------------------------------------------------------------------------- our threads
 */

#ifdef _OPENMP
/** Keeps the calling thread, of affinity mask `mask`, on the cores of a group. False, and nothing done, if it may not.
 */
static bool bind_to_group(const attend_cpu_set *mask, int group) {
  const attend_topology *machine = attend_topology_get();
  attend_cpu_set own = {0};
  for (int cpu = 0; cpu < machine->end; cpu++) {
    const attend_processor *p = &machine->processor[cpu];
    if (p->present && p->group == group && attend_cpu_set_has(mask, cpu)) attend_cpu_set_add(&own, cpu);
  }
  return attend_os_set_affinity(&own); /* the system refuses an empty set */
}

static void run_own_part(const attend_plan *plan, attend_run_state *run) {
  const int part = omp_get_thread_num(), parts = omp_get_num_threads();
  attend_cpu_set mask;
  bool bound = plan->bind && plan->groups > 1 && attend_os_get_affinity(&mask) &&
               bind_to_group(&mask, attend_group_of_part(part, parts, plan->cores, plan->groups));
  run_part(plan, run, part);
  if (bound) attend_os_set_affinity(&mask);
}
#endif

static void run_parts(const attend_plan *plan, attend_run_state *run) {
#ifdef _OPENMP
  if (plan->worthwhile > 1 && !omp_in_parallel()) {
#pragma omp parallel num_threads(plan->worthwhile)
    run_own_part(plan, run);
    return;
  }
#endif
  run_part(plan, run, 0);
}

attend_status attend_plan_run(const attend_plan *plan, const attend_tensors *tensors, void *workspace,
                              size_t workspace_size) {
  void *own = NULL;
  attend_status status;
  if (plan && plan->workspace_size && !workspace && workspace_size == 0) {
    /* No more than the parts that will run need. */
    size_t needed = plan->parts_at + (size_t)plan->worthwhile * plan->part_size;
    workspace = own = attend_alloc(needed);
    if (!own) return attend_fail(ATTEND_ERROR_OUT_OF_MEMORY, "no memory for a workspace of %zu bytes", needed);
    status = begin(plan, tensors, workspace);
  } else {
    status = attend_plan_begin(plan, tensors, workspace, workspace_size);
  }
  if (status == ATTEND_OK && plan->workspace_size) run_parts(plan, workspace);
  attend_free(own);
  return status;
}

void attend_usable_processors(attend_cpu_set *set) {
  attend_os_get_affinity(set);
#ifdef _OPENMP
  if (omp_get_proc_bind() == omp_proc_bind_false) return;
  for (int place = 0; place < omp_get_num_places(); place++) {
    int cpus[1024], count = omp_get_place_num_procs(place);
    if (count > (int)(sizeof cpus / sizeof *cpus)) continue;
    omp_get_place_proc_ids(place, cpus);
    for (int i = 0; i < count; i++)
      if (cpus[i] >= 0 && cpus[i] < ATTEND_MOST_PROCESSORS) attend_cpu_set_add(set, cpus[i]);
  }
#endif
}

int attend_default_threads(void) {
  attend_cpu_set usable;
  int cores[ATTEND_MOST_GROUPS];
  attend_usable_processors(&usable);
  int threads = attend_limit_cores(attend_place(attend_topology_get(), &usable, 0, cores));
  return threads > ATTEND_MOST_THREADS ? ATTEND_MOST_THREADS : threads;
}

bool attend_uses_openmp(void) {
#ifdef _OPENMP
  return true;
#else
  return false;
#endif
}
