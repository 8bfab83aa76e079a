#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Programs built outside the tree against an installed copy, which is moved after its installation: through the CMake
# package and through pkg-config, shared and static, in C and in C++.
set -euo pipefail
: "${BUILD_DIR:?}" "${SOURCE_DIR:?}" "${CC:?}" "${CMAKE:?}"

case ${CC##*/} in
  *clang*) CXX=${CC/clang/clang++} ;;
  *gcc*) CXX=${CC/gcc/g++} ;;
  *) CXX=${CC%cc}c++ ;;
esac
command -v "$CXX" >/dev/null || { echo "no C++ compiler $CXX beside $CC" && exit 77; }
export CC CXX

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$SOURCE_DIR/tests/consumer" "$work/source"
"$CMAKE" --install "$BUILD_DIR" --prefix "$work/first" >"$work/log" || { cat "$work/log" && exit 1; }
mv "$work/first" "$work/installed"
flags=(-Wall -Wextra -Werror)
if [ -n "${SANITIZE:-}" ]; then flags+=("-fsanitize=$SANITIZE"); fi

if grep -rIlF -e "$SOURCE_DIR" -e "$BUILD_DIR" -e "$work/first" "$work/installed"/include "$work/installed"/lib* \
    --include='*.h' --include='*.cmake' --include='*.pc'; then
  echo "the installed files above name the source, build or installation directory" && exit 1
fi

expected=$(printf '%s\n' '1.0000 2.0000 3.0000')
try() { # <name> <program> [<argument>...]
  local name=$1 output
  shift
  output=$("$@") || { echo "$name: exit status $?" && exit 1; }
  echo "$name: ${output//$'\n'/ | }"
  case $name in *forward*)
    if [ "${output%%$'\n'*}" != "$expected" ]; then echo "$name: the first row must be $expected" && exit 1; fi ;;
  esac
}

echo "-- find_package"
CFLAGS="${flags[*]}" CXXFLAGS="${flags[*]}" "$CMAKE" -S "$work/source" -B "$work/cmake" \
  -DCMAKE_PREFIX_PATH="$work/installed" >"$work/log" 2>&1 || { cat "$work/log" && exit 1; }
"$CMAKE" --build "$work/cmake" >"$work/log" 2>&1 || { cat "$work/log" && exit 1; }
for program in "$work"/cmake/{forward,forward_cxx,own_threads}_{attend,static}; do
  try "${program##*/}" "$program"
done

echo "-- add_subdirectory"
"$CMAKE" -S "$work/source/subproject" -B "$work/subproject" -DATTEND_SOURCE="$SOURCE_DIR" >"$work/log" 2>&1 ||
  { cat "$work/log" && exit 1; }

echo "-- FetchContent: what is installed, and else the source"
CFLAGS="${flags[*]}" "$CMAKE" -S "$work/source/fetch" -B "$work/fetch" -DCMAKE_PREFIX_PATH="$work/installed" -DATTEND_INSTALLED=ON >"$work/log" 2>&1 &&
  "$CMAKE" --build "$work/fetch" >>"$work/log" 2>&1 || { cat "$work/log" && exit 1; }
try forward "$work/fetch/forward"
"$CMAKE" -S "$work/source/fetch" -B "$work/fetch-source" -DFETCHCONTENT_SOURCE_DIR_ATTEND="$SOURCE_DIR" >"$work/log" 2>&1 ||
  { cat "$work/log" && exit 1; }

echo "-- a component that is not there"
printf 'cmake_minimum_required(VERSION 3.25)\nproject(x LANGUAGES C)\nfind_package(attend 0.2 REQUIRED COMPONENTS shared imaginary)\n' >"$work/CMakeLists.txt"
if "$CMAKE" -S "$work" -B "$work/imaginary" -DCMAKE_PREFIX_PATH="$work/installed" >"$work/log" 2>&1 || ! tr -s ' \n' ' ' <"$work/log" | grep -q "no component imaginary: there are shared, static and mpi"; then
  cat "$work/log" && echo "find_package must name the component that is missing" && exit 1
fi

echo "-- hwloc asked for by name where there is none"
if PKG_CONFIG_LIBDIR="$work" PKG_CONFIG_PATH='' "$CMAKE" -S "$SOURCE_DIR" -B "$work/without" -DATTEND_HWLOC=ON >"$work/log" 2>&1 ||
    ! grep -q "ATTEND_HWLOC needs hwloc 2.5 or newer" "$work/log"; then
  cat "$work/log" && echo "configuring with -DATTEND_HWLOC=ON must fail and say what is missing" && exit 1
fi

echo "-- pkg-config"
PKG_CONFIG_PATH=$(dirname "$(find "$work/installed" -name attend.pc)")
export PKG_CONFIG_PATH
version=$(sed -n 's/^#define ATTEND_VERSION_[A-Z]* //p' "$SOURCE_DIR/include/attend/attend.h" | paste -sd.)
[ "$(pkg-config --modversion attend)" = "$version" ] || { echo "attend.pc is not of version $version" && exit 1; }
read -ra cflags < <(pkg-config --cflags attend)
read -ra shared < <(pkg-config --libs attend)
read -ra static < <(pkg-config --static --libs attend)
libdir=$(pkg-config --variable=libdir attend)
for kind in shared static; do
  libs=("${shared[@]}" -Wl,-rpath,"$libdir")
  if [ $kind = static ]; then libs=("${static[@]/#-lattend/-l:libattend.a}"); fi
  "$CC" -std=c11 "${flags[@]}" "${cflags[@]}" "$work/source/forward.c" -o "$work/forward_$kind" "${libs[@]}"
  "$CC" -std=c11 "${flags[@]}" "${cflags[@]}" "$work/source/own_threads.c" -o "$work/own_threads_$kind" "${libs[@]}" -pthread
  "$CXX" -std=c++17 "${flags[@]}" "${cflags[@]}" "$work/source/forward_cxx.cpp" -o "$work/forward_cxx_$kind" "${libs[@]}"
  for program in forward own_threads forward_cxx; do
    try "${program}_$kind" "$work/${program}_$kind"
  done
  "$CC" -std=c11 -O2 "${flags[@]}" "${cflags[@]}" "$SOURCE_DIR"/examples/engine/{engine,pool}.c -o "$work/engine_$kind" "${libs[@]}" -lm -pthread
  try "engine_$kind" "$work/engine_$kind"
done

echo "-- the installed program"
"$work/installed/bin/attend" kernels >/dev/null
"$work/installed/bin/attend" report --help >/dev/null
for page in man/man1/attend-run.1 bash-completion/completions/attend zsh/*/_attend fish/vendor_completions.d/attend.fish; do
  compgen -G "$work/installed/share/$page" >/dev/null || { echo "share/$page is not installed" && exit 1; }
done
