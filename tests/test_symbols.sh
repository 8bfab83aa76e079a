#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The shared library exports exactly the functions of the public headers, and what the static library defines for the
# linker cannot clash with a program's own names.
set -euo pipefail
: "${BUILD_DIR:?}" "${SOURCE_DIR:?}" "${CC:?}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# layers.h includes attend.h. Declarations may span lines: join them, then take the name before the parenthesis.
"$CC" -E -P -I"$SOURCE_DIR/include" "$SOURCE_DIR/include/attend/layers.h" | tr '\n' ' ' |
  grep -o '__attribute__((visibility("default")))[^(]*(' | sed 's/.*[ *]\([a-z_0-9]*\)($/\1/' | sort >"$work/header"
nm -D --defined-only --format=posix "$BUILD_DIR/libattend.so" | cut -d ' ' -f 1 | sort >"$work/exported"

[ "$(wc -l <"$work/header")" -ge 10 ] || { echo "found only these functions in the headers:" && cat "$work/header" && exit 1; }
if ! diff "$work/header" "$work/exported"; then
  echo "< in the headers only, > exported only" && exit 1
fi
if grep -v '^attend_' "$work/exported"; then
  echo "exported without attend_ in front" && exit 1
fi

nm -g --defined-only --format=posix "$BUILD_DIR/libattend.a" 2>/dev/null | sed -n 's/^\([A-Za-z_][^ ]*\) [A-Z] .*/\1/p' |
  grep -v -e '^attend_' -e '^__odr_asan' >"$work/stray" || true
if [ -s "$work/stray" ]; then
  cat "$work/stray" && echo "global in libattend.a without attend_ in front" && exit 1
fi
echo "$(wc -l <"$work/exported") exported functions"
