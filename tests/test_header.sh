#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Each public header compiles alone, without a warning, as C11 and as C++17, with every compiler that is here.
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
  attend_append_problem append = ATTEND_APPEND_PROBLEM_INIT;
  attend_append_tensors append_tensors = ATTEND_APPEND_TENSORS_INIT;
  attend_merge_problem merge = ATTEND_MERGE_PROBLEM_INIT;
  attend_merge_tensors merge_tensors = ATTEND_MERGE_TENSORS_INIT;
  return problem.struct_size == sizeof problem && tensors.struct_size == sizeof tensors &&
         options.struct_size == sizeof options && append.struct_size == sizeof append &&
         append_tensors.struct_size == sizeof append_tensors && merge.struct_size == sizeof merge &&
         merge_tensors.struct_size == sizeof merge_tensors ? 0 : 1;
}
END
cat >"$work/layers.c" <<'END'
#include <attend/layers.h>
int main(void) {
  attend_mha_problem problem = ATTEND_MHA_PROBLEM_INIT;
  attend_mha_tensors tensors = ATTEND_MHA_TENSORS_INIT;
  return problem.struct_size == sizeof problem && tensors.struct_size == sizeof tensors ? 0 : 1;
}
END
for file in use layers; do cp "$work/$file.c" "$work/$file.cpp"; done
warnings=(-Wall -Wextra -pedantic -Werror -I"$SOURCE_DIR/include")

done=0
try() { # <compiler> <standard> <ending>
  command -v "$1" >/dev/null || return 0
  for file in use layers; do
    "$1" "-std=$2" "${warnings[@]}" "$work/$file.$3" -o "$work/$file"
    "$work/$file"
  done
  echo "$1 -std=$2"
  done=$((done + 1))
}
for compiler in "$CC" gcc clang-19 clang; do
  try "$compiler" c11 c
done
for compiler in g++ clang++-19 clang++; do
  try "$compiler" c++17 cpp
done
[ "$done" -ge 2 ]
