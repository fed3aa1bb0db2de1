#!/usr/bin/env bash
# Names the system packages that are missing, and installs them when run as root on Debian or Ubuntu.
# Usage: tools/system_packages.sh PYTHON
set -euo pipefail
python=${1:-python3}
missing=()
library() { ldconfig -p | grep -q "$1" || missing+=("$2"); }
command -v cmake >/dev/null || missing+=(cmake)
command -v g++ >/dev/null || missing+=(build-essential)
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
"$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' \
  || missing+=(python3-dev)
library libEGL.so.1 libegl1
library libEGL_mesa.so.0 libegl-mesa0
ls /usr/lib/*/dri/swrast_dri.so /usr/lib/*/dri/libdril_dri.so >/dev/null 2>&1 || [ -n "$(ls /usr/lib/*/dri/swrast_dri.so /usr/lib/*/dri/libdril_dri.so 2>/dev/null)" ] || missing+=(libgl1-mesa-dri)
library libusb-1.0.so.0 libusb-1.0-0
[ ${#missing[@]} -eq 0 ] && exit 0
install="apt-get install -y --no-install-recommends ${missing[*]}"
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  echo "installing system packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  $install >/dev/null 2>&1 || { apt-get update -q >/dev/null && $install >/dev/null; }
else
  echo "system packages are missing: ${missing[*]}"
  echo "install them, then run make again:  sudo $install"
  exit 1
fi
