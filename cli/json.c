/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/json.h"

#include <stdio.h>
#include <stdlib.h>

#include "cli/options.h"

static void *allocate(size_t size) {
  void *memory = malloc(size);
  if (!memory) exit(attend_cli_error("no memory for JSON output"));
  return memory;
}

cJSON *attend_cli_json_object(void) {
  cJSON_InitHooks(&(cJSON_Hooks){.malloc_fn = allocate, .free_fn = free});
  return cJSON_CreateObject();
}

void attend_cli_json_print(cJSON *json) {
  char *text = cJSON_Print(json);
  puts(text);
  cJSON_free(text);
  cJSON_Delete(json);
}

bool attend_cli_take_json(const char *text, void *json) {
  (void)text;
  *(bool *)json = true;
  return true;
}
