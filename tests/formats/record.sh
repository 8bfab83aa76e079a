#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Records tests/formats/ anew: record.sh GGML, the folder of ggml's sources (the one that holds src/ggml-quants.c).
# Little-endian machines only. Multiply-adds are not contracted: what ggml rounds twice is rounded twice here, too.
set -eu
ggml=${1:?expected the folder of ggml\'s sources}
here=$(cd "$(dirname "$0")" && pwd)
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
cc=${CC:-cc}
"$cc" -O2 -ffp-contract=off -I"$ggml/include" -I"$ggml/src" -ffunction-sections -c "$ggml/src/ggml-quants.c" \
  -o "$build/quants.o"
"$cc" -O2 -I"$ggml/include" -I"$ggml/src" -c "$here/record.c" -o "$build/record.o"
"$cc" -static -Wl,--gc-sections -Wl,--unresolved-symbols=ignore-all -o "$build/record" "$build"/*.o -lm
cd "$here" && "$build/record"
