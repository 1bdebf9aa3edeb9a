#!/usr/bin/env bash
# Brings up the lab, applies the policies of examples/lab and prints who reaches whom. The lab stays.
#
#   scripts/lab.sh [CARACAL]
set -euo pipefail
cd "$(dirname "$0")/.."

caracal=${1:-${CARGO_TARGET_DIR:-target}/release/caracal}
as_root=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "lab: the lab makes network namespaces: run this as root" >&2; exit 1; }
  as_root=(sudo)
fi

"${as_root[@]}" "$caracal" lab up --pods-per-node 0 -f examples/lab
verdict=0
"${as_root[@]}" "$caracal" lab probe || verdict=$?

cat >&2 <<END

The lab is running. Go on with:
  ${as_root[*]:+sudo }$caracal lab status
  ${as_root[*]:+sudo }$caracal lab probe
  ${as_root[*]:+sudo }$caracal lab down
END
exit "$verdict"
