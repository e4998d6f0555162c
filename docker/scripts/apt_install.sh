#!/usr/bin/env bash
# Installs packages of Debian or Ubuntu, and leaves no package lists in the image.
#
#   docker/scripts/apt_install.sh PACKAGE...
set -euo pipefail

if (($# < 1)) || [[ $1 == -* ]]; then
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
fi
if ((EUID)); then
    echo "apt_install.sh: needs root to install $*" >&2
    exit 1
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
rm -rf /var/lib/apt/lists/*
