/* SPDX-License-Identifier: Apache-2.0 */
/** Runs plans: shares the work of a run out among the caller's threads, or its pool's, or among OpenMP's. */
#include <string.h>

#include "dispatch/machine/os.h"
#include "dispatch/plan/run_state.h"
#include "kernels/merge.h"

/* -------------------------------------------------------------------------------------------------------- the work */

/** An item of a run: a chunk of a head of a sequence, or of all its heads, or one slice of it. */
typedef struct item_place {
  const attend_share *share;
  int64_t b, kv_head;
  int heads;     /**< of which kv_head is the first */
  int64_t head;  /**< counted within the share */
  int32_t chunk; /**< of the head */
  int32_t split; /**< -1 = all of the chunk's */
} item_place;

/** The share that an item belongs to: the last that does not begin after it. */
static const attend_share *share_of_item(const attend_run_state *run, int64_t item) {
  int low = 0, high = run->cut->shares;
  while (high - low > 1) {
    const int middle = low + (high - low) / 2;
    if (run->shares[middle].first_item <= item)
      low = middle;
    else
      high = middle;
  }
  return &run->shares[low];
}

/**
 * Where an item is. The chunks of a head are neighbours, so that its keys and values are read while they are in the
 * cache. They come last rows first: with a causal mask these are the longest, so that parts end together.
 */
static item_place place_item(const attend_plan *plan, const attend_run_state *run, int64_t item) {
  const attend_share *share = share_of_item(run, item);
  const int64_t of_head = attend_head_items(plan, share), turns = run->cut->turns[share->way];
  const int64_t local = item - share->first_item, sequence = local / (turns * of_head);
  const int64_t within = local - sequence * turns * of_head;
  const int heads = run->cut->heads[share->way];
  int64_t head = within, rest = 0;
  if (share->splits > 1 && plan->interleaves[share->way])
    head = within % turns, rest = within / turns;
  else if (of_head > 1)
    head = within / of_head, rest = within % of_head;
  const bool slice = plan->slices_as_items && share->splits > 1;
  const int32_t chunk = (int32_t)(slice ? rest / share->splits : rest);
  return (item_place){.share = share,
                      .b = share->sequence + sequence,
                      .kv_head = head * heads,
                      .heads = heads,
                      .head = (sequence * turns + head) * heads,
                      .chunk = share->chunks - 1 - chunk,
                      .split = slice               ? (int32_t)(rest % share->splits)
                               : share->splits > 1 ? -1
                                                   : 0};
}

/** What is known of masks, for all heads of a run; NULL where heads share none. */
static unsigned char *masks_seen(const attend_plan *plan, attend_run_state *run) {
  return plan->mask_rows ? (unsigned char *)run + plan->masks_at : NULL;
}

/** Shows the heads of an item. */
static void show(const attend_plan *plan, attend_run_state *run, const item_place *at, attend_view *views) {
  for (int i = 0; i < at->heads; i++)
    attend_view_of(&plan->problem, &run->tensors, at->b, at->kv_head + i, masks_seen(plan, run), &views[i]);
}

/** The rows of an item's chunk, and all its keys. */
static attend_slice slice_of(const attend_plan *plan, const item_place *at, const attend_view *view) {
  const int64_t slice_rows = attend_choice_of(plan, at->share)->tiling.slice_rows;
  const int64_t rows = view->group * view->queries, begin = at->chunk * slice_rows;
  return (attend_slice){.view = view,
                        .heads = at->heads,
                        .row_begin = begin,
                        .row_end = rows - begin < slice_rows ? rows : begin + slice_rows,
                        .key_end = view->keys.count};
}

/** Leaves a slice the keys of one split. */
static void take_split(const attend_run_state *run, const item_place *at, int64_t split, attend_slice *slice) {
  const int64_t keys = run->cut->split_keys[at->share->way];
  slice->key_begin = (slice->view->keys.begin / keys + split) * keys; /* those before hold no key that is attended */
  if (slice->key_end - slice->key_begin > keys) slice->key_end = slice->key_begin + keys;
}

/** The partial results of a chunk: those of its splits follow one another, and so do its heads, so many floats apart.
 */
typedef struct partials {
  float *first;
  int64_t head;
} partials;

/** Computes a split of a chunk. */
static void run_split(const attend_plan *plan, const attend_run_state *run, const item_place *at, attend_slice slice,
                      int64_t split, partials chunk, char *scratch) {
  const attend_choice *choice = attend_choice_of(plan, at->share);
  take_split(run, at, split, &slice);
  slice.partial =
      chunk.first + split * (slice.row_end - slice.row_begin) * attend_partial_stride(plan->problem.p.v_head_dim);
  slice.partial_head = chunk.head;
  choice->kernel->forward(&slice, &choice->tiling, scratch);
}

static void merge_splits(const item_place *at, const attend_slice *slice, partials chunk) {
  for (int i = 0; i < at->heads; i++)
    attend_merge_splits(&slice->view[i], slice->row_begin, slice->row_end, chunk.first + i * chunk.head,
                        at->share->splits);
}

/** Where they are in the workspace. */
static partials partials_of(const attend_plan *plan, attend_run_state *run, const item_place *at,
                            const attend_slice *slice) {
  const attend_share *share = at->share;
  const int64_t rows = slice->view->group * slice->view->queries;
  const int64_t before = share->partials_at + (at->head * rows + slice->row_begin) * share->splits;
  const int64_t stride = attend_partial_stride(plan->problem.p.v_head_dim);
  return (partials){(float *)(void *)((char *)run + plan->partials_at) + before * stride,
                    rows * share->splits * stride};
}

/** What a part will probably take after an item, as if all the threads of its group took turns. */
static int64_t guess_next(const attend_plan *plan, const attend_run_state *run, int group, int64_t item) {
  if (plan->groups == 1) return item + run->cut->useful;
  return item + 1 + (int64_t)(run->cut->useful - 1) * plan->cores[group] / plan->all_cores;
}

static void run_item(const attend_plan *plan, attend_run_state *run, int group, int64_t item, char *scratch) {
  const item_place at = place_item(plan, run, item);
  const attend_choice *choice = attend_choice_of(plan, at.share);
  attend_view views[ATTEND_MOST_HEADS], next_view;
  show(plan, run, &at, views);
  attend_slice slice = slice_of(plan, &at, views), next;
  const int64_t guess = guess_next(plan, run, group, item);
  if (guess < run->cut->begin[group + 1]) {
    const item_place then = place_item(plan, run, guess);
    const attend_view *shown = views;
    if (then.b != at.b || then.kv_head != at.kv_head) {
      attend_view_of(&plan->problem, &run->tensors, then.b, then.kv_head, masks_seen(plan, run), &next_view);
      shown = &next_view;
    }
    next = slice_of(plan, &then, shown);
    if (then.share->splits > 1) take_split(run, &then, then.split < 0 ? 0 : then.split, &next);
    slice.next = &next;
  }
  if (at.share->splits == 1) {
    choice->kernel->forward(&slice, &choice->tiling, scratch);
  } else if (at.split < 0) {
    const int64_t of_head = (slice.row_end - slice.row_begin) * at.share->splits;
    const partials chunk = {(float *)(void *)(scratch + plan->partials_at),
                            of_head * attend_partial_stride(plan->problem.p.v_head_dim)};
    const attend_slice whole = slice;
    for (int64_t split = 0; split < at.share->splits; split++) {
      attend_slice after = whole;
      if (split + 1 < at.share->splits) {
        take_split(run, &at, split + 1, &after);
        slice.next = &after;
      } else {
        slice.next = whole.next;
      }
      run_split(plan, run, &at, slice, split, chunk, scratch);
    }
    merge_splits(&at, &slice, chunk);
  } else {
    attend_arrivals *arrivals = (attend_arrivals *)(void *)((char *)run + plan->arrivals_at);
    attend_arrivals *arrived = &arrivals[at.share->first_chunk + at.head * at.share->chunks + at.chunk];
    const partials chunk = partials_of(plan, run, &at, &slice);
    run_split(plan, run, &at, slice, at.split, chunk, scratch);
    /* Release our partial result, acquire those of the others. */
    if (atomic_fetch_add_explicit(arrived, 1, memory_order_acq_rel) == at.share->splits - 1)
      merge_splits(&at, &slice, chunk);
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
    /* Only looks at another's queue while that is empty: writing would take the cache line from those who need it. */
    if (from->tried && atomic_load_explicit(&queue->next, memory_order_relaxed) >= run->cut->begin[group + 1]) continue;
    const int64_t item = atomic_fetch_add_explicit(&queue->next, 1, memory_order_relaxed);
    if (item < run->cut->begin[group + 1]) return item;
  }
  return -1;
}

/** Works on items until there are none left. */
static void run_part(const attend_plan *plan, attend_run_state *run, int part) {
  /* The kernel for few queries needs nothing of a thread: a test sees to it. */
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

/* --------------------------------------------------------------------------------------------- the caller's threads */

static attend_status check_workspace(const attend_plan *plan, const void *workspace, size_t size) {
  if (!plan) return attend_fail(ATTEND_ERROR_INVALID_ARGUMENT, "plan is NULL");
  return attend_check_workspace(workspace, size, plan->workspace_size);
}

/** Checks the tensors, cuts the work up and readies the workspace. */
static attend_status begin(const attend_plan *plan, const attend_tensors *tensors, void *workspace) {
  attend_run_state *run = workspace;
  attend_tensors none;
  attend_status status = attend_check_tensors(&plan->problem, tensors, plan->workspace_size ? &run->tensors : &none);
  if (status != ATTEND_OK || plan->workspace_size == 0) return status;
  run->plan = plan;
  if (plan->ragged) {
    attend_share *shares = (attend_share *)(void *)((char *)workspace + plan->shares_at);
    attend_cut_run(plan, &run->tensors, &run->own, shares);
    run->cut = &run->own, run->shares = shares;
  } else {
    run->cut = &plan->cut, run->shares = &plan->share;
  }
  for (int group = 0; group < plan->groups; group++) atomic_init(&run->queues[group].next, run->cut->begin[group]);
  if (plan->slices_as_items) {
    attend_arrivals *arrivals = (attend_arrivals *)(void *)((char *)workspace + plan->arrivals_at);
    for (int64_t chunk = 0; chunk < run->cut->split_chunks; chunk++) atomic_init(&arrivals[chunk], 0);
  }
  if (plan->mask_rows)
    memset(masks_seen(plan, run), 0,
           (size_t)(attend_mask_rows_used(&plan->problem.p, &run->tensors) * attend_mask_blocks(&plan->problem.p)));
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

/* ------------------------------------------------------------------------------------ a pool's threads, or OpenMP's */

void attend_on_threads(const attend_host *host, int most, void (*task)(void *argument, int i), void *argument) {
  if (most > 1 && host->parallel_for) {
    host->parallel_for(host->parallel_context, most, task, argument);
    return;
  }
  if (most > 1 && attend_on_openmp(most, task, argument)) return;
  task(argument, 0);
}

/** Things to be done, one after the other, by whoever comes. */
typedef struct heap {
  void (*work)(void *argument, int64_t i);
  void *argument;
  int64_t count;
  atomic_int_fast64_t next;
} heap;

static void take_from_heap(void *argument, int part) {
  heap *h = argument;
  int64_t i;
  (void)part;
  while ((i = atomic_fetch_add_explicit(&h->next, 1, memory_order_relaxed)) < h->count) h->work(h->argument, i);
}

void attend_share_out(const attend_host *host, int threads, int64_t count, void (*work)(void *argument, int64_t i),
                      void *argument) {
  heap h = {.work = work, .argument = argument, .count = count};
  atomic_init(&h.next, 0);
  attend_on_threads(host, count < threads ? (int)count : threads, take_from_heap, &h);
}

/** Keeps the calling thread, of affinity mask `mask`, on a group's cores. False, and nothing done, if that is refused.
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

static void run_task(void *argument, int part) {
  attend_run_state *run = argument;
  const int parts = run->cut->useful;
  if (part == 0 || (part > 0 && part < parts)) run_part(run->plan, run, part); /* a pool may pass a wrong number */
}

static void run_bound_task(void *argument, int part) {
  attend_run_state *run = argument;
  const attend_plan *plan = run->plan;
  const int group = attend_group_of_part(part, attend_openmp_team(), plan->cores, plan->groups);
  attend_cpu_set mask;
  const bool bound = attend_os_get_affinity(&mask) && bind_to_group(&mask, group);
  run_part(plan, run, part);
  if (bound) attend_os_set_affinity(&mask);
}

static void run_parts(const attend_plan *plan, attend_run_state *run) {
  const int threads = run->cut->useful;
  if (plan->bind && plan->groups > 1 && threads > 1 && attend_on_openmp(threads, run_bound_task, run)) return;
  attend_on_threads(&plan->host, threads, run_task, run);
}

attend_status attend_plan_run(const attend_plan *plan, const attend_tensors *tensors, void *workspace,
                              size_t workspace_size) {
  if (!plan || !plan->workspace_size || workspace || workspace_size) {
    const attend_status status = attend_plan_begin(plan, tensors, workspace, workspace_size);
    if (status == ATTEND_OK && plan->workspace_size) run_parts(plan, workspace);
    return status;
  }
  /* No more than the parts that will run need; of a ragged run that is not known yet. */
  const size_t parts = (size_t)(plan->ragged ? plan->threads : plan->cut.useful);
  const size_t needed = plan->parts_at + parts * plan->part_size;
  attend_status status = attend_host_allocate(&plan->host, needed, "workspace", &workspace);
  if (status != ATTEND_OK) return status;
  status = begin(plan, tensors, workspace);
  if (status == ATTEND_OK) run_parts(plan, workspace);
  attend_host_release(&plan->host, workspace, needed);
  return status;
}

int attend_plan_useful_parts(const attend_plan *plan, const attend_tensors *tensors) {
  if (!plan || plan->workspace_size == 0) return 0;
  attend_tensors t;
  if (attend_check_lengths_only(&plan->problem, tensors, &t) != ATTEND_OK) return 0;
  return plan->ragged ? attend_cut_useful(plan, &t) : plan->cut.useful;
}

int attend_default_threads(void) {
  attend_cpu_set usable;
  int cores[ATTEND_MOST_GROUPS];
  attend_usable_processors(&usable);
  int threads = attend_limit_cores(attend_place(attend_topology_get(), &usable, 0, cores));
  return threads > ATTEND_MOST_THREADS ? ATTEND_MOST_THREADS : threads;
}
