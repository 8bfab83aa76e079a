/* SPDX-License-Identifier: Apache-2.0 */
#include "node.h"

#include <cmath>
#include <cstring>

#include "formats.h"

namespace attend_ggml {
namespace {

struct parameters {
  float scale, max_bias, softcap;
};

parameters parameters_of(const ggml_tensor *node) {
  parameters p;
  memcpy(&p, node->op_params, sizeof p);
  return p;
}

/* Rows that lie together, stepped over in whole elements; of types that are converted any rows that lie together. */
bool rows_are_usable(const ggml_tensor *x) {
  const size_t size = ggml_type_size(x->type);
  if (x->nb[0] != size) return false;
  const format *f = native_format(x->type);
  if (f == nullptr) return ggml_get_type_traits(x->type)->to_float != nullptr;
  for (int d = 1; d < 4; d++)
    if (x->nb[d] % static_cast<size_t>(f->stride_unit) != 0) return false;
  return true;
}

/* ggml repeats masks by modulo; strides can say that where there is one for all, or one for each. */
bool one_or_all(int64_t masks, int64_t all) { return masks == 1 || masks == all; }

int64_t stride(const ggml_tensor *x, int dimension, size_t size) {
  return static_cast<int64_t>(x->nb[dimension] / size);
}

/* The slopes of ggml: those of Press et al. 2021 for a power of two of heads, and between them for the heads beyond. */
void write_slopes(float max_bias, int64_t heads, float *slopes) {
  int64_t power = 1;
  while (power * 2 <= heads) power *= 2;
  const float base = powf(2.0f, -max_bias / static_cast<float>(power));
  const float between = powf(2.0f, -max_bias / 2.0f / static_cast<float>(power));
  for (int64_t h = 0; h < heads; h++)
    slopes[h] =
        h < power ? powf(base, static_cast<float>(h + 1)) : powf(between, static_cast<float>(2 * (h - power) + 1));
}

} /* namespace */

bool can_compute(const ggml_tensor *node) {
  if (node->op != GGML_OP_FLASH_ATTN_EXT) return false;
  const ggml_tensor *q = node->src[0], *k = node->src[1], *v = node->src[2], *mask = node->src[3],
                    *sinks = node->src[4];
  if (q->type != GGML_TYPE_F32 || node->type != GGML_TYPE_F32 || !ggml_is_contiguous(node)) return false;
  if (!rows_are_usable(q) || !rows_are_usable(k) || !rows_are_usable(v)) return false;
  if (k->ne[1] != v->ne[1] || k->ne[2] != v->ne[2] || k->ne[2] == 0 || q->ne[2] % k->ne[2] != 0) return false;
  if (k->ne[3] != q->ne[3] || v->ne[3] != q->ne[3]) return false;
  if (mask != nullptr) {
    if (mask->type != GGML_TYPE_F16 || mask->nb[0] != sizeof(ggml_fp16_t)) return false;
    for (int d = 1; d < 4; d++)
      if (mask->nb[d] % sizeof(ggml_fp16_t) != 0) return false;
    if (!one_or_all(mask->ne[2], q->ne[2]) || !one_or_all(mask->ne[3], q->ne[3])) return false;
    if (mask->ne[0] < k->ne[1] || mask->ne[1] < q->ne[1]) return false;
  }
  if (sinks != nullptr && (sinks->type != GGML_TYPE_F32 || !ggml_is_contiguous(sinks))) return false;
  const parameters p = parameters_of(node);
  return std::isfinite(p.scale) && std::isfinite(p.max_bias) && std::isfinite(p.softcap) && p.softcap >= 0;
}

void describe(const ggml_tensor *node, attend_problem &problem, attend_tensors &tensors, float *slopes) {
  const ggml_tensor *q = node->src[0], *k = node->src[1], *v = node->src[2], *mask = node->src[3],
                    *sinks = node->src[4];
  const parameters p = parameters_of(node);

  problem = ATTEND_PROBLEM_INIT;
  problem.batch = q->ne[3];
  problem.q_heads = q->ne[2];
  problem.kv_heads = k->ne[2];
  problem.q_len = q->ne[1];
  problem.kv_len = k->ne[1];
  problem.head_dim = q->ne[0];
  problem.v_head_dim = v->ne[0];
  problem.q_dtype = problem.out_dtype = ATTEND_F32;
  problem.q_strides = {stride(q, 3, sizeof(float)), stride(q, 2, sizeof(float)), stride(q, 1, sizeof(float))};
  problem.out_strides = {stride(node, 3, sizeof(float)), stride(node, 1, sizeof(float)),
                         stride(node, 2, sizeof(float))};
  problem.as_given = ATTEND_AS_GIVEN_ALL;
  problem.scale = p.scale;
  problem.softcap = p.softcap;

  tensors = ATTEND_TENSORS_INIT;
  tensors.q = q->data;
  tensors.out = node->data;
  if (sinks != nullptr) {
    problem.sinks = 1;
    tensors.sinks = static_cast<const float *>(sinks->data);
  }
  if (mask != nullptr) {
    const size_t size = sizeof(ggml_fp16_t);
    problem.bias_dtype = ATTEND_F16;
    problem.bias_strides = {mask->ne[3] == 1 ? 0 : stride(mask, 3, size), mask->ne[2] == 1 ? 0 : stride(mask, 2, size),
                            stride(mask, 1, size), 1};
    tensors.bias = mask->data;
    if (p.max_bias > 0) {
      write_slopes(p.max_bias, q->ne[2], slopes);
      problem.bias_head_scale = 1;
      tensors.bias_head_scale = slopes;
    }
  }
}

bool v_is_within_k(const ggml_tensor *node) {
  const ggml_tensor *k = node->src[1], *v = node->src[2];
  return v->data == k->data && v->type == k->type && v->ne[0] <= k->ne[0] && v->nb[1] == k->nb[1] &&
         v->nb[2] == k->nb[2] && v->nb[3] == k->nb[3];
}

} /* namespace attend_ggml */
