/* SPDX-License-Identifier: Apache-2.0 */
/* A node FLASH_ATTN_EXT of ggml, said in the words of attend. */
#ifndef ATTEND_GGML_NODE_H
#define ATTEND_GGML_NODE_H

#include <attend/attend.h>

#include "ggml.h"

namespace attend_ggml {

/* Whether attend can compute the node. What it cannot is left to ggml's own code. */
bool can_compute(const ggml_tensor *node);

/*
 * Everything of the node's problem and tensors but k and v and what says how they lie (describe_kv), and but the slopes
 * of ALiBi, of which `slopes` has a number per query head; they are written there if the node has any.
 */
void describe(const ggml_tensor *node, attend_problem &problem, attend_tensors &tensors, float *slopes);

/* Whether v is the front of the rows of k, as in multi-head latent attention. */
bool v_is_within_k(const ggml_tensor *node);

} /* namespace attend_ggml */

#endif
