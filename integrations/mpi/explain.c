/* SPDX-License-Identifier: Apache-2.0 */
/** What a plan moves and computes, when sequences are as long as there is room for. */
#include <inttypes.h>
#include <string.h>

#include "dispatch/text.h"
#include "internal.h"

static int64_t packed_rows(const attend_mpi_plan *plan, int rank) {
  int64_t rows = 0;
  for (int64_t b = 0; b < plan->p.batch; b++) rows += attend_mpi_keys(plan, rank, b);
  return rows;
}

attend_status attend_mpi_expect(attend_mpi_plan *plan) {
  const attend_mpi_run run = {.plan = plan, .t = ATTEND_TENSORS_INIT};
  attend_status s = attend_mpi_share_capacities(plan);
  if (s != ATTEND_OK) return s;
  attend_mpi_report *e = &plan->expected;
  e->flops = attend_mpi_flops(&run);
  if (plan->ranks == 1 || plan->o.layout == ATTEND_MPI_HEADS) return ATTEND_OK;
  if (plan->o.layout == ATTEND_MPI_KEYS) {
    const uint64_t bytes =
        (uint64_t)attend_mpi_result_rows(&plan->p) * (uint64_t)(plan->p.v_head_dim + 1) * sizeof(float);
    int steps = 0;
    while (1 << (steps + 1) <= plan->ranks) steps++;
    e->sent = e->received = plan->o.combine == ATTEND_MPI_SLICES
                                ? 2 * bytes / (uint64_t)plan->ranks * (uint64_t)(plan->ranks - 1)
                                : (uint64_t)steps * bytes;
    return ATTEND_OK;
  }
  const bool gather = plan->o.transport == ATTEND_MPI_GATHER;
  for (int r = 0; r < plan->ranks; r++) {
    if (r == plan->rank) continue;
    if (gather || attend_mpi_needs(&run, r, plan->rank))
      e->sent += attend_mpi_packed_size(plan, packed_rows(plan, plan->rank));
    if (gather || attend_mpi_needs(&run, plan->rank, r))
      e->received += attend_mpi_packed_size(plan, packed_rows(plan, r));
  }
  return ATTEND_OK;
}

size_t attend_mpi_plan_explain(const attend_mpi_plan *plan, char *buffer, size_t size) {
  attend_text t = {buffer, size, 0};
  if (size > 0) buffer[0] = 0;
  if (!plan) return 0;
  const attend_mpi_options *o = &plan->o;
  const char *layout = o->layout == ATTEND_MPI_KEYS ? "keys" : o->layout == ATTEND_MPI_HEADS ? "heads" : "sequence";
  attend_text_add(&t, "%s over %d rank%s", layout, plan->ranks, plan->ranks == 1 ? "" : "s");
  if (plan->ranks > 1 && o->layout == ATTEND_MPI_KEYS)
    attend_text_add(&t, ", results merged by %s", o->combine == ATTEND_MPI_SLICES ? "slices" : "tree");
  if (plan->ranks > 1 && o->layout == ATTEND_MPI_SEQUENCE)
    attend_text_add(&t, " %s, keys and values by %s", o->order == ATTEND_MPI_ZIGZAG ? "in zigzag" : "in order",
                    o->transport == ATTEND_MPI_GATHER ? "gather" : "ring");
  attend_text_add(
      &t, "; rank %d with full sequences: %.4g FLOP, sends %" PRIu64 " bytes, receives %" PRIu64 ", holds %zu; ",
      plan->rank, plan->expected.flops, plan->expected.sent, plan->expected.received, plan->memory_size);
  const bool room = t.length < t.size;
  t.length += attend_plan_explain(plan->part ? plan->part : plan->whole, room ? buffer + t.length : NULL,
                                  room ? size - t.length : 0);
  return t.length;
}
