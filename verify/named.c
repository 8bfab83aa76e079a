/* SPDX-License-Identifier: Apache-2.0 */
/* The named cases: every semantic alone, in combination, and at the edges of blocks, tiles and types. */
#include "verify/internal.h"

#define SHAPE(B, HQ, HKV, LQ, LK, DQK, DV)                                                                             \
  .problem.batch = B, .problem.q_heads = HQ, .problem.kv_heads = HKV, .problem.q_len = LQ, .problem.kv_len = LK,       \
  .problem.head_dim = DQK, .problem.v_head_dim = DV
#define TOP_LEFT .problem.causal = ATTEND_CAUSAL_TOP_LEFT
#define BOTTOM_RIGHT .problem.causal = ATTEND_CAUSAL_BOTTOM_RIGHT
#define OFFSET(N) .problem.causal = ATTEND_CAUSAL_OFFSET, .problem.causal_offset = N
#define WINDOW(LEFT, RIGHT) .problem.window = 1, .problem.window_left = LEFT, .problem.window_right = RIGHT
#define PER_BATCH .problem.kv_lengths = ATTEND_LENGTHS_PER_BATCH
#define PER_QUERY .problem.kv_lengths = ATTEND_LENGTHS_PER_QUERY
#define MASK(PATTERN, OVER) .problem.mask = 1, .mask_pattern = ATTEND_VERIFY_##PATTERN, .mask_over = OVER
#define BIAS(DTYPE, PATTERN, OVER)                                                                                     \
  .problem.bias_dtype = ATTEND_##DTYPE, .bias_pattern = ATTEND_VERIFY_##PATTERN, .bias_over = OVER
#define ALIBI .problem.alibi = 1
#define SINKS .problem.sinks = 1
#define ADDITIVE .problem.score = ATTEND_SCORE_ADDITIVE
#define DROPOUT(P) .problem.dropout = P
#define SOFTCAP(X) .problem.softcap = X
#define SCALE(X) .problem.scale = X
#define LSE .problem.lse = 1
#define WEIGHTS .problem.weights = 1
#define INVARIANT .problem.batch_invariant = 1
#define TYPES(Q, KV, OUT)                                                                                              \
  .problem.q_dtype = ATTEND_##Q, .problem.k_dtype = ATTEND_##KV, .problem.out_dtype = ATTEND_##OUT
#define VALUES(V) .values = ATTEND_VERIFY_##V
#define NONFINITE(N) .nonfinite = ATTEND_VERIFY_##N
#define LAYOUTS(Q, K, V, OUT)                                                                                          \
  .q = ATTEND_VERIFY_##Q, .k = ATTEND_VERIFY_##K, .v = ATTEND_VERIFY_##V, .out = ATTEND_VERIFY_##OUT
#define EVERYTHING                                                                                                     \
  WINDOW(20, 9), PER_QUERY, MASK(SOME, B_ | H_), BIAS(F32, SOME, B_), ALIBI, SINKS, SOFTCAP(8.0f), SCALE(0.7f), LSE

enum {
  B_ = ATTEND_VERIFY_OVER_BATCH,
  H_ = ATTEND_VERIFY_OVER_HEADS,
  Q_ = ATTEND_VERIFY_OVER_QUERIES,
  K_ = ATTEND_VERIFY_OVER_KEYS
};

static const attend_verify_case cases[] = {
    /* Shapes. */
    {"one-of-each", SHAPE(1, 1, 1, 1, 1, 1, 1), LSE},
    {"plain", SHAPE(2, 3, 3, 17, 33, 16, 16), LSE},
    {"defaults", SHAPE(2, 3, 0, 17, 33, 16, 0)},
    {"odd-dims", SHAPE(1, 2, 2, 15, 31, 17, 33), LSE},
    {"tiny-dims", SHAPE(1, 2, 2, 31, 65, 1, 3)},
    {"dv-larger", SHAPE(1, 2, 1, 16, 63, 3, 65)},
    {"dv-smaller", SHAPE(1, 2, 1, 16, 63, 65, 3)},
    {"dim-40", SHAPE(1, 2, 2, 33, 65, 40, 40)},
    {"dim-64", SHAPE(1, 2, 2, 33, 65, 64, 64)},
    {"dim-80", SHAPE(1, 1, 1, 33, 127, 80, 80)},
    {"dim-96", SHAPE(1, 1, 1, 17, 127, 96, 96)},
    {"dim-128", SHAPE(1, 1, 1, 33, 127, 128, 128)},
    {"dim-160", SHAPE(1, 1, 1, 17, 65, 160, 160)},
    {"dim-192-128", SHAPE(1, 2, 2, 9, 65, 192, 128)},
    {"dim-256", SHAPE(1, 1, 1, 15, 63, 256, 256)},
    {"dim-576-512", SHAPE(1, 4, 1, 2, 65, 576, 512)},
    {"no-keys", SHAPE(2, 2, 1, 3, 0, 16, 16), LSE},
    {"no-keys-sinks", SHAPE(2, 2, 1, 3, 0, 16, 16), SINKS, LSE},
    {"no-keys-weights", SHAPE(1, 2, 1, 3, 0, 16, 16), WEIGHTS},
    {"no-queries", SHAPE(2, 2, 1, 0, 5, 16, 16), LSE},
    {"no-batch", SHAPE(0, 2, 1, 3, 5, 16, 16), LSE, PER_BATCH},
    {"no-heads", SHAPE(1, 0, 0, 3, 5, 16, 16), LSE},
    {"one-query", SHAPE(2, 2, 2, 1, 127, 64, 64), LSE},
    {"one-key", SHAPE(2, 2, 2, 33, 1, 32, 32), LSE},
    {"gqa", SHAPE(2, 6, 2, 15, 31, 16, 16), LSE},
    {"gqa-decode", SHAPE(2, 8, 2, 1, 127, 32, 32), LSE},
    {"gqa-7", SHAPE(1, 7, 1, 3, 65, 16, 16), LSE},
    {"mqa", SHAPE(1, 5, 1, 17, 33, 32, 32), LSE},
    {"mqa-wide", SHAPE(1, 48, 1, 1, 65, 16, 16), LSE},
    {"rows-1-block-edge", SHAPE(1, 1, 1, 1, 64, 64, 64), LSE},
    {"rows-2", SHAPE(1, 1, 1, 2, 128, 64, 64), LSE},
    {"rows-3", SHAPE(1, 1, 1, 3, 129, 64, 64), LSE},
    {"rows-63", SHAPE(1, 1, 1, 63, 63, 32, 32), LSE},

    /* Many keys: several blocks, with rows across register tiles. */
    {"long-257", SHAPE(1, 1, 1, 37, 257, 16, 16), LSE},
    {"long-512", SHAPE(1, 1, 1, 13, 512, 24, 24), LSE},
    {"long-513", SHAPE(1, 1, 1, 13, 513, 24, 24), LSE},
    {"long-1023-gqa", SHAPE(1, 6, 2, 3, 1023, 16, 16), LSE},
    {"long-1500", SHAPE(1, 1, 1, 7, 1500, 32, 32), LSE},
    {"long-1500-decode", SHAPE(1, 4, 1, 1, 1500, 64, 64), LSE},
    {"long-causal", SHAPE(1, 2, 1, 19, 1100, 8, 8), BOTTOM_RIGHT, LSE},
    {"long-causal-square", SHAPE(1, 1, 1, 331, 331, 4, 4), TOP_LEFT, LSE},
    {"long-window", SHAPE(1, 1, 1, 300, 300, 6, 6), TOP_LEFT, WINDOW(100, -1), LSE},
    {"long-window-both", SHAPE(1, 1, 1, 290, 401, 4, 4), WINDOW(70, 70), LSE},
    {"long-lengths", SHAPE(3, 1, 1, 5, 900, 16, 16), PER_BATCH, LSE},
    {"long-lengths-per-query", SHAPE(1, 2, 2, 19, 700, 8, 8), PER_QUERY, LSE},
    {"long-mask-blocks", SHAPE(1, 2, 2, 9, 1200, 8, 8), MASK(BLOCKS, H_), LSE},
    {"long-mask-most", SHAPE(1, 2, 2, 9, 1200, 8, 8), MASK(MOST, 0), LSE},
    {"long-bias-blocks", SHAPE(1, 2, 2, 9, 1200, 8, 8), BIAS(F32, BLOCKS, H_), LSE},
    {"long-alibi", SHAPE(1, 4, 4, 7, 900, 8, 8), ALIBI, BOTTOM_RIGHT, LSE},
    {"long-rising", SHAPE(1, 1, 1, 9, 1500, 16, 16), VALUES(RISING), LSE},
    {"long-falling", SHAPE(1, 1, 1, 9, 1500, 16, 16), VALUES(FALLING), LSE},
    {"long-everything", SHAPE(1, 4, 2, 11, 800, 8, 8), EVERYTHING, BOTTOM_RIGHT},

    /* Causal masks. */
    {"top-left", SHAPE(2, 2, 2, 33, 33, 16, 16), TOP_LEFT, LSE},
    {"top-left-more-keys", SHAPE(1, 2, 1, 17, 65, 16, 16), TOP_LEFT, LSE},
    {"top-left-more-queries", SHAPE(1, 2, 1, 65, 17, 16, 16), TOP_LEFT, LSE},
    {"bottom-right", SHAPE(2, 2, 2, 33, 33, 16, 16), BOTTOM_RIGHT, LSE},
    {"bottom-right-more-keys", SHAPE(1, 2, 1, 17, 65, 16, 16), BOTTOM_RIGHT, LSE},
    {"bottom-right-more-queries", SHAPE(1, 2, 1, 65, 17, 16, 16), BOTTOM_RIGHT, LSE},
    {"bottom-right-decode", SHAPE(2, 4, 2, 3, 127, 32, 32), BOTTOM_RIGHT, LSE},
    {"offset-5", SHAPE(1, 2, 2, 31, 33, 16, 16), OFFSET(5), LSE},
    {"offset-minus-1", SHAPE(1, 2, 2, 31, 33, 16, 16), OFFSET(-1), LSE},
    {"offset-minus-20", SHAPE(1, 2, 2, 31, 33, 16, 16), OFFSET(-20), LSE},
    {"offset-none-attended", SHAPE(1, 2, 2, 31, 33, 16, 16), OFFSET(-31), LSE},
    {"offset-least", SHAPE(1, 2, 2, 5, 33, 16, 16), OFFSET(-INT32_MAX), LSE},
    {"offset-greatest", SHAPE(1, 2, 2, 5, 33, 16, 16), OFFSET(INT32_MAX), LSE},
    {"offset-128-window", SHAPE(1, 1, 1, 31, 200, 16, 16), OFFSET(128), WINDOW(32, -1), LSE},

    /* Windows. */
    {"window", SHAPE(1, 2, 2, 33, 33, 16, 16), WINDOW(3, 2), LSE},
    {"window-left", SHAPE(1, 2, 2, 33, 65, 16, 16), WINDOW(5, -1), LSE},
    {"window-right", SHAPE(1, 2, 2, 33, 65, 16, 16), WINDOW(-1, 5), LSE},
    {"window-open", SHAPE(1, 2, 2, 17, 33, 16, 16), WINDOW(-1, -1), LSE},
    {"window-0-0", SHAPE(1, 2, 2, 33, 33, 16, 16), WINDOW(0, 0), LSE},
    {"window-greatest", SHAPE(1, 2, 2, 17, 33, 16, 16), WINDOW(INT32_MAX, INT32_MAX), LSE},
    {"window-causal", SHAPE(1, 4, 2, 63, 127, 8, 8), WINDOW(15, -1), BOTTOM_RIGHT, LSE},
    {"window-causal-top-left", SHAPE(1, 2, 2, 63, 31, 8, 8), WINDOW(15, 4), TOP_LEFT, LSE},
    {"window-more-queries", SHAPE(1, 2, 2, 65, 17, 8, 8), WINDOW(4, 4), LSE},
    {"window-far-away", SHAPE(1, 2, 2, 3, 65, 8, 8), WINDOW(4, 4), OFFSET(1000), LSE},
    {"window-decode", SHAPE(1, 8, 2, 1, 700, 16, 16), WINDOW(255, 0), BOTTOM_RIGHT, LSE},

    /* KV lengths. */
    {"lengths", SHAPE(8, 2, 2, 3, 65, 16, 16), PER_BATCH, LSE},
    {"lengths-causal", SHAPE(5, 2, 1, 17, 65, 16, 16), PER_BATCH, BOTTOM_RIGHT, LSE},
    {"lengths-decode", SHAPE(8, 4, 2, 1, 257, 16, 16), PER_BATCH, LSE},
    {"lengths-per-query", SHAPE(3, 2, 1, 17, 65, 16, 16), PER_QUERY, LSE},
    {"lengths-per-query-causal", SHAPE(2, 2, 2, 33, 33, 16, 16), PER_QUERY, TOP_LEFT, LSE},
    {"lengths-sinks", SHAPE(6, 2, 1, 5, 33, 16, 16), PER_BATCH, SINKS, LSE},
    {"lengths-invariant", SHAPE(6, 2, 1, 5, 300, 16, 16), PER_BATCH, INVARIANT, LSE},

    /* Boolean masks. */
    {"mask", SHAPE(2, 2, 1, 17, 65, 16, 16), MASK(SOME, 0), LSE},
    {"mask-over-batch", SHAPE(2, 2, 1, 17, 65, 16, 16), MASK(SOME, B_), LSE},
    {"mask-over-heads", SHAPE(2, 4, 2, 17, 65, 16, 16), MASK(SOME, H_), LSE},
    {"mask-over-queries", SHAPE(2, 2, 1, 17, 65, 16, 16), MASK(SOME, H_ | Q_), LSE},
    {"mask-over-keys", SHAPE(2, 2, 1, 17, 65, 16, 16), MASK(SOME, K_), LSE},
    {"mask-over-all", SHAPE(2, 2, 1, 5, 33, 16, 16), MASK(NOTHING, B_ | H_ | Q_ | K_), LSE},
    {"mask-all-false", SHAPE(2, 2, 1, 17, 33, 16, 16), MASK(ALL, B_ | H_), LSE},
    {"mask-all-false-over-all", SHAPE(2, 2, 1, 5, 33, 16, 16), MASK(ALL, B_ | H_ | Q_ | K_), SINKS, LSE},
    {"mask-all-true", SHAPE(2, 2, 1, 17, 33, 16, 16), MASK(NOTHING, 0), LSE},
    {"mask-rows", SHAPE(1, 4, 2, 33, 65, 16, 16), MASK(ROWS, H_), LSE},
    {"mask-blocks", SHAPE(1, 2, 2, 17, 400, 8, 8), MASK(BLOCKS, B_ | H_), LSE},
    {"mask-most", SHAPE(1, 4, 1, 17, 127, 8, 8), MASK(MOST, 0), LSE},
    {"mask-spread", SHAPE(2, 2, 1, 17, 65, 16, 16), MASK(SOME, 0), .mask = ATTEND_VERIFY_SPREAD, LSE},
    {"mask-backward", SHAPE(2, 2, 1, 17, 65, 16, 16), MASK(SOME, H_), .mask = ATTEND_VERIFY_BACKWARD, LSE},
    {"mask-queries-first", SHAPE(2, 2, 1, 17, 65, 16, 16), MASK(SOME, B_), .mask = ATTEND_VERIFY_QUERIES_FIRST, LSE},
    {"mask-causal", SHAPE(1, 4, 2, 33, 33, 16, 16), MASK(SOME, H_), TOP_LEFT, LSE},
    {"mask-decode", SHAPE(2, 8, 2, 1, 300, 16, 16), MASK(SOME, 0), LSE},

    /* Biases. */
    {"bias-f32", SHAPE(2, 2, 1, 17, 65, 16, 16), BIAS(F32, NOTHING, 0), LSE},
    {"bias-f16", SHAPE(2, 2, 1, 17, 65, 16, 16), BIAS(F16, NOTHING, 0), LSE},
    {"bias-bf16", SHAPE(2, 2, 1, 17, 65, 16, 16), BIAS(BF16, NOTHING, 0), LSE},
    {"bias-some-inf", SHAPE(2, 2, 1, 17, 65, 16, 16), BIAS(F32, SOME, 0), LSE},
    {"bias-f16-some-inf", SHAPE(2, 2, 1, 17, 65, 16, 16), BIAS(F16, SOME, B_), LSE},
    {"bias-bf16-rows-inf", SHAPE(2, 2, 1, 17, 65, 16, 16), BIAS(BF16, ROWS, H_), LSE},
    {"bias-rows-inf", SHAPE(2, 2, 1, 17, 65, 16, 16), BIAS(F32, ROWS, B_ | H_), LSE},
    {"bias-all-inf", SHAPE(2, 2, 1, 17, 65, 16, 16), BIAS(F32, ALL, 0), LSE},
    {"bias-all-inf-sinks", SHAPE(1, 2, 1, 17, 65, 16, 16), BIAS(F32, ALL, B_ | H_ | Q_ | K_), SINKS, LSE},
    {"bias-over-queries", SHAPE(2, 2, 1, 17, 65, 16, 16), BIAS(F32, SOME, H_ | Q_), LSE},
    {"bias-over-keys", SHAPE(2, 2, 1, 17, 65, 16, 16), BIAS(F16, SOME, K_), LSE},
    {"bias-over-all", SHAPE(2, 2, 1, 17, 65, 16, 16), BIAS(BF16, NOTHING, B_ | H_ | Q_ | K_), LSE},
    {"bias-spread", SHAPE(2, 2, 1, 17, 65, 16, 16), BIAS(F16, SOME, 0), .bias = ATTEND_VERIFY_SPREAD, LSE},
    {"bias-backward", SHAPE(2, 2, 1, 17, 65, 16, 16), BIAS(F32, SOME, H_), .bias = ATTEND_VERIFY_BACKWARD, LSE},
    {"bias-queries-first", SHAPE(2, 2, 1, 17, 65, 16, 16), BIAS(BF16, SOME, B_), .bias = ATTEND_VERIFY_QUERIES_FIRST},
    {"bias-causal", SHAPE(1, 4, 2, 33, 33, 16, 16), BIAS(F32, SOME, B_), TOP_LEFT, LSE},
    {"bias-decode", SHAPE(2, 8, 2, 1, 300, 16, 16), BIAS(F32, SOME, 0), LSE},
    {"bias-mask", SHAPE(2, 4, 2, 17, 65, 16, 16), BIAS(F32, SOME, 0), MASK(SOME, H_), LSE},

    /* Scores. */
    {"alibi", SHAPE(1, 4, 2, 17, 65, 16, 16), ALIBI, LSE},
    {"alibi-causal", SHAPE(1, 8, 2, 33, 33, 16, 16), ALIBI, TOP_LEFT, LSE},
    {"alibi-offset", SHAPE(1, 2, 2, 17, 65, 16, 16), ALIBI, OFFSET(-9), LSE},
    {"alibi-decode", SHAPE(1, 8, 2, 1, 300, 16, 16), ALIBI, BOTTOM_RIGHT, LSE},
    {"alibi-bias", SHAPE(1, 4, 2, 17, 65, 16, 16), ALIBI, BIAS(F32, NOTHING, B_), LSE},
    {"softcap", SHAPE(1, 2, 2, 17, 65, 16, 16), SOFTCAP(1.5f), LSE},
    {"softcap-30", SHAPE(1, 2, 2, 17, 65, 16, 16), SOFTCAP(30.0f), SCALE(4.0f), LSE},
    {"softcap-large", SHAPE(1, 2, 2, 17, 65, 16, 16), SOFTCAP(50.0f), VALUES(LARGE), LSE},
    {"softcap-causal-bias", SHAPE(1, 4, 2, 33, 33, 16, 16), SOFTCAP(5.0f), TOP_LEFT, BIAS(F32, SOME, H_), LSE},
    {"softcap-inf", SHAPE(1, 2, 2, 17, 65, 16, 16), SOFTCAP(5.0f), NONFINITE(INF_IN_K), TOP_LEFT, LSE},
    {"scale-1", SHAPE(1, 2, 2, 17, 65, 16, 16), SCALE(1.0f), LSE},
    {"scale-small", SHAPE(1, 2, 2, 17, 65, 16, 16), SCALE(1e-4f), LSE},
    {"scale-negative", SHAPE(1, 2, 2, 17, 65, 16, 16), SCALE(-0.5f), LSE},
    {"scale-negative-mask", SHAPE(1, 4, 2, 17, 65, 16, 16), SCALE(-0.5f), MASK(SOME, H_), LSE},
    {"scale-greatest", SHAPE(1, 2, 2, 17, 65, 16, 16), SCALE(3e38f), VALUES(ZERO_Q), LSE},
    {"sinks", SHAPE(2, 4, 2, 17, 65, 16, 16), SINKS, LSE},
    {"sinks-causal-window", SHAPE(1, 8, 2, 33, 127, 8, 8), SINKS, BOTTOM_RIGHT, WINDOW(31, -1), LSE},
    {"sinks-decode", SHAPE(1, 8, 2, 1, 513, 16, 16), SINKS, LSE},
    {"sinks-rows", SHAPE(1, 4, 2, 17, 65, 16, 16), SINKS, MASK(ROWS, 0), LSE},
    {"sinks-large", SHAPE(1, 4, 2, 17, 65, 16, 16), SINKS, VALUES(LARGE), LSE},

    /* Additive scores. */
    {"additive", SHAPE(2, 3, 3, 17, 33, 16, 16), ADDITIVE, LSE},
    {"additive-no-keys", SHAPE(1, 2, 2, 3, 0, 16, 16), ADDITIVE, LSE},
    {"additive-odd", SHAPE(1, 2, 2, 15, 31, 17, 33), ADDITIVE, LSE},
    {"additive-one-query", SHAPE(2, 1, 1, 1, 300, 64, 24), ADDITIVE, PER_BATCH, LSE},
    {"additive-gqa", SHAPE(1, 6, 2, 7, 65, 20, 16), ADDITIVE, PER_QUERY, LSE},
    {"additive-long", SHAPE(1, 2, 1, 13, 513, 24, 24), ADDITIVE, LSE},
    {"additive-dim-256", SHAPE(1, 1, 1, 15, 63, 256, 40), ADDITIVE, LSE},
    {"additive-causal", SHAPE(1, 4, 2, 33, 33, 16, 16), ADDITIVE, TOP_LEFT, LSE},
    {"additive-mask-rows", SHAPE(2, 4, 2, 17, 65, 16, 16), ADDITIVE, MASK(ROWS, H_), LSE},
    {"additive-scale-negative", SHAPE(1, 2, 2, 17, 65, 16, 16), ADDITIVE, SCALE(-0.5f), LSE},
    {"additive-large", SHAPE(1, 2, 2, 33, 65, 64, 64), ADDITIVE, VALUES(LARGE), LSE},
    {"additive-rising", SHAPE(1, 2, 2, 17, 300, 16, 16), ADDITIVE, VALUES(RISING), LSE},
    {"additive-denormal", SHAPE(1, 2, 2, 17, 65, 16, 16), ADDITIVE, VALUES(DENORMAL), LSE},
    {"additive-nan-k", SHAPE(1, 2, 1, 33, 33, 16, 16), ADDITIVE, NONFINITE(NAN_IN_K), TOP_LEFT, LSE},
    {"additive-inf-k", SHAPE(1, 2, 1, 33, 33, 16, 16), ADDITIVE, NONFINITE(INF_IN_K), TOP_LEFT, LSE},
    {"additive-nan-v", SHAPE(1, 2, 1, 33, 33, 16, 16), ADDITIVE, NONFINITE(NAN_IN_V), PER_QUERY, LSE},
    {"additive-weights", SHAPE(2, 4, 2, 17, 65, 16, 16), ADDITIVE, WEIGHTS, PER_BATCH, LSE},
    {"additive-padded", SHAPE(2, 4, 2, 17, 33, 15, 17), ADDITIVE, LAYOUTS(PADDED, REVERSED, BSHD, PADDED), LSE},
    {"additive-everything", SHAPE(2, 4, 2, 17, 65, 16, 16), ADDITIVE, EVERYTHING, BOTTOM_RIGHT},

    /* Dropout. */
    {"dropout", SHAPE(2, 3, 3, 17, 200, 16, 16), DROPOUT(0.5f), LSE},
    {"dropout-little", SHAPE(1, 2, 2, 33, 65, 16, 16), DROPOUT(0.01f), LSE},
    {"dropout-most", SHAPE(1, 2, 2, 33, 127, 16, 16), DROPOUT(0.9f), LSE},
    {"dropout-all", SHAPE(1, 2, 2, 17, 33, 16, 16), DROPOUT(1.0f), LSE},
    {"dropout-one-in-2^33", SHAPE(1, 2, 2, 17, 33, 16, 16), DROPOUT(0x1p-33f), LSE},
    {"dropout-long", SHAPE(1, 2, 1, 13, 1023, 24, 24), DROPOUT(0.1f), LSE},
    {"dropout-gqa", SHAPE(2, 6, 2, 15, 129, 16, 16), DROPOUT(0.2f), PER_QUERY, LSE},
    {"dropout-decode", SHAPE(2, 8, 2, 1, 513, 32, 32), DROPOUT(0.3f), PER_BATCH, LSE},
    {"dropout-causal", SHAPE(1, 4, 2, 65, 65, 16, 16), DROPOUT(0.1f), TOP_LEFT, LSE},
    {"dropout-window", SHAPE(1, 2, 1, 65, 300, 16, 16), DROPOUT(0.1f), WINDOW(70, 5), LSE},
    {"dropout-mask-rows", SHAPE(2, 4, 2, 17, 65, 16, 16), DROPOUT(0.3f), MASK(ROWS, H_), LSE},
    {"dropout-sinks", SHAPE(1, 4, 2, 17, 65, 16, 16), DROPOUT(0.3f), SINKS, LSE},
    {"dropout-nan-k", SHAPE(1, 2, 1, 33, 33, 16, 16), DROPOUT(0.4f), NONFINITE(NAN_IN_K), TOP_LEFT, LSE},
    {"dropout-nan-v", SHAPE(1, 2, 1, 33, 65, 16, 16), DROPOUT(0.4f), NONFINITE(NAN_IN_V), MASK(SOME, 0), LSE},
    {"dropout-inf-v", SHAPE(1, 2, 1, 33, 65, 16, 16), DROPOUT(0.4f), NONFINITE(INF_IN_V), TOP_LEFT, LSE},
    {"dropout-weights", SHAPE(2, 4, 2, 17, 130, 16, 16), DROPOUT(0.25f), WEIGHTS, PER_BATCH, LSE},
    {"dropout-weights-nan", SHAPE(1, 2, 1, 33, 33, 16, 16), DROPOUT(0.25f), WEIGHTS, NONFINITE(NAN_IN_K), TOP_LEFT},
    {"dropout-additive", SHAPE(2, 4, 2, 17, 130, 16, 16), DROPOUT(0.25f), ADDITIVE, WEIGHTS, PER_BATCH, LSE},
    {"dropout-everything", SHAPE(2, 4, 2, 17, 65, 16, 16), DROPOUT(0.2f), EVERYTHING, BOTTOM_RIGHT},

    /* Numbers. */
    {"large", SHAPE(1, 2, 2, 33, 65, 64, 64), VALUES(LARGE), LSE},
    {"large-causal", SHAPE(1, 2, 2, 65, 65, 16, 16), VALUES(LARGE), TOP_LEFT, LSE},
    {"large-long", SHAPE(1, 2, 2, 15, 700, 16, 16), VALUES(LARGE), LSE},
    {"dominant", SHAPE(2, 2, 2, 17, 200, 16, 16), VALUES(DOMINANT), LSE},
    {"dominant-causal", SHAPE(1, 4, 2, 65, 65, 16, 16), VALUES(DOMINANT), TOP_LEFT, LSE},
    {"rising", SHAPE(1, 2, 2, 17, 300, 16, 16), VALUES(RISING), LSE},
    {"falling", SHAPE(1, 2, 2, 17, 300, 16, 16), VALUES(FALLING), LSE},
    {"rising-causal", SHAPE(1, 2, 1, 65, 65, 16, 16), VALUES(RISING), BOTTOM_RIGHT, LSE},
    {"equal", SHAPE(1, 2, 2, 17, 300, 16, 16), VALUES(EQUAL), LSE},
    {"denormal", SHAPE(1, 2, 2, 17, 65, 16, 16), VALUES(DENORMAL), LSE},
    {"denormal-v", SHAPE(1, 2, 2, 17, 65, 16, 16), VALUES(DENORMAL_V), LSE},
    {"denormal-v-window", SHAPE(1, 4, 2, 60, 520, 4, 64), VALUES(DENORMAL_V), SCALE(9.0f), TOP_LEFT, WINDOW(15, -1)},

    /* What is not finite: seen by the rows that attend it, and by no other. */
    {"nan-k", SHAPE(1, 2, 2, 33, 33, 16, 16), NONFINITE(NAN_IN_K), LSE},
    {"nan-v", SHAPE(1, 2, 2, 33, 33, 16, 16), NONFINITE(NAN_IN_V), LSE},
    {"nan-k-causal", SHAPE(1, 2, 1, 33, 33, 16, 16), NONFINITE(NAN_IN_K), TOP_LEFT, LSE},
    {"nan-v-causal", SHAPE(1, 2, 1, 33, 33, 16, 16), NONFINITE(NAN_IN_V), TOP_LEFT, LSE},
    {"inf-k-causal", SHAPE(1, 2, 1, 33, 33, 16, 16), NONFINITE(INF_IN_K), TOP_LEFT, LSE},
    {"inf-v-causal", SHAPE(1, 2, 1, 33, 33, 16, 16), NONFINITE(INF_IN_V), TOP_LEFT, LSE},
    {"nan-k-mask", SHAPE(1, 4, 1, 33, 65, 16, 16), NONFINITE(NAN_IN_K), MASK(SOME, 0), LSE},
    {"nan-v-mask", SHAPE(1, 4, 1, 33, 65, 16, 16), NONFINITE(NAN_IN_V), MASK(SOME, 0), LSE},
    {"nan-v-mask-rows", SHAPE(1, 4, 1, 33, 65, 16, 16), NONFINITE(NAN_IN_V), MASK(ROWS, 0), LSE},
    {"nan-k-bias", SHAPE(1, 4, 1, 33, 65, 16, 16), NONFINITE(NAN_IN_K), BIAS(F32, SOME, 0), LSE},
    {"nan-v-bias", SHAPE(1, 4, 1, 33, 65, 16, 16), NONFINITE(NAN_IN_V), BIAS(F32, SOME, 0), LSE},
    {"inf-k-bias", SHAPE(1, 4, 1, 33, 65, 16, 16), NONFINITE(INF_IN_K), BIAS(F32, SOME, 0), LSE},
    {"nan-v-lengths", SHAPE(1, 4, 1, 17, 300, 16, 16), NONFINITE(NAN_IN_V), PER_QUERY, LSE},
    {"nan-v-window", SHAPE(1, 4, 1, 65, 65, 16, 16), NONFINITE(NAN_IN_V), WINDOW(5, 5), LSE},
    {"nan-v-falling", SHAPE(1, 1, 1, 17, 400, 16, 16), NONFINITE(NAN_IN_V), VALUES(FALLING), BOTTOM_RIGHT, LSE},
    {"inf-v-large", SHAPE(1, 2, 1, 17, 33, 16, 16), NONFINITE(INF_IN_V), VALUES(LARGE), MASK(SOME, 0), LSE},
    {"inf-v-underflow", SHAPE(1, 4, 1, 65, 65, 2, 2), NONFINITE(INF_IN_V), VALUES(LARGE), TOP_LEFT, LSE},
    {"nan-k-decode", SHAPE(1, 8, 1, 1, 300, 16, 16), NONFINITE(NAN_IN_K), MASK(SOME, 0), LSE},
    {"nan-v-decode", SHAPE(1, 8, 1, 1, 300, 16, 16), NONFINITE(NAN_IN_V), MASK(SOME, 0), LSE},
    {"nan-v-sinks", SHAPE(1, 4, 2, 17, 65, 16, 16), NONFINITE(NAN_IN_V), SINKS, TOP_LEFT, LSE},

    /* Layouts. */
    {"bshd", SHAPE(2, 4, 2, 17, 33, 16, 16), LAYOUTS(BSHD, BSHD, BSHD, BSHD), LSE},
    {"packed", SHAPE(2, 4, 2, 33, 33, 16, 16), .packed = true, .out = ATTEND_VERIFY_BSHD, TOP_LEFT, LSE},
    {"packed-odd", SHAPE(2, 3, 1, 17, 17, 15, 15), .packed = true, PER_BATCH, LSE},
    {"padded", SHAPE(2, 4, 2, 17, 33, 15, 17), LAYOUTS(PADDED, PADDED, PADDED, PADDED), LSE},
    {"reversed", SHAPE(2, 4, 2, 17, 33, 16, 16), LAYOUTS(REVERSED, REVERSED, REVERSED, PADDED), TOP_LEFT, LSE},
    {"one-batch", SHAPE(3, 4, 2, 17, 33, 16, 16), LAYOUTS(BHSD, ONE_BATCH, ONE_BATCH, BSHD), PER_BATCH, LSE},
    {"one-head", SHAPE(2, 4, 2, 17, 33, 16, 16), LAYOUTS(ONE_HEAD, ONE_HEAD, ONE_HEAD, BHSD), LSE},
    {"one-row", SHAPE(2, 4, 2, 17, 33, 16, 16), LAYOUTS(ONE_ROW, BHSD, ONE_ROW, BHSD), LSE},
    {"decode-padded", SHAPE(2, 8, 2, 1, 127, 63, 65), LAYOUTS(PADDED, PADDED, REVERSED, PADDED), LSE},

    /* Attention weights. */
    {"weights", SHAPE(2, 4, 2, 17, 65, 16, 16), WEIGHTS, LSE},
    {"weights-causal", SHAPE(1, 4, 2, 33, 33, 16, 16), WEIGHTS, TOP_LEFT},
    {"weights-long", SHAPE(1, 2, 1, 9, 700, 16, 16), WEIGHTS, BOTTOM_RIGHT, LSE},
    {"weights-sinks-rows", SHAPE(1, 4, 2, 17, 65, 16, 16), WEIGHTS, SINKS, MASK(ROWS, 0), LSE},
    {"weights-nan", SHAPE(1, 2, 1, 33, 33, 16, 16), WEIGHTS, NONFINITE(NAN_IN_K), TOP_LEFT, LSE},
    {"weights-nan-falling", SHAPE(1, 2, 1, 9, 400, 16, 16), WEIGHTS, NONFINITE(NAN_IN_K), VALUES(FALLING),
     BOTTOM_RIGHT},
    {"weights-everything", SHAPE(2, 4, 2, 17, 65, 16, 16), WEIGHTS, EVERYTHING, BOTTOM_RIGHT},
    {"weights-decode", SHAPE(1, 8, 2, 1, 127, 16, 16), WEIGHTS, PER_BATCH, LSE},

    /* Everything at once. */
    {"everything", SHAPE(2, 4, 2, 17, 65, 16, 16), EVERYTHING, BOTTOM_RIGHT},
    {"everything-top-left", SHAPE(2, 6, 2, 33, 33, 15, 17), EVERYTHING, TOP_LEFT},
    {"everything-offset", SHAPE(2, 2, 2, 31, 63, 33, 31), EVERYTHING, OFFSET(40), INVARIANT},
    {"everything-not-causal", SHAPE(1, 8, 1, 5, 127, 40, 24), EVERYTHING},
    {"everything-decode", SHAPE(2, 8, 2, 1, 127, 32, 32), EVERYTHING, BOTTOM_RIGHT},
    {"everything-padded", SHAPE(2, 4, 2, 17, 65, 15, 17), EVERYTHING, LAYOUTS(PADDED, REVERSED, BSHD, PADDED),
     TOP_LEFT},

    /* Mixed element types. */
    {"f32-bf16-f32", SHAPE(2, 4, 2, 17, 65, 16, 16), TYPES(F32, BF16, F32), BOTTOM_RIGHT, LSE},
    {"f32-f16-f32", SHAPE(2, 4, 2, 17, 65, 17, 33), TYPES(F32, F16, F32), LSE},
    {"bf16-bf16-f32", SHAPE(2, 4, 2, 17, 65, 16, 16), TYPES(BF16, BF16, F32), PER_BATCH, LSE},
    {"f16-f16-f32", SHAPE(2, 4, 2, 1, 127, 64, 64), TYPES(F16, F16, F32), LSE},
    {"f16-bf16-f16", SHAPE(2, 4, 2, 17, 65, 15, 17), TYPES(F16, BF16, F16), MASK(SOME, 0), LSE},
    {"bf16-f16-f16", SHAPE(2, 4, 2, 17, 65, 16, 16), TYPES(BF16, F16, F16), TOP_LEFT, LSE},
    {"f32-f32-bf16", SHAPE(2, 4, 2, 17, 65, 16, 16), TYPES(F32, F32, BF16), EVERYTHING, BOTTOM_RIGHT},
    {"f32-f32-bf16-nan", SHAPE(2, 4, 2, 17, 65, 16, 16), TYPES(F32, F32, BF16), NONFINITE(NAN_IN_V), TOP_LEFT, LSE},
    {"f32-f32-f16", SHAPE(2, 4, 2, 17, 65, 16, 16), TYPES(F32, F32, F16), LAYOUTS(PADDED, PADDED, PADDED, PADDED)},
};

size_t attend_verify_named_count(void) { return sizeof cases / sizeof *cases; }

bool attend_verify_named_is_typed(size_t index) { return cases[index].problem.q_dtype != ATTEND_DTYPE_DEFAULT; }

void attend_verify_named_case(size_t index, uint64_t seed, attend_dtype dtype, attend_verify_case *c) {
  *c = cases[index];
  c->seed = seed;
  c->problem.struct_size = sizeof c->problem;
  if (!attend_verify_named_is_typed(index)) c->problem.q_dtype = c->dtype = dtype ? dtype : ATTEND_F32;
  attend_verify_lay_out(c);
}
