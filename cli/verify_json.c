/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/json.h"
#include "cli/verify_output.h"

static cJSON *root, *failures;

static void begin(int64_t seed) {
  root = attend_cli_json_object();
  cJSON_AddNumberToObject(root, "seed", (double)seed);
  failures = cJSON_AddArrayToObject(root, "failures");
}

static void failure(const tally *t, const char *message) {
  (void)t; /* the message names the kernel */
  cJSON_AddItemToArray(failures, cJSON_CreateString(message));
}

static cJSON *tally_json(const tally *t) {
  cJSON *item = cJSON_CreateObject();
  cJSON_AddStringToObject(item, "kernel", t->name);
  cJSON_AddNumberToObject(item, "passed", (double)t->passed);
  cJSON_AddNumberToObject(item, "failed", (double)t->failed);
  cJSON_AddNumberToObject(item, "skipped", (double)t->skipped);
  cJSON_AddNumberToObject(item, "ragged", (double)t->ragged);
  cJSON_AddNumberToObject(item, "paged", (double)t->paged);
  cJSON_AddNumberToObject(item, "ranged", (double)t->ranged);
  static const char *const names[2][2] = {{"error_f32", "plain_error_f32"}, {"error_16", "plain_error_16"}};
  for (int wide = 0; wide < 2; wide++)
    if (t->error[wide] >= 0) {
      cJSON_AddNumberToObject(item, names[wide][0], t->error[wide]);
      if (t->plain[wide] >= 0) cJSON_AddNumberToObject(item, names[wide][1], t->plain[wide]);
    }
  cJSON_AddNumberToObject(item, "share_of_allowed", t->share);
  cJSON *reasons = cJSON_AddArrayToObject(item, "reasons");
  for (int r = 0; r < REASONS && t->reasons[r].count; r++) {
    cJSON *reason = cJSON_CreateObject();
    cJSON_AddStringToObject(reason, "reason", t->reasons[r].text);
    cJSON_AddNumberToObject(reason, "skipped", (double)t->reasons[r].count);
    cJSON_AddItemToArray(reasons, reason);
  }
  return item;
}

static void end(const tally *tallies, size_t count, const tally *all) {
  cJSON *kernels = cJSON_AddArrayToObject(root, "kernels");
  for (size_t i = 0; i < count; i++) cJSON_AddItemToArray(kernels, tally_json(&tallies[i]));
  cJSON_AddNumberToObject(root, "passed", (double)all->passed);
  cJSON_AddNumberToObject(root, "failed", (double)all->failed);
  cJSON_AddNumberToObject(root, "skipped", (double)all->skipped);
  attend_cli_json_print(root);
}

const verify_output attend_verify_json = {begin, failure, end};
