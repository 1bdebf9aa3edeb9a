#!/usr/bin/env bash
# Installs what is missing to build and run Caracal (runtime) or also to test it (test).
#
#   scripts/setup.sh [runtime|test]
#
# On Debian and Ubuntu it says what it installs and does so, as root or with sudo. Elsewhere it says what is needed.
# It does nothing, and prints nothing, when all is there.
set -euo pipefail

readonly RUST_WANTED=1.95

say() { printf '%s\n' "setup: $*" >&2; }
fail() { say "$*"; exit 1; }
has() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }

case "${1:-runtime}" in
  runtime | test) readonly part=${1:-runtime} ;;
  *) fail "unknown part '$1': runtime or test is expected" ;;
esac
[ "$(uname -s)" = Linux ] || fail "Caracal needs Linux; this is $(uname -s)"

# Each line: a program, the Debian package that has it, what it is for.
needs() {
  cat <<'LIST'
cc gcc linking
make make building
git git building
ip iproute2 diagnostics
nft nftables diagnostics
LIST
  [ "$part" = test ] && cat <<'LIST'
etcd etcd-server tests
etcdctl etcd-client tests
python3 python3 tests
LIST
  return 0
}

packages=()
words=()
while read -r program package purpose; do
  if ! has "$program"; then
    packages+=("$package")
    words+=("$package ($purpose)")
  fi
done < <(needs)
# The compiler may be there without the C library's files that a static program is linked from.
if has cc && [ ! -e "$(cc -print-file-name=libc.a)" ]; then
  packages+=(libc6-dev)
  words+=("libc6-dev (linking)")
elif ! has cc; then
  packages+=(libc6-dev)
  words+=("libc6-dev (linking)")
fi

if [ ${#packages[@]} -gt 0 ]; then
  list=$(printf '%s, ' "${words[@]}")
  list=${list%, }
  has apt-get || fail "missing: $list. Install these with your system's packages and try again."
  as_root=()
  if [ "$(id -u)" != 0 ]; then
    has sudo || fail "missing: $list. Install these as root: apt-get install ${packages[*]}"
    as_root=(sudo)
  fi
  say "installing $list"
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@" </dev/null >>"$log" 2>&1; }
  # An old package list may name files that are gone, so it is renewed before the second try, not before each.
  if ! apt install --no-install-recommends -y "${packages[@]}"; then
    [ -t 2 ] && say "renewing the list of packages"
    if ! { apt update && apt install --no-install-recommends -y "${packages[@]}"; }; then
      tail -n 20 "$log" >&2
      fail "cannot install ${packages[*]}"
    fi
  fi
  case " ${packages[*]} " in
    # The package starts a service that nobody asked for; the tests start etcd themselves.
    *" etcd-server "*) [ -d /run/systemd/system ] && "${as_root[@]}" systemctl disable --quiet --now etcd >/dev/null 2>&1 || true ;;
  esac
fi

has cargo || fail "Rust is missing: install Rust $RUST_WANTED or newer (rustup.rs tells how) and try again"
rust=$(cargo --version | cut -d' ' -f2)
oldest=$(printf '%s\n%s\n' "$RUST_WANTED" "$rust" | sort -V | head -n 1)
[ "$oldest" = "$RUST_WANTED" ] || fail "Rust $RUST_WANTED or newer is needed; this is $rust ('rustup update' renews it)"
