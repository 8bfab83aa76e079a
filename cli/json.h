/* SPDX-License-Identifier: Apache-2.0 */
/** What commands with --json share. */
#ifndef ATTEND_CLI_JSON_H
#define ATTEND_CLI_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>

/** An empty object. From then on cJSON ends the program, with an error, when there is no memory: no field is lost. */
cJSON *attend_cli_json_object(void);

/** Prints and frees it. */
void attend_cli_json_print(cJSON *json);

/** What takes --json, where the request is a bool and nothing else. */
bool attend_cli_take_json(const char *text, void *json);

#endif
