#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The shared library is loaded, used and closed again and again, as plugins are: nothing crashes, and nothing is lost.
set -euo pipefail
: "${BUILD_DIR:?}" "${SOURCE_DIR:?}" "${CC:?}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags=(-O1 -Wall -Wextra -Werror -I"$SOURCE_DIR/include")
most=1024
if [ -n "${SANITIZE:-}" ]; then
  flags+=("-fsanitize=$SANITIZE")
  most=1000000 # a sanitizer keeps what was freed
fi
"$CC" "${flags[@]}" "$SOURCE_DIR/tests/consumer/unload.c" -o "$work/unload" -ldl
for threads in 1 2; do
  "$work/unload" "$BUILD_DIR/libattend.so" "$threads" "$most"
done
