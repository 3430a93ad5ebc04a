#!/usr/bin/env bash
# Installs what running or testing the ledger needs beyond Go and Node.
set -euo pipefail

usage() {
  cat <<'EOF'
Usage: scripts/setup.sh run|test|bench

  run    what `make run` needs: PostgreSQL 15 or newer
  test   what `make test` needs: the same, plus gcc and the C headers (race
         detector), Chromium and its fonts (browser tests), Node 20, and for
         any other user than root fusermount3 (power cuts)
  bench  what `make bench` needs: PostgreSQL is not, redis-server is, as the
         peer that the ledger is measured against

Checks Go and Node, then installs the missing Debian packages: through apt-get
as root; as any other user it prints the command to type and fails. Does
nothing when everything is there.
EOF
}

die() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

check_go() {
  have go || die "Go 1.26 or newer is needed and 'go' is not in PATH. See https://go.dev/dl/"
  local version
  version=$(go env GOVERSION 2>/dev/null) || version=$(cd / && go env GOVERSION)
  if [[ ! $version =~ ^go([0-9]+)\.([0-9]+) ]] ||
    ((BASH_REMATCH[1] * 1000 + BASH_REMATCH[2] < 1026)); then
    die "Go 1.26 or newer is needed; this is ${version}. See https://go.dev/dl/"
  fi
}

check_node() {
  local found="'node' is not in PATH"
  if have node; then
    local version
    version=$(node --version)
    found="this is Node ${version}"
    if [[ $version =~ ^v([0-9]+) ]] && ((BASH_REMATCH[1] >= 20)); then
      have npm && return
      found="'npm' is not in PATH"
    fi
  fi
  [[ $1 == bench ]] && return
  [[ $1 == run ]] || die "Node 20 or newer with npm is needed; ${found}. See https://nodejs.org/"
  echo "setup: Node 20 or newer with npm is needed to build the UI; ${found}." \
    "Going on without it: the page will say \"UI not built\"." >&2
}

have_postgres() {
  local initdb
  for initdb in "${PG_BIN:+$PG_BIN/initdb}" /usr/lib/postgresql/*/bin/initdb "$(command -v initdb || true)"; do
    if [[ -x $initdb && $("$initdb" --version) =~ \ ([0-9]+) ]] && ((BASH_REMATCH[1] >= 15)); then
      return 0
    fi
  done
  return 1
}

have_fonts() { compgen -G '/usr/share/fonts/truetype/liberation*' >/dev/null; }

# Prints the Debian packages that are missing, one a line.
missing_packages() {
  if [[ $1 == bench ]]; then
    have redis-server || echo redis-server
    return 0
  fi
  have_postgres || echo postgresql
  [[ $1 == test ]] || return 0
  have gcc || echo gcc
  [[ -e /usr/include/stdlib.h ]] || echo libc6-dev
  have chromium || echo chromium
  have_fonts || echo fonts-liberation
  # Root mounts a file system in user space without it.
  ((EUID == 0)) || have fusermount3 || echo fuse3
}

# Debian's package would otherwise create a cluster and start it on port 5432.
# The ledger keeps its own, below data/. Put back when this script ends.
readonly createcluster=/etc/postgresql-common/createcluster.conf
no_main_cluster() {
  mkdir -p "${createcluster%/*}"
  [[ ! -e $createcluster ]] || cp -p "$createcluster" "$createcluster.before"
  echo "create_main_cluster = false" >>"$createcluster"
  trap put_back EXIT
}

# Nor may a package start its service: the benchmark runs a Redis of its own.
readonly policy=/usr/sbin/policy-rc.d
no_services() {
  [[ ! -e $policy ]] || return 0
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT
}

put_back() {
  local original
  for original in "$createcluster.before" "$createcluster.ucf-dist"; do
    if [[ -e $original ]]; then
      mv -f "$original" "$createcluster"
      return
    fi
  done
  rm -f "$createcluster"
}

install_packages() {
  local command="apt-get install -y --no-install-recommends $*"
  have apt-get || die "missing: $*. These are Debian's names; install their equivalents by hand."
  ((EUID == 0)) || die "missing: $*. Install with: sudo apt-get update && sudo ${command}"

  [[ " $* " != *" postgresql "* ]] || no_main_cluster
  [[ " $* " != *" redis-server "* ]] || no_services

  echo "setup: installing $*"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=120 "$@" >/dev/null
}

main() {
  case ${1:-} in
    run | test | bench) ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  cd "$(dirname "${BASH_SOURCE[0]}")/.."

  check_go
  check_node "$1"

  local missing packages
  missing=$(missing_packages "$1")
  [[ -n $missing ]] || return 0
  mapfile -t packages <<<"$missing"
  install_packages "${packages[@]}"

  missing=$(missing_packages "$1")
  [[ -z $missing ]] ||
    die "still missing after the installation: ${missing//$'\n'/ } (PostgreSQL 15 needs Debian 12 or newer)"
}

main "$@"
