#!/usr/bin/env bash
# Installs StarCraft II, its SMAC maps, and the Python packages that talk to it.
#
#   docker/scripts/install_starcraft.sh LICENCE URL SHA256 FOLDER
#
# LICENCE  "iagreetotheeula", which says that you agree to Blizzard's AI and Machine Learning
#          License: https://github.com/Blizzard/s2client-proto names it and the downloads
# URL      the Linux package, version 4.10 as in the papers
# SHA256   of that file: take it from a download that you trust
# FOLDER   where the game goes; SC2PATH has to name it
set -euo pipefail

smacv2=https://github.com/oxwhirl/smacv2
commit=577ab5a  # what the adapter is tested with

if (($# != 4)) || [[ $1 == -* ]]; then
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
fi
if [[ $1 != iagreetotheeula ]]; then
    echo "StarCraft II comes under Blizzard's AI and Machine Learning License." >&2
    echo "If you agree to it, say so: --build-arg STARCRAFT_LICENCE=iagreetotheeula" >&2
    exit 1
fi
if [[ -z $2 || -z $3 ]]; then
    echo "STARCRAFT_URL and STARCRAFT_SHA256 say what to download and how to know it" >&2
    exit 1
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
curl -fsSL "$2" -o "$scratch/game.zip"
echo "$3  $scratch/game.zip" | sha256sum --check --quiet -
# The licence's words are the archive's password.
unzip -q -P "$1" "$scratch/game.zip" -d "$scratch/game"
mkdir -p "$(dirname "$4")"
mv "$scratch/game/StarCraftII" "$4"

git clone -q "$smacv2" "$scratch/smacv2"
git -C "$scratch/smacv2" checkout -q "$commit"
mkdir -p "$4/Maps"
cp -r "$scratch/smacv2/smacv2/env/starcraft2/maps/SMAC_Maps" "$4/Maps/"
# --no-deps: they ask for a protobuf that Ray cannot work with; the rest is the extra `smac`.
python3 -m pip install -q --disable-pip-version-check --no-cache-dir --no-deps \
    pysc2==4.0.0 "$scratch/smacv2"
python3 -m pip install -q --disable-pip-version-check --no-cache-dir \
    "pys2clientprotocol==1.0.2" "websocket-client>=1.0" "portpicker>=1.5" "absl-py>=2.0" "six>=1.16"
