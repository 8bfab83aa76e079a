/* SPDX-License-Identifier: Apache-2.0 */
/** The table of kernels of all operations, from the rows in kernels/kernels.def, and what each one can be used for. */
#include <stdio.h>
#include <string.h>

#include "dispatch/dispatch.h"
#include "kernels/size.h"

#define ATTEND_KERNEL(identifier) extern const attend_kernel attend_kernel_##identifier;
#include "kernels/kernels.def"
#undef ATTEND_KERNEL

static const attend_kernel *const kernels[] = {
#define ATTEND_KERNEL(identifier) &attend_kernel_##identifier,
#include "kernels/kernels.def"
#undef ATTEND_KERNEL
};

/* Scores are in the scratch of a body that holds them; a problem with more of them belongs to a body that does not. */
#define MOST_HEAD_SCORES ((size_t)512 << 20)
#define MOST_TILE_SCORES ((size_t)256 << 20)

enum { KERNELS = sizeof kernels / sizeof *kernels };

/* Looked through each time: it has a few dozen rows. */
const attend_kernel *attend_kernel_of(attend_operation operation, size_t index) {
  for (size_t i = 0; i < KERNELS; i++)
    if (kernels[i]->operation == operation && index-- == 0) return kernels[i];
  return NULL;
}

const attend_kernel *attend_kernel_widest(attend_operation operation, attend_isa highest) {
  for (size_t i = 0; i < KERNELS; i++)
    if (kernels[i]->operation == operation && attend_kernel_runnable(kernels[i], highest, NULL, 0)) return kernels[i];
  return NULL; /* not reached: portable C runs everywhere */
}

size_t attend_kernel_count(void) {
  size_t count = 0;
  for (size_t i = 0; i < KERNELS; i++) count += kernels[i]->operation == ATTEND_OP_FORWARD;
  return count;
}

const attend_kernel *attend_kernel_at(size_t index) { return attend_kernel_of(ATTEND_OP_FORWARD, index); }

const attend_kernel *attend_kernel_find(const char *name) {
  for (size_t i = 0; i < KERNELS; i++)
    if (kernels[i]->operation == ATTEND_OP_FORWARD && strcmp(kernels[i]->name, name) == 0) return kernels[i];
  return NULL;
}

bool attend_kernel_runnable(const attend_kernel *kernel, attend_isa highest, char *why, size_t why_size) {
  uint64_t missing = (kernel->cpu | attend_isa_features(kernel->isa)) & ~attend_cpu_get()->usable;
  if (missing) {
    attend_cpu_feature feature = (attend_cpu_feature)__builtin_ctzll(missing);
    if (why)
      snprintf(why, why_size, "needs %s: %s", attend_cpu_feature_name(feature), attend_cpu_unusable_reason(feature));
    return false;
  }
  if (attend_isa_rank(kernel->isa) > attend_isa_rank(highest)) {
    if (why) snprintf(why, why_size, "ATTEND_ISA allows %s at most", attend_isa_name(highest));
    return false;
  }
  return true;
}

static bool takes_dtype(const attend_kernel *kernel, const char *what, attend_dtype dtype, char *why, size_t why_size) {
  if (kernel->dtypes & ATTEND_DTYPE_BIT(dtype)) return true;
  if (why) snprintf(why, why_size, "does not take %s of type %s", what, attend_dtype_name(dtype));
  return false;
}

/** `rows` rows of scores are no more than `most` bytes. */
static bool scores_fit(const attend_resolved *r, int64_t rows, const char *of, size_t most, char *why,
                       size_t why_size) {
  size_t bytes = size_mul(size_mul((size_t)rows, (size_t)r->p.kv_len), sizeof(float));
  if (bytes <= most) return true;
  if (why)
    snprintf(why, why_size, "scores need %zu MiB a %s, more than %zu", (bytes >> 20) + (bytes % ((size_t)1 << 20) != 0),
             of, most >> 20);
  return false;
}

/** Whether a problem lets kernels round its queries, and has keys that they can multiply as bytes. */
static bool takes_int8(const attend_problem *p) {
  /* Of longer rows the sums of integers would not fit 32 bits. */
  const bool i8 = p->k_dtype == ATTEND_I8 && p->head_dim > 0 && p->head_dim % 32 == 0 && p->head_dim <= 1 << 16 &&
                  ((p->k_scaling.group % 32 == 0 && !p->k_scaling.zero_points) || p->k_scaling.group >= p->head_dim);
  return p->int8_products && (p->k_dtype == ATTEND_Q8_0 || i8);
}

bool attend_kernel_can(const attend_kernel *kernel, const attend_resolved *problem, char *why, size_t why_size) {
  const attend_problem *p = &problem->p;
  if (!takes_dtype(kernel, "q", p->q_dtype, why, why_size) || !takes_dtype(kernel, "k", p->k_dtype, why, why_size) ||
      !takes_dtype(kernel, "v", p->v_dtype, why, why_size))
    return false;
  if (p->score == ATTEND_SCORE_ADDITIVE && !(kernel->can & ATTEND_CAN_ADDITIVE)) {
    if (why) snprintf(why, why_size, "does not compute additive scores");
    return false;
  }
  if (p->dropout > 0 && !(kernel->can & ATTEND_CAN_DROPOUT)) {
    if (why) snprintf(why, why_size, "does not drop weights");
    return false;
  }
  if (p->scores && !(kernel->can & ATTEND_CAN_SCORES)) {
    if (why) snprintf(why, why_size, "does not write scores");
    return false;
  }
  if (p->weights) {
    /* Whoever wants the weights has room for all scores, so that the limits below do not matter. */
    if (kernel->can & ATTEND_CAN_WEIGHTS) return true;
    if (why) snprintf(why, why_size, "does not write attention weights");
    return false;
  }
  if (kernel->can & ATTEND_CAN_INT8 && !takes_int8(p)) {
    if (why)
      snprintf(
          why, why_size,
          "multiplies int8: with int8_products, and keys in q8_0, or in i8 with head dims that are multiples of 32 up "
          "to 65536, and a scale a row, or groups of multiples of 32 without zero points");
    return false;
  }
  if (p->scores) return true; /* likewise */
  if (kernel->body == ATTEND_BODY_BLOCKED && !scores_fit(problem, p->q_len, "head", MOST_HEAD_SCORES, why, why_size))
    return false;
  int64_t tile = problem->rows < kernel->q_rows ? problem->rows : kernel->q_rows;
  return (kernel->body != ATTEND_BODY_BLOCKED && kernel->body != ATTEND_BODY_TILED) ||
         scores_fit(problem, tile, "tile", MOST_TILE_SCORES, why, why_size);
}
