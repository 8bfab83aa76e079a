#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Debian packages and the tarball that cpack makes of this build: what lintian says of them, and whether programs can be
# built with them and run from where they were unpacked. `scripts/test-packages` installs them in a system of their own.
set -euo pipefail
: "${BUILD_DIR:?}" "${SOURCE_DIR:?}" "${CC:?}" "${CMAKE:?}"

skip() { echo "SKIPPED: $*" && exit 77; }
[ -z "${SANITIZE:-}" ] || skip "packages are not made of builds with sanitizers"
grep -q '^CMAKE_INSTALL_PREFIX:[A-Z]*=/usr$' "$BUILD_DIR/CMakeCache.txt" || skip "packages are made of builds that are configured for /usr"
for tool in dpkg-shlibdeps lintian; do
  command -v $tool >/dev/null || skip "$tool is not installed"
done
cpack=$(dirname "$CMAKE")/cpack

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for generator in DEB TGZ; do
  "$cpack" --config "$BUILD_DIR/CPackConfig.cmake" -G $generator -B "$work/packages" >"$work/log" 2>&1 || { cat "$work/log" && exit 1; }
done
version=$(sed -n 's/^#define ATTEND_VERSION_[A-Z]* //p' "$SOURCE_DIR/include/attend/attend.h" | paste -sd.)
library=libattend${version%.*}
cd "$work/packages"
for package in "$library" libattend-dev attend-tools; do
  compgen -G "${package}_$version-1_*.deb" >/dev/null || { ls && echo "there is no package $package of version $version" && exit 1; }
done

echo "-- lintian"
lintian --allow-root --fail-on error --tag-display-limit 0 ./*.deb

echo "-- what packages say"
[ "$(dpkg-deb -I "$library"_*.deb shlibs)" = "libattend ${version%.*} $library (>= $version-1)" ] ||
  { dpkg-deb -I "$library"_*.deb shlibs && echo "these are not the shlibs of $library" && exit 1; }
depends=$(dpkg-deb -f libattend-dev_*.deb Depends)
[ "$depends" = "$library (= $version-1)" ] || { echo "libattend-dev depends on $depends" && exit 1; }
for package in ./*.deb; do # two packages with one file cannot both be installed
  dpkg-deb -c "$package" | awk '!/\/$/ { print $6 }'
done | sort | uniq -d >"$work/twice"
if [ -s "$work/twice" ]; then cat "$work/twice" && echo "the files above are in two packages" && exit 1; fi

flags=(-std=c11 -Wall -Wextra -Werror)
# used <name> <root>: builds and runs programs with what was unpacked there.
used() {
  local libdir kind
  libdir=$(dirname "$(find "$2" -name 'libattend.so')")
  [ "$("$2/bin/attend" --version)" = "attend $version" ] || { echo "$1: bin/attend is not attend $version" && exit 1; }
  "$2/bin/attend" verify --case random --seed 1 --cases 50 --kernel auto | tail -n 1
  "$2/bin/attend" report --help >/dev/null
  PKG_CONFIG_PATH=$libdir/pkgconfig pkg-config --exists --print-errors attend
  # shellcheck disable=SC2046 # words
  "$CC" "${flags[@]}" "$SOURCE_DIR/tests/consumer/forward.c" -o "$work/forward" \
    $(PKG_CONFIG_PATH=$libdir/pkgconfig pkg-config --cflags --libs attend)
  [ "$(LD_LIBRARY_PATH=$libdir "$work/forward" | head -n 1)" = "1.0000 2.0000 3.0000" ] || { echo "$1: forward computes something else" && exit 1; }
  rm -rf "$work/cmake"
  "$CMAKE" -S "$SOURCE_DIR/tests/consumer" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$2" >"$work/log" 2>&1 &&
    "$CMAKE" --build "$work/cmake" --target forward_attend forward_static >"$work/log" 2>&1 || { cat "$work/log" && exit 1; }
  for kind in attend static; do
    [ "$("$work/cmake/forward_$kind" | head -n 1)" = "1.0000 2.0000 3.0000" ] || { echo "$1: forward_$kind computes something else" && exit 1; }
  done
  for page in man/man1/attend-run.1 bash-completion/completions/attend zsh/vendor-completions/_attend fish/vendor_completions.d/attend.fish; do
    compgen -G "$2/share/$page*" >/dev/null || { echo "$1: share/$page is missing" && exit 1; }
  done
}

echo "-- packages"
for package in ./*.deb; do
  dpkg-deb -x "$package" "$work/root"
done
used packages "$work/root/usr"

echo "-- tarball"
mkdir "$work/unpacked"
tar -xzf attend-*.tar.gz -C "$work/unpacked" --strip-components=1
used tarball "$work/unpacked"
