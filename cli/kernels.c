/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/json.h"
#include "cli/options.h"
#include "dispatch/dispatch.h"

static const char help[] =
    "usage: attend kernels [--json]\n"
    "\n"
    "Lists every kernel of this build: its name, which 'attend run --kernel' and ATTEND_KERNEL take; its body and\n"
    "instruction set; the element types it takes; and whether it runs here, under the limit of ATTEND_ISA, if not "
    "why.\n"
    "\n"
    "  --json   as JSON, with tile sizes and what else each can do\n"
    "  --help   this text\n"
    "\n"
    "examples\n"
    "  attend kernels\n"
    "  attend kernels --json | jq -r '.kernels[] | select(.runnable) | .name'\n"
    "  ATTEND_ISA=avx2 attend kernels\n";

static void print_json(attend_isa highest) {
  cJSON *root = attend_cli_json_object(), *list = cJSON_AddArrayToObject(root, "kernels");
  for (size_t i = 0; i < attend_kernel_count(); i++) {
    const attend_kernel *kernel = attend_kernel_at(i);
    char why[256] = "";
    bool runnable = attend_kernel_runnable(kernel, highest, why, sizeof why);
    cJSON *item = cJSON_CreateObject();
    cJSON_AddItemToArray(list, item);
    cJSON_AddStringToObject(item, "name", kernel->name);
    cJSON_AddStringToObject(item, "body", attend_body_name(kernel->body));
    cJSON_AddStringToObject(item, "isa", attend_isa_name(kernel->isa));
    cJSON_AddStringToObject(item, "compute", attend_dtype_name(kernel->compute));
    cJSON *dtypes = cJSON_AddArrayToObject(item, "dtypes");
    for (attend_dtype dtype = ATTEND_F32; dtype <= ATTEND_BF16; dtype++)
      if (kernel->dtypes & ATTEND_DTYPE_BIT(dtype))
        cJSON_AddItemToArray(dtypes, cJSON_CreateString(attend_dtype_name(dtype)));
    cJSON_AddNumberToObject(item, "q_rows", kernel->q_rows);
    cJSON_AddNumberToObject(item, "k_block", kernel->k_block);
    cJSON_AddBoolToObject(item, "writes_weights", (kernel->can & ATTEND_CAN_WEIGHTS) != 0);
    cJSON_AddBoolToObject(item, "splits_keys", (kernel->can & ATTEND_CAN_SPLIT) != 0);
    cJSON_AddBoolToObject(item, "built", true);
    cJSON_AddBoolToObject(item, "runnable", runnable);
    if (!runnable) cJSON_AddStringToObject(item, "reason", why);
  }
  attend_cli_json_print(root);
}

static void print_table(attend_isa highest) {
  int width = (int)strlen("name");
  for (size_t i = 0; i < attend_kernel_count(); i++) {
    int length = (int)strlen(attend_kernel_at(i)->name);
    if (length > width) width = length;
  }
  printf("%-*s  %-9s  %-6s  %-12s  %-5s  %s\n", width, "name", "body", "isa", "dtypes", "built", "runnable here");
  for (size_t i = 0; i < attend_kernel_count(); i++) {
    const attend_kernel *kernel = attend_kernel_at(i);
    char why[256] = "", dtypes[32] = "";
    bool runnable = attend_kernel_runnable(kernel, highest, why, sizeof why);
    for (attend_dtype dtype = ATTEND_F32; dtype <= ATTEND_BF16; dtype++)
      if (kernel->dtypes & ATTEND_DTYPE_BIT(dtype)) {
        if (*dtypes) strcat(dtypes, ",");
        strcat(dtypes, attend_dtype_name(dtype));
      }
    /* A row is in the table only if its instruction set was built. */
    printf("%-*s  %-9s  %-6s  %-12s  %-5s  %s%s\n", width, kernel->name, attend_body_name(kernel->body),
           attend_isa_name(kernel->isa), dtypes, "yes", runnable ? "yes" : "no: ", why);
  }
}

int cmd_kernels(int argc, char **argv) {
  bool json;
  int status;
  if (!attend_cli_json_option(argc, argv, help, &json, &status)) return status;
  attend_env env;
  attend_status read = attend_env_read(&env);
  if (read != ATTEND_OK) return attend_cli_library_error(read);
  (json ? print_json : print_table)(env.isa);
  return ATTEND_EXIT_DONE;
}
