#!/usr/bin/env bash
# Builds Google Research Football into a wheel that carries its Boost libraries with it.
#
#   docker/scripts/build_football.sh yes|no FOLDER
#
# With "no", FOLDER is made and stays empty: most images do without the game.
# As root on Debian 12, whose Boost.Python is made for Python 3.11. The wheel then works with any
# Python 3.11 on a system with glibc 2.36 or newer and SDL 2, Ubuntu 24.04 among them.
set -euo pipefail

if (($# != 2)) || [[ $1 != yes && $1 != no ]]; then
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
fi
mkdir -p "$2"
if [[ $1 == no ]]; then exit; fi
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source=/dev/null
system=$(source /etc/os-release && echo "$ID $VERSION_ID")
if [[ $system != "debian 12" ]]; then
    echo "build_football.sh: this is $system. Build on Debian 12 (in the image debian:12-slim)" >&2
    exit 1
fi

apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    ca-certificates patchelf python3 python3-pip python3-venv

# Of its own, as Debian's Python refuses to take packages from pip.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
export PATH="$scratch/venv/bin:$PATH"

wheel=$("$root/scripts/build_football_wheel.sh" "$scratch/plain" -)
"$here/bundle_libraries.sh" "$wheel" "$2"
