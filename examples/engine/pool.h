/* SPDX-License-Identifier: Apache-2.0 */
/** A thread pool such as an engine has: it stands for the one that yours has already. */
#ifndef POOL_H
#define POOL_H

typedef struct pool pool;

/** Starts `threads` - 1 threads: the calling one works, too. NULL if that fails. */
pool *pool_create(int threads);
void pool_destroy(pool *p);

/** Calls task(argument, i) for every i from 0 to count - 1, and returns when all have returned: attend's parallel_for.
 */
void pool_run(void *p, int count, void (*task)(void *argument, int i), void *argument);

#endif
