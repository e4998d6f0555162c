#!/usr/bin/env bash
# Copies the shared libraries that a wheel was linked with into the wheel.
#
#   docker/scripts/bundle_libraries.sh WHEEL FOLDER
#
# FOLDER gets the new wheel. Not copied are SDL and GL, which have to fit the machine's display and
# have had the same names on all distributions for years. A link to libpython is removed: conda's
# Python has it built in, and a second one in the process would crash it.
# Needs patchelf, and installs auditwheel into the Python that is active.
set -euo pipefail

if (($# != 2)) || [[ $1 == -* ]]; then
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
fi
python3 -m pip install -q --disable-pip-version-check "auditwheel==6.8.2"
python3 -m auditwheel repair \
    --exclude 'libSDL2*.so*' --exclude 'libGL*.so*' --exclude 'libEGL*.so*' \
    --exclude 'libOpenGL*.so*' --wheel-dir "$2" "$1"
