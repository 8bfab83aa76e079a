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

bool attend_cli_json_option(int argc, char **argv, const char *help, bool *json, int *status) {
  enum { HELP = 1, JSON };
  static const struct option table[] = {{"help", no_argument, NULL, HELP}, {"json", no_argument, NULL, JSON}, {0}};
  *json = false;
  int option;
  while ((option = attend_cli_next_option(argc, argv, table)) > 0) {
    if (option == HELP) {
      fputs(help, stdout);
      *status = ATTEND_EXIT_DONE;
      return false;
    }
    *json = true;
  }
  *status = ATTEND_EXIT_BAD_INPUT;
  return option == -1;
}
