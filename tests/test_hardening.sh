#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Reads off the built files, as they are shipped, that they are hardened: the shared library, the static one and the program.
set -euo pipefail
: "${BUILD_DIR:?}" "${ATTEND:?}" "${SOURCE_DIR:?}" "${CMAKE:?}" "${CC:?}"

skip() { echo "SKIPPED: $*" && exit 77; }
[ -z "${SANITIZE:-}" ] || skip "a build for sanitizers is not hardened: they see more themselves"
command -v readelf >/dev/null || skip "there is no readelf (Debian: binutils)"
build_type=$(sed -n 's/^CMAKE_BUILD_TYPE:[A-Z]*=//p' "$BUILD_DIR/CMakeCache.txt")
case $build_type in
  Release | RelWithDebInfo | MinSizeRel) ;;
  *) skip "_FORTIFY_SOURCE needs an optimised build, this one is '$build_type'" ;;
esac
readelf -h "$BUILD_DIR/libattend.so" >/dev/null 2>&1 || skip "$BUILD_DIR/libattend.so is no ELF file"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0
wrong() { echo "$*" && bad=1; }

for file in "$BUILD_DIR/libattend.so" "$ATTEND"; do
  readelf -lW "$file" >"$work/segments"
  readelf -dW "$file" >"$work/dynamic"
  nm -D -u "$file" >"$work/undefined"
  grep -q '^ *Type: *DYN\|^Elf file type is DYN' "$work/segments" || wrong "$file is at a fixed address"
  grep -q GNU_RELRO "$work/segments" || wrong "$file: no GNU_RELRO"
  grep -q 'BIND_NOW\|Flags:.*NOW' "$work/dynamic" || wrong "$file: relocated lazily, so that its table of functions stays writable"
  grep -q 'GNU_STACK.* RW ' "$work/segments" || wrong "$file: the stack is executable: $(grep GNU_STACK "$work/segments")"
  grep -q __stack_chk_fail "$work/undefined" || wrong "$file: no stack protector"
  if getconf GNU_LIBC_VERSION >/dev/null 2>&1; then
    grep -q '__[a-z]*printf_chk' "$work/undefined" || wrong "$file: no _FORTIFY_SOURCE"
  fi
done

# Marks are of objects: whether a program keeps them is up to all that is linked. Stack protectors stay out of the kernels.
case $(readelf -h "$BUILD_DIR/libattend.so" | sed -n 's/^ *Machine: *//p') in
  *X86-64) mark='IBT, SHSTK' ;;
  AArch64) mark='BTI, PAC' ;;
  *) mark='' ;;
esac
cd "$work"
ar t "$BUILD_DIR/libattend.a" >members
[ "$(sort -u members | wc -l)" -eq "$(wc -l <members)" ] || { echo "members of libattend.a have the same name" && exit 1; }
ar x "$BUILD_DIR/libattend.a"
kernels=0
while read -r member; do
  [ -z "$mark" ] || grep -q "$mark" <<<"$(readelf -nW "$member")" || wrong "$member of libattend.a: not marked with $mark"
  case $member in
    streaming.c.o | *_streaming.c.o | *_decode.c.o | *_three_pass.c.o)
      kernels=$((kernels + 1))
      if nm -u "$member" | grep __stack_chk_fail; then wrong "$member of libattend.a: a stack protector in a kernel"; fi
      ;;
  esac
done <members
[ "$kernels" -ge 3 ] || wrong "only $kernels files of kernels in libattend.a"

# A level of _FORTIFY_SOURCE that the flags name is kept.
"$CMAKE" -G Ninja -S "$SOURCE_DIR" -B levels -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_COMPILER="$CC" -DCMAKE_C_FLAGS=-D_FORTIFY_SOURCE=3 \
  -DATTEND_CLI=VERIFY -DATTEND_TESTS=OFF -DATTEND_BENCH=OFF >log 2>&1 || { cat log && exit 1; }
levels=$(grep -o '[UD]_FORTIFY_SOURCE[^ "]*' levels/build.ninja | sort -u)
[ "$levels" = D_FORTIFY_SOURCE=3 ] || wrong "-D_FORTIFY_SOURCE=3 of the flags became $levels"
[ "$bad" -eq 0 ] && echo "$(wc -l <members) objects, $kernels of them kernels"
