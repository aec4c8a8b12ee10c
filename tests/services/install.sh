#!/usr/bin/env bash
# Installs the servers that tests use and pip does not bring: Ceph with its S3 gateway, PostgreSQL, MariaDB, Chromium and
# SoftHSM from Debian's packages, Azurite from npm into .services/ below the project. What is there already stays.
set -euo pipefail
cd "$(dirname "$0")/../.."

NPM_PINS=tests/services/npm  # made by: npm install --package-lock-only --omit-lockfile-registry-resolved

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "installing packages needs root, and there is no sudo: run 'make services' as root" >&2
    return 1
  fi
}

lacks() {
  local program
  for program in "$@"; do
    command -v "$program" >/dev/null || return 0
  done
  return 1
}

packages=()
if lacks ceph ceph-authtool ceph-mon ceph-osd monmaptool radosgw radosgw-admin; then
  packages+=(ceph-common ceph-mon ceph-osd radosgw)
fi
if lacks node npm; then
  packages+=(nodejs npm)
fi
if lacks chromium chromedriver; then
  packages+=(chromium chromium-driver fonts-dejavu-core)
fi
if lacks initdb && ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
  packages+=(postgresql)  # its own cluster, which it may start, is none of ours: tests make theirs on other ports
fi
if lacks softhsm2-util; then
  packages+=(softhsm2)
fi
if lacks mariadb-install-db my_print_defaults; then
  packages+=(mariadb-server-core mariadb-client-core)
fi
if [ "${#packages[@]}" -gt 0 ]; then
  if lacks apt-get; then
    echo "no apt-get here: install ${packages[*]} with this system's own means" >&2
    exit 1
  fi
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi

if [ ! -x .services/node_modules/.bin/azurite-blob ] || ! cmp -s "$NPM_PINS/package-lock.json" .services/package-lock.json; then
  mkdir -p .services
  cp "$NPM_PINS"/package*.json .services/
  npm ci --prefix .services --no-audit --no-fund --loglevel=error
fi

radosgw --version
chromium --version
echo "softhsm2 $(softhsm2-util --version)"
PATH="$PATH:$(compgen -G '/usr/lib/postgresql/*/bin' | tail -n 1)" postgres --version
echo "azurite $(.services/node_modules/.bin/azurite-blob --version)"
