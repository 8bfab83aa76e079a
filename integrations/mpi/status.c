/* SPDX-License-Identifier: Apache-2.0 */
/** Errors: of this rank, of MPI, and the agreement of all ranks on one. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

enum { DETAIL_SIZE = 512 };

static _Thread_local char detail[DETAIL_SIZE];

const char *attend_mpi_error_detail(void) { return detail; }

attend_status attend_mpi_fail(attend_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(detail, sizeof detail, format, arguments);
  va_end(arguments);
  return status;
}

attend_status attend_mpi_fail_as(attend_status status) { return attend_mpi_fail(status, "%s", attend_error_detail()); }

attend_status attend_mpi_check(int code, const char *function) {
  if (code == MPI_SUCCESS) return ATTEND_OK;
  char text[MPI_MAX_ERROR_STRING + 1] = "";
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) snprintf(text, sizeof text, "error %d", code);
  return attend_mpi_fail(ATTEND_MPI_ERROR_COMMUNICATION, "%s: %.400s", function, text);
}

/** What the rank that failed tells the others. */
typedef struct message {
  int32_t status;
  char text[DETAIL_SIZE - 32];
} message;

attend_status attend_mpi_spread(MPI_Comm comm, int rank, int ranks, int first, attend_status status) {
  if (first == ranks) return ATTEND_OK;
  message m = {.status = status};
  snprintf(m.text, sizeof m.text, "%.*s", (int)sizeof m.text - 1, detail);
  const attend_status sent = attend_mpi_check(MPI_Bcast(&m, sizeof m, MPI_BYTE, first, comm), "MPI_Bcast");
  if (sent != ATTEND_OK) return rank == first ? status : sent;
  m.text[sizeof m.text - 1] = 0;
  return attend_mpi_fail((attend_status)m.status, "rank %d: %s", first, m.text);
}

attend_status attend_mpi_agree(MPI_Comm comm, int rank, int ranks, attend_status status) {
  int first = status == ATTEND_OK ? ranks : rank, least = ranks;
  const attend_status s = attend_mpi_check(MPI_Allreduce(&first, &least, 1, MPI_INT, MPI_MIN, comm), "MPI_Allreduce");
  return s == ATTEND_OK ? attend_mpi_spread(comm, rank, ranks, least, status) : s;
}
