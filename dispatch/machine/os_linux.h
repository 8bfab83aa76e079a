/* SPDX-License-Identifier: Apache-2.0 */
/** Between the Linux files of dispatch/. */
#ifndef ATTEND_DISPATCH_OS_LINUX_H
#define ATTEND_DISPATCH_OS_LINUX_H

#include <stdbool.h>
#include <stddef.h>

#include "dispatch/machine/topology.h"

/**
 * Reads a small text file, at most size - 1 bytes of it, and ends it with a zero. False if it cannot be read or is
 * empty. Not stdio: that would allocate.
 */
bool attend_linux_read_file(const char *path, char *text, size_t size);

/** attend_os_topology(), of the machine whose sysfs is mounted at `sys`. */
void attend_linux_topology(const char *sys, const attend_cpu_set *allowed, attend_topology *topology);

#endif
