#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Where threads cannot be started an OpenMP runtime ends the program. The library does not let it come to that: it runs on
# fewer threads, with the same results.
set -euo pipefail
: "${ATTEND:?}" "${BUILD_DIR:?}" "${CC:?}" "${SOURCE_DIR:?}"

if [ -n "${SANITIZE:-}" ]; then echo "SKIPPED: sanitizers need threads and address space of their own" && exit 77; fi
if ! "$ATTEND" info --json | grep -q '"openmp":[[:space:]]*true'; then
  echo "SKIPPED: this build has no OpenMP, which would start threads" && exit 77
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$BUILD_DIR"/libattend.so* "$work"
"$CC" -O1 -Wall -Wextra -Werror -I"$SOURCE_DIR/include" "$SOURCE_DIR/tests/consumer/limits.c" -o "$work/limits" \
  -L"$work" -lattend -Wl,-rpath,"$work"
chmod -R a+rX "$work"

try() { # <what> <command>...
  local what=$1 output
  shift
  output=$("$@" 2>&1) || { echo "$what: exit status $?: $output" && exit 1; }
  echo "$what: $output"
}

with_ulimit() { # <option> <value> <command>...
  ulimit "$1" "$2"
  exec "${@:3}"
}
export -f with_ulimit

try "no room for their stacks" env OMP_STACKSIZE=4G bash -c 'with_ulimit -v 3000000 "$@"' - "$work/limits"

# Thread-local variables lie on the stack: one too small for those, and threads cannot be started.
echo '_Thread_local volatile char large[4 << 20]; void use(void); void use(void) { large[0] = 1; }' >"$work/large.c"
"$CC" -shared -fPIC -ftls-model=initial-exec "$work/large.c" -o "$work/large.so"
try "stacks too small" env OMP_STACKSIZE=256K LD_PRELOAD="$work/large.so" "$work/limits"

# The limit counts threads of all processes of a user, so root becomes a user that has none.
as_user=()
if [ "$(id -u)" = 0 ]; then as_user=(setpriv --reuid 54321 --clear-groups); fi
if ! refused=$("${as_user[@]}" true 2>&1); then echo "SKIPPED: root cannot become another user here: $refused" && exit 77; fi
try "no more threads for the user" "${as_user[@]}" bash -c 'with_ulimit -u 1 "$@"' - "$work/limits"
