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
#include "cli/text.h"

static bool fail(const attend_output *output, const char *what) {
  attend_cli_error("--%s %s: %s", output->option, output->path, what);
  return false;
}

/* ---------------------------------------------------------------------------------------------------------- names */

/* The path without links of a file that is not there, but its directory is. */
static bool resolve_new(attend_output *output, const char *path) {
  const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
  if (!*name) return fail(output, "expected the name of a file");
  char parent[PATH_MAX], directory[PATH_MAX];
  size_t length = slash ? (size_t)(name - path) : 1;
  if (length >= sizeof parent) return fail(output, strerror(ENAMETOOLONG));
  memcpy(parent, slash ? path : ".", length);
  parent[length] = '\0';
  if (!realpath(parent, directory)) return fail(output, strerror(errno));
  int joined = snprintf(output->target, PATH_MAX, "%s/%s", strcmp(directory, "/") == 0 ? "" : directory, name);
  return (joined > 0 && joined < PATH_MAX) || fail(output, strerror(ENAMETOOLONG));
}

/* Follows links to a file that is not there: where that is to appear becomes the target. */
static bool resolve_links(attend_output *output) {
  enum { MOST_LINKS = 40 }; /* as Linux has it */
  char link[PATH_MAX];
  if (!resolve_new(output, output->path)) return false;
  for (int i = 0; i < MOST_LINKS; i++) {
    const ssize_t length = readlink(output->target, link, sizeof link - 1);
    if (length < 0) return errno == ENOENT || errno == EINVAL || fail(output, strerror(errno));
    link[length] = '\0';
    char path[2 * PATH_MAX];
    const int directory = link[0] == '/' ? 0 : (int)(strrchr(output->target, '/') - output->target) + 1;
    if (snprintf(path, sizeof path, "%.*s%s", directory, output->target, link) >= PATH_MAX)
      return fail(output, strerror(ENAMETOOLONG));
    if (!resolve_new(output, path)) return false;
  }
  return fail(output, strerror(ELOOP));
}

static bool are_same(const struct stat *a, const struct stat *b) {
  return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Finds the target: of a file that is there, the file itself; else its name in the directory it is to appear in. */
static bool resolve(attend_output *output) {
  struct stat info, own;
  output->stream = strcmp(output->path, "-") == 0;
  strcpy(output->target, output->stream ? "-" : "");
  if (output->stream) return true;
  if (stat(output->path, &info) != 0) return errno == ENOENT ? resolve_links(output) : fail(output, strerror(errno));
  /* /dev/stdout is what it leads to, unless that is a device, which may be /dev/null. */
  if (!S_ISCHR(info.st_mode) && fstat(STDOUT_FILENO, &own) == 0 && are_same(&info, &own)) {
    output->stream = true;
    strcpy(output->target, "-");
    return true;
  }
  output->stream = S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode);
  if (!S_ISREG(info.st_mode) && !output->stream)
    return fail(output, "expected a regular file, a pipe or a character device, or none");
  if (access(output->path, W_OK) != 0) return fail(output, strerror(errno));
  /* What /dev/stdout leads to may be a pipe, which has no name. */
  if (output->stream) return true;
  return realpath(output->path, output->target) || fail(output, strerror(errno));
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
      if (*output->target && strcmp(outputs->file[j].target, output->target) == 0) {
        attend_cli_error("--%s and --%s name the same file, %s", outputs->file[j].option, output->option, output->path);
        return false;
      }
    if (output->stream) continue;
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

bool attend_outputs_spare(const attend_outputs *outputs, const char *option, const char *path) {
  struct stat input, output;
  if (!path || stat(path, &input) != 0) return true;
  for (int i = 0; i < outputs->count; i++) {
    const attend_output *file = &outputs->file[i];
    if (file->stream || stat(file->target, &output) != 0) continue;
    if (!are_same(&input, &output)) continue;
    attend_cli_error("--%s and --%s name the same file, %s: expected an output that is no input", option, file->option,
                     file->path);
    return false;
  }
  return true;
}

FILE *attend_outputs_text(const attend_outputs *outputs) {
  for (int i = 0; i < outputs->count; i++)
    if (strcmp(outputs->file[i].target, "-") == 0) return stderr;
  return stdout;
}

/*
 * A name of our own beside the target, short whatever the target is called, that no file has: a process of the same
 * number, in another container or long ended by force, may have left some.
 */
static bool name_beside(const attend_output *output, int index, const char *what, char path[PATH_MAX]) {
  enum { MOST_LEFT = 1000 };
  struct stat info;
  char directory[PATH_MAX];
  directory_of(output, directory);
  for (int left = 0; left < MOST_LEFT; left++) {
    int length = snprintf(path, PATH_MAX, "%s.attend-%ld-%d-%d.%s", directory, (long)getpid(), index, left, what);
    if (length <= 0 || length >= PATH_MAX) return fail(output, strerror(ENAMETOOLONG));
    if (lstat(path, &info) != 0) return errno == ENOENT || fail(output, strerror(errno));
  }
  return fail(output, "its directory is full of temporary files of processes that were killed: .attend-*");
}

/* -------------------------------------------------------------------------------------------------------- signals */

/*
 * While there are temporary files, signals that end the process are only noted, whichever thread they reach. Those that
 * writing itself causes are ignored, because writing then returns an error.
 */
static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT}, by_writing[] = {SIGPIPE, SIGXFSZ};
enum { ENDING = sizeof ending / sizeof *ending, BY_WRITING = sizeof by_writing / sizeof *by_writing };

static struct sigaction ending_before[ENDING], by_writing_before[BY_WRITING];
static volatile sig_atomic_t noted;

static void note(int signal_number) { noted = signal_number; }

static void hold_signals(void) {
  /* Without SA_RESTART: a pipe that nobody reads does not keep the process for ever. */
  struct sigaction hold = {.sa_handler = note}, ignore = {.sa_handler = SIG_IGN};
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

static bool write_to(const attend_output *output, FILE *file) {
  return output->text ? fputs(output->text, file) >= 0
                      : attend_npy_write_f32(file, output->rank, output->shape, output->data);
}

/* Gives a file the owner, as far as that is ours to give, and the mode of the one that it is to replace. */
static void take_after(const attend_output *output, int descriptor) {
  struct stat info;
  if (stat(output->target, &info) != 0) return;
  const bool owned = fchown(descriptor, info.st_uid, info.st_gid) == 0;
  /* Where the group is another one, it may do only what all may do. */
  const mode_t mode = info.st_mode & 0777, others = mode & 07;
  (void)fchmod(descriptor, owned ? mode : (mode & 0707) | (mode & others << 3));
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
  take_after(output, descriptor);
  bool written = write_to(output, file) && (!output->lasting || (fflush(file) == 0 && fsync(descriptor) == 0));
  int reason = errno;
  /* A full disk may be noticed as late as here. */
  if (fclose(file) != 0 && written) written = false, reason = errno;
  return written || fail(output, strerror(reason));
}

/* What has gone down a pipe cannot be brought back: so that is after all files are written, before any is renamed. */
static bool write_stream(const attend_output *output) {
  const bool own = strcmp(output->target, "-") != 0;
  FILE *file = own ? fopen(output->path, "wb") : stdout;
  bool written = file && write_to(output, file);
  int reason = errno;
  if (file && (own ? fclose(file) : fflush(file)) != 0 && written) written = false, reason = errno;
  if (!own && !written) clearerr(stdout); /* it is reported here */
  return written || (!noted && fail(output, strerror(reason)));
}

static bool write_all(attend_outputs *outputs) {
  for (int i = 0; i < outputs->count; i++)
    if ((!outputs->file[i].stream && !write_temporary(&outputs->file[i], i)) || noted) return false;
  for (int i = 0; i < outputs->count; i++)
    if ((outputs->file[i].stream && !write_stream(&outputs->file[i])) || noted) return false;
  return true;
}

bool attend_outputs_stage(attend_outputs *outputs) {
  hold_signals();
  if (write_all(outputs)) return true;
  attend_outputs_discard(outputs);
  return false;
}

void attend_outputs_discard(attend_outputs *outputs) {
  remove_temporaries(outputs);
  release_signals();
}

/* So that the new name outlasts a power cut, too. Some file systems cannot, and then it is no error. */
static void sync_directory(const attend_output *output) {
  char directory[PATH_MAX];
  directory_of(output, directory);
  const int descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  (void)fsync(descriptor);
  close(descriptor);
}

/* The last file simply replaces its target; the ones before keep theirs aside until that has happened. */
static bool rename_temporary(attend_output *output, int index, bool last) {
  char aside[PATH_MAX];
  if (output->stream) return true;
  if (!last) {
    if (!name_beside(output, index, "old", aside)) return false;
    if (rename(output->target, aside) == 0)
      strcpy(output->replaced, aside);
    else if (errno != ENOENT)
      return fail(output, strerror(errno));
  }
  if (rename(output->temporary, output->target) != 0) return fail(output, strerror(errno));
  output->temporary[0] = '\0';
  if (output->lasting) sync_directory(output);
  return true;
}

bool attend_outputs_commit(attend_outputs *outputs) {
  int done = 0;
  while (done < outputs->count && rename_temporary(&outputs->file[done], done, done == outputs->count - 1)) done++;
  bool ok = done == outputs->count;
  for (int i = 0; i < outputs->count; i++) {
    attend_output *output = &outputs->file[i];
    if (!ok && i < done && !output->stream) unlink(output->target);
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
  FILE *text = attend_outputs_text(outputs);
  fputs("wrote", text);
  for (int i = 0; i < outputs->count; i++) {
    const attend_output *file = &outputs->file[i];
    char shape[128];
    fprintf(text, "%s %s%s%s ", i ? "," : "", file->option, file->text ? "" : " ",
            file->text ? "" : attend_npy_shape_text(file->rank, file->shape, shape, sizeof shape));
    attend_cli_print_clean(text, file->path);
  }
  fputc('\n', text);
}
