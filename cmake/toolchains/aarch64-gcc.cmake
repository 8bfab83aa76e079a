# SPDX-License-Identifier: Apache-2.0
# Cross build for 64-bit Arm with Debian's gcc.
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
include(${CMAKE_CURRENT_LIST_DIR}/aarch64.cmake)
