/* SPDX-License-Identifier: Apache-2.0 */
/** What `attend info` says of caches, cores and memory nodes. */
#ifndef ATTEND_CLI_TOPOLOGY_H
#define ATTEND_CLI_TOPOLOGY_H

#include "cli/json.h"

void attend_cli_print_topology(void);
/** Adds "caches" and "topology". */
void attend_cli_add_topology(cJSON *root);

#endif
