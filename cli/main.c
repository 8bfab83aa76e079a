/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "attend/attend.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "dispatch/dispatch.h"

static const struct {
  const char *name, *purpose;
  int (*run)(int argc, char **argv);
} commands[] = {
#ifndef ATTEND_VERIFY_ONLY
    {"info", "what this machine has: processor, caches, threads, and what of it is used", cmd_info},
    {"kernels", "all kernels, and which of them run here", cmd_kernels},
    {"layer", "multi-head attention with the weights of a model", cmd_layer},
    {"run", "attention on .npy files", cmd_run},
    {"report", "a page of what attend-bench and scripts/peers measured", cmd_report},
    {"tune", "measure this machine, so that the fastest kernel is chosen for every shape", cmd_tune},
#endif
    {"verify", "check every kernel against the scalar reference", cmd_verify},
};
enum { COMMAND_COUNT = sizeof commands / sizeof *commands };

static void print_help(void) {
  puts("usage: attend COMMAND [OPTION]...\n"
       "       attend --help | --version\n"
       "\n"
       "CPU attention kernels for inference engines: softmax(scale * Q K^T + bias, masked) V.\n"
       "\n"
       "commands ('attend COMMAND --help' says more)");
  for (int i = 0; i < COMMAND_COUNT; i++) printf("  %-10s %s\n", commands[i].name, commands[i].purpose);
  puts("\noptions\n  --help     this text\n  --version  the version\n\nenvironment");
  for (const attend_env_variable *v = attend_env_variables; v->name; v++)
    printf("  %-20s %s (%s)\n", v->name, v->meaning, v->values);
  puts("\n"
       "exit status: 0 done, 1 a check failed, 2 bad usage or input\n"
       "\n"
       "examples\n"
#ifndef ATTEND_VERIFY_ONLY
       "  attend info\n"
       "  attend run --q q.npy --k k.npy --v v.npy --out out.npy --causal --explain\n"
#endif
       "  attend verify --kernel '*avx2*'");
}

static int run_command(int argc, char **argv) {
  if (argc < 2) return attend_cli_error("no command is given; 'attend --help' lists them");
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
    print_help();
    return ATTEND_EXIT_DONE;
  }
  if (strcmp(argv[1], "--version") == 0) {
    printf("attend %s\n", attend_version());
    return ATTEND_EXIT_DONE;
  }
  for (int i = 0; i < COMMAND_COUNT; i++)
    if (strcmp(argv[1], commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
  return attend_cli_error("unknown command '%s'; 'attend --help' lists them", argv[1]);
}

int main(int argc, char **argv) {
  int status = run_command(argc, argv);
  if (status == ATTEND_EXIT_BAD_INPUT) return status;
  return attend_cli_flush() ? status : ATTEND_EXIT_BAD_INPUT;
}
