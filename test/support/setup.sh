# Shared by quickstart and check: what must be installed, and how to build. Sourced, not run.

# Debian 12 and 13 names. The first line builds; the second is what tests and the demonstration use.
build_packages=(g++ meson ninja-build pkg-config libfuse3-dev libssh-dev libsodium-dev librocksdb-dev
  libzstd-dev libxxhash-dev libcli11-dev libfmt-dev libspdlog-dev nlohmann-json3-dev
  libexpected-dev catch2 scdoc)
run_packages=(fuse3 openssh-server openssh-client user-mode-linux busybox-static e2fsprogs iproute2 procps
  python3 mount fio)

say() { printf '\n== %s\n' "$*"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

is_installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# install_packages NAME...: installs those that are missing, and asks the network only then.
install_packages() {
  local name missing=()
  for name in "$@"; do
    is_installed "$name" || missing+=("$name")
  done
  [ ${#missing[@]} = 0 ] && return
  command -v apt-get >/dev/null || die "please install: ${missing[*]}"
  say "installing ${missing[*]}"
  # An installed sshd package starts its daemon by itself; we only want the program.
  as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq \
    --no-install-recommends "${missing[@]}" >/dev/null
}

# configure DIRECTORY [MESON OPTION...]: once. A unity build compiles many files as one, which takes a
# third of the time; a plain `meson setup` compiles each by itself.
configure() {
  local directory=$1
  shift
  [ -f "$directory/build.ninja" ] && return
  mkdir -p "$directory"
  meson setup "$directory" -Dunity=on -Dunity_size=20 "$@" >"$directory.log" 2>&1 ||
    { tail -n 20 "$directory.log"; die "configuring $directory failed"; }
}

# build DIRECTORY [TARGET...]: what changed of these targets, or of all. Two files that have the same
# name for different things may fail as one; then each is compiled by itself.
build() {
  local directory=$1
  ninja -C "$@" >"$directory.log" 2>&1 && return
  if grep -q unity0 "$directory/build.ninja"; then
    grep 'error:' "$directory.log" | head -n 5
    say "the unity build of $directory failed; compiling file by file"
    meson configure "$directory" -Dunity=off
  fi
  ninja -C "$@" >"$directory.log" 2>&1 ||
    { grep -E 'error|FAILED' "$directory.log" | head -n 20; die "building failed: see $directory.log"; }
}
