/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/npy.h"
#include "cli/options.h"

static bool fail(const attend_output *output, const char *what) {
  attend_cli_error("--%s %s: %s", output->option, output->path, what);
  return false;
}

/* ---------------------------------------------------------------------------------------------------------- names */

/* Finds the target: of a file that is there, the file itself; else its name in the directory it is to appear in. */
static bool resolve(attend_output *output) {
  struct stat info;
  if (stat(output->path, &info) == 0) {
    if (!S_ISREG(info.st_mode)) return fail(output, "expected a regular file, or none");
    if (access(output->path, W_OK) != 0) return fail(output, strerror(errno));
    return realpath(output->path, output->target) || fail(output, strerror(errno));
  }
  if (errno != ENOENT) return fail(output, strerror(errno));
  const char *slash = strrchr(output->path, '/'), *name = slash ? slash + 1 : output->path;
  if (!*name) return fail(output, "expected the name of a file");
  char parent[PATH_MAX], directory[PATH_MAX];
  size_t length = slash ? (size_t)(name - output->path) : 1;
  if (length >= sizeof parent) return fail(output, strerror(ENAMETOOLONG));
  memcpy(parent, slash ? output->path : ".", length);
  parent[length] = '\0';
  if (!realpath(parent, directory)) return fail(output, strerror(errno));
  int joined = snprintf(output->target, PATH_MAX, "%s/%s", strcmp(directory, "/") == 0 ? "" : directory, name);
  return (joined > 0 && joined < PATH_MAX) || fail(output, strerror(ENAMETOOLONG));
}

/* Where the target is or will be, with a slash at the end. */
static void directory_of(const attend_output *output, char directory[PATH_MAX]) {
  strcpy(directory, output->target);
  strrchr(directory, '/')[1] = '\0';
}

bool attend_outputs_check(attend_outputs *outputs) {
  for (int i = 0; i < outputs->count; i++) {
    attend_output *output = &outputs->file[i];
    output->temporary[0] = output->replaced[0] = '\0';
    if (!resolve(output)) return false;
    for (int j = 0; j < i; j++)
      if (strcmp(outputs->file[j].target, output->target) == 0) {
        attend_cli_error("--%s and --%s name the same file, %s", outputs->file[j].option, output->option, output->path);
        return false;
      }
    char directory[PATH_MAX];
    directory_of(output, directory);
    if (access(directory, W_OK | X_OK) != 0) {
      int reason = errno;
      attend_cli_error("--%s %s: cannot write to its directory: %s", output->option, output->path, strerror(reason));
      return false;
    }
  }
  return true;
}

/* A name of our own beside the target, short whatever the target is called. */
static bool name_beside(const attend_output *output, int index, const char *what, char path[PATH_MAX]) {
  char directory[PATH_MAX];
  directory_of(output, directory);
  int length = snprintf(path, PATH_MAX, "%s.attend-%ld-%d.%s", directory, (long)getpid(), index, what);
  return (length > 0 && length < PATH_MAX) || fail(output, strerror(ENAMETOOLONG));
}

/* -------------------------------------------------------------------------------------------------------- signals */

/*
 * While there are temporary files, signals that end the process only leave a note; whichever thread they reach. Those
 * that come from writing itself are left to its error.
 */
static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT}, by_writing[] = {SIGPIPE, SIGXFSZ};
enum { ENDING = sizeof ending / sizeof *ending, BY_WRITING = sizeof by_writing / sizeof *by_writing };

static struct sigaction ending_before[ENDING], by_writing_before[BY_WRITING];
static volatile sig_atomic_t noted;

static void note(int signal_number) { noted = signal_number; }

static void hold_signals(void) {
  struct sigaction hold = {.sa_handler = note, .sa_flags = SA_RESTART}, ignore = {.sa_handler = SIG_IGN};
  noted = 0;
  for (int i = 0; i < ENDING; i++) {
    sigaction(ending[i], &hold, &ending_before[i]);
    if (ending_before[i].sa_handler == SIG_IGN) sigaction(ending[i], &ignore, NULL);
  }
  for (int i = 0; i < BY_WRITING; i++) sigaction(by_writing[i], &ignore, &by_writing_before[i]);
}

static void release_signals(void) {
  for (int i = 0; i < ENDING; i++) sigaction(ending[i], &ending_before[i], NULL);
  for (int i = 0; i < BY_WRITING; i++) sigaction(by_writing[i], &by_writing_before[i], NULL);
  if (noted) raise(noted);
}

/* ---------------------------------------------------------------------------------------------------------- files */

static void remove_temporaries(attend_outputs *outputs) {
  for (int i = 0; i < outputs->count; i++) {
    attend_output *output = &outputs->file[i];
    if (output->temporary[0]) unlink(output->temporary);
    output->temporary[0] = '\0';
  }
}

static bool write_temporary(attend_output *output, int index) {
  char path[PATH_MAX];
  if (!name_beside(output, index, "tmp", path)) return false;
  int descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor < 0) return fail(output, strerror(errno));
  strcpy(output->temporary, path);
  FILE *file = fdopen(descriptor, "wb");
  if (!file) {
    int reason = errno;
    close(descriptor);
    return fail(output, strerror(reason));
  }
  bool written = output->text ? fputs(output->text, file) >= 0
                              : attend_npy_write_f32(file, output->rank, output->shape, output->data);
  int reason = errno;
  /* A full disk may be noticed as late as here. */
  if (fclose(file) != 0 && written) written = false, reason = errno;
  return written || fail(output, strerror(reason));
}

bool attend_outputs_stage(attend_outputs *outputs) {
  hold_signals();
  for (int i = 0; i < outputs->count; i++)
    if (!write_temporary(&outputs->file[i], i) || noted) {
      attend_outputs_discard(outputs);
      return false;
    }
  return true;
}

void attend_outputs_discard(attend_outputs *outputs) {
  remove_temporaries(outputs);
  release_signals();
}

/* The last file simply replaces its target; the ones before put theirs aside until that has happened. */
static bool rename_temporary(attend_output *output, int index, bool last) {
  char aside[PATH_MAX];
  if (!last) {
    if (!name_beside(output, index, "old", aside)) return false;
    if (rename(output->target, aside) == 0)
      strcpy(output->replaced, aside);
    else if (errno != ENOENT)
      return fail(output, strerror(errno));
  }
  if (rename(output->temporary, output->target) != 0) return fail(output, strerror(errno));
  output->temporary[0] = '\0';
  return true;
}

bool attend_outputs_commit(attend_outputs *outputs) {
  int done = 0;
  while (done < outputs->count && rename_temporary(&outputs->file[done], done, done == outputs->count - 1)) done++;
  bool ok = done == outputs->count;
  for (int i = 0; i < outputs->count; i++) {
    attend_output *output = &outputs->file[i];
    if (!ok && i < done) unlink(output->target);
    if (!output->replaced[0]) continue;
    if (ok)
      unlink(output->replaced);
    else
      rename(output->replaced, output->target);
    output->replaced[0] = '\0';
  }
  attend_outputs_discard(outputs);
  return ok;
}

bool attend_outputs_finish(attend_outputs *outputs) {
  if (attend_cli_flush()) return attend_outputs_commit(outputs);
  attend_outputs_discard(outputs);
  return false;
}

void attend_outputs_print(const attend_outputs *outputs) {
  printf("wrote");
  for (int i = 0; i < outputs->count; i++) {
    const attend_output *file = &outputs->file[i];
    char shape[128];
    printf("%s %s%s%s %s", i ? "," : "", file->option, file->text ? "" : " ",
           file->text ? "" : attend_npy_shape_text(file->rank, file->shape, shape, sizeof shape), file->path);
  }
  putchar('\n');
}
