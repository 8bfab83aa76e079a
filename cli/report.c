/* SPDX-License-Identifier: Apache-2.0 */
/** `attend report` is a Python program, because matplotlib draws: it is found beside this one and started in its place.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/options.h"

/* From the folder of this program: where it is installed, and in a build tree. */
static const char *const folders[] = {ATTEND_DATA_FROM_PROGRAM "/report", "share/attend/report"};

/** The folder of the Python program in `path`; false if it is at none of its places. */
static bool find_report(char path[PATH_MAX], char own[PATH_MAX]) {
  ssize_t length = readlink("/proc/self/exe", own, PATH_MAX - 1);
  if (length < 0) length = 0;
  own[length] = '\0';
  char *slash = strrchr(own, '/');
  if (!slash) return false;
  *slash = '\0';
  for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
    char program[PATH_MAX + 16];
    int size = snprintf(path, PATH_MAX, "%s/%s", own, folders[i]);
    if (size < 0 || size >= PATH_MAX) continue;
    snprintf(program, sizeof program, "%s/__main__.py", path);
    if (access(program, R_OK) == 0) return true;
  }
  return false;
}

int cmd_report(int argc, char **argv) {
  char path[PATH_MAX], own[PATH_MAX];
  if (!find_report(path, own))
    return attend_cli_error("report: its Python program is neither in %s/%s nor in %s/%s", own, folders[0], own,
                            folders[1]);
  char **arguments = calloc((size_t)argc + 3, sizeof *arguments);
  if (!arguments) return attend_cli_error("report: no memory");
  arguments[0] = "python3";
  arguments[1] = "-B"; /* leaves no compiled files where it is installed */
  arguments[2] = path;
  memcpy(arguments + 3, argv + 1, (size_t)(argc - 1) * sizeof *arguments);
  execvp(arguments[0], arguments);
  int reason = errno;
  free(arguments);
  return attend_cli_error("report: cannot start python3, which it needs: %s (Debian: python3, python3-matplotlib)",
                          strerror(reason));
}
