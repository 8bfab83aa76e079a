/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An unmodified libllama at work, for scripts/llama:
 *   probe logits MODEL OUT K_TYPE V_TYPE THREADS PROMPT TOKENS SEQUENCES UNIFIED HOLES   the logits of each step into
 * OUT probe times MODEL K_TYPE V_TYPE THREADS TOKENS REPEATS PROMPT DEPTH...               milliseconds, a line of JSON
 * each
 */
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

#include "ggml-backend.h"
#include "llama.h"

namespace {

[[noreturn]] void fail(const std::string &what) {
  fprintf(stderr, "probe: %s\n", what.c_str());
  exit(1);
}

ggml_type type_named(const char *name) {
  for (int i = 0; i < GGML_TYPE_COUNT; i++) {
    const auto type = static_cast<ggml_type>(i);
    if (ggml_type_name(type) != nullptr && strcmp(ggml_type_name(type), name) == 0) return type;
  }
  fail(std::string("ggml has no type ") + name);
}

double milliseconds(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) * 1e-6;
}

struct times_taken {
  std::vector<double> wall, processor;
};

/* A context, and tokens that are the same in every run. */
struct session {
  llama_model *model;
  llama_context *context = nullptr;
  int vocabulary;
  unsigned seed = 7;

  explicit session(const char *file) {
    model = llama_model_load_from_file(file, llama_model_default_params());
    if (model == nullptr) fail(std::string("cannot load ") + file);
    vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
  }

  void open(const char *k, const char *v, int threads, int cells, int batch, int sequences, bool unified) {
    llama_context_params p = llama_context_default_params();
    p.n_ctx = static_cast<uint32_t>(cells), p.n_batch = static_cast<uint32_t>(batch), p.n_ubatch = 512;
    p.n_seq_max = static_cast<uint32_t>(sequences), p.kv_unified = unified;
    p.n_threads = p.n_threads_batch = threads;
    p.type_k = type_named(k), p.type_v = type_named(v);
    p.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
    context = llama_init_from_model(model, p);
    if (context == nullptr) fail("cannot make a context");
  }

  llama_token token() {
    seed = seed * 1664525u + 1013904223u;
    return static_cast<llama_token>((seed >> 8) % static_cast<unsigned>(vocabulary));
  }

  /* `count` tokens of each sequence from `first` on; logits of the last one. */
  void decode(int first, int count, int sequences, std::vector<int> &positions, FILE *out) {
    llama_batch b = llama_batch_init(count * sequences, 0, 1);
    for (int i = 0; i < count; i++)
      for (int s = 0; s < sequences; s++) {
        const int n = b.n_tokens++;
        b.token[n] = token(), b.pos[n] = positions[static_cast<size_t>(s)] + i;
        b.n_seq_id[n] = 1, b.seq_id[n][0] = first + s, b.logits[n] = i == count - 1;
      }
    for (int s = 0; s < sequences; s++) positions[static_cast<size_t>(s)] += count;
    if (llama_decode(context, b) != 0) fail("llama_decode() failed");
    llama_synchronize(context);
    for (int n = 0; out != nullptr && n < b.n_tokens; n++)
      if (b.logits[n]) fwrite(llama_get_logits_ith(context, n), sizeof(float), static_cast<size_t>(vocabulary), out);
    llama_batch_free(b);
  }
};

int logits(char **a) {
  session s(a[0]);
  const int threads = atoi(a[4]), prompt = atoi(a[5]), tokens = atoi(a[6]), sequences = atoi(a[7]);
  const bool unified = atoi(a[8]) != 0, holes = atoi(a[9]) != 0;
  const int each = 2 * prompt + tokens + 256;
  s.open(a[2], a[3], threads, each * sequences, prompt * sequences, sequences, unified);
  FILE *out = fopen(a[1], "wb");
  if (out == nullptr) fail(std::string("cannot write ") + a[1]);
  std::vector<int> positions(static_cast<size_t>(sequences), 0);
  s.decode(0, prompt, sequences, positions, out);
  if (holes) { /* what is evicted in the middle leaves holes, which later tokens fill */
    for (int i = 0; i < sequences; i++) llama_memory_seq_rm(llama_get_memory(s.context), i, prompt / 4, prompt / 2);
    s.decode(0, prompt / 8, sequences, positions, out);
  }
  for (int i = 0; i < tokens; i++) s.decode(0, 1, sequences, positions, out);
  return fclose(out) == 0 ? 0 : 1;
}

void print_numbers(const char *name, const std::vector<double> &numbers) {
  printf(", \"%s\": [", name);
  for (size_t i = 0; i < numbers.size(); i++) printf("%s%.4f", i > 0 ? ", " : "", numbers[i]);
  printf("]");
}

void print_times(const char *test, int depth, const times_taken &times) {
  printf("{\"test\": \"%s\", \"depth\": %d", test, depth);
  print_numbers("ms", times.wall);
  print_numbers("cpu_ms", times.processor);
  puts("}");
  fflush(stdout);
}

/*
 * The cache is filled cheaply: 512 tokens are a sequence of their own, which is copied, moved to where it is to stand
 * (its keys turn) and made a part of sequence 0, as often as there is room. ggml turns no keys in bf16: there each part
 * is computed anew where it is to stand. To fill 16384 tokens in one sequence would take minutes.
 */
int times(int count, char **a) {
  session s(a[0]);
  const int threads = atoi(a[3]), tokens = atoi(a[4]), repeats = atoi(a[5]), prompt = atoi(a[6]);
  std::vector<int> depths;
  for (int i = 7; i < count; i++) depths.push_back(atoi(a[i]));
  std::sort(depths.begin(), depths.end());
  const int most = depths.back(), parts = (most + 511) / 512;
  s.open(a[1], a[2], threads, most + std::max(prompt, tokens) + 512, std::max(prompt, 512),
         1 + parts + static_cast<int>(depths.size()), true);
  llama_memory_t memory = llama_get_memory(s.context);
  const bool keys_turn = strcmp(a[1], "bf16") != 0;
  std::vector<uint8_t> part;
  int filled = 0, next = 1;
  for (const int depth : depths) {
    while (filled < depth) {
      const int n = std::min(512, depth - filled);
      if (n == 512 && !part.empty()) {
        if (llama_state_seq_set_data(s.context, part.data(), part.size(), next) == 0) fail("keys cannot be copied");
      } else {
        std::vector<int> position{keys_turn ? 0 : filled};
        s.decode(next, n, 1, position, nullptr);
        if (keys_turn) part.resize(llama_state_seq_get_size(s.context, next));
        llama_state_seq_get_data(s.context, part.data(), part.size(), next);
      }
      if (keys_turn) llama_memory_seq_add(memory, next, -1, -1, filled);
      llama_memory_seq_cp(memory, next, 0, -1, -1);
      llama_memory_seq_rm(memory, next, -1, -1);
      filled += n, next++;
    }
    if (depth > 0 && llama_memory_seq_pos_max(memory, 0) != depth - 1) fail("the cache is not as it should be");
    const auto measure = [&](const char *test, int rounds, int each, bool warm) {
      times_taken all;
      std::vector<int> position{depth};
      if (warm) s.decode(0, each, 1, position, nullptr);
      for (int r = 0; r < rounds; r++) {
        const double wall = milliseconds(CLOCK_MONOTONIC), processor = milliseconds(CLOCK_PROCESS_CPUTIME_ID);
        s.decode(0, each, 1, position, nullptr);
        all.wall.push_back(milliseconds(CLOCK_MONOTONIC) - wall);
        all.processor.push_back(milliseconds(CLOCK_PROCESS_CPUTIME_ID) - processor);
        if (each > 1) { /* tokens go on, prompts begin anew */
          llama_memory_seq_rm(memory, 0, depth, -1);
          position[0] = depth;
        }
      }
      llama_memory_seq_rm(memory, 0, depth, -1);
      print_times(test, depth, all);
    };
    if (tokens > 0) measure("token", tokens, 1, true);
    if (prompt > 0) measure("prompt", repeats, prompt, false);
  }
  return 0;
}

void log_errors(ggml_log_level level, const char *text, void *) {
  if (level >= GGML_LOG_LEVEL_WARN && level != GGML_LOG_LEVEL_CONT) fputs(text, stderr);
}

} /* namespace */

int main(int argc, char **argv) {
  llama_log_set(log_errors, nullptr);
  ggml_backend_load_all();
  if (argc == 12 && strcmp(argv[1], "logits") == 0) return logits(argv + 2);
  if (argc >= 10 && strcmp(argv[1], "times") == 0) return times(argc - 2, argv + 2);
  fail("see the comment at the top of probe.cpp for its arguments");
}
