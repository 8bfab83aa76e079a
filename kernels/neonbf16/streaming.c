/* SPDX-License-Identifier: Apache-2.0 */
/** The streaming rows of this ISA. */
#include "kernels/neonbf16/vec.h"

#include "kernels/body/streaming.h"
