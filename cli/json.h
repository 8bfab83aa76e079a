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

/**
 * Reads the command line of a command that has --json and --help and nothing else. False, with the exit status set, if
 * that is all there is to do.
 */
bool attend_cli_json_option(int argc, char **argv, const char *help, bool *json, int *status);

#endif
