/* SPDX-License-Identifier: Apache-2.0 */
/** Plays an x86 processor that has AMX on one that may have none, to be detected instead of it. */
#ifndef ATTEND_TESTS_PLAY_X86_H
#define ATTEND_TESTS_PLAY_X86_H

#include <stdbool.h>

/** What the processor that is played, and its system, are like beyond the one at hand. */
typedef struct attend_play_x86 {
  bool saves_tiles; /**< the operating system */
  bool palette;     /**< a tile palette, without which an instruction of AMX faults */
  bool really_ask;  /**< the system at hand for its permission; otherwise it is granted */
  int asked;        /**< counts how often the permission was asked for */
} attend_play_x86;

/** Plays it from now on; nothing must have asked about the processor yet. */
void attend_play_amx(attend_play_x86 *play);

#endif
