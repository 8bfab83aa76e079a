#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Options that let a compiler compute something else than the source says: those given to the whole build, or by a
# project around it, do not reach the library's sources; any that do are refused by them.
set -euo pipefail
: "${SOURCE_DIR:?}" "${CC:?}" "${CMAKE:?}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/parent"
cat >"$work/parent/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.25)
project(parent LANGUAGES C)
set(CMAKE_C_FLAGS "${CMAKE_C_FLAGS} -Ofast -DOF_THE_FLAGS")
add_compile_options("$<$<CONFIG:Release>:-ffast-math>" -Ofast -DOF_THE_FOLDER)
add_link_options(-ffast-math -Wl,--as-needed)
add_subdirectory(${ATTEND_SOURCE} attend)
file(WRITE ${CMAKE_BINARY_DIR}/own.c "int own;")
add_library(own STATIC ${CMAKE_BINARY_DIR}/own.c)
END

# configure <folder> <source> <option>...
configure() {
  local folder=$1 source=$2
  shift 2
  "$CMAKE" -G Ninja -S "$source" -B "$folder" -DCMAKE_BUILD_TYPE=Release -DCMAKE_EXPORT_COMPILE_COMMANDS=ON "$@" \
    >"$work/log" 2>&1 || { cat "$work/log" && exit 1; }
}

# without <folder> <flag>: no rule for the library's files has it.
without() {
  local rules
  rules=$(grep -h -A 12 '^build [^ ]*attend' "$1/build.ninja")
  if grep -m 1 -e "^ *\(FLAGS\|LINK_FLAGS\) =.* $2\( \|$\)" <<<"$rules"; then echo "$2 reaches the library" && exit 1; fi
}

flags=(-ffast-math -Ofast -funsafe-math-optimizations -ffinite-math-only -fassociative-math)
case $("$CC" --version) in
  *clang*) flags+=(-ffp-model=fast) refused=(-ffast-math -Ofast -ffinite-math-only) ;;
  *) refused=("${flags[@]}") ;; # clang tells the source of no other
esac
for flag in "${flags[@]}"; do
  echo "-- $flag of the build"
  configure "$work/own$flag" "$SOURCE_DIR" -DATTEND_CLI=OFF -DATTEND_TESTS=OFF -DATTEND_BENCH=OFF -DCMAKE_C_FLAGS="$flag -DOF_THE_FLAGS"
  without "$work/own$flag" "$flag"
  grep -q "not for its own sources.*$flag" <("$CMAKE" "$work/own$flag") || { echo "nothing says that $flag is left out" && exit 1; }
done
echo "-- of a project around it"
configure "$work/parent/build" "$work/parent" -DATTEND_SOURCE="$SOURCE_DIR"
without "$work/parent/build" -Ofast
without "$work/parent/build" -ffast-math
"$CMAKE" --build "$work/parent/build" --target attend_scalar >"$work/log" 2>&1 || { cat "$work/log" && exit 1; }
# flags_of <target>: of its first file. One process: a pipe would break where its reader has seen enough.
flags_of() { awk -v rule="^build [^ ]*$1.dir" '$0 ~ rule { found = 1 } found && / FLAGS =/ { print; exit }' "$work/parent/build/build.ninja"; }
rule=$(flags_of attend_scalar)
case $rule in *OF_THE_FLAGS*OF_THE_FOLDER*) ;; *) echo "other options of the parent are lost: $rule" && exit 1 ;; esac
rule=$(flags_of own)
case $rule in *-ffast-math*) ;; *) echo "the parent's own sources lose -ffast-math: $rule" && exit 1 ;; esac

for flag in "${refused[@]}"; do
  echo "-- $flag given to a source"
  if [ "$flag" = -fassociative-math ]; then flag+=" -fno-signed-zeros -fno-trapping-math"; fi
  for source in dispatch/error.c kernels/merge.c layers/rope.c verify/reference.c; do
    # shellcheck disable=SC2086
    if "$CC" -O2 $flag -I"$SOURCE_DIR" -I"$SOURCE_DIR/include" -c "$SOURCE_DIR/$source" -o "$work/object" 2>"$work/log" ||
        ! grep -q 'error: .*attend ' "$work/log"; then
      cat "$work/log" && echo "$source is compiled with $flag" && exit 1
    fi
  done
done
