#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The public header compiles alone, without a warning, as C11 and as C++17, with every compiler that is here.
set -euo pipefail
: "${SOURCE_DIR:?}" "${CC:?}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/use.c" <<'END'
#include <attend/attend.h>
int main(void) {
  attend_problem problem = ATTEND_PROBLEM_INIT;
  attend_tensors tensors = ATTEND_TENSORS_INIT;
  attend_options options = ATTEND_OPTIONS_INIT;
  return problem.struct_size == sizeof problem && tensors.struct_size == sizeof tensors &&
         options.struct_size == sizeof options ? 0 : 1;
}
END
cp "$work/use.c" "$work/use.cpp"
warnings=(-Wall -Wextra -pedantic -Werror -I"$SOURCE_DIR/include")

done=0
try() { # <compiler> <standard> <file>
  command -v "$1" >/dev/null || return 0
  "$1" "-std=$2" "${warnings[@]}" "$work/$3" -o "$work/use"
  "$work/use"
  echo "$1 -std=$2"
  done=$((done + 1))
}
for compiler in "$CC" gcc clang-19 clang; do
  try "$compiler" c11 use.c
done
for compiler in g++ clang++-19 clang++; do
  try "$compiler" c++17 use.cpp
done
[ "$done" -ge 2 ]
