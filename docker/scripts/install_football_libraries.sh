#!/usr/bin/env bash
# Installs the system libraries that football needs at run time, if its wheel is there.
#
#   docker/scripts/install_football_libraries.sh WHEELS
#
# As root. The names hold for Debian 12 and Ubuntu 24.04. libegl1 and libgl1-mesa-dri are for
# pictures without a display. Boost is in the wheel (bundle_libraries.sh).
set -euo pipefail

if (($# != 1)) || [[ $1 == -* ]]; then
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
fi
if [[ -z $(find "$1" -name 'gfootball-*.whl') ]]; then
    echo "no football wheel in $1: nothing to install"
    exit
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    libgl1 libegl1 libgl1-mesa-dri \
    libsdl2-2.0-0 libsdl2-image-2.0-0 libsdl2-ttf-2.0-0 libsdl2-gfx-1.0-0
rm -rf /var/lib/apt/lists/*
