/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attend within ggml's CPU backend. That backend has a list of "extra buffer types", by which its own accelerations
 * (AMX, KleidiAI, repacked weights) take over operations: each is asked for every node, on every thread of the backend.
 * attend stands there, too. So a graph stays in one piece, and attention runs on ggml's own threads: two pools that
 * spin against each other made a token at depth 0 six times as slow where ggml is built without OpenMP.
 */
#ifndef ATTEND_GGML_CPU_EXTENSION_H
#define ATTEND_GGML_CPU_EXTENSION_H

#include "ggml-backend.h"

struct ggml_threadpool;

namespace attend_ggml {

using barrier_function = void (*)(ggml_threadpool *);

/*
 * What stands for attend in the list of the CPU backend, whose device and whose barrier between threads are given;
 * nullptr where there is no memory. Once is enough for a process.
 */
ggml_backend_buffer_type_t cpu_extension(ggml_backend_dev_t cpu, barrier_function barrier);

/* By the plug-in: whether the CPU backend that is loaded has taken attend in. */
bool extend_cpu_backend();

} /* namespace attend_ggml */

#endif
