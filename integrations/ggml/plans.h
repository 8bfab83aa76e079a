/* SPDX-License-Identifier: Apache-2.0 */
/* The plans made so far, which all contexts of a process share. */
#ifndef ATTEND_GGML_PLANS_H
#define ATTEND_GGML_PLANS_H

#include <attend/attend.h>
#include <memory>

namespace attend_ggml {

using shared_plan = std::shared_ptr<attend_plan>;

/*
 * The plan of a problem for so many threads, made unless it is there already; empty where attend cannot make it, after
 * a line in ggml's log the first time. The 64 used last are kept: llama.cpp asks for keys in steps of 256, so that a
 * sequence of 16384 tokens uses 64 shapes one after the other, and each takes some 10 microseconds to plan.
 */
shared_plan find_plan(const attend_problem &problem, int threads);

} /* namespace attend_ggml */

#endif
