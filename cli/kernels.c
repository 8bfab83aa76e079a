/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/json.h"
#include "cli/options.h"
#include "dispatch/dispatch.h"

static const attend_cli_option options[] = {
    {"json", NULL, "as JSON, with tile sizes", .take = attend_cli_take_json},
    {.help = "operations"},
    {.value = "forward", .help = "attention: what plans run"},
    {.value = "softmax", .help = "masked softmax of rows"},
    {.value = "append", .help = "new rows of keys or values into a cache"},
    {.value = "merge", .help = "results over several key ranges into one"},
    {.help = "what kernels can do"},
    {.value = "weights", .help = "write attention weights"},
    {.value = "split", .help = "share the keys of a row out among threads"},
    {.value = "additive", .help = "compute additive scores"},
    {.value = "dropout", .help = "drop weights"},
    {.value = "scores", .help = "write scores"},
};
static const attend_cli_command command = {
    .usage = "attend kernels [--json]",
    .about =
        "Lists every kernel of this build, operation by operation: its name; its body and instruction set; the element "
        "types it takes; what it can do that others of its operation cannot; and whether it runs here, under the limit "
        "of ATTEND_ISA, if not why. 'attend run --kernel' and ATTEND_KERNEL take the names of the operation forward.",
    .options = options,
    .count = sizeof options / sizeof *options,
    .examples = "attend kernels\n"
                "attend kernels --json | jq -r '.kernels[] | select(.runnable) | .name'\n"
                "ATTEND_ISA=avx2 attend kernels\n",
};

static cJSON *row_json(const attend_kernel *kernel, attend_isa highest) {
  char why[256] = "";
  const bool runnable = attend_kernel_runnable(kernel, highest, why, sizeof why);
  cJSON *item = cJSON_CreateObject();
  cJSON_AddStringToObject(item, "name", kernel->name);
  cJSON_AddStringToObject(item, "operation", attend_operation_name(kernel->operation));
  cJSON_AddStringToObject(item, "body", attend_body_name(kernel->body));
  cJSON_AddStringToObject(item, "isa", attend_isa_name(kernel->isa));
  if (kernel->compute) cJSON_AddStringToObject(item, "compute", attend_dtype_name(kernel->compute));
  cJSON *dtypes = cJSON_AddArrayToObject(item, "dtypes");
  for (attend_dtype dtype = ATTEND_F32; (int)dtype < ATTEND_DTYPE_COUNT; dtype++)
    if (kernel->dtypes & ATTEND_DTYPE_BIT(dtype))
      cJSON_AddItemToArray(dtypes, cJSON_CreateString(attend_dtype_name(dtype)));
  if (kernel->operation == ATTEND_OP_FORWARD) {
    cJSON_AddNumberToObject(item, "q_rows", kernel->q_rows);
    cJSON_AddNumberToObject(item, "k_block", kernel->k_block);
    cJSON *can = cJSON_AddArrayToObject(item, "can");
    for (int i = 0; i < ATTEND_CAN_COUNT; i++)
      if (kernel->can >> i & 1) cJSON_AddItemToArray(can, cJSON_CreateString(attend_can_name(i)));
  }
  cJSON_AddBoolToObject(item, "runnable", runnable);
  if (!runnable) cJSON_AddStringToObject(item, "reason", why);
  return item;
}

static void print_json(attend_isa highest) {
  cJSON *root = attend_cli_json_object(), *list = cJSON_AddArrayToObject(root, "kernels");
  for (attend_operation operation = 0; operation < ATTEND_OP_COUNT; operation++)
    for (size_t i = 0; attend_kernel_of(operation, i); i++)
      cJSON_AddItemToArray(list, row_json(attend_kernel_of(operation, i), highest));
  attend_cli_json_print(root);
}

enum { TEXT = 64 };

/* Appends a word to a list. */
static void add_word(char text[TEXT], const char *word) {
  const size_t length = strlen(text);
  snprintf(text + length, TEXT - length, "%s%s", length ? "," : "", word);
}

static void print_row(const attend_kernel *kernel, int width, attend_isa highest) {
  char why[256] = "", dtypes[TEXT] = "", can[TEXT] = "";
  const bool runnable = attend_kernel_runnable(kernel, highest, why, sizeof why);
  for (attend_dtype dtype = ATTEND_F32; dtype <= ATTEND_BF16; dtype++)
    if (kernel->dtypes & ATTEND_DTYPE_BIT(dtype)) add_word(dtypes, attend_dtype_name(dtype));
  if (kernel->dtypes & ATTEND_DTYPES_FORMATS) add_word(dtypes, "formats");
  for (int i = 0; i < ATTEND_CAN_COUNT; i++)
    if (kernel->can >> i & 1) add_word(can, attend_can_name(i));
  printf("%-*s  %-9s  %-9s  %-10s  %-20s  %-30s  %s%s\n", width, kernel->name, attend_operation_name(kernel->operation),
         attend_body_name(kernel->body), attend_isa_name(kernel->isa), dtypes, *can ? can : "-",
         runnable ? "yes" : "no: ", why);
}

static void print_table(attend_isa highest) {
  int width = (int)strlen("name");
  for (attend_operation operation = 0; operation < ATTEND_OP_COUNT; operation++)
    for (size_t i = 0; attend_kernel_of(operation, i); i++) {
      const int length = (int)strlen(attend_kernel_of(operation, i)->name);
      if (length > width) width = length;
    }
  printf("%-*s  %-9s  %-9s  %-10s  %-20s  %-30s  %s\n", width, "name", "operation", "body", "isa", "dtypes", "can",
         "runnable here");
  for (attend_operation operation = 0; operation < ATTEND_OP_COUNT; operation++)
    for (size_t i = 0; attend_kernel_of(operation, i); i++) print_row(attend_kernel_of(operation, i), width, highest);
}

int cmd_kernels(int argc, char **argv) {
  bool json = false;
  int status;
  if (!attend_cli_parse(argc, argv, &command, &json, &status)) return status;
  attend_env env;
  attend_status read = attend_env_read(&env);
  if (read != ATTEND_OK) return attend_cli_library_error(read);
  (json ? print_json : print_table)(env.isa);
  return ATTEND_EXIT_DONE;
}
