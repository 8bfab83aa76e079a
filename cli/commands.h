/* SPDX-License-Identifier: Apache-2.0 */
/**
 * The commands of `attend`. Each gets the arguments from its own name on (argv[0] is "run", "info", ...), answers
 * --help itself, and returns the exit status: 0 done, 1 a check failed, 2 bad usage or input, reported by
 * attend_cli_error() of cli/options.h.
 */
#ifndef ATTEND_CLI_COMMANDS_H
#define ATTEND_CLI_COMMANDS_H

int cmd_info(int argc, char **argv);
int cmd_kernels(int argc, char **argv);
int cmd_report(int argc, char **argv);
int cmd_layer(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_tune(int argc, char **argv);
int cmd_verify(int argc, char **argv);

#endif
