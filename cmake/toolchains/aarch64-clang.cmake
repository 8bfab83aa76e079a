# SPDX-License-Identifier: Apache-2.0
# Cross build for 64-bit Arm with clang, on the C library and linker that come with Debian's gcc for it.
set(CMAKE_C_COMPILER clang-19)
set(CMAKE_C_COMPILER_TARGET aarch64-linux-gnu)
include(${CMAKE_CURRENT_LIST_DIR}/aarch64.cmake)
