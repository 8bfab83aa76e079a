/* SPDX-License-Identifier: Apache-2.0 */
/** Output files that appear together or not at all. */
#ifndef ATTEND_CLI_OUTPUT_H
#define ATTEND_CLI_OUTPUT_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { ATTEND_OUTPUTS_MAX = 3 };

/**
 * A float32 array and the .npy file it goes to, or a text and its file. The caller sets the first seven fields,
 * attend_outputs_check() the rest. A path of "-" is standard output; a pipe or a device, such as /dev/null, is written
 * to as it is, in place of being replaced.
 */
typedef struct attend_output {
  const char *option; /**< for errors: the option that names the file */
  const char *path;
  int rank;
  int64_t shape[4];
  const float *data;        /**< needed from attend_outputs_stage() on, */
  const char *text;         /**< or this instead */
  bool lasting;             /**< it is to outlast a power cut, which takes time: that of the disk */
  bool stream;              /**< standard output, a pipe or a device */
  char target[PATH_MAX];    /**< the path without links: what is replaced in the end; "-" for standard output */
  char temporary[PATH_MAX]; /**< what is written, "" when there is none */
  char replaced[PATH_MAX];  /**< what the target was, while it can still be brought back; "" when there is none */
} attend_output;

/** Up to ATTEND_OUTPUTS_MAX outputs. */
typedef struct attend_outputs {
  int count;
  attend_output file[ATTEND_OUTPUTS_MAX];
} attend_outputs;

/** Whether the files can be written, as far as that can be known before the work, which else might be done in vain. */
bool attend_outputs_check(attend_outputs *outputs);

/** Whether an input, which may be NULL, is not among the files to be replaced. False after reporting that it is. */
bool attend_outputs_spare(const attend_outputs *outputs, const char *option, const char *path);

/** Where text belongs: standard output, or standard error where an output goes there. */
FILE *attend_outputs_text(const attend_outputs *outputs);

/**
 * Writes all files under temporary names in their directories, and then to streams. Until the commit or the discard,
 * signals that end the process wait, so that no temporary file is left. Nor is one left on failure.
 */
bool attend_outputs_stage(attend_outputs *outputs);

/** Renames all staged files to what they are called, or, on failure, leaves all as it was. */
bool attend_outputs_commit(attend_outputs *outputs);

/** Commits, after all of standard output could be written: the files appear once everything else is done. */
bool attend_outputs_finish(attend_outputs *outputs);

/** Says there what was written, to the end of a line. */
void attend_outputs_print(const attend_outputs *outputs);

/** Instead of the commit: removes all staged files. */
void attend_outputs_discard(attend_outputs *outputs);

#endif
