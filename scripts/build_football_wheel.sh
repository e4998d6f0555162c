#!/usr/bin/env bash
# Builds Google Research Football from source into a wheel, once, and installs it next to Ray.
#
#   scripts/build_football_wheel.sh FOLDER [PYTHON]
#
# FOLDER  where the wheel is kept. If one for this Python is there, nothing is built.
# PYTHON  the interpreter to install into (default: python3). Python 3.11 on Debian 12, as that is
#         the one Debian's boost-python is made for. "-" only builds, with python3.
#
# As root, missing Debian packages are installed; otherwise they are listed and the script ends.
# Building takes 6 to 7 minutes of processor time, on as many processors as there are. The wheel
# holds 31 MB.
#
# Why not plain pip: the index has only the source, whose build script needs psutil, which pip's
# isolated build does not have. And of its declared dependencies, `gym` and `pygame` are not
# needed here; that `pygame` would overwrite the `pygame-ce` of other environments.
set -euo pipefail

version=2.10.2
build_packages=(
    cmake g++ make python3-dev
    libgl1-mesa-dev libegl1-mesa-dev
    libsdl2-dev libsdl2-image-dev libsdl2-ttf-dev libsdl2-gfx-dev
    libboost-python-dev libboost-thread-dev libboost-system-dev libboost-filesystem-dev
)
# What the built game loads. libegl1 and libgl1-mesa-dri: for frames without a display.
run_packages=(
    libgl1 libegl1 libgl1-mesa-dri
    libsdl2-2.0-0 libsdl2-image-2.0-0 libsdl2-ttf-2.0-0 libsdl2-gfx-1.0-0
    libboost-python1.74.0 libboost-thread1.74.0 libboost-system1.74.0 libboost-filesystem1.74.0
)

say() { echo "football: $*" >&2; }

if (($# < 1 || $# > 2)) || [[ $1 == -* ]]; then
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
fi
mkdir -p "$1"
wheels=$(cd "$1" && pwd)
python=${2:-python3}
install=true
if [[ $python == - ]]; then python=python3 install=false; fi
tag=$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')

need() { # installs those of the Debian packages that are missing, or lists them
    local package missing=()
    for package in "$@"; do
        [[ $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) == *"ok installed" ]] ||
            missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    if ((EUID)); then
        say "these Debian packages are missing; install them and start again:"
        say "    apt-get install -y --no-install-recommends ${missing[*]}"
        exit 1
    fi
    say "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        "${missing[@]}" >&2
}

find_wheel() { find "$wheels" -maxdepth 1 -name "gfootball-$version-$tag-*.whl" | head -n 1; }

build() {
    need "${build_packages[@]}"
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    # What builds: psutil is for the game's own build script, which calls `python3`.
    "$python" -m pip install -q --disable-pip-version-check --target "$scratch/tools" \
        psutil "setuptools>=77" wheel
    say "building gfootball $version for $tag; this takes minutes"
    # Without pip's cache, as a wheel kept there would hide that it cannot be built any more.
    if ! PYTHONPATH="$scratch/tools" "$python" -m pip wheel -v --disable-pip-version-check \
        --no-cache-dir --no-deps --no-build-isolation --no-binary gfootball \
        -w "$scratch/built" "gfootball==$version" >"$scratch/log" 2>&1; then
        tail -n 60 "$scratch/log" >&2
        say "the build failed; above is the end of its output"
        exit 1
    fi
    # Moved when it is complete: a build that is interrupted leaves no wheel.
    mv "$scratch"/built/gfootball-*.whl "$wheels/"
}

started=$SECONDS
wheel=$(find_wheel)
if [[ -z $wheel ]]; then
    build
    wheel=$(find_wheel)
    say "built in $((SECONDS - started)) s"
fi
[[ -n $wheel ]] || { say "the build made no wheel named gfootball-$version-$tag-*.whl"; exit 1; }
echo "$wheel"

if $install; then
    need "${run_packages[@]}"
    # --no-deps, see above; the rest is what the game imports at run time.
    "$python" -m pip install -q --disable-pip-version-check --no-deps "$wheel"
    "$python" -m pip install -q --disable-pip-version-check \
        "absl-py>=2.0" "opencv-python-headless>=4.8" "six>=1.16"
    "$python" -c 'import gfootball_engine'
    say "installed into $("$python" -c 'import sys; print(sys.prefix)')"
fi
