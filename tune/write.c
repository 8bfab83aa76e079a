/* SPDX-License-Identifier: Apache-2.0 */
/** Replaces a file at once. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tune/tune.h"

/** Makes every directory on the way to a file. */
static int make_directories(const char *path) {
  char directory[PATH_MAX];
  strcpy(directory, path);
  for (char *slash = strchr(directory + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = 0;
    if (mkdir(directory, 0777) != 0 && errno != EEXIST) return errno;
    *slash = '/';
  }
  return 0;
}

static int write_all(int file, const char *text, size_t length) {
  while (length > 0) {
    const ssize_t written = write(file, text, length);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    text += written, length -= (size_t)written;
  }
  return fsync(file) == 0 ? 0 : errno;
}

/** So that the new name outlasts a power cut, too. Some file systems cannot, and then it is no error. */
static void sync_directory(const char *path) {
  char directory[PATH_MAX];
  strcpy(directory, path);
  char *slash = strrchr(directory, '/');
  if (slash) slash[1] = 0;
  const int file = open(slash ? directory : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (file < 0) return;
  (void)fsync(file);
  close(file);
}

int attend_tune_write(const char *path, const char *text, size_t length, bool make_directory) {
  /* A name of this process alone: two tuners at once do not meet, and the last one to finish wins. */
  char temporary[PATH_MAX];
  const int named = snprintf(temporary, sizeof temporary, "%s.%ld.tmp", path, (long)getpid());
  if (named < 0 || named >= PATH_MAX) return ENAMETOOLONG;
  int error = make_directory ? make_directories(path) : 0;
  if (error) return error;
  /* One left by a process of the same number, which was killed, has no owner any more. */
  unlink(temporary);
  const int file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file < 0) return errno;
  error = write_all(file, text, length);
  if (close(file) != 0 && !error) error = errno;
  if (!error && rename(temporary, path) != 0) error = errno;
  if (error)
    unlink(temporary);
  else
    sync_directory(path);
  return error;
}
