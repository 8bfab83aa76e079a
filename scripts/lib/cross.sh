# SPDX-License-Identifier: Apache-2.0
# Processors that this machine is not: builds for them, and what runs their programs here. Source it after common.sh.

for_cross=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross clang-19 qemu-user)
cross_builds=(aarch64-gcc aarch64-clang)

# Where the AArch64 libraries are that the program needs beyond the C library. Debian has cJSON as a shared library
# only, so programs are linked dynamically, and run_on() tells qemu where their loader is.
arm64_root=$ROOT/build-aarch64-root

# need_cross: installs compilers, emulators and libraries.
need_cross() {
  need "${for_build[@]}" "${for_cross[@]}"
  [ -e "$arm64_root/usr/lib/aarch64-linux-gnu/libcjson.so" ] || unpack arm64 "$arm64_root" libcjson-dev libcjson1
}

# unpack <architecture> <folder> <package>...: unpacks packages of another architecture. apt-get gets lists of its own, so
# that neither root nor a second architecture on this system is needed.
unpack() {
  local architecture=$1 folder=$2 apt package
  shift 2
  have apt-get && have dpkg-deb || die "please unpack the $architecture packages of Debian's $* in $folder"
  say "fetching $* for $architecture"
  apt=$(mktemp -d)
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$folder"
  (
    cd "$apt"
    options=(-q -o APT::Architecture="$architecture" -o APT::Architectures::="$architecture" -o Dir::State::lists="$apt/lists"
      -o Dir::Cache="$apt/cache" -o APT::Sandbox::User=root)
    apt-get "${options[@]}" update && apt-get "${options[@]}" download "$@"
  ) </dev/null | progress || die "apt-get could not fetch $* for $architecture: is the network there, and does this system's mirror hold it?"
  for package in "$apt"/*.deb; do
    dpkg-deb -x "$package" "$folder" || die "cannot unpack ${package##*/}"
  done
  rm -rf "$apt"
}

# cross_compiler <preset>: the command that compiles for it.
cross_compiler() {
  case $1 in
    aarch64-gcc) echo aarch64-linux-gnu-gcc ;;
    aarch64-clang) echo clang-19 --target=aarch64-linux-gnu ;;
  esac
}

# build_cross <preset> [<cmake option>...]: build(), with what pkg-config says of AArch64's libraries.
build_cross() {
  PKG_CONFIG_LIBDIR=$arm64_root/usr/lib/aarch64-linux-gnu/pkgconfig PKG_CONFIG_SYSROOT_DIR=$arm64_root build "$@"
}

# run_on <preset> <processor> [<qemu option>...] -- <attend argument>...: runs a build's program under qemu, or as it is on
# the processor "native". qemu's "max" for Arm has the signing of addresses, and by default a cipher for it that took the
# named cases of BFMMLA from 83 seconds to 11 minutes. Another one is as good here.
run_on() {
  local preset=$1 processor=$2 cpu=$2 options=()
  shift 2
  while [ "$1" != -- ]; do
    options+=("$1")
    shift
  done
  shift
  local program
  program=$(build_dir "$preset")/attend
  case $preset-$processor in aarch64-*-max*) cpu+=,pauth-impdef=on ;; esac
  case $preset-$processor in
    aarch64-*) qemu-aarch64 -cpu "$cpu" -L /usr/aarch64-linux-gnu "${options[@]}" "$program" "$@" ;;
    *-native) "$program" "$@" ;;
    *) qemu-x86_64 -cpu "$processor" "${options[@]}" "$program" "$@" ;;
  esac
}
