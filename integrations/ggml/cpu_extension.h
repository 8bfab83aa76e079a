/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attend within ggml's CPU backend. That backend has a list of "extra buffer types", by which its own accelerations
 * (AMX, KleidiAI, repacked weights) take over operations: each is asked for every node, on every thread of the backend.
 * attend enters itself there. So a graph stays in one piece, and attention runs on ggml's own threads: two pools that
 * spin against each other made a token at depth 0 six times as slow where ggml is built without OpenMP.
 */
#ifndef ATTEND_GGML_CPU_EXTENSION_H
#define ATTEND_GGML_CPU_EXTENSION_H

namespace attend_ggml {

/* Whether the CPU backend that is loaded has taken attend in; once is enough for a process. */
bool extend_cpu_backend();

} /* namespace attend_ggml */

#endif
